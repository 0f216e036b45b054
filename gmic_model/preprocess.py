"""From a decoded image to the network's input: crop, flip, best centre, window, standardisation (GMIC.md section 2).

The breast is found in ``breast_mask``; where the window lies is decided in ``augment``; the way back is ``saliency``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from gmic_model.pixels.breast_mask import RIGHTMOST_IGNORES_TOP, Breast, find_breast
from gmic_model.pixels.orientation import turned_back, turned_upright
from gmic_model.pixels.voi import VOI_VERSION
from gmic_model.pixels.window import (
    DEFAULT_SETTINGS,
    Jitter,
    ScalarT,
    WindowPlacement,
    pasted,
    resized,
    window_part,
    window_placement,
    working_shape_px,
)
from schemas.config.ingest import CropMode, PreprocessConfig, VoiMode
from schemas.errors import ConfigError, DicomError, GateRejection
from schemas.exam import Laterality, ViewGeometry, ViewPosition

PREPROCESS_VERSION: Final = "1"
NO_BREAST: Final = "C01"
"""Reason code of an image in which no breast is found."""
SMALLEST_STD: Final = 1e-5
"""What a uniform window is divided by (GMIC.md 2.3)."""

_MARGIN_SHARE = 0.01  # of the rows: what is kept around the breast when a raised background is set to 0
_SMALLEST_MARK_SHARE = 5e-5  # of the image's area: smaller bright parts are noise or skin, not a burned-in letter
_MARK_SEARCH_STEP = 4  # marks are looked for on every fourth pixel


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedView:
    """The breast crop as it is stored, and where it came from.

    Attributes:
        pixels_HW: (rows, columns) uint16, chest wall at column 0, raw values, scaled if the breast is shrunk to the window.
        geometry: The way back to the source image.
        tissue_fraction: Share of the source image inside the breast.
    """

    pixels_HW: NDArray[np.uint16]
    geometry: ViewGeometry
    tissue_fraction: float


def preprocess_version(settings: PreprocessConfig) -> str:
    """The version of everything between stored values and crop; names the VOI transform unless values are raw."""
    if settings.voi is VoiMode.RAW:
        return PREPROCESS_VERSION
    return f"{PREPROCESS_VERSION}+{settings.voi.value}-{VOI_VERSION}"


def prepare_view(
    pixels_HW: NDArray[np.uint16],
    laterality: Laterality,
    view_position: ViewPosition = ViewPosition.CC,
    *,
    settings: PreprocessConfig = DEFAULT_SETTINGS,
) -> PreparedView:
    """Crop the breast, bring the chest wall to column 0, find the best window centre.

    Args:
        pixels_HW: (rows, columns) unsigned 16-bit, tissue bright, upright (``orientation``): a left breast has its chest wall
            at column 0, a right one at the last column.
        laterality: Side of the breast.
        view_position: Decides how the window is placed.
        settings: Sizes, crop mode, and what to do with a breast larger than the window.

    Raises:
        DicomError: The array is not a two-dimensional unsigned 16-bit image.
        GateRejection: No breast is found (reason code C01).
    """
    _check_pixels(pixels_HW)
    breast = find_breast(pixels_HW, laterality, crop_mode=settings.crop_mode, erosion_iterations=settings.erosion_iterations)
    if breast is None:
        raise _no_breast(pixels_HW.shape, settings)
    box = _buffered_box(breast, laterality, settings.crop_buffer_px)
    is_flipped = laterality is Laterality.RIGHT
    crop_HW = pixels_HW[box[0] : box[1], box[2] : box[3]]
    tissue_HW = breast.is_tissue_HW[box[0] : box[1], box[2] : box[3]]
    if settings.crop_mode is CropMode.ROBUST:
        crop_HW = _without_marks(crop_HW, tissue_HW, breast, box)
    if is_flipped:
        crop_HW, tissue_HW = np.asarray(cv2.flip(crop_HW, 1), np.uint16), np.asarray(cv2.flip(tissue_HW, 1), np.uint8)
    geometry = ViewGeometry(
        source_shape_px=(pixels_HW.shape[0], pixels_HW.shape[1]),
        crop_box_px=box,
        is_flipped=is_flipped,
        scale=1.0,
        best_center_px=best_center(
            tissue_HW,
            view_position,
            nipple_column_px=nipple_extent(breast, box, laterality)[1],
            lowest_row_px=breast.box_px[1] - 1 - box[0],
            window_px=settings.window_px,
        ),
        window_px=settings.window_px,
        view_position=view_position,
    )
    prepared = PreparedView(
        pixels_HW=np.ascontiguousarray(crop_HW), geometry=geometry, tissue_fraction=breast.area_px / pixels_HW.size
    )
    return _shrunk(prepared) if settings.oversize == "shrink" else prepared


def fit_canvas(prepared: PreparedView, canvas_px: tuple[int, int]) -> PreparedView:
    """Cut a crop larger than the canvas to the part that the window and its jitter can reach.

    With a canvas of ``PreprocessConfig.canvas_px`` the network input is the same before and after, with any allowed jitter: the
    cut keeps on each side either the margin of the largest shift and size change, or the crop's own edge.

    Raises:
        ConfigError: The canvas is smaller than the window, so a cut would lose pixels the network must see.
    """
    geometry = prepared.geometry
    if canvas_px[0] < geometry.window_px[0] or canvas_px[1] < geometry.window_px[1]:
        raise ConfigError(
            "The stored canvas is smaller than the network's window",
            expected=f"at least {geometry.window_px}",
            got=canvas_px,
            remedy="use PreprocessConfig.canvas_px of the config that prepared the view",
        )
    rows, columns = prepared.pixels_HW.shape
    if rows <= canvas_px[0] and columns <= canvas_px[1]:
        return prepared
    starts = [
        min(max(center - canvas // 2, 0), max(whole - canvas, 0))
        for center, canvas, whole in zip(_placed_center(prepared), canvas_px, (rows, columns), strict=True)
    ]
    stops = [min(start + canvas, whole) for start, canvas, whole in zip(starts, canvas_px, (rows, columns), strict=True)]
    return PreparedView(
        pixels_HW=np.ascontiguousarray(prepared.pixels_HW[starts[0] : stops[0], starts[1] : stops[1]]),
        geometry=_cut_geometry(geometry, (rows, columns), (starts[0], stops[0], starts[1], stops[1])),
        tissue_fraction=prepared.tissue_fraction,
    )


def network_input(prepared: PreparedView, *, augment: Jitter | None = None) -> NDArray[np.float32]:
    """Cut and standardise the network's window (GMIC.md 2.3, 2.5).

    Args:
        prepared: The breast crop.
        augment: Random change of the window, for training.

    Returns:
        (window rows, window columns): mean 0 and standard deviation 1 over all pixels, the padding's zeros included; all 0 if
        the window is uniform.
    """
    placement = window_placement(prepared.geometry, shape_px=prepared.pixels_HW.shape, jitter=augment)
    return standardised(window_part(prepared.pixels_HW, placement), placement, prepared.geometry.window_px)


def standardised(part_HW: NDArray[np.uint16], placement: WindowPlacement, window_px: tuple[int, int]) -> NDArray[np.float32]:
    """The network's input from the part of a crop that falls into its window.

    Args:
        part_HW: As ``window_part`` gives it.
        placement: Where the window lies on the crop.
        window_px: (rows, columns) of the input; a window of another size is resized, cubic.

    Returns:
        As ``network_input``.
    """
    if placement.shape_px == window_px:
        return _standardised_unresized(part_HW, placement)
    # float32 before the cubic resize, whose overshoot uint16 would clip
    window_HW = resized(pasted(part_HW, placement).astype(np.float32), window_px, cv2.INTER_CUBIC)
    mean, std = (float(value[0, 0]) for value in cv2.meanStdDev(window_HW))
    window_HW -= np.float32(mean)
    window_HW *= np.float32(1.0 / max(std, SMALLEST_STD))
    return window_HW


def crop_like(image_HW: NDArray[ScalarT], geometry: ViewGeometry) -> NDArray[ScalarT]:
    """Bring a lesion mask of the source image into the stored crop's frame: crop, turn, flip, nearest-neighbour scaling."""
    top, bottom, left, right = geometry.crop_box_px
    crop_HW = np.rot90(image_HW[top:bottom, left:right], -geometry.quarter_turns)
    if geometry.is_flipped:
        crop_HW = crop_HW[:, ::-1]
    rows, columns = working_shape_px(geometry)
    if crop_HW.shape != (rows, columns):
        crop_HW = resized(np.ascontiguousarray(crop_HW), (rows, columns), cv2.INTER_NEAREST_EXACT)
    return np.ascontiguousarray(crop_HW)


