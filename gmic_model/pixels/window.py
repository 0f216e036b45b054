"""Where the network's window lies on a crop, and how training moves it (GMIC.md 2.3, 2.5).

The one place that knows the placement rules: the network input, the lesion masks and the way back to the source image all use
``place_window``. There is no flip, rotation or intensity change in the released code, and none here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from schemas.config.ingest import PreprocessConfig
from schemas.exam import ViewGeometry, ViewPosition

ScalarT = TypeVar("ScalarT", np.uint8, np.uint16, np.float32)

DEFAULT_SETTINGS: Final = PreprocessConfig()


class UniformDraws(Protocol):
    """What is needed of a random generator; ``numpy.random.Generator`` and ``RandomState`` both have it."""

    def uniform(self, low: float, high: float, size: int) -> NDArray[np.float64]:
        """Draw ``size`` numbers in [low, high)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Jitter:
    """One random change of the window. Draws are in [-1, 1), relative to what the image leaves room for.

    Attributes:
        shift_2: Draws for the shift along rows and columns.
        size_4: Draws for the borders top, bottom, left, right.
        max_shift_px: Shift along an axis, at most.
        max_size_px: Movement of the top and bottom border, at most; left and right move in proportion to the window.
    """

    shift_2: tuple[float, float]
    size_4: tuple[float, float, float, float]
    max_shift_px: int
    max_size_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPlacement:
    """Where a window lies on the padded crop. Half open, in working pixels.

    Attributes:
        top_px, bottom_px, left_px, right_px: The window, in the padded crop.
        pad_top_px: Rows of padding above the crop: subtract it from a row to get the crop's row.
        padded_shape_px: (rows, columns) of the crop with its padding.
    """

    top_px: int
    bottom_px: int
    left_px: int
    right_px: int
    pad_top_px: int
    padded_shape_px: tuple[int, int]

    @property
    def on_crop_px(self) -> tuple[int, int, int, int]:
        """(top, bottom, left, right) in the crop's own pixels; may reach outside the crop, where the padding is."""
        return self.top_px - self.pad_top_px, self.bottom_px - self.pad_top_px, self.left_px, self.right_px

    @property
    def shape_px(self) -> tuple[int, int]:
        """(rows, columns) of the window."""
        return self.bottom_px - self.top_px, self.right_px - self.left_px

    @property
    def corner_px(self) -> tuple[int, int]:
        """(row, column) of the window at which ``window_part`` begins: 0 where the window does not begin before the crop."""
        top, _, left, _ = self.on_crop_px
        return max(-top, 0), max(-left, 0)


def draw_jitter(generator: UniformDraws, settings: PreprocessConfig = DEFAULT_SETTINGS) -> Jitter:
    """Draw one window change in the release's order: two numbers for the shift if there is any, then four for the size."""
    shift = generator.uniform(-1.0, 1.0, 2) if settings.jitter_shift_px > 0 else np.zeros(2)
    size = generator.uniform(-1.0, 1.0, 4)
    return Jitter(
        shift_2=(float(shift[0]), float(shift[1])),
        size_4=(float(size[0]), float(size[1]), float(size[2]), float(size[3])),
        max_shift_px=settings.jitter_shift_px,
        max_size_px=settings.jitter_size_px,
    )


