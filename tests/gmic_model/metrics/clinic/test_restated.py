"""Rates at a stated share of findings: by hand, and how often their intervals hold the truth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from gmic_model.metrics.clinic.restated import restated
from gmic_model.metrics.operating_points import point_at_threshold
from schemas.reports.evaluation import OperatingPoint, RecalibrationFit
from schemas.reports.report import Interval


def _point(**changes: Any) -> OperatingPoint:
    some = Interval(value=0.5, low=0.4, high=0.6)
    values: dict[str, Any] = {
        "criterion": "threshold", "target": 0.4, "basis": "fixed", "threshold": 0.4, "true_positives": 80,
        "false_positives": 10, "true_negatives": 90, "false_negatives": 20,
        "sensitivity": Interval(value=0.8, low=0.7, high=0.87), "specificity": Interval(value=0.9, low=0.83, high=0.94),
        "recall_rate": some, "positive_predictive_value": some,
    }  # fmt: skip
    return OperatingPoint.model_validate(values | changes)


def test_rates_at_another_share_are_those_of_the_formula() -> None:
    """Of 1,000 breasts 10 have it: 8 found, 2 missed; 990 do not: 99 false recalls. PPV 8 / 107, NPV 891 / 893."""
    fit = RecalibrationFit(
        intercept=-1.0, slope=0.7, breasts=1, positive_breasts=1, patients=1, positive_patients=1, prevalence=0.2
    )
    told = restated(_point(), 0.01, fit)
    assert told is not None and told.shifted_intercept is not None
    assert told.recall_rate.value == pytest.approx(0.107)
    assert told.positive_predictive_value.value == pytest.approx(8 / 107)
    assert told.negative_predictive_value.value == pytest.approx(891 / 893)
    assert (told.found_per_1000.value, told.missed_per_1000.value) == pytest.approx((8.0, 2.0))
    assert (told.found_per_1000.low, told.missed_per_1000.high) == pytest.approx((7.0, 3.0))
    assert told.shifted_intercept == pytest.approx(-1.0 + math.log(0.01 / 0.99) - math.log(0.2 / 0.8))


def test_without_intervals_or_a_threshold_none_are_made_up() -> None:
    """Rates of too few patients have no ends here either; what is not defined is not restated."""
    bare = Interval(value=0.8, low=None, high=None)
    told = restated(_point(sensitivity=bare), 0.01)
    assert told is not None and told.shifted_intercept is None
    assert (told.positive_predictive_value.low, told.recall_rate.high) == (None, None)
    assert restated(_point(threshold=None), 0.01) is None
    assert restated(_point(specificity=Interval(value=None, low=None, high=None)), 0.01) is None


@pytest.mark.parametrize("prevalence", [0.005, 0.05])
def test_the_intervals_hold_the_truth_as_often_as_they_say(prevalence: float) -> None:
    """300 test splits of 40 breasts with and 200 without, true sensitivity 0.85 and specificity 0.88: 95 % within chance.

    Chance: three standard errors of 0.95 in 300 draws are 0.038.
    """
    sensitivity, specificity = 0.85, 0.88
    recalled = prevalence * sensitivity + (1 - prevalence) * (1 - specificity)
    truth = {
        "recall_rate": recalled,
        "positive_predictive_value": prevalence * sensitivity / recalled,
        "negative_predictive_value": (1 - prevalence) * specificity / (1 - recalled),
        "found_per_1000": 1000 * prevalence * sensitivity,
    }
    label_B, patient_B = np.repeat([1, 0], [40, 200]), np.arange(240)
    rng = np.random.default_rng(17)
    held = dict.fromkeys(truth, 0)
    for _ in range(300):
        is_recalled_B = rng.random(240) < np.where(label_B == 1, sensitivity, 1 - specificity)
        point = point_at_threshold(is_recalled_B.astype(float), label_B, patient_B, 0.5, confidence=0.95)
        assert point is not None
        told = restated(point, prevalence)
        assert told is not None
        for name, value in truth.items():
            found = getattr(told, name)
            held[name] += found.low <= value <= found.high
    assert all(0.91 <= count / 300 <= 0.99 for count in held.values()), held
