"""The paper's Figure 4: one row of pictures that explains one view's prediction. Pixels in, pixels out.

Drawn directly with cv2 on pictures shrunk to the panel's height: the release's 500-dpi figure costs 7.3 s an image (GMIC.md 6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from schemas.exam import Finding, Laterality, ViewPosition
from schemas.layout import MASK_BITS

PANEL_ROWS_PX: Final = 600
"""Default height of the pictures, without their titles."""

FINDING_COLORS: Final[Mapping[Finding, tuple[int, int, int]]] = {Finding.BENIGN: (0, 200, 0), Finding.MALIGNANT: (235, 30, 30)}
"""RGB: the paper's green and red."""


_PATCH_COLOR = (40, 110, 255)
_TEXT_COLOR = (20, 20, 20)
_PAPER = 255
_GAP_PX = 8
_TITLE_PX = 88  # two lines that can still be read when a page shows the row at half its size
_LINE_PX = 38
_TITLE_SIZE = 1.05
_OVERLAY_ALPHA = 0.95  # of a saliency of 1, as the release draws it
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True, slots=True, kw_only=True)
class _Picture:
    """One picture of the row, shrunk and turned as hung.

    Attributes:
        pixels_HW3: uint8 RGB.
        titles: One or two lines above it.
    """

    pixels_HW3: NDArray[np.uint8]
    titles: tuple[str, ...]


def figure4_panel(
    *,
    image_HW: NDArray[np.floating] | NDArray[np.integer],
    saliency_CIJ: NDArray[np.floating],
    corner_K2: NDArray[np.floating] | NDArray[np.integer],
    attention_K: NDArray[np.floating],
    patch_size: tuple[int, int],
    laterality: Laterality,
    view_position: ViewPosition,
    scores: Mapping[Finding, float],
    labels: Mapping[Finding, bool | None] | None = None,
    lesion_mask_HW: NDArray[np.integer] | None = None,
    rows_px: int = PANEL_ROWS_PX,
) -> NDArray[np.uint8]:
    """Draw the row: annotated input, patch map, saliency per finding, patches with their attention.

    Everything is given in the network's window, chest wall at column 0; the row shows it as hung, as in the source image: a
    right breast points left.

    Args:
        image_HW: The network's input, or any greyscale picture in its frame.
        saliency_CIJ: In [0, 1], findings in the order of ``Finding``; left out of the row if it has no cells.
        corner_K2: Upper-left corners (row, column) of the patches; their map is left out of the row if there are none.
        attention_K: Attention per patch.
        patch_size: (rows, columns) of a patch.
        laterality: Side, for the marker and the direction the breast points.
        view_position: View, for the marker.
        scores: Predicted probability per finding.
        labels: What is known of each finding; None = not known.
        lesion_mask_HW: Bit 0 benign, bit 1 malignant; outlined green and red on the input.
        rows_px: Height of the pictures.

    Returns:
        (rows, columns, 3) uint8 RGB, white behind the pictures.
    """
    scale = rows_px / image_HW.shape[0]
    grey_HW = grey_picture(image_HW, scale)
    is_mirrored = laterality is Laterality.RIGHT
    findings = tuple(Finding)[: len(saliency_CIJ)]
    pictures = [_annotated_input(grey_HW, lesion_mask_HW, is_mirrored, f"{laterality} {view_position}", labels)]
    if len(corner_K2):
        pictures.append(_patch_map(grey_HW, corner_K2, patch_size, scale, is_mirrored))
    for finding, saliency_IJ in zip(findings, saliency_CIJ if saliency_CIJ.size else (), strict=bool(saliency_CIJ.size)):
        titles = (f"{finding} saliency", f"score {scores[finding]:.3f}" if finding in scores else "")
        pictures.append(
            _Picture(pixels_HW3=_overlay(grey_HW, saliency_IJ, FINDING_COLORS[finding], is_mirrored), titles=titles)
        )
    pictures += _patches(image_HW, corner_K2, attention_K, patch_size, rows_px, is_mirrored)
    return _row(pictures, rows_px)


def grey_picture(image_HW: NDArray[np.floating] | NDArray[np.integer], scale: float) -> NDArray[np.uint8]:
    """The whole window shrunk, its darkest value black and its 99.8th percentile white."""
    small_HW = _resized(image_HW.astype(np.float32, copy=False), scale)
    darkest, brightest = _grey_range(small_HW)
    return np.asarray(np.clip((small_HW - darkest) * (255.0 / (brightest - darkest)), 0, 255), np.uint8)


