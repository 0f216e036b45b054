"""Between the network's window and the source image: saliency, lesion masks and patches, exactly undone.

The path of a pixel is in ``ViewGeometry``; where the window lies is ``augment.place_window``, as for the network's input.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from gmic_model.pixels.orientation import turned_box, turned_upright
from gmic_model.pixels.window import Jitter, ScalarT, cut_window, window_placement, working_shape_px
from schemas.errors import ConfigError
from schemas.exam import LesionBox, ViewGeometry


def to_source_frame(
    saliency_CIJ: NDArray[np.floating], prepared_geometry: ViewGeometry, shape_px: tuple[int, int]
) -> NDArray[np.float32]:
    """As ``cells_to_source``, for a network's maps."""
    return cells_to_source(saliency_CIJ.astype(np.float32), prepared_geometry, shape_px)


def cells_to_source(
    saliency_CIJ: NDArray[ScalarT], prepared_geometry: ViewGeometry, shape_px: tuple[int, int]
) -> NDArray[ScalarT]:
    """Bring saliency maps into the source image's frame: undo window, scaling, flip, turns and crop.

    Nearest-neighbour upsampling, as the paper's section 3.3 does for its localisation metrics.

    Args:
        saliency_CIJ: One map per finding, over the network's window without jitter; also of bytes, a quarter of the memory.
        prepared_geometry: Of the prepared view.
        shape_px: (rows, columns) wanted: the source image's, or those of a smaller or larger copy of it.

    Returns:
        (C, rows, columns), of the cells' own type; 0 outside the window.
    """
    findings, grid_rows, grid_columns = saliency_CIJ.shape
    if not saliency_CIJ.size:  # a network without a map
        return np.zeros((findings, *shape_px), saliency_CIJ.dtype)
    if turns := prepared_geometry.quarter_turns:
        turned_px = shape_px[::-1] if turns % 2 else shape_px
        upright_CHW = cells_to_source(saliency_CIJ, turned_upright(prepared_geometry), turned_px)
        return np.ascontiguousarray(np.rot90(upright_CHW, turns, axes=(1, 2)))
    row_cell, column_cell = _cells_of_source(prepared_geometry, shape_px, (grid_rows, grid_columns))
    rows, columns = _span(row_cell), _span(column_cell)
    source_CHW = np.zeros((findings, *shape_px), saliency_CIJ.dtype)
    wide_CIW = saliency_CIJ[:, :, column_cell[columns]]
    # All rows of one cell are equal, so they are written at once: a gather of single pixels is ten times slower.
    edges = rows.start + np.flatnonzero(np.diff(row_cell[rows], prepend=-1, append=-1))
    for first, last in itertools.pairwise(edges.tolist()):
        source_CHW[:, first:last, columns] = wide_CIW[:, row_cell[first], None]
    return source_CHW


def mask_to_window(mask_HW: NDArray[ScalarT], geometry: ViewGeometry, *, jitter: Jitter | None = None) -> NDArray[ScalarT]:
    """Cut the network's window out of a lesion mask in the stored crop's frame (``preprocess.crop_like``).

    Args:
        mask_HW: (rows, columns) of the stored crop.
        geometry: Of the prepared view.
        jitter: The same random change the image gets.

    Returns:
        (window rows, window columns), 0 in the padding; nearest neighbour where the jitter changes the size.
    """
    placement = window_placement(geometry, shape_px=mask_HW.shape, jitter=jitter)
    return cut_window(mask_HW, placement, geometry.window_px, interpolation=cv2.INTER_NEAREST_EXACT)


def boxes_in_crop(boxes: Iterable[LesionBox], geometry: ViewGeometry, shape_px: tuple[int, int]) -> NDArray[np.uint8]:
    """Bring boxes of the source image into the stored crop's frame, as a mask: 1 inside any box.

    A pixel of the crop is inside if its middle is; a box of less than a pixel there keeps one.

    Args:
        boxes: In source pixels; what lies outside the crop is cut off.
        geometry: Of the prepared view.
        shape_px: (rows, columns) of the stored crop.
    """
    upright = turned_upright(geometry)
    top, bottom, left, right = upright.crop_box_px
    per_row, per_column = shape_px[0] / (bottom - top), shape_px[1] / (right - left)
    mask_HW = np.zeros(shape_px, np.uint8)
    for box in boxes:
        box_px = (box.top_px, box.bottom_px, box.left_px, box.right_px)
        first_row, last_row, first, last = turned_box(box_px, geometry.source_shape_px, geometry.quarter_turns)
        columns = (right - last, right - first) if geometry.is_flipped else (first - left, last - left)
        rows = _pixels_between((first_row - top) * per_row, (last_row - top) * per_row)
        mask_HW[rows, _pixels_between(columns[0] * per_column, columns[1] * per_column)] = 1
    return mask_HW


