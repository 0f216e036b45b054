"""Continuous F1, pointing game and patches against lesions, on maps small enough to add up by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gmic_model.metrics.lesions.localization import (
    ContinuousF1,
    chance_localization,
    continuous_f1,
    is_pointing_at_lesion,
    lesions_reached,
    mean_localization,
)
from schemas.errors import MammoError


def _upsampled(saliency_IJ: NDArray[np.float32], shape_px: tuple[int, ...]) -> NDArray[np.float64]:
    """Each pixel takes the cell that its centre lies in; whole numbers only, so that no rounding decides."""
    rows_H, columns_W = ((2 * np.arange(px) + 1) * n // (2 * px) for px, n in zip(shape_px, saliency_IJ.shape, strict=True))
    return saliency_IJ[rows_H][:, columns_W].astype(np.float64)


def test_continuous_f1_adds_up_by_hand() -> None:
    """Two by two cells of two by two pixels; the mask holds 3 pixels of the first cell and 1 of the second."""
    saliency_IJ = np.array([[0.8, 0.4], [0.0, 0.2]], dtype=np.float32)
    mask_HW = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]], dtype=np.uint8)
    # sum_M A = 3 * 0.8 + 1 * 0.4 = 2.8; sum A = 4 * (0.8 + 0.4 + 0.0 + 0.2) = 5.6; |M| = 4.
    result = continuous_f1(saliency_IJ, mask_HW)
    assert result.precision == pytest.approx(2.8 / 5.6)
    assert result.recall == pytest.approx(2.8 / 4)
    assert result.f1 == pytest.approx(2 * 0.5 * 0.7 / (0.5 + 0.7))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 40), st.integers(0, 40), st.integers(0, 2**31))
@settings(max_examples=80, deadline=None)
def test_counting_cells_equals_upsampling_first(rows: int, columns: int, more_rows: int, more_columns: int, seed: int) -> None:
    """The paper's sums over upsampled pixels come out the same for any grid and any mask at least as fine."""
    rng = np.random.default_rng(seed)
    saliency_IJ = rng.random((rows, columns), dtype=np.float32)
    mask_HW = rng.random((rows + more_rows, columns + more_columns)) < 0.3
    mask_HW[0, 0] = True
    saliency_HW = _upsampled(saliency_IJ, mask_HW.shape)
    precision, recall = saliency_HW[mask_HW].sum() / saliency_HW.sum(), saliency_HW[mask_HW].sum() / mask_HW.sum()
    result = continuous_f1(saliency_IJ, mask_HW)
    assert result.precision == pytest.approx(precision)
    assert result.recall == pytest.approx(recall)
    assert continuous_f1(saliency_HW, mask_HW) == pytest.approx(result)


def test_a_blank_map_marks_nothing() -> None:
    """0 / 0 precision is taken as 0, so an image that the model ignores pulls the mean down."""
    assert continuous_f1(np.zeros((2, 2), dtype=np.float32), np.ones((4, 4))) == ContinuousF1(0.0, 0.0, 0.0)


def test_a_map_equal_to_the_mask_is_perfect() -> None:
    """Saliency 1 exactly on the lesion: all three are 1."""
    mask_HW = np.zeros((8, 6), dtype=np.uint8)
    mask_HW[2:5, 1:3] = 2  # any nonzero value is lesion
    assert continuous_f1((mask_HW > 0).astype(np.float32), mask_HW) == ContinuousF1(1.0, 1.0, 1.0)


def test_an_empty_mask_and_a_coarse_mask_are_refused() -> None:
    """Recall has no denominator without a lesion; a cell without a pixel has no place."""
    with pytest.raises(MammoError, match="empty mask"):
        continuous_f1(np.ones((2, 2), dtype=np.float32), np.zeros((4, 4)))
    with pytest.raises(MammoError, match="5 cells along 4 pixels"):
        continuous_f1(np.ones((5, 2), dtype=np.float32), np.ones((4, 4)))


def test_metrics_are_averaged_over_images() -> None:
    """Mean F1 is the mean of F1s (0.25 here), not the F1 of mean precision and recall (0.5)."""
    result = mean_localization([ContinuousF1(0.5, 0.5, 0.5), ContinuousF1(0.0, 0.5, 0.5)])
    assert (result.images, result.f1, result.precision, result.recall) == (2, 0.25, 0.5, 0.5)


