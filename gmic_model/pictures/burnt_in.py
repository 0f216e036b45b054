"""A view as a finished picture in its source image's frame: breast, saliency, patches and text. Arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from gmic_model.pixels.frames import to_source_frame
from schemas.exam import Box, ViewGeometry

_YELLOW: Final = (255, 220, 0)
_HEAT: Final = 0.6  # how much of a pixel's way to red the strongest saliency goes
_GAP_PX: Final = 8


def burnt_in(
    grey_HW: NDArray[np.uint8],
    saliency_CIJ: NDArray[np.floating],
    geometry: ViewGeometry,
    *,
    shape_px: tuple[int, int],
    boxes: Sequence[tuple[str, Box]],
    lines: Sequence[str],
) -> NDArray[np.uint8]:
    """(rows, columns, RGB) of a view. What lies outside the breast's crop, and so every letter of the original, is black.

    Args:
        grey_HW: The stored crop, chest wall at column 0.
        saliency_CIJ: The maps to draw, the strongest of them at each pixel.
        geometry: Of the view.
        shape_px: Of the picture: the source image's, or those of a smaller copy.
        boxes: Label and place in source pixels.
        lines: Written at the lower edge.
    """
    grey = _in_source(grey_HW, geometry, shape_px).astype(np.float32)
    heat = to_source_frame(saliency_CIJ, geometry, shape_px).max(axis=0, initial=0.0).clip(0.0, 1.0)
    rgb = np.stack([grey + (255 - grey) * _HEAT * heat, grey * (1 - 0.4 * heat), grey * (1 - 0.4 * heat)], -1)
    picture_HW3 = np.ascontiguousarray(rgb.astype(np.uint8))
    per_row, per_column = shape_px[0] / geometry.source_shape_px[0], shape_px[1] / geometry.source_shape_px[1]
    size = shape_px[0] / 1400
    thick = max(1, round(2 * size))
    for label, (top, bottom, left, right) in boxes:
        first = (round(left * per_column), round(top * per_row))
        last = (round(right * per_column) - 1, round(bottom * per_row) - 1)
        cv2.rectangle(picture_HW3, first, last, _YELLOW, thick)
        at = (max(first[0] + 4, 4), max(first[1], 0) + round(28 * size))
        cv2.putText(picture_HW3, label, at, cv2.FONT_HERSHEY_SIMPLEX, 0.8 * size, _YELLOW, thick, cv2.LINE_AA)
    _write(picture_HW3, lines)
    return picture_HW3


def side_by_side(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures of one height beside each other, in this order."""
    highest = max(picture.shape[0] for picture in pictures)
    parts = [
        np.pad(picture, ((0, highest - picture.shape[0]), (0, _GAP_PX if picture is not pictures[-1] else 0), (0, 0)))
        for picture in pictures
    ]
    return np.ascontiguousarray(np.concatenate(parts, axis=1))


def _in_source(grey_HW: NDArray[np.uint8], geometry: ViewGeometry, shape_px: tuple[int, int]) -> NDArray[np.uint8]:
    """Undoes flip, turns and crop."""
    straight_HW = grey_HW[:, ::-1] if geometry.is_flipped else grey_HW
    straight_HW = np.ascontiguousarray(np.rot90(straight_HW, geometry.quarter_turns))
    per_row, per_column = shape_px[0] / geometry.source_shape_px[0], shape_px[1] / geometry.source_shape_px[1]
    top, bottom, left, right = geometry.crop_box_px
    rows = slice(round(top * per_row), max(round(bottom * per_row), round(top * per_row) + 1))
    columns = slice(round(left * per_column), max(round(right * per_column), round(left * per_column) + 1))
    picture_HW = np.zeros(shape_px, np.uint8)
    size = (columns.stop - columns.start, rows.stop - rows.start)
    picture_HW[rows, columns] = cv2.resize(straight_HW, size, interpolation=cv2.INTER_AREA)
    return picture_HW


def _write(picture_HW3: NDArray[np.uint8], lines: Sequence[str]) -> None:
    """As large as the width allows, on a dark line, at the lower edge."""
    rows, columns = picture_HW3.shape[:2]
    for index, line in enumerate(reversed(lines)):
        (width, height), _ = cv2.getTextSize(line, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 2)
        size = min(1.1 * rows / 1400, 0.94 * columns / max(width, 1))
        at = (round(0.02 * columns), rows - round((0.8 + 1.6 * index) * height * 1.1 * rows / 1400) - 4)
        for colour, thick in (((0, 0, 0), 5), ((255, 255, 255), 2)):
            weight = max(1, round(thick * size))
            cv2.putText(picture_HW3, line, at, cv2.FONT_HERSHEY_SIMPLEX, size, colour, weight, cv2.LINE_AA)