def place_window(shape_px: tuple[int, int], geometry: ViewGeometry, jitter: Jitter | None = None) -> WindowPlacement:
    """Place the window on a crop.

    Along an axis on which the crop is smaller than the window and its margin, the crop is padded and the best centre ignored: a
    CC view is centred vertically, an MLO view top aligned, both chest-wall aligned. Otherwise the window is centred on the best
    centre and moved inside the crop. The margin is what ``jitter`` may need, 0 without one.

    Args:
        shape_px: (rows, columns) of the crop.
        geometry: Its best centre, window and view position are used.
        jitter: Random change of the window (GMIC.md 2.5).
    """
    margin = jitter.max_shift_px + jitter.max_size_px if jitter else 0
    is_cc = geometry.view_position is ViewPosition.CC
    need_rows = geometry.window_px[0] + (2 if is_cc else 1) * margin
    need_columns = geometry.window_px[1] + margin
    pad_top = 0
    if shape_px[0] < need_rows:
        pad_top = (need_rows - shape_px[0]) // 2 if is_cc else 0
        top = margin if is_cc else 0
    else:
        top = _inside(geometry.best_center_px[0] - geometry.window_px[0] // 2, geometry.window_px[0], shape_px[0])
    if shape_px[1] < need_columns:
        left = 0
    else:
        left = _inside(geometry.best_center_px[1] - geometry.window_px[1] // 2, geometry.window_px[1], shape_px[1])
    placement = WindowPlacement(
        top_px=top,
        bottom_px=top + geometry.window_px[0],
        left_px=left,
        right_px=left + geometry.window_px[1],
        pad_top_px=pad_top,
        padded_shape_px=(max(shape_px[0], need_rows), max(shape_px[1], need_columns)),
    )
    return _resize_window(_shift_window(placement, jitter), jitter) if jitter else placement


def cut_window(
    image_HW: NDArray[ScalarT], placement: WindowPlacement, window_px: tuple[int, int], *, interpolation: int
) -> NDArray[ScalarT]:
    """Cut the window out of a crop, 0 where it reaches outside, resized to ``window_px`` if its size was changed.

    Args:
        image_HW: A crop, or a lesion mask in the crop's frame.
        placement: Where the window lies.
        window_px: (rows, columns) of the result.
        interpolation: cv2's, used only if the size was changed: cubic for images, nearest for masks.
    """
    window_HW = pasted(window_part(image_HW, placement), placement)
    if window_HW.shape != window_px:
        window_HW = resized(window_HW, window_px, interpolation)
    return window_HW


def resized(image_HW: NDArray[ScalarT], shape_px: tuple[int, int], interpolation: int) -> NDArray[ScalarT]:
    """``cv2.resize`` to (rows, columns), of the same dtype."""
    return np.asarray(cv2.resize(image_HW, shape_px[::-1], interpolation=interpolation), image_HW.dtype)


def window_part(image_HW: NDArray[ScalarT], placement: WindowPlacement) -> NDArray[ScalarT]:
    """The part of the crop that falls into the window; a view, no copy."""
    top, bottom, left, right = placement.on_crop_px
    return image_HW[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]


def pasted(part_HW: NDArray[ScalarT], placement: WindowPlacement) -> NDArray[ScalarT]:
    """The whole window: its part of the crop, and 0 around it."""
    window_HW = np.zeros(placement.shape_px, part_HW.dtype)
    (row, column), (rows, columns) = placement.corner_px, part_HW.shape
    window_HW[row : row + rows, column : column + columns] = part_HW
    return window_HW


def _inside(start: int, length: int, whole: int) -> int:
    return min(max(start, 0), whole - length)


def _shift_window(placement: WindowPlacement, jitter: Jitter) -> WindowPlacement:
    rows = _shift(placement.top_px, placement.bottom_px, placement.padded_shape_px[0], jitter.shift_2[0], jitter.max_shift_px)
    columns = _shift(
        placement.left_px, placement.right_px, placement.padded_shape_px[1], jitter.shift_2[1], jitter.max_shift_px
    )
    return _moved(placement, rows, rows, columns, columns)


def _shift(start: int, stop: int, whole: int, draw: float, most: int) -> int:
    """Shift along one axis: away from an edge the window lies at, by at most the free margin in its direction."""
    if start == 0:
        draw = abs(draw)
    elif stop == whole:
        draw = -abs(draw)
    return round(min(most, whole - stop if draw > 0 else start) * draw)


def _resize_window(placement: WindowPlacement, jitter: Jitter) -> WindowPlacement:
    """Move each border by itself, by at most the smallest of the four free margins."""
    rows, columns = placement.padded_shape_px
    margins = (placement.top_px, rows - placement.bottom_px, placement.left_px, columns - placement.right_px)
    vertical = min(jitter.max_size_px, *margins)
    height, width = placement.shape_px
    horizontal = round(vertical * width / height)
    top, bottom, left, right = jitter.size_4
    return _moved(
        placement, round(vertical * top), round(vertical * bottom), round(horizontal * left), round(horizontal * right)
    )


def _moved(placement: WindowPlacement, top: int, bottom: int, left: int, right: int) -> WindowPlacement:
    return WindowPlacement(
        top_px=placement.top_px + top,
        bottom_px=placement.bottom_px + bottom,
        left_px=placement.left_px + left,
        right_px=placement.right_px + right,
        pad_top_px=placement.pad_top_px,
        padded_shape_px=placement.padded_shape_px,
    )


def window_placement(
    geometry: ViewGeometry, *, shape_px: tuple[int, ...] | None = None, jitter: Jitter | None = None
) -> WindowPlacement:
    """Where the window lies on the crop; ``shape_px`` is the crop's if at hand, else it follows from the geometry."""
    rows, columns = working_shape_px(geometry) if shape_px is None else shape_px
    return place_window((rows, columns), geometry, jitter)


def is_cut_by_window(shape_px: tuple[int, ...], window_px: tuple[int, int]) -> bool:
    """True if a crop of that shape does not fit into the window."""
    return shape_px[0] > window_px[0] or shape_px[1] > window_px[1]


def working_shape_px(geometry: ViewGeometry) -> tuple[int, int]:
    """(rows, columns) of the stored crop: the crop box, turned and scaled."""
    top, bottom, left, right = geometry.crop_box_px
    rows, columns = (right - left, bottom - top) if geometry.quarter_turns % 2 else (bottom - top, right - left)
    return max(1, round(rows * geometry.scale)), max(1, round(columns * geometry.scale))