def test_no_masks_give_no_metrics() -> None:
    """None, never 0: nothing was measured."""
    result = mean_localization([])
    assert (result.images, result.f1, result.precision, result.recall) == (0, None, None, None)


def test_pointing_game_asks_for_the_cell_of_the_peak() -> None:
    """A lesion pixel inside the peak's cell is a hit, one pixel beside that cell is a miss."""
    saliency_IJ = np.array([[0.1, 0.9], [0.2, 0.3]], dtype=np.float32)
    mask_HW = np.zeros((8, 8))
    mask_HW[3, 4] = 1
    assert is_pointing_at_lesion(saliency_IJ, mask_HW)
    assert not is_pointing_at_lesion(saliency_IJ, np.roll(mask_HW, 1, axis=0))
    assert not is_pointing_at_lesion(saliency_IJ, np.roll(mask_HW, -1, axis=1))


def test_patches_reach_a_lesion_when_they_hold_half_of_it() -> None:
    """Lesions of 4 x 4, one wholly, one by half, one by a quarter inside a patch: 2 of 3; touching corners are one lesion."""
    mask_HW = np.zeros((40, 40), dtype=np.uint8)
    mask_HW[2:6, 2:6] = 1
    mask_HW[20:22, 18:22] = 1  # with the next line one lesion of 16 pixels, joined at a corner
    mask_HW[22:24, 22:26] = 1
    mask_HW[34:38, 34:38] = 1
    corner_K2 = np.array([[0.0, 0.0], [16.0, 12.0], [26.0, 26.0]])
    assert lesions_reached(corner_K2, (10, 10), mask_HW) == (2, 3)  # third patch ends at 36: 4 of 16 pixels
    assert lesions_reached(corner_K2, (10, 10), mask_HW, covered_fraction=0.25) == (3, 3)
    assert lesions_reached(corner_K2[:1], (10, 10), mask_HW) == (1, 3)


def test_a_lesion_larger_than_a_patch_can_be_reached() -> None:
    """A 20 x 20 mass has 400 pixels, a patch of 10 x 10 holds 100: filling half the patch is enough."""
    mask_HW = np.zeros((40, 40), dtype=np.uint8)
    mask_HW[10:30, 10:30] = 1
    assert lesions_reached(np.array([[15, 15]]), (10, 10), mask_HW) == (1, 1)
    assert lesions_reached(np.array([[5, 10]]), (10, 10), mask_HW) == (1, 1)
    assert lesions_reached(np.array([[4, 10]]), (10, 10), mask_HW) == (0, 1)


def test_patches_beyond_the_border_count_what_is_inside() -> None:
    """A corner at (-3, -3) covers the first rows and columns only; no mask means no lesions."""
    mask_HW = np.zeros((20, 20), dtype=np.uint8)
    mask_HW[0:2, 0:2] = 1
    assert lesions_reached(np.array([[-3, -3]]), (5, 5), mask_HW) == (1, 1)
    assert lesions_reached(np.array([[0, 0]]), (5, 5), np.zeros((20, 20))) == (0, 0)


def test_no_map_that_is_moved_at_random_beats_chance() -> None:
    """Random maps shuffled over the cells of the breast: their mean F1 lies below that of a map of ones."""
    rng = np.random.default_rng(3)
    mask_HW = np.zeros((32, 32), bool)
    mask_HW[4:12, 8:16] = True
    chance = chance_localization(np.ones((32, 32), bool), mask_HW, (8, 8))
    assert chance == (pytest.approx(2 * (1 / 16) / (1 + 1 / 16)), 4 / 64)
    for power in (0.2, 1.0, 5.0):
        found = [continuous_f1(rng.random((8, 8)) ** power, mask_HW).f1 for _ in range(200)]
        assert np.mean(found) < chance.f1
    cut = chance_localization(np.ones((32, 32), bool), mask_HW, (8, 8), lesion_px=128)
    assert cut.f1 == pytest.approx(2 * (1 / 16) * 0.5 / (1 / 16 + 0.5))
    assert chance_localization(np.ones((32, 32), bool), np.zeros((32, 32), bool), (8, 8), lesion_px=9) == (0.0, 0.0)
