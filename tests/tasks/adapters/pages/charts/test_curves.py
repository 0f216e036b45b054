"""What a reader is told at a point of a curve: only an interval that is of that very point."""

from __future__ import annotations

import re

import numpy as np
import pytest

from gmic_model.metrics.curve_bands import pr_band, roc_band
from gmic_model.metrics.operating_points import points_at_sensitivity, points_at_specificity
from gmic_model.metrics.ranking import pr_curve, roc_curve
from schemas.exam import Finding
from tasks.adapters.pages.charts.curves import pr_reading, roc_reading

TOLD = re.compile(r"(?:sensitivity|precision) ([\d.]+)(?: \(([\d.]+)–([\d.]+)\))? at (?:specificity|recall) ([\d.]+)")


@pytest.mark.parametrize("seed", range(3))
def test_an_interval_that_is_told_is_that_of_the_operating_point(seed: int) -> None:
    """Seven breasts without the finding: between their rates the band is of other points, and on upright pieces of the last."""
    rng = np.random.default_rng(seed)
    label_B = np.repeat([1, 0], [20, 7])
    score_B, patient_B = rng.normal(2.0 * label_B), np.arange(27)
    roc, pr = roc_curve(score_B, label_B), pr_curve(score_B, label_B)
    roc_of, pr_of = (make(score_B, label_B, patient_B, confidence=0.95) for make in (roc_band, pr_band))
    assert roc is not None and pr is not None
    told = [TOLD.search(roc_reading(Finding.MALIGNANT, roc, roc_of)(place)) for place in range(len(roc.threshold_T))]
    tops = 0
    for found, false_rate, true_rate in zip(told, roc.false_positive_rate_T, roc.true_positive_rate_T, strict=True):
        (point,) = points_at_specificity(score_B, label_B, patient_B, [1.0 - false_rate], confidence=0.95)
        assert found is not None and point.sensitivity.value is not None and point.sensitivity.low is not None
        if true_rate < point.sensitivity.value:
            assert found[2] is None, found[0]
        elif found[2] is not None:
            tops += 1
            assert float(found[2]) == pytest.approx(point.sensitivity.low, abs=0.02), found[0]
    assert tops == len(np.unique(roc.false_positive_rate_T))
    told = [TOLD.search(pr_reading(Finding.MALIGNANT, pr, pr_of)(place)) for place in range(len(pr.threshold_T))]
    firsts = 0
    for found, recall, precision in zip(told, pr.recall_T, pr.precision_T, strict=True):
        (point,) = points_at_sensitivity(score_B, label_B, patient_B, [recall], confidence=0.95)
        assert found is not None and point.positive_predictive_value.value is not None
        if precision < point.positive_predictive_value.value - 0.005:
            assert found[2] is None, found[0]
        elif found[2] is not None:
            firsts += 1
            assert float(found[2]) <= precision + 0.005 and precision - 0.005 <= float(found[3])
    assert firsts >= len(np.unique(pr.recall_T)) // 2
