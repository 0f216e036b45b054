"""One view as radiologists hang it: picture, saliency, patches and lesion outlines in one frame. Arrays in, arrays out.

Hung means: the right breast on the left of the screen with its chest wall at its right edge, the left breast beside it with
its chest wall at its left edge, so that the chest walls meet in the middle. Pages and files are the adapter ``gallery``'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from gmic_model.pictures.panel import grey_picture
from gmic_model.pixels.window import window_placement
from gmic_model.preprocess import PreparedView
from schemas.exam import Finding, Laterality
from schemas.layout import MASK_BITS

SCALE_BARS_MM: Final = (50, 20, 10, 5, 2, 1)
"""Lengths a scale bar may have."""
_LONGEST_BAR = 0.4  # of the picture's width


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle in pixels of the hung picture; may reach outside it, where the network saw padding."""

    top: float
    left: float
    height: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HungView:
    """A view ready to be shown; lengths in pixels of ``grey_HW``.

    Attributes:
        grey_HW: The stored breast crop, shrunk, uint8.
        saliency_CIJ: uint8, 255 = 1; mirrored as the picture is.
        window: Where the saliency maps lie: the network's window.
        patches: ROI patches in the order of their attention weights.
        outlines: Per finding, one line of (x, y) points around each lesion.
        mm_per_px: None = the file gave no pixel spacing.
    """

    grey_HW: NDArray[np.uint8]
    saliency_CIJ: NDArray[np.uint8]
    window: Box
    patches: tuple[Box, ...]
    outlines: Mapping[Finding, tuple[tuple[tuple[float, float], ...], ...]]
    mm_per_px: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleBar:
    """How long a bar of so many millimetres is."""

    length_mm: int
    length_px: float


def hang_view(
    prepared: PreparedView,
    *,
    saliency_CIJ: NDArray[np.floating],
    corner_K2: NDArray[np.floating] | NDArray[np.integer],
    patch_size: tuple[int, int],
    laterality: Laterality,
    pixel_spacing_mm: float | None,
    rows_px: int,
    lesion_mask_HW: NDArray[np.integer] | None = None,
) -> HungView:
    """Bring the stored crop and what the network said about its window into one hung picture.

    Args:
        prepared: The stored crop, chest wall at column 0.
        saliency_CIJ: In [0, 1] over the network's window, findings in the order of ``Finding``.
        corner_K2: Upper-left corners (row, column) of the patches in the window.
        patch_size: (rows, columns) of a patch.
        laterality: A right breast is mirrored.
        pixel_spacing_mm: Of the source image, at the detector; None = not known.
        rows_px: Height of the picture, at most; a smaller crop keeps its size.
        lesion_mask_HW: Bit 0 benign, bit 1 malignant, in the crop's frame.
    """
    rows, columns = prepared.pixels_HW.shape
    scale = min(1.0, rows_px / rows)
    grey_HW = grey_picture(prepared.pixels_HW, scale)
    is_mirrored = laterality is Laterality.RIGHT
    top, bottom, left, right = window_placement(prepared.geometry, shape_px=(rows, columns)).on_crop_px
    per_row, per_column = grey_HW.shape[0] / rows, grey_HW.shape[1] / columns

    def box(first_row: float, first_column: float, size: tuple[float, float]) -> Box:
        start = columns - first_column - size[1] if is_mirrored else first_column
        return Box(top=first_row * per_row, left=start * per_column, height=size[0] * per_row, width=size[1] * per_column)

    alpha_CIJ = np.rint(255.0 * np.clip(saliency_CIJ, 0.0, 1.0)).astype(np.uint8)
    return HungView(
        grey_HW=np.ascontiguousarray(grey_HW[:, ::-1] if is_mirrored else grey_HW),
        saliency_CIJ=np.ascontiguousarray(alpha_CIJ[:, :, ::-1] if is_mirrored else alpha_CIJ),
        window=box(top, left, (bottom - top, right - left)),
        patches=tuple(box(top + float(row), left + float(column), patch_size) for row, column in corner_K2),
        outlines={} if lesion_mask_HW is None else _outlines(lesion_mask_HW, (per_row, per_column), is_mirrored),
        mm_per_px=None if pixel_spacing_mm is None else pixel_spacing_mm / prepared.geometry.scale / per_row,
    )


def scale_bar(view: HungView) -> ScaleBar | None:
    """The longest round bar that is at most two fifths of the picture's width; None if the pixel spacing is not known."""
    if view.mm_per_px is None:
        return None
    widest_mm = _LONGEST_BAR * view.grey_HW.shape[1] * view.mm_per_px
    length_mm = next((length for length in SCALE_BARS_MM if length <= widest_mm), SCALE_BARS_MM[-1])
    return ScaleBar(length_mm=length_mm, length_px=length_mm / view.mm_per_px)


def shares_of_height(views: Mapping[str, HungView]) -> dict[str, float]:
    """How high each view is drawn, as a share of the highest: in millimetres if all are known, else in stored pixels.

    So the views of an exam are shown at one scale.
    """
    if all(view.mm_per_px is not None for view in views.values()):
        heights = {name: view.grey_HW.shape[0] * (view.mm_per_px or 0.0) for name, view in views.items()}
    else:  # the network's window has the same number of stored pixels in every view
        heights = {name: view.grey_HW.shape[0] / view.window.height for name, view in views.items()}
    highest = max(heights.values(), default=1.0)
    return {name: height / highest for name, height in heights.items()}


def _outlines(
    mask_HW: NDArray[np.integer], per_px: tuple[float, float], is_mirrored: bool
) -> dict[Finding, tuple[tuple[tuple[float, float], ...], ...]]:
    found = {}
    for finding, bit in MASK_BITS.items():
        lesion_HW = (mask_HW & bit).astype(np.uint8)
        contours, _ = cv2.findContours(lesion_HW, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_TC89_L1)
        lines = tuple(tuple(_point(x, y, mask_HW.shape[1], per_px, is_mirrored) for [[x, y]] in one) for one in contours)
        if lines:
            found[finding] = lines
    return found


def _point(x: float, y: float, columns: int, per_px: tuple[float, float], is_mirrored: bool) -> tuple[float, float]:
    """The middle of a mask's pixel in the hung picture."""
    across = columns - (float(x) + 0.5) if is_mirrored else float(x) + 0.5
    return round(across * per_px[1], 1), round((float(y) + 0.5) * per_px[0], 1)
