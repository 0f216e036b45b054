"""Operating points: the threshold that a target asks for, what it recalls, and intervals that resample patients."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_curve as sklearn_roc_curve

from gmic_model.metrics.bootstrap import Bootstrap
from gmic_model.metrics.operating_points import (
    point_at_threshold,
    points_at_sensitivity,
    points_at_specificity,
    threshold_table,
)

BOOTSTRAP = Bootstrap(resamples=60, confidence=0.9, seed=3)
# By falling score: + - + - - + - - - -
SCORE_B = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05])
LABEL_B = np.array([1, 0, 1, 0, 0, 1, 0, 0, 0, 0])


def _cohort(seed: int, breasts: int = 160) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    label_B = (rng.random(breasts) < 0.25).astype(np.int64)
    return np.round(rng.normal(label_B), 1), label_B, np.arange(breasts) // 2


def test_counts_and_rates_are_those_of_the_threshold() -> None:
    """Specificity 0.70 of 7 negatives allows 2 false recalls: 0.8 and 0.6; the next, 0.5, would make three."""
    (point,) = points_at_specificity(SCORE_B, LABEL_B, np.arange(10), [0.70], bootstrap=BOOTSTRAP)
    assert point.threshold == 0.6
    counts = (point.true_positives, point.false_positives, point.true_negatives, point.false_negatives)
    assert counts == (2, 2, 5, 1)
    assert point.sensitivity.value == pytest.approx(2 / 3)
    assert point.specificity.value == pytest.approx(5 / 7)
    assert point.recall_rate.value == pytest.approx(4 / 10)
    assert point.positive_predictive_value.value == pytest.approx(2 / 4)


def test_a_target_met_exactly_is_met() -> None:
    """Specificity 5/7 is reached by two false recalls although 1 - 5/7 is not a float; sensitivity 2/3 by two of three."""
    (specific,) = points_at_specificity(SCORE_B, LABEL_B, np.arange(10), [5 / 7], bootstrap=BOOTSTRAP)
    assert specific.false_positives == 2
    (sensitive,) = points_at_sensitivity(SCORE_B, LABEL_B, np.arange(10), [2 / 3], bootstrap=BOOTSTRAP)
    assert (sensitive.threshold, sensitive.true_positives, sensitive.false_positives) == (0.7, 2, 1)


def test_full_specificity_may_recall_nothing() -> None:
    """The highest score is a negative's: nothing is recalled, the PPV is not defined."""
    (point,) = points_at_specificity([0.9, 0.5, 0.1], [0, 1, 0], [1, 2, 3], [1.0], bootstrap=BOOTSTRAP)
    assert point.threshold is None
    assert point.sensitivity.value == 0.0 and point.positive_predictive_value.value is None


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("target", [0.8, 0.9, 0.95])
def test_points_lie_on_scikit_learns_curve(seed: int, target: float) -> None:
    """Sensitivity at a specificity is the largest that scikit-learn's curve has there, ties included; and the reverse."""
    score_B, label_B, patient_B = _cohort(seed)
    rate_T, sensitivity_T, _ = sklearn_roc_curve(label_B, score_B, drop_intermediate=False)
    (specific,) = points_at_specificity(score_B, label_B, patient_B, [target], bootstrap=BOOTSTRAP)
    assert specific.sensitivity.value == pytest.approx(sensitivity_T[1 - rate_T >= target - 1e-12].max())
    (sensitive,) = points_at_sensitivity(score_B, label_B, patient_B, [target], bootstrap=BOOTSTRAP)
    assert sensitive.specificity.value == pytest.approx((1 - rate_T)[sensitivity_T >= target - 1e-12].max())


def test_intervals_resample_patients_and_choose_anew() -> None:
    """Equal to drawing patients in a loop, with the threshold of each draw; a fixed threshold stays fixed."""
    score_B, label_B, patient_B = _cohort(9)
    (point,) = points_at_specificity(score_B, label_B, patient_B, [0.8], bootstrap=BOOTSTRAP)
    fixed = point_at_threshold(score_B, label_B, patient_B, 0.7, bootstrap=BOOTSTRAP)
    assert fixed is not None
    rng = np.random.default_rng(BOOTSTRAP.seed)
    drawn_RP = rng.integers(80, size=(BOOTSTRAP.resamples, 80))
    chosen, at_fixed = [], []
    for drawn_P in drawn_RP:
        index = np.concatenate([[2 * patient, 2 * patient + 1] for patient in drawn_P])
        rate_T, sensitivity_T, _ = sklearn_roc_curve(label_B[index], score_B[index], drop_intermediate=False)
        chosen.append(sensitivity_T[1 - rate_T >= 0.8 - 1e-12].max())
        at_fixed.append((score_B[index] >= 0.7)[label_B[index] == 1].mean())
    assert (point.sensitivity.low, point.sensitivity.high) == pytest.approx(tuple(np.quantile(chosen, [0.05, 0.95])))
    assert (fixed.sensitivity.low, fixed.sensitivity.high) == pytest.approx(tuple(np.quantile(at_fixed, [0.05, 0.95])))


def test_one_class_has_no_points() -> None:
    """Neither a target nor a threshold means anything there, unknown labels left out."""
    for label_B in ([0, 0, 0], [1, 1, 255], []):
        score_B, patient_B = np.linspace(0.1, 0.9, len(label_B)), np.arange(len(label_B))
        assert points_at_specificity(score_B, label_B, patient_B, [0.9], bootstrap=BOOTSTRAP) == ()
        assert points_at_sensitivity(score_B, label_B, patient_B, [0.9], bootstrap=BOOTSTRAP) == ()
        assert point_at_threshold(score_B, label_B, patient_B, 0.5, bootstrap=BOOTSTRAP) is None
        assert threshold_table(score_B, label_B) is None


def test_one_patient_per_class_gives_values_without_interval() -> None:
    """The value stands, its ends are None: there is nothing to resample."""
    point = point_at_threshold([0.9, 0.1, 0.2], [1, 0, 0], ["a", "b", "b"], 0.5, bootstrap=BOOTSTRAP)
    assert point is not None
    assert (point.sensitivity.value, point.sensitivity.low, point.sensitivity.high) == (1.0, None, None)


def test_table_goes_from_nothing_to_everything() -> None:
    """One line per distinct score after the first, which recalls none."""
    table = threshold_table([0.5, 0.5, 0.9, 0.1], [1, 0, 1, 0])
    assert table is not None
    assert table.threshold_T.tolist() == [np.inf, 0.9, 0.5, 0.1]
    assert table.true_positives_T.tolist() == [0, 1, 2, 2]
    assert table.false_positives_T.tolist() == [0, 0, 1, 2]