def _grey_range(image_HW: NDArray[np.float32]) -> tuple[float, float]:
    darkest, brightest = float(image_HW.min()), float(np.percentile(image_HW, 99.8))
    return darkest, brightest if brightest > darkest else darkest + 1.0


def _resized(image_HW: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    size = (max(1, round(image_HW.shape[1] * scale)), max(1, round(image_HW.shape[0] * scale)))
    kind = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(image_HW, size, interpolation=kind), np.float32)


def _hung(picture: NDArray[np.uint8], is_mirrored: bool) -> NDArray[np.uint8]:
    return np.asarray(cv2.flip(picture, 1), np.uint8) if is_mirrored else picture


def _rgb(grey_HW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(grey_HW, cv2.COLOR_GRAY2RGB), np.uint8)


def _annotated_input(
    grey_HW: NDArray[np.uint8],
    lesion_mask_HW: NDArray[np.integer] | None,
    is_mirrored: bool,
    marker: str,
    labels: Mapping[Finding, bool | None] | None,
) -> _Picture:
    """The input with lesion outlines, and the side and view marker in the upper corner on the nipple's side."""
    picture_HW3 = _rgb(grey_HW)
    rows, columns = grey_HW.shape
    if lesion_mask_HW is not None:
        for finding, bit in MASK_BITS.items():
            lesion_HW = (lesion_mask_HW & bit).astype(np.uint8, copy=False)
            outlines, _ = cv2.findContours(lesion_HW, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            shrink = np.array([columns / lesion_mask_HW.shape[1], rows / lesion_mask_HW.shape[0]])
            small = [np.rint((outline + 0.5) * shrink - 0.5).astype(np.int32) for outline in outlines]
            cv2.drawContours(picture_HW3, small, -1, FINDING_COLORS[finding], 2, cv2.LINE_AA)
    picture_HW3 = _hung(picture_HW3, is_mirrored)
    size = rows / 700
    (width, height), _ = cv2.getTextSize(marker, _FONT, size, 2)
    at = (8 if is_mirrored else columns - width - 8, height + 10)
    cv2.putText(picture_HW3, marker, at, _FONT, size, (255, 255, 255), 2, cv2.LINE_AA)
    return _Picture(pixels_HW3=picture_HW3, titles=("input", _label_text(labels)))


def _label_text(labels: Mapping[Finding, bool | None] | None) -> str:
    known = [finding for finding, is_present in (labels or {}).items() if is_present is not None]
    if not known:
        return "label unknown"
    return ", ".join(finding for finding in known if labels and labels[finding]) or "no finding"


def _overlay(
    grey_HW: NDArray[np.uint8], saliency_IJ: NDArray[np.floating], color: tuple[int, int, int], is_mirrored: bool
) -> NDArray[np.uint8]:
    """The input under its saliency: the more salient, the more opaque the colour. Cells keep their borders."""
    rows, columns = grey_HW.shape
    cell_rows = np.arange(rows) * saliency_IJ.shape[0] // rows
    cell_columns = np.arange(columns) * saliency_IJ.shape[1] // columns
    alpha_HW = (_OVERLAY_ALPHA * np.clip(saliency_IJ, 0.0, 1.0)).astype(np.float32)[cell_rows][:, cell_columns]
    under_HW = grey_HW * (1.0 - alpha_HW)
    picture_HW3 = cv2.merge([cv2.convertScaleAbs(under_HW + alpha_HW * np.float32(value)) for value in color])
    return _hung(picture_HW3, is_mirrored)


def _patch_map(
    grey_HW: NDArray[np.uint8],
    corner_K2: NDArray[np.floating] | NDArray[np.integer],
    patch_size: tuple[int, int],
    scale: float,
    is_mirrored: bool,
) -> _Picture:
    """Blue squares where the patches lie, numbered from 1 as they are shown, and as the exam's page numbers them."""
    picture_HW3 = _rgb(grey_HW)
    columns = grey_HW.shape[1]
    boxes = [_small_box(corner, patch_size, scale) for corner in corner_K2]
    for top, bottom, left, right in boxes:
        cv2.rectangle(picture_HW3, (left, top), (right - 1, bottom - 1), _PATCH_COLOR, 2)
    picture_HW3 = _hung(picture_HW3, is_mirrored)
    for number, (top, _, left, right) in enumerate(boxes, 1):
        at = (columns - right if is_mirrored else left) + 6, top + 30
        cv2.putText(picture_HW3, str(number), at, _FONT, 0.9, _PATCH_COLOR, 2, cv2.LINE_AA)
    return _Picture(pixels_HW3=picture_HW3, titles=("patch map", f"{len(boxes)} patches"))


def _small_box(corner_2: NDArray[np.generic], patch_size: tuple[int, int], scale: float) -> tuple[int, int, int, int]:
    top, left = (float(value) for value in corner_2)
    bottom, right = top + patch_size[0], left + patch_size[1]
    return round(top * scale), round(bottom * scale), round(left * scale), round(right * scale)


def _patches(
    image_HW: NDArray[np.floating] | NDArray[np.integer],
    corner_K2: NDArray[np.floating] | NDArray[np.integer],
    attention_K: NDArray[np.floating],
    patch_size: tuple[int, int],
    rows_px: int,
    is_mirrored: bool,
) -> list[_Picture]:
    """The patches at their own resolution, greys as in the input, with their attention above."""
    darkest, brightest = _grey_range(image_HW[::4, ::4].astype(np.float32))
    side = rows_px // 2 - _TITLE_PX // 2
    pictures = []
    for number, (corner, attention) in enumerate(zip(corner_K2, attention_K, strict=True), 1):
        top, left = (round(float(value)) for value in corner)
        patch_HW = np.full(patch_size, darkest, np.float32)
        inside_HW = image_HW[max(0, top) : max(0, top + patch_size[0]), max(0, left) : max(0, left + patch_size[1])]
        row, column = max(0, -top), max(0, -left)
        patch_HW[row : row + inside_HW.shape[0], column : column + inside_HW.shape[1]] = inside_HW
        grey_HW = np.clip((patch_HW - darkest) * (255.0 / (brightest - darkest)), 0, 255).astype(np.uint8)
        size = (max(1, round(side * patch_size[1] / patch_size[0])), side)
        grey_HW = np.asarray(cv2.resize(grey_HW, size, interpolation=cv2.INTER_LINEAR), np.uint8)
        picture_HW3 = _rgb(grey_HW)
        cv2.rectangle(picture_HW3, (0, 0), (size[0] - 1, size[1] - 1), _PATCH_COLOR, 2)
        pictures.append(_Picture(pixels_HW3=_hung(picture_HW3, is_mirrored), titles=(f"{number}: attention {attention:.2f}",)))
    return pictures


def _row(pictures: list[_Picture], rows_px: int) -> NDArray[np.uint8]:
    """Whole views side by side, then the patches in two lines, each picture under its titles, on white."""
    views = [picture for picture in pictures if picture.pixels_HW3.shape[0] == rows_px]
    patches = [picture for picture in pictures if picture.pixels_HW3.shape[0] != rows_px]
    places: list[tuple[_Picture, int, int]] = []
    column = _GAP_PX
    for picture in views:
        places.append((picture, _TITLE_PX, column))
        column += picture.pixels_HW3.shape[1] + _GAP_PX
    half = (len(patches) + 1) // 2
    for index, picture in enumerate(patches):
        height, width, _ = picture.pixels_HW3.shape
        row = _TITLE_PX if index < half else rows_px + _TITLE_PX - height
        places.append((picture, row, column + (index % max(1, half)) * (width + _GAP_PX)))
    total = max(left + picture.pixels_HW3.shape[1] for picture, _, left in places) + _GAP_PX
    panel_HW3 = np.full((rows_px + _TITLE_PX + _GAP_PX, total, 3), _PAPER, np.uint8)
    for picture, top, left in places:
        height, width, _ = picture.pixels_HW3.shape
        panel_HW3[top : top + height, left : left + width] = picture.pixels_HW3
        _write_titles(panel_HW3, picture.titles, top, left, width)
    return panel_HW3


def _write_titles(panel_HW3: NDArray[np.uint8], titles: tuple[str, ...], top: int, left: int, width: int) -> None:
    for line, title in enumerate(reversed([title for title in titles if title])):
        (text_width, _), _ = cv2.getTextSize(title, _FONT, _TITLE_SIZE, 2)
        size = _TITLE_SIZE * min(1.0, width / max(1, text_width))
        cv2.putText(panel_HW3, title, (left, top - 12 - _LINE_PX * line), _FONT, size, _TEXT_COLOR, 2, cv2.LINE_AA)
