"""Random windows: their draws, limits, and the masks that move with them."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gmic_model.pixels.window import Jitter, cut_window, draw_jitter, place_window
from schemas.config.ingest import PreprocessConfig
from schemas.exam import ViewGeometry, ViewPosition

DRAW = st.floats(-1, 1, exclude_max=True, width=32)


def geometry(view: ViewPosition, center: tuple[int, int] = (60, 40)) -> ViewGeometry:
    """A 120 x 80 crop with a 64 x 48 window."""
    return ViewGeometry(
        source_shape_px=(300, 300), crop_box_px=(0, 120, 0, 80), is_flipped=False, scale=1.0, best_center_px=center,
        window_px=(64, 48), view_position=view,
    )  # fmt: skip


def test_equal_generators_draw_equal_windows() -> None:
    """The draw depends on the generator alone; two generators of one seed agree, the next draw differs."""
    first, second = np.random.default_rng(4), np.random.default_rng(4)
    jitter = draw_jitter(first)
    assert jitter == draw_jitter(second)
    assert jitter != draw_jitter(first)
    assert (jitter.max_shift_px, jitter.max_size_px) == (100, 100)


def test_no_shift_draws_four_numbers_only() -> None:
    """Without shift the release draws no shift: the size gets the generator's first four numbers."""
    jitter = draw_jitter(np.random.RandomState(7), PreprocessConfig(jitter_shift_px=0))
    np.testing.assert_array_equal(jitter.size_4, np.random.RandomState(7).uniform(-1, 1, 4))
    assert jitter.shift_2 == (0.0, 0.0)


@settings(max_examples=200, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 200), st.integers(1, 150)),
    center=st.tuples(st.integers(-50, 200), st.integers(-50, 150)),
    view=st.sampled_from(ViewPosition),
    draws=st.tuples(*[DRAW] * 6),
)
def test_a_window_stays_in_the_padded_crop(
    shape: tuple[int, int], center: tuple[int, int], view: ViewPosition, draws: tuple[float, ...]
) -> None:
    """Whatever the draws, borders stay in the padded crop and move by at most shift + size."""
    jitter = Jitter(shift_2=draws[:2], size_4=draws[2:], max_shift_px=10, max_size_px=8)  # type: ignore[arg-type]
    placed = place_window(shape, geometry(view, center), jitter)
    rows, columns = placed.padded_shape_px
    assert 0 <= placed.top_px < placed.bottom_px <= rows and 0 <= placed.left_px < placed.right_px <= columns
    assert abs(placed.bottom_px - placed.top_px - 64) <= 2 * 8
    assert abs(placed.right_px - placed.left_px - 48) <= 2 * 6  # 8 * 48 / 64
    still = place_window(shape, geometry(view, center), Jitter(shift_2=(0, 0), size_4=(0,) * 4, max_shift_px=10, max_size_px=8))
    assert abs(placed.top_px - still.top_px) <= 18 and abs(placed.right_px - still.right_px) <= 10 + 6


def test_small_crops_are_padded_by_view() -> None:
    """A CC crop is centred vertically, an MLO crop top aligned, both at column 0; the best centre is then ignored."""
    cc = place_window((40, 30), geometry(ViewPosition.CC, (999, 999)))
    mlo = place_window((40, 30), geometry(ViewPosition.MLO, (999, 999)))
    assert cc.on_crop_px == (-12, 52, 0, 48)  # (64 - 40) / 2 = 12 rows above
    assert mlo.on_crop_px == (0, 64, 0, 48)


def test_a_mask_moves_with_its_image() -> None:
    """The nearest-neighbour mask marks the pixels that the cubic image shows bright, and keeps its bits."""
    mask = np.zeros((120, 80), np.uint8)
    mask[50:70, 30:50] = 2
    jitter = Jitter(shift_2=(0.5, -0.5), size_4=(-0.9, 0.8, -0.7, 0.9), max_shift_px=10, max_size_px=10)
    placed = place_window(mask.shape, geometry(ViewPosition.CC), jitter)
    assert (placed.bottom_px - placed.top_px, placed.right_px - placed.left_px) != (64, 48)
    image = cut_window((mask / 2).astype(np.float32), placed, (64, 48), interpolation=cv2.INTER_CUBIC)
    moved = cut_window(mask, placed, (64, 48), interpolation=cv2.INTER_NEAREST_EXACT)
    assert set(np.unique(moved)) == {0, 2}
    assert np.mean((moved == 2) == (image > 0.5)) > 0.98
