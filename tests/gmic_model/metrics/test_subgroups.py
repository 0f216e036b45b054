"""Subgroups: counts always, metrics only where there are enough patients of both classes, the same threshold for all."""

from __future__ import annotations

import numpy as np
import pytest

from gmic_model.metrics.ranking import auroc
from gmic_model.metrics.subgroups import NOT_KNOWN, age_bands, subgroup_metrics, view_counts


def test_a_group_is_measured_like_the_whole() -> None:
    """AUROC of the group's own breasts; sensitivity and specificity at the common threshold."""
    rng = np.random.default_rng(4)
    label_B = (rng.random(200) < 0.3).astype(np.int64)
    score_B = rng.normal(label_B)
    group_B = np.where(np.arange(200) < 120, "A", "B")
    lines = subgroup_metrics(score_B, label_B, np.arange(200), group_B, attribute="vendor", threshold=0.5, confidence=0.95)
    assert [(line.group, line.breasts, line.too_few) for line in lines] == [("A", 120, None), ("B", 80, None)]
    is_b = group_B == "B"
    assert lines[1].auroc.value == pytest.approx(auroc(score_B[is_b], label_B[is_b]))
    assert lines[1].sensitivity.value == pytest.approx((score_B[is_b & (label_B == 1)] >= 0.5).mean())
    assert lines[1].specificity.value == pytest.approx((score_B[is_b & (label_B == 0)] < 0.5).mean())
    assert lines[1].auroc.low is not None


def test_too_few_patients_give_counts_and_the_reason() -> None:
    """Twenty positive breasts of nine patients are nine: below ten, no metric."""
    label_B = np.array([1] * 20 + [0] * 40)
    patient_B = np.concatenate([np.arange(20) % 9, 100 + np.arange(40)])
    (line,) = subgroup_metrics(
        np.linspace(1, 0, 60), label_B, patient_B, ["x"] * 60, attribute="age", threshold=0.5, confidence=0.95
    )
    assert (line.breasts, line.patients, line.positive_breasts, line.positive_patients) == (60, 49, 20, 9)
    both = "patients with the finding in a breast: 9, with a breast without it: 40 (some may be both)"
    assert line.too_few == f"{both}; 10 of each needed"
    assert line.auroc.value is None and line.sensitivity.value is None


def test_unknown_comes_last_and_unlabelled_breasts_are_left_out() -> None:
    """Most breasts are of an unknown vendor: still the last line; a label of 255 is not counted."""
    lines = subgroup_metrics(
        [0.1] * 7, [0, 0, 0, 0, 0, 0, 255], np.arange(7), [NOT_KNOWN] * 4 + ["B", "A", "A"],
        attribute="vendor", threshold=None, confidence=0.95,
    )  # fmt: skip
    assert [(line.group, line.breasts) for line in lines] == [("A", 1), ("B", 1), (NOT_KNOWN, 4)]


def test_bands_of_age_and_views() -> None:
    """Ten-year bands, closed below; 90 stands for 90 and above."""
    assert age_bands([39.0, 40.0, 49.9, 69.0, 70.0, 90.0, np.nan]).tolist() == [
        "under 40", "40 to 49", "40 to 49", "60 to 69", "70 and over", "70 and over", NOT_KNOWN,
    ]  # fmt: skip
    assert view_counts([1, 2, 5]).tolist() == ["1 image", "2 images", "5 images"]