def corners_to_source(
    corner_K2: NDArray[np.floating] | NDArray[np.integer], patch_size: tuple[int, int], geometry: ViewGeometry
) -> NDArray[np.int64]:
    """Bring ROI patches into the source image's frame.

    Args:
        corner_K2: Upper-left corners (row, column) in the network's window, without jitter.
        patch_size: (rows, columns) of a patch.
        geometry: Of the prepared view.

    Returns:
        (K, 4) top, bottom, left, right in source pixels, half open. A patch that reaches into the window's padding sticks
        out of the crop, and maybe of the image: clip it for drawing.
    """
    corner_K2 = np.asarray(corner_K2, np.float64)
    placement = window_placement(geometry)
    first_row, _, first_column, _ = placement.on_crop_px
    upright = turned_upright(geometry)
    top, bottom, left, right = upright.crop_box_px
    working_rows, working_columns = working_shape_px(geometry)
    per_row, per_column = (bottom - top) / working_rows, (right - left) / working_columns
    rows = top + (corner_K2[:, :1] + first_row + np.array([[0, patch_size[0]]])) * per_row  # K, 2
    columns = (corner_K2[:, 1:] + first_column + np.array([[0, patch_size[1]]])) * per_column  # K, 2
    columns = right - columns[:, ::-1] if geometry.is_flipped else left + columns
    edges_K4 = np.asarray(np.rint(np.concatenate([rows, columns], axis=1)), np.int64)
    for index, (first_row, last_row, first, last) in enumerate(edges_K4.tolist() if geometry.quarter_turns else ()):
        edges_K4[index] = turned_box((first_row, last_row, first, last), upright.source_shape_px, -geometry.quarter_turns)
    return edges_K4


def _pixels_between(start: float, stop: float) -> slice:
    first = round(start)
    return slice(max(first, 0), max(round(stop), first + 1, 0))


def _cells_of_source(
    geometry: ViewGeometry, shape_px: tuple[int, int], grid: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Per row and per column of the wanted frame, the saliency cell it lies in; -1 outside the window."""
    if min(shape_px) < 1:
        raise ConfigError(
            "The wanted frame is empty", expected="at least one row and column", got=shape_px, remedy="give its shape"
        )
    top, bottom, left, right = geometry.crop_box_px
    working = working_shape_px(geometry)
    first_row, last_row, first_column, last_column = window_placement(geometry).on_crop_px
    # A pixel stands for its middle: + 0.5.
    row = (np.arange(shape_px[0]) + 0.5) * (geometry.source_shape_px[0] / shape_px[0]) - top
    column = (np.arange(shape_px[1]) + 0.5) * (geometry.source_shape_px[1] / shape_px[1])
    column = right - column if geometry.is_flipped else column - left
    return (
        _cells(row, bottom - top, working[0], (first_row, last_row), grid[0]),
        _cells(column, right - left, working[1], (first_column, last_column), grid[1]),
    )


def _cells(at: NDArray[np.floating], crop_px: int, working_px: int, window: tuple[int, int], cells: int) -> NDArray[np.int64]:
    """Cells of positions along one axis of the crop, in source pixels from the crop's edge."""
    start, stop = window
    cell = np.floor((at * (working_px / crop_px) - start) * (cells / (stop - start))).astype(np.int64)
    is_inside = (at >= 0) & (at < crop_px) & (cell >= 0) & (cell < cells)
    return np.where(is_inside, cell, -1)


def _span(cell: NDArray[np.int64]) -> slice:
    """The positions that have a cell; they are neighbours."""
    inside = np.flatnonzero(cell >= 0)
    return slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(0, 0)
