"""Shapes that sets draw round lesions, as half-open rows and columns of the stored image, and as masks.

Two ways of counting are met. An outline in fractions of pixels names points of the plane: pixel 7 reaches from 7.0 to 8.0. An
outline in whole pixels names the pixels themselves, and holds its first and its last (``Polygon.names_pixels``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Points = tuple[tuple[float, float], ...]
"""(x, y) each: column, row."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Half-open rows and columns."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def is_empty(self) -> bool:
        """True if no pixel is inside."""
        return self.bottom <= self.top or self.right <= self.left

    def clipped(self, shape_px: tuple[int, int]) -> Extent:
        """The part inside an image of (rows, columns)."""
        rows, columns = shape_px
        return Extent(max(0, self.top), min(rows, self.bottom), max(0, self.left), min(columns, self.right))


@dataclass(frozen=True, slots=True)
class Box:
    """Edges of a rectangle."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def extent(self) -> Extent:
        """Floor of the low edges, ceiling of the high ones."""
        return _extent(((self.left, self.top), (self.right, self.bottom)), names_pixels=False)

    def mirrored(self, columns: int) -> Box:
        """As seen in the image's mirror image of so many columns."""
        return Box(columns - self.right, self.top, columns - self.left, self.bottom)

    def from_below(self, rows: int) -> Box:
        """With rows that were counted from the bottom of so many."""
        return Box(self.left, rows - self.bottom, self.right, rows - self.top)

    def drawn(self, shape_px: tuple[int, int]) -> NDArray[np.bool_] | None:
        """A rectangle is no outline: it stays a box."""
        return None


@dataclass(frozen=True, slots=True)
class Polygon:
    """An outline; one point is one pixel."""

    points: Points
    names_pixels: bool = False

    @property
    def extent(self) -> Extent:
        """Of all its points."""
        return _extent(self.points, names_pixels=self.names_pixels)

    def mirrored(self, columns: int) -> Polygon:
        """As seen in the image's mirror image of so many columns."""
        last = columns - 1 if self.names_pixels else columns
        return replace(self, points=tuple((last - x, y) for x, y in self.points))

    def from_below(self, rows: int) -> Polygon:
        """With rows that were counted from the bottom of so many."""
        last = rows - 1 if self.names_pixels else rows
        return replace(self, points=tuple((x, last - y) for x, y in self.points))

    def drawn(self, shape_px: tuple[int, int]) -> NDArray[np.bool_] | None:
        """The pixels inside the outline and on it."""
        whole = self.extent
        limits = (whole.right - 1, whole.bottom - 1)
        corners = [[min(math.floor(value), limit) for value, limit in zip(point, limits, strict=True)] for point in self.points]
        mask_HW = np.zeros(shape_px, np.uint8)
        cv2.fillPoly(mask_HW, [np.array(corners, np.int32)], 1)
        return mask_HW.astype(bool)


@dataclass(frozen=True, slots=True)
class Ellipse:
    """Round a pixel: centre, half axes, and the turn of the first axis in radians. A circle has two equal axes."""

    x: float
    y: float
    radius_x: float
    radius_y: float
    theta: float = 0.0

    @property
    def extent(self) -> Extent:
        """The first and last pixels that it touches, and its centre."""
        cos, sin = math.cos(self.theta), math.sin(self.theta)
        # Rounded: half of a circle of 3 pixels is 2.9999999999999996 at some turns, a pixel less than is drawn of it.
        half_x = round(math.hypot(self.radius_x * cos, self.radius_y * sin), 9)
        half_y = round(math.hypot(self.radius_x * sin, self.radius_y * cos), 9)
        corners = ((self.x - half_x, self.y - half_y), (self.x + half_x, self.y + half_y))
        return _extent(corners, names_pixels=True)

    def mirrored(self, columns: int) -> Ellipse:
        """As seen in the image's mirror image of so many columns."""
        return replace(self, x=columns - 1 - self.x, theta=-self.theta)

    def from_below(self, rows: int) -> Ellipse:
        """With rows that were counted from the bottom of so many."""
        return replace(self, y=rows - 1 - self.y, theta=-self.theta)

    def drawn(self, shape_px: tuple[int, int]) -> NDArray[np.bool_] | None:
        """The pixels whose centre is inside; a line without breadth is a pixel broad, and ends where its extent does."""
        rows, columns = np.ogrid[: shape_px[0], : shape_px[1]]
        cos, sin = math.cos(self.theta), math.sin(self.theta)
        along = ((columns - self.x) * cos + (rows - self.y) * sin) / max(self.radius_x, 0.5)
        across = ((rows - self.y) * cos - (columns - self.x) * sin) / max(self.radius_y, 0.5)
        extent = self.extent
        is_within_HW = (rows >= extent.top) & (rows < extent.bottom) & (columns >= extent.left) & (columns < extent.right)
        inside: NDArray[np.bool_] = (along**2 + across**2 <= 1.0) & is_within_HW
        return inside


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A mask as the set gives it, of its own size."""

    mask_HW: NDArray[np.bool_]

    @property
    def extent(self) -> Extent:
        """From the first to the last pixel that is set; empty if none is."""
        rows, columns = np.flatnonzero(self.mask_HW.any(axis=1)), np.flatnonzero(self.mask_HW.any(axis=0))
        if not rows.size:
            return Extent(0, 0, 0, 0)
        return Extent(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)

    def drawn(self, shape_px: tuple[int, int]) -> NDArray[np.bool_] | None:
        """The mask itself; None where the image has another size."""
        return self.mask_HW if self.mask_HW.shape == shape_px else None


Shape = Box | Polygon | Ellipse | Drawn


def circle(x: float, y: float, radius: float) -> Ellipse:
    """A circle round a pixel."""
    return Ellipse(x, y, radius, radius)


def two_values(pixels_HW: NDArray[np.generic]) -> NDArray[np.bool_] | None:
    """A mask's upper value as True; None for what is no mask: it has one value, or more than two."""
    lowest, highest = pixels_HW.min(), pixels_HW.max()
    is_high_HW: NDArray[np.bool_] = pixels_HW == highest
    if lowest == highest or not (is_high_HW | (pixels_HW == lowest)).all():
        return None
    return is_high_HW


_STEPS: Final = ((0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1))
"""(x, y) of the chain codes 0 to 7: N, NE, E, SE, S, SW, W, NW."""


def chain_points(x: int, y: int, codes: Sequence[int]) -> Points:
    """The pixels that a chain code names, from its start."""
    points = [(float(x), float(y))]
    for code in codes:
        step_x, step_y = _STEPS[code]
        points.append((points[-1][0] + step_x, points[-1][1] + step_y))
    return tuple(points)


def _extent(points: Points, *, names_pixels: bool) -> Extent:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    (left, right), (top, bottom) = (_span(values, names_pixels=names_pixels) for values in (xs, ys))
    return Extent(top, bottom, left, right)


def _span(values: Sequence[float], *, names_pixels: bool) -> tuple[int, int]:
    first = math.floor(min(values))
    last = math.floor(max(values)) + 1 if names_pixels else math.ceil(max(values))
    return first, max(last, first + 1)
