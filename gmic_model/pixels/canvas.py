"""What a store's canvas keeps of a crop: where it is cut, between whole pixels of the source, and the geometry of the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from gmic_model.pixels.orientation import turned_back, turned_upright
from schemas.exam import ViewGeometry


class Kept(NamedTuple):
    """What is kept of a crop along one axis, between whole pixels of the source: there, and in the crop."""

    start: int
    stop: int
    of_crop: slice

    @classmethod
    def of(cls, center: int, canvas: int, whole: int, source: int, scale: float) -> Kept:
        """``whole`` pixels of the crop are ``source`` pixels of the image; ``center`` and ``canvas`` are the crop's."""
        if whole <= canvas:
            return cls(0, source, slice(0, whole))
        length = min(source, int(canvas / scale))
        start = min(max(round((center - canvas // 2) / scale), 0), source - length)
        kept = max(1, round(length * scale))
        first = min(round(start * scale), whole - kept)
        return cls(start, start + length, slice(first, first + kept))


def cut_geometry(geometry: ViewGeometry, rows: Kept, columns: Kept) -> ViewGeometry:
    """The geometry after rows and columns of the flipped crop were cut off."""
    quarter_turns, geometry = geometry.quarter_turns, turned_upright(geometry)
    top, _, left, right = geometry.crop_box_px
    across = (
        (right - columns.stop, right - columns.start) if geometry.is_flipped else (left + columns.start, left + columns.stop)
    )
    row, column = geometry.best_center_px
    cut = replace(
        geometry,
        crop_box_px=(top + rows.start, top + rows.stop, *across),
        best_center_px=(row - rows.of_crop.start, column - columns.of_crop.start),
    )
    return turned_back(cut, quarter_turns)
