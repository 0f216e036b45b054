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
from gmic_model.pixels.canvas import Kept, cut_geometry
from gmic_model.pixels.marks import without_marks
from gmic_model.pixels.orientation import turned_upright
from gmic_model.pixels.voi import VOI_VERSION
from gmic_model.pixels.window import (
    DEFAULT_SETTINGS,
    Jitter,
    ScalarT,
    WindowPlacement,
    is_cut_by_window,
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
NO_SPACING: Final = "C02"
"""Reason code of an image that cannot be brought to the common pixel spacing, because its own is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedView:
    """The breast crop as it is stored, and where it came from.

    Attributes:
        pixels_HW: (rows, columns) uint16, chest wall at column 0, raw values, scaled if the breast is shrunk to the window.
        geometry: The way back to the source image.
        tissue_fraction: Share of the source image inside the breast.
        seen_fraction: Share of the breast that the window holds, without jitter; below 1 where a large breast is cut.
    """

    pixels_HW: NDArray[np.uint16]
    geometry: ViewGeometry
    tissue_fraction: float
    seen_fraction: float = 1.0


def preprocess_version(settings: PreprocessConfig) -> str:
    """The version of everything between stored values and crop; names a VOI transform and a common pixel spacing."""
    voi = "" if settings.voi is VoiMode.RAW else f"+{settings.voi.value}-{VOI_VERSION}"
    spacing = "" if settings.pixel_spacing_mm is None else f"+{settings.pixel_spacing_mm:g}mm"
    return f"{PREPROCESS_VERSION}{voi}{spacing}"


def common_scale(settings: PreprocessConfig, pixel_spacing_mm: float | None) -> float:
    """Working pixels per source pixel that bring an image to the common pixel spacing; 1 where the config names none.

    Raises:
        GateRejection: It names one, and the image's own is not known (reason code C02).
    """
    if settings.pixel_spacing_mm is None:
        return 1.0
    if pixel_spacing_mm is None:
        raise GateRejection(
            "The image cannot be brought to the common pixel spacing",
            reason_codes=(NO_SPACING,),
            expected=f"a known pixel spacing, to make {settings.pixel_spacing_mm:g} mm of it",
            got="none in the file",
            remedy="leave out preprocess.pixel_spacing_mm for data whose files give no spacing",
        )
    return pixel_spacing_mm / settings.pixel_spacing_mm


def prepare_view(
    pixels_HW: NDArray[np.uint16],
    laterality: Laterality,
    view_position: ViewPosition = ViewPosition.CC,
    *,
    settings: PreprocessConfig = DEFAULT_SETTINGS,
    pixel_spacing_mm: float | None = None,
) -> PreparedView:
    """Crop the breast, bring the chest wall to column 0, find the best window centre, scale where the settings ask for it.

    Args:
        pixels_HW: (rows, columns) unsigned 16-bit, tissue bright, upright (``orientation``): a left breast has its chest wall
            at column 0, a right one at the last column.
        laterality: Side of the breast.
        view_position: Decides how the window is placed.
        settings: Sizes, crop mode, common pixel spacing, and what to do with a breast larger than the window.
        pixel_spacing_mm: Of the image; None = not known.

    Raises:
        DicomError: The array is not a two-dimensional unsigned 16-bit image.
        GateRejection: No breast is found (reason code C01), or its pixel spacing is needed and not known (C02).
    """
    _check_pixels(pixels_HW)
    to_common = common_scale(settings, pixel_spacing_mm)
    breast = find_breast(pixels_HW, laterality, crop_mode=settings.crop_mode, erosion_iterations=settings.erosion_iterations)
    if breast is None:
        raise _no_breast(pixels_HW.shape, settings)
    box = _buffered_box(breast, laterality, settings.crop_buffer_px)
    is_flipped = laterality is Laterality.RIGHT
    crop_HW = pixels_HW[box[0] : box[1], box[2] : box[3]]
    tissue_HW = breast.is_tissue_HW[box[0] : box[1], box[2] : box[3]]
    if settings.crop_mode is CropMode.ROBUST:
        crop_HW = without_marks(crop_HW, tissue_HW, breast)
    if is_flipped:
        crop_HW, tissue_HW = np.asarray(cv2.flip(crop_HW, 1), np.uint16), np.asarray(cv2.flip(tissue_HW, 1), np.uint8)
    scale = min(to_common, _fitting_scale(crop_HW.shape, settings)) if settings.oversize == "shrink" else to_common
    geometry = ViewGeometry(
        source_shape_px=(pixels_HW.shape[0], pixels_HW.shape[1]),
        crop_box_px=box,
        is_flipped=is_flipped,
        scale=scale,
        best_center_px=_working_center(tissue_HW, breast, box, (laterality, view_position), settings, scale),
        window_px=settings.window_px,
        view_position=view_position,
    )
    if scale != 1.0:
        crop_HW = _scaled(crop_HW, scale, cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR)
    return PreparedView(
        pixels_HW=np.ascontiguousarray(crop_HW),
        geometry=geometry,
        tissue_fraction=breast.area_px / pixels_HW.size,
        seen_fraction=_seen_fraction(tissue_HW, breast, geometry),
    )


def fit_canvas(prepared: PreparedView, canvas_px: tuple[int, int]) -> PreparedView:
    """Cut a crop larger than the canvas to the part that the window and its jitter can reach.

    With a canvas of ``PreprocessConfig.canvas_px`` the network input is the same before and after, with any allowed jitter: the
    cut keeps on each side either the margin of the largest shift and size change, or the crop's own edge. A scaled crop is cut
    between whole source pixels, so its canvas may be narrower by less than one of them.

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
    upright = turned_upright(geometry).crop_box_px
    sources = (upright[1] - upright[0], upright[3] - upright[2])
    along_rows, along_columns = (
        Kept.of(center, canvas, whole, source, geometry.scale)
        for center, canvas, whole, source in zip(_placed_center(prepared), canvas_px, (rows, columns), sources, strict=True)
    )
    return replace(
        prepared,
        pixels_HW=np.ascontiguousarray(prepared.pixels_HW[along_rows.of_crop, along_columns.of_crop]),
        geometry=cut_geometry(geometry, along_rows, along_columns),
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


def _working_center(
    tissue_HW: NDArray[np.uint8],
    breast: Breast,
    box_px: tuple[int, int, int, int],
    view: tuple[Laterality, ViewPosition],
    settings: PreprocessConfig,
    scale: float,
) -> tuple[int, int]:
    """The best centre in the scaled crop. A crop that is shrunk to the window does not use it: it is looked for unscaled."""
    at = scale if settings.oversize == "cut" else 1.0
    row, column = best_center(
        tissue_HW if at == 1.0 else _scaled(tissue_HW, at, cv2.INTER_NEAREST_EXACT),
        view[1],
        nipple_column_px=round(nipple_extent(breast, box_px, view[0])[1] * at),
        lowest_row_px=round((breast.box_px[1] - 1 - box_px[0]) * at),
        window_px=settings.window_px,
    )
    return round(row * scale / at), round(column * scale / at)


def _fitting_scale(shape_px: tuple[int, ...], settings: PreprocessConfig) -> float:
    """What a crop must be scaled by to fit in the window; 1 if it does."""
    return min(1.0, settings.window_px[0] / shape_px[0], settings.window_px[1] / shape_px[1])


def _scaled(image_HW: NDArray[ScalarT], scale: float, interpolation: int) -> NDArray[ScalarT]:
    """A crop's pixels or tissue by so many working pixels per source pixel."""
    rows, columns = (max(1, round(length * scale)) for length in image_HW.shape)
    return resized(np.ascontiguousarray(image_HW), (rows, columns), interpolation)


def _seen_fraction(tissue_HW: NDArray[np.uint8], breast: Breast, geometry: ViewGeometry) -> float:
    """Share of the breast's tissue inside the window as placed without jitter, counted in the source's pixels."""
    placement = window_placement(geometry)
    if not is_cut_by_window(working_shape_px(geometry), geometry.window_px):
        return 1.0
    (top, _, left, right), (first, last, start, stop) = geometry.crop_box_px, breast.box_px
    across = (right - stop, right - start) if geometry.is_flipped else (start - left, stop - left)
    window = [round(edge / geometry.scale) for edge in placement.on_crop_px]
    seen_rows = slice(max(first - top, window[0]), max(min(last - top, window[1]), 0))
    seen_columns = slice(max(across[0], window[2]), max(min(across[1], window[3]), 0))
    return int(cv2.countNonZero(tissue_HW[seen_rows, seen_columns])) / max(1, breast.area_px)


def _placed_center(prepared: PreparedView) -> tuple[int, int]:
    """Middle of the window as placed without jitter."""
    top, bottom, left, right = window_placement(prepared.geometry, shape_px=prepared.pixels_HW.shape).on_crop_px
    return (top + bottom) // 2, (left + right) // 2


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
