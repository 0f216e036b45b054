"""Geometry of outlines: half-open, the same after being turned twice, and never outside the image."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.adapters.datasets.published.regions import (
    Box,
    Drawn,
    Ellipse,
    Extent,
    Polygon,
    chain_points,
    circle,
    two_values,
)

PIXEL = st.integers(-40, 140)
SHAPES = st.one_of(
    st.builds(lambda x, y, w, h: Box(x, y, x + w, y + h), PIXEL, PIXEL, st.integers(1, 60), st.integers(1, 60)),
    st.builds(
        lambda points, names: Polygon(tuple((float(x), float(y)) for x, y in points), names_pixels=names),
        st.lists(st.tuples(PIXEL, PIXEL), min_size=1, max_size=8),
        st.booleans(),
    ),
    st.builds(Ellipse, PIXEL, PIXEL, st.integers(0, 30), st.integers(0, 30), st.floats(-3, 3)),
)


@settings(max_examples=150, deadline=None)
@given(shape=SHAPES, rows=st.integers(1, 100), columns=st.integers(1, 100))
@example(shape=Ellipse(0, 0, 3, 3, 1.481394405905931), rows=4, columns=4)
@example(shape=Ellipse(0, 0, 7, 0, -3.0), rows=2, columns=6)
def test_turned_twice_is_itself_and_clipped_is_inside(shape: Box | Polygon | Ellipse, rows: int, columns: int) -> None:
    """Mirrored twice and from below twice, a shape is where it was; mirrored once, its extent is the mirror image of it."""
    extent = shape.extent
    assert shape.mirrored(columns).mirrored(columns).extent == extent
    assert shape.from_below(rows).from_below(rows).extent == extent
    mirrored = shape.mirrored(columns).extent
    assert (mirrored.left, mirrored.right) in {(columns - extent.right, columns - extent.left), *near_point(shape, mirrored)}
    clipped = extent.clipped((rows, columns))
    assert clipped.is_empty or (0 <= clipped.top < clipped.bottom <= rows and 0 <= clipped.left < clipped.right <= columns)
    assert not extent.is_empty
    mask_HW = shape.drawn((rows, columns))
    if mask_HW is not None and mask_HW.any():
        drawn = Drawn(mask_HW).extent
        assert clipped.top <= drawn.top and drawn.bottom <= clipped.bottom
        assert clipped.left <= drawn.left and drawn.right <= clipped.right


def near_point(shape: Box | Polygon | Ellipse, mirrored: Extent) -> set[tuple[int, int]]:
    """An outline without width is one pixel, on either side of its line; a turned ellipse is rounded at its edges."""
    is_line = isinstance(shape, Polygon) and not shape.names_pixels and len({x for x, _ in shape.points}) == 1
    return {(mirrored.left, mirrored.right)} if is_line or isinstance(shape, Ellipse) else set()


def test_low_edges_are_floored_and_high_ones_ceiled() -> None:
    """Fractions name points of the plane, whole pixels name themselves."""
    assert Box(-3.5, 19.2, 24.0, 43.1).extent == Extent(19, 44, -4, 24)
    assert Box(-3.5, 19.2, 24.0, 43.1).extent.clipped((96, 80)) == Extent(19, 44, 0, 24)
    assert Polygon(((16.0, 38.4), (32.0, 57.6))).extent == Extent(38, 58, 16, 32)
    assert Polygon(((10.0, 30.0), (20.0, 44.0)), names_pixels=True).extent == Extent(30, 45, 10, 21)
    assert Polygon(((7.0, 9.0),)).extent == Extent(9, 10, 7, 8)
    assert circle(53, 53, 19).extent == Extent(34, 73, 34, 73)
    assert Ellipse(30, 40, 6, 4).extent == Extent(36, 45, 24, 37)
    assert Ellipse(30, 40, 6, 4, math.pi / 2).extent == Extent(34, 47, 26, 35)


def test_a_mirrored_box_lies_where_the_picture_had_been_turned() -> None:
    """EMBED's right breasts: pixel 0 of the picture is the last of the stored image."""
    assert Box(0, 5, 10, 20).mirrored(80).extent == Extent(5, 20, 70, 80)
    assert circle(23, 90, 2).from_below(96) == circle(23, 5, 2)


def test_a_chain_of_codes_is_closed() -> None:
    """DDSM's outlines: east, south, west, north, and back at the start."""
    points = chain_points(20, 30, [2] * 10 + [4] * 8 + [6] * 10 + [0] * 8)
    assert points[0] == points[-1] == (20.0, 30.0)
    assert Polygon(points, names_pixels=True).extent == Extent(30, 39, 20, 31)
    assert chain_points(0, 0, range(8))[-1] == (0.0, 0.0)


def test_a_mask_has_two_values() -> None:
    """A crop has many, an empty mask has one; another size than the image's is no mask of it."""
    grey_HW = np.arange(12, dtype=np.uint16).reshape(3, 4)
    assert two_values(grey_HW) is None
    assert two_values(np.zeros((3, 4), np.uint8)) is None
    mask_HW = two_values((grey_HW > 9) * np.uint16(255))
    assert mask_HW is not None
    assert Drawn(mask_HW).extent == Extent(2, 3, 2, 4)
    assert Drawn(mask_HW).drawn((3, 5)) is None


@pytest.mark.parametrize("shape", [Polygon(((0.0, 0.0), (9.5, 0.0), (9.5, 9.5), (0.0, 9.5))), circle(5, 5, 3)])
def test_an_outline_fills_its_extent(shape: Polygon | Ellipse) -> None:
    """The drawn pixels reach the edges that the box names."""
    mask_HW = shape.drawn((20, 20))
    assert mask_HW is not None
    assert Drawn(mask_HW).extent == shape.extent