def nipple_extent(breast: Breast, box_px: tuple[int, int, int, int], laterality: Laterality) -> tuple[tuple[int, int], int]:
    """Rows (first, last) and column of the breast's point furthest from the chest wall, in the flipped crop (GMIC.md 2.1)."""
    top, bottom, left, right = box_px
    first_row = top + (bottom - top) // RIGHTMOST_IGNORES_TOP
    reach = breast.row_reach_px[max(0, first_row - breast.box_px[0]) :]
    first_row = max(first_row, breast.box_px[0])
    column = int(reach.max() if laterality is Laterality.LEFT else reach.min())
    rows = first_row - top + np.flatnonzero(reach == column)
    # A right breast's column is the crop's width less the column, one more than its index after the flip, as in the release.
    flipped = column - left if laterality is Laterality.LEFT else (right - left) - (column - left)
    return (int(rows[0]), int(rows[-1])), flipped


def best_center(
    tissue_HW: NDArray[np.uint8],
    view_position: ViewPosition,
    *,
    nipple_column_px: int,
    lowest_row_px: int,
    window_px: tuple[int, int],
) -> tuple[int, int]:
    """The window's best centre in the flipped crop (GMIC.md 2.2).

    Columns end at the nipple. Rows of an MLO view end at the lowest breast row; rows of a CC view hold the most tissue, and
    of equals the one nearest the middle, the upper first.

    Args:
        tissue_HW: The flipped crop's tissue, 0 or 1.
        view_position: CC or MLO.
        nipple_column_px: Of ``nipple_extent``.
        lowest_row_px: Lowest breast row in the crop.
        window_px: (rows, columns) of the window.
    """
    rows, columns = tissue_HW.shape
    half_rows, half_columns = window_px[0] // 2, window_px[1] // 2
    column = nipple_column_px - half_columns - 1
    if view_position is ViewPosition.MLO:
        tissue_rows = np.flatnonzero(tissue_HW[:, max(0, columns - window_px[1]) :].any(axis=1))
        lowest = min(lowest_row_px, int(tissue_rows[-1])) if tissue_rows.size else lowest_row_px
        return lowest - half_rows - 1, column
    if half_rows >= rows - half_rows:
        return rows // 2, column
    first, last = max(column - half_columns, 0), min(column + max(half_columns, 2 * half_columns - column), columns)
    counts = cv2.reduce(np.ascontiguousarray(tissue_HW[:, first:last]), 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel()
    total = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    candidates = np.arange(half_rows, rows - half_rows + 1)
    held = total[candidates + half_rows] - total[candidates - half_rows]
    best = candidates[held == held.max()]
    return int(best[np.abs(best - rows // 2).argmin()]), column


def _check_pixels(pixels_HW: NDArray[np.uint16]) -> None:
    if pixels_HW.ndim != 2 or pixels_HW.dtype != np.uint16 or 0 in pixels_HW.shape:
        raise DicomError(
            "The image is not a two-dimensional unsigned 16-bit array",
            expected="(rows, columns) uint16",
            got=f"{pixels_HW.shape} {pixels_HW.dtype}",
            remedy="decode a single-frame greyscale image",
        )


def _no_breast(shape_px: tuple[int, ...], settings: PreprocessConfig) -> GateRejection:
    return GateRejection(
        "No breast was found in the image",
        reason_codes=(NO_BREAST,),
        expected=f"tissue more than {settings.erosion_iterations} pixels from any background or edge",
        got=f"none in {shape_px[0]} x {shape_px[1]} pixels, crop mode {settings.crop_mode}",
        remedy="look at the image: blank, inverted or partial; for small images lower preprocess.erosion_iterations",
    )


def _buffered_box(breast: Breast, laterality: Laterality, buffer_px: int) -> tuple[int, int, int, int]:
    """The breast's box with a margin above, below and on the nipple's side, inside the image and its frame."""
    top, bottom, left, right = breast.box_px
    first_row, last_row, first_column, last_column = breast.inside_px
    top, bottom = max(first_row, top - buffer_px), min(last_row, bottom + buffer_px)
    if laterality is Laterality.LEFT:
        return top, bottom, left, min(last_column, right + buffer_px)
    return top, bottom, max(first_column, left - buffer_px), right


def _without_marks(
    crop_HW: NDArray[np.uint16], tissue_HW: NDArray[np.uint8], breast: Breast, box_px: tuple[int, int, int, int]
) -> NDArray[np.uint16]:
    """Set burned-in marks to 0, and with them a background that is not 0, save a narrow margin around the breast.

    A mark is a part of the tissue mask that is not connected to the breast. Breast pixels keep their values.
    """
    if breast.padding > 0:
        crop_HW = np.where((crop_HW == breast.padding) & (tissue_HW == 0), np.uint16(0), crop_HW)
    step = _MARK_SEARCH_STEP
    parts, part_HW = cv2.connectedComponents(np.ascontiguousarray(tissue_HW[::step, ::step]), connectivity=8)
    if parts <= 2 and not breast.has_raised_background:  # background and breast
        return crop_HW
    sizes = np.bincount(part_HW.ravel(), minlength=parts)
    sizes[0] = 0
    is_breast_HW = (part_HW == sizes.argmax()).view(np.uint8)
    is_part_mark = sizes >= _SMALLEST_MARK_SHARE * breast.is_tissue_HW.size / step**2
    is_part_mark[sizes.argmax()] = False
    is_blank_HW = cv2.dilate(is_part_mark[part_HW].view(np.uint8), np.ones((3, 3), np.uint8)) & (1 - is_breast_HW)
    if breast.has_raised_background:
        margin = 1 + round(_MARGIN_SHARE * crop_HW.shape[0] / step)
        is_blank_HW |= 1 - cv2.dilate(is_breast_HW, np.ones((2 * margin + 1, 2 * margin + 1), np.uint8))
    rows, columns = crop_HW.shape
    is_kept_HW = np.repeat(np.repeat(1 - is_blank_HW, step, axis=1), step, axis=0)[:rows, :columns]
    return np.asarray(crop_HW * is_kept_HW, np.uint16)


def _shrunk(prepared: PreparedView) -> PreparedView:
    """Scale a crop that is larger than the window down to fit in it."""
    geometry = prepared.geometry
    rows, columns = prepared.pixels_HW.shape
    scale = min(1.0, geometry.window_px[0] / rows, geometry.window_px[1] / columns)
    if scale == 1.0:
        return prepared
    row, column = geometry.best_center_px
    geometry = replace(geometry, scale=scale, best_center_px=(round(row * scale), round(column * scale)))
    resized_HW = resized(prepared.pixels_HW, working_shape_px(geometry), cv2.INTER_AREA)
    return PreparedView(pixels_HW=resized_HW, geometry=geometry, tissue_fraction=prepared.tissue_fraction)


def _placed_center(prepared: PreparedView) -> tuple[int, int]:
    """Middle of the window as placed without jitter."""
    top, bottom, left, right = window_placement(prepared.geometry, shape_px=prepared.pixels_HW.shape).on_crop_px
    return (top + bottom) // 2, (left + right) // 2


def _cut_geometry(geometry: ViewGeometry, shape_px: tuple[int, int], cut_px: tuple[int, int, int, int]) -> ViewGeometry:
    """The geometry after rows and columns of the flipped crop were cut off. A shrunk crop is never cut: its scale is 1 here."""
    quarter_turns, geometry = geometry.quarter_turns, turned_upright(geometry)
    top, bottom, left, right = geometry.crop_box_px
    first_row, last_row, first_column, last_column = cut_px
    if geometry.is_flipped:
        left, right = left + (shape_px[1] - last_column), right - first_column
    else:
        left, right = left + first_column, right - (shape_px[1] - last_column)
    row, column = geometry.best_center_px
    cut = replace(
        geometry,
        crop_box_px=(top + first_row, bottom - (shape_px[0] - last_row), left, right),
        best_center_px=(row - first_row, column - first_column),
    )
    return turned_back(cut, quarter_turns)


def _standardised_unresized(part_HW: NDArray[np.uint16], placement: WindowPlacement) -> NDArray[np.float32]:
    """In one pass over the pixels: the padding's zeros enter the mean and deviation by arithmetic."""
    (row, column), (rows, columns) = placement.corner_px, part_HW.shape
    height, width = placement.shape_px
    share = part_HW.size / (height * width)
    mean = variance = 0.0
    if part_HW.size:
        inside_mean, inside_std = (float(value[0, 0]) for value in cv2.meanStdDev(part_HW))
        mean = share * inside_mean
        # within the crop, and between the crop and the padding
        variance = share * inside_std**2 + share * (1.0 - share) * inside_mean**2
    per_std = 1.0 / max(variance**0.5, SMALLEST_STD)
    window_HW = np.full((height, width), -mean * per_std, np.float32)
    inside_HW = window_HW[row : row + rows, column : column + columns]
    np.multiply(part_HW, np.float32(per_std), out=inside_HW, dtype=np.float32, casting="same_kind")
    inside_HW -= np.float32(mean * per_std)
    return window_HW
