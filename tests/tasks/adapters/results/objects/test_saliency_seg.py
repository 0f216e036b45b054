"""Segmentations of saliency: what they hold of an empty map, and of an image that is not the one that was scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mammo_tests.mammograms import setting
from mammo_tests.results import VIEWS, objects_of
from schemas.config.pacs import ResultKind
from schemas.errors import DicomError

KINDS = (ResultKind.SALIENCY, ResultKind.LEVELS)


def test_an_empty_map_is_a_result(tmp_path: Path) -> None:
    """A frame of zeros for each finding, and no levels."""
    (made,), _ = objects_of(
        tmp_path, views=VIEWS[:1], change=lambda view: replace(view, saliency_CIJ=0 * view.saliency_CIJ), kinds=KINDS
    )
    assert made.kind is ResultKind.SALIENCY
    assert made.dataset.pixel_array.shape[0] == 2 and not made.dataset.pixel_array.any()


def test_values_are_kept_in_256_steps_and_levels_hold_nothing_but_0_and_1(tmp_path: Path) -> None:
    """0.9 comes back as 230 of 255; OHIF draws an OCCUPANCY whose values are 0 and its maximum."""
    (exact, levels), _ = objects_of(tmp_path, views=VIEWS[:1], kinds=KINDS)
    assert np.unique(exact.dataset.pixel_array).tolist() == [0, 102, 230]
    assert [item.SegmentLabel for item in levels.dataset.SegmentSequence] == [
        "benign saliency >= 0.25", "malignant saliency >= 0.25", "malignant saliency >= 0.5", "malignant saliency >= 0.75",
    ]  # fmt: skip
    assert np.unique(levels.dataset.pixel_array).tolist() == [0, 1] and levels.dataset.MaximumFractionalValue == 1


def test_views_are_numbered_and_no_frame_is_empty(tmp_path: Path) -> None:
    """InstanceNumber is the view's, however many levels its map reaches; of both findings' levels it is said that they overlap.

    A level that is reached outside the image only, or not at all, has no segment.
    """
    made, _ = objects_of(tmp_path, kinds=KINDS)
    assert [int(one.dataset.InstanceNumber) for one in made] == [1, 2, 3, 4] * 2
    for one in made[4:]:
        assert one.dataset.SegmentsOverlap == "YES" and one.dataset.NumberOfFrames == 4
        assert all(plane_HW.any() for plane_HW in one.dataset.pixel_array)
        assert (one.dataset.Rows, one.dataset.Columns) == one.dataset.pixel_array.shape[1:]


def test_an_image_of_another_size_is_refused(tmp_path: Path) -> None:
    """A map is not stretched over an image that is not the one that was scored."""
    with pytest.raises(DicomError, match="another size"):
        objects_of(tmp_path, setting(Rows=99), views=VIEWS[:1], kinds=KINDS)
