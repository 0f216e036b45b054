"""Lesions that a window or a stored crop cuts: they keep their whole size, so what is lost counts as missed."""

from __future__ import annotations

import numpy as np
import pytest

from gmic_model.metrics.lesions.localization import continuous_f1, lesions_reached
from gmic_model.preprocess import crop_like
from gmic_model.seen_lesions import lesions_beyond, lesions_in_window
from schemas.exam import Finding, LesionBeyond, ViewGeometry, ViewPosition

SOURCE = (60, 40)


def _geometry(*, is_flipped: bool = False, quarter_turns: int = 0) -> ViewGeometry:
    """A crop of rows 10 to 50 and columns 0 to 30 of the source, in a window of its first 20 rows."""
    return ViewGeometry(
        source_shape_px=SOURCE, crop_box_px=(10, 50, 0, 30), is_flipped=is_flipped, scale=1.0, best_center_px=(10, 15),
        window_px=(20, 30), view_position=ViewPosition.MLO, quarter_turns=quarter_turns,
    )  # fmt: skip


def test_a_half_cut_lesion_is_half_recalled_and_a_lost_one_not_at_all() -> None:
    """Saliency 1 on all that the window shows: of a lesion half in it recall is 0.5, it was 1.0; of one outside 0."""
    mask_HW = np.zeros((40, 30), np.uint8)
    mask_HW[16:24, 5:10] = 1  # rows 16 to 20 are in the window
    half = lesions_in_window(mask_HW, _geometry())
    saliency_IJ = np.where(half.mask_HW, np.float32(1.0), np.float32(0.0))
    found = continuous_f1(saliency_IJ, half.mask_HW, lesion_px=int(half.size_P.sum()))
    assert (found.precision, found.recall) == (1.0, 0.5) and half.seen_fraction_P.tolist() == [0.5]
    lost = lesions_in_window(np.roll(mask_HW, 12, axis=0), _geometry())
    missed = continuous_f1(np.ones((20, 30), np.float32), lost.mask_HW, lesion_px=int(lost.size_P.sum()))
    assert missed == (0.0, 0.0, 0.0) and lost.seen_fraction_P.tolist() == [0.0]


def test_a_patch_reaches_a_cut_lesion_by_its_whole_size() -> None:
    """A patch over the 20 visible pixels of 100 does not reach it; over 20 of 40 it does; one outside is not reached."""
    for rows, reached in ((8, 1), (20, 0)):
        mask_HW = np.zeros((40, 30), np.uint8)
        mask_HW[16 : 16 + rows, 5:10] = 1
        mask_HW[38:40, 28:30] = 1  # another one, outside
        lesions = lesions_in_window(mask_HW, _geometry())
        count = lesions_reached(np.array([[12, 4]]), (8, 8), lesions.label_HW, size_P=lesions.size_P)
        assert count == (reached, 2)


@pytest.mark.parametrize("is_flipped", [False, True])
@pytest.mark.parametrize("quarter_turns", [0, 1, 2])
def test_what_the_crop_does_not_hold_is_kept_in_words(is_flipped: bool, quarter_turns: int) -> None:
    """Of one lesion 2 of 5 columns are outside the crop, another is outside whole: sizes and shares are those of the source."""
    geometry = _geometry(is_flipped=is_flipped, quarter_turns=quarter_turns)
    source_HW = np.zeros(SOURCE, np.uint8)
    source_HW[12:16, 27:32] = 1
    source_HW[54:58, 2:5] = 1
    source_HW[40:44, 10:14] = 1
    beyond = lesions_beyond(source_HW, geometry, Finding.MALIGNANT)
    assert [LesionBeyond.of_text(one.text) for one in beyond] == list(beyond)
    assert sorted((one.beyond_px, one.at_px is None) for one in beyond) == [(8, False), (12, True)]
    lesions = lesions_in_window(crop_like(source_HW, geometry), geometry, beyond)
    assert sorted(lesions.size_P.tolist()) == [12, 16, 20]
    assert lesions_beyond(crop_like(source_HW, geometry), _geometry(), Finding.BENIGN)[0].finding is Finding.BENIGN


def test_lesions_that_the_window_holds_whole_are_as_they_were() -> None:
    """Nothing is beyond the crop, and every share is 1: localisation is what it was."""
    mask_HW = np.zeros((40, 30), np.uint8)
    mask_HW[2:6, 3:8] = 2
    lesions = lesions_in_window(mask_HW, _geometry())
    assert lesions.size_P.tolist() == [20] and lesions.seen_fraction_P.tolist() == [1.0]
    source_HW = np.zeros(SOURCE, np.uint8)
    source_HW[10:50, 0:30] = mask_HW
    assert lesions_beyond(source_HW, _geometry(), Finding.MALIGNANT) == ()
