"""The gate's rules on decoded pixels: value range, polarity, background, tissue. Arrays in, broken rules out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from schemas.exam import Laterality
from tasks.adapters.gate.rules.rule import Broken

_STRIDE_PX: Final = 4  # every rule below is about shares of the image: one pixel in 16 answers them
_BORDER_FRACTION: Final = 0.02
_TISSUE_FRACTION_OF_RANGE: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelLook:
    """What the rules see of an image whose background should be dark.

    Attributes:
        background_median: Median along the image border away from the chest wall, stored values.
        tissue_fraction: Share of the image clearly brighter than that border.
        saturated_fraction: Share of the tissue at the largest value.
        chest_wall_side: The half of the image, by its columns, that holds more tissue; None if undecided.
        maximum: Largest value.
    """

    background_median: float
    tissue_fraction: float
    saturated_fraction: float
    chest_wall_side: Laterality | None
    maximum: int


def broken_value_rules(raw_HW: NDArray[np.uint16], bits_stored: int) -> tuple[Broken, ...]:
    """Rules on the values as decoded: X24 stray bits, X25 constant."""
    minimum, maximum = int(raw_HW.min()), int(raw_HW.max())
    broken = []
    if maximum >> bits_stored:
        broken.append(Broken("X24", f"{maximum} with {bits_stored} bits stored"))
    if minimum == maximum:
        broken.append(Broken("X25", f"{minimum} everywhere"))
    return tuple(broken)


def look_at(pixels_HW: NDArray[np.uint16], bits_stored: int, *, laterality: Laterality) -> PixelLook:
    """Measures an image after inversion and padding removal. A left breast's chest wall is expected at column 0."""
    few_HW = np.ascontiguousarray(pixels_HW[::_STRIDE_PX, ::_STRIDE_PX])
    background = float(np.median(_air_border(few_HW, laterality)))
    maximum = int(pixels_HW.max())
    # Values are whole numbers: above a limit is above its whole part, and uint16 compares faster.
    limit = math.floor(background + max(1.0, _TISSUE_FRACTION_OF_RANGE * (maximum - background)))
    tissue_HW = few_HW > np.uint16(limit)
    tissue_pixels = int(np.count_nonzero(tissue_HW))
    saturated = int(np.count_nonzero(few_HW == 2**bits_stored - 1))
    left_HW, right_HW = np.hsplit(few_HW, [few_HW.shape[1] // 2])
    return PixelLook(
        background_median=background,
        tissue_fraction=tissue_pixels / tissue_HW.size,
        saturated_fraction=saturated / max(1, tissue_pixels),
        chest_wall_side=_brighter_side(cv2.mean(left_HW)[0], cv2.mean(right_HW)[0]),
        maximum=maximum,
    )


def _air_border(few_HW: NDArray[np.uint16], laterality: Laterality) -> NDArray[np.uint16]:
    """The strip of columns away from the chest wall: of the two the more even one, whatever the polarity of the image.

    The outermost columns are left out: film scans have a frame there.
    """
    width = max(1, round(few_HW.shape[1] * _BORDER_FRACTION))
    left_HW, right_HW = few_HW[:, width : 2 * width], few_HW[:, -2 * width : -width]
    spread_left, spread_right = (float(np.subtract(*np.percentile(strip, (90, 10)))) for strip in (left_HW, right_HW))
    if spread_left == spread_right:
        return right_HW if laterality is Laterality.LEFT else left_HW
    return left_HW if spread_left < spread_right else right_HW


def broken_look_rules(look: PixelLook, *, laterality: Laterality, rows_face: str) -> tuple[Broken, ...]:
    """Rules on what the image shows.

    Args:
        look: The measures of ``look_at``.
        laterality: The side the header names.
        rows_face: First value of PatientOrientation: where rows run to, ``A`` (anterior, chest wall at column 0) or ``P``; "" =
            not given, then as PS3.3 orients the side.
    """
    return tuple(_look_rules(look, laterality, rows_face))


def _look_rules(look: PixelLook, laterality: Laterality, rows_face: str) -> Iterator[Broken]:
    expected = {"A": Laterality.LEFT, "P": Laterality.RIGHT}.get(rows_face[:1], laterality)
    if look.chest_wall_side is not None and {look.chest_wall_side} != {expected, laterality}:
        yield Broken("L04")
    if look.background_median > 0.5 * look.maximum:
        yield Broken("X26", f"border {look.background_median:.0f}, largest value {look.maximum}")
    elif look.tissue_fraction < 0.03:
        yield Broken("X28", f"{100 * look.tissue_fraction:.1f} %")
    if look.background_median > 0:
        yield Broken("X27", f"{look.background_median:.0f}")
    if look.tissue_fraction > 0.97:
        yield Broken("X29", f"{100 * look.tissue_fraction:.1f} %")
    if look.saturated_fraction >= 0.05:
        yield Broken("X30", f"{100 * look.saturated_fraction:.0f} %")


def _brighter_side(left: float, right: float) -> Laterality | None:
    if left > 1.2 * right:
        return Laterality.LEFT
    return Laterality.RIGHT if right > 1.2 * left else None
