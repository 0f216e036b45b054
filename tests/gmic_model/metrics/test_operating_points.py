"""Operating points: the threshold that a target asks for, what it recalls, and intervals that hold."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from sklearn.metrics import roc_curve as sklearn_roc_curve

from gmic_model.metrics.operating_points import (
    point_at_threshold,
    points_at_sensitivity,
    points_at_specificity,
    threshold_table,
)
from gmic_model.metrics.proportions import share_of

# By falling score: + - + - - + - - - -
SCORE_B = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05])
LABEL_B = np.array([1, 0, 1, 0, 0, 1, 0, 0, 0, 0])


def _cohort(seed: int, breasts: int = 160) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    label_B = (rng.random(breasts) < 0.25).astype(np.int64)
    return np.round(rng.normal(label_B), 1), label_B, np.arange(breasts) // 2


def test_counts_and_rates_are_those_of_the_threshold() -> None:
    """Specificity 0.70 of 7 negatives allows 2 false recalls: 0.8 and 0.6; the next, 0.5, would make three."""
    (point,) = points_at_specificity(SCORE_B, LABEL_B, np.arange(10), [0.70], confidence=0.9)
    assert point.threshold == 0.6
    counts = (point.true_positives, point.false_positives, point.true_negatives, point.false_negatives)
    assert counts == (2, 2, 5, 1)
    assert point.sensitivity.value == pytest.approx(2 / 3)
    assert point.specificity.value == pytest.approx(5 / 7)
    assert point.recall_rate.value == pytest.approx(4 / 10)
    assert point.positive_predictive_value.value == pytest.approx(2 / 4)


def test_a_target_met_exactly_is_met() -> None:
    """Specificity 5/7 is reached by two false recalls although 1 - 5/7 is not a float; sensitivity 2/3 by two of three."""
    (specific,) = points_at_specificity(SCORE_B, LABEL_B, np.arange(10), [5 / 7], confidence=0.9)
    assert specific.false_positives == 2
    (sensitive,) = points_at_sensitivity(SCORE_B, LABEL_B, np.arange(10), [2 / 3], confidence=0.9)
    assert (sensitive.threshold, sensitive.true_positives, sensitive.false_positives) == (0.7, 2, 1)


def test_full_specificity_may_recall_nothing() -> None:
    """The highest score is a negative's: nothing is recalled, the PPV is not defined."""
    (point,) = points_at_specificity([0.9, 0.5, 0.1], [0, 1, 0], [1, 2, 3], [1.0], confidence=0.9)
    assert point.threshold is None
    assert point.sensitivity.value == 0.0 and point.positive_predictive_value.value is None


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("target", [0.8, 0.9, 0.95])
def test_points_lie_on_scikit_learns_curve(seed: int, target: float) -> None:
    """Sensitivity at a specificity is the largest that scikit-learn's curve has there, ties included; and the reverse."""
    score_B, label_B, patient_B = _cohort(seed)
    rate_T, sensitivity_T, _ = sklearn_roc_curve(label_B, score_B, drop_intermediate=False)
    (specific,) = points_at_specificity(score_B, label_B, patient_B, [target], confidence=0.9)
    assert specific.sensitivity.value == pytest.approx(sensitivity_T[1 - rate_T >= target - 1e-12].max())
    (sensitive,) = points_at_sensitivity(score_B, label_B, patient_B, [target], confidence=0.9)
    assert sensitive.specificity.value == pytest.approx((1 - rate_T)[sensitivity_T >= target - 1e-12].max())


def test_a_fixed_threshold_has_the_interval_of_a_share_and_a_chosen_one_a_wider_one() -> None:
    """Single breasts: as a share of positives has it; at the same threshold, choosing it on these breasts adds to it."""
    score_B, label_B, _ = _cohort(9)
    patient_B = np.arange(len(score_B))
    (chosen,) = points_at_specificity(score_B, label_B, patient_B, [0.8], confidence=0.9)
    assert chosen.threshold is not None
    fixed = point_at_threshold(score_B, label_B, patient_B, chosen.threshold, confidence=0.9)
    assert fixed is not None
    positives, hits = int(label_B.sum()), fixed.true_positives
    assert fixed.sensitivity == share_of(hits / positives, float(positives), float(ndtri(0.95))).interval()
    assert fixed.sensitivity.low is not None and fixed.sensitivity.high is not None
    assert chosen.specificity == fixed.specificity and chosen.sensitivity.value == fixed.sensitivity.value
    assert chosen.sensitivity.low is not None and chosen.sensitivity.high is not None
    assert chosen.sensitivity.low < fixed.sensitivity.low and fixed.sensitivity.high <= chosen.sensitivity.high


def test_a_choice_counts_where_no_positive_shows_it() -> None:
    """All of ten positives lie far above every threshold that could have been chosen: it was chosen all the same.

    Before, the interval was that of a threshold fixed beforehand; and a few positives that lie there by chance counted whole.
    """
    label_B, patient_B = np.repeat([1, 0], [10, 100]), np.arange(110)
    apart_B = np.concatenate([np.linspace(9.0, 8.0, 10), np.linspace(1.0, 0.0, 100)])
    crowded_B = np.concatenate([np.linspace(9.0, 8.0, 5), np.linspace(0.93, 0.86, 5), np.linspace(1.0, 0.0, 100)])
    for score_B in (apart_B, crowded_B):
        (chosen,) = points_at_specificity(score_B, label_B, patient_B, [0.9], confidence=0.95)
        assert chosen.threshold is not None
        fixed = point_at_threshold(score_B, label_B, patient_B, chosen.threshold, confidence=0.95)
        assert fixed is not None and fixed.sensitivity.low is not None and chosen.sensitivity.low is not None
        assert 0.0 < fixed.sensitivity.low - chosen.sensitivity.low < 0.12


def test_a_sensitivity_at_a_specificity_is_held_as_often_as_said() -> None:
    """Few patients with the finding in both breasts, 250 cohorts of each kind: 0.93 to 0.98 hold the truth."""
    rng, held = np.random.default_rng(5), []
    for area, positives in ((0.98, 5), (0.95, 10)):
        shift, label_B = np.sqrt(2.0) * ndtri(area), np.repeat([1, 0], [2 * positives, 20 * positives])
        patient_B, truth = np.arange(len(label_B)) // 2, ndtr(shift - ndtri(0.9))
        for _ in range(250):
            shared_B = np.sqrt(2 / 3) * rng.normal(size=len(label_B) // 2)[patient_B]
            score_B = shared_B + np.sqrt(1 / 3) * rng.normal(size=len(label_B)) + shift * label_B
            (point,) = points_at_specificity(score_B, label_B, patient_B, [0.9], confidence=0.95)
            found = point.sensitivity
            assert found.low is not None and found.high is not None and found.high - found.low > 0.02
            held.append(found.low <= truth <= found.high)
    assert 0.93 <= np.mean(held) <= 0.98


def test_no_interval_is_of_no_width_and_all_hold_their_value() -> None:
    """A perfect sample, a threshold that recalls nothing, one that recalls all: the ends part, around the value."""
    score_B, label_B, patient_B = np.arange(60) / 60.0, np.repeat([0, 1], [50, 10]), np.arange(60) // 2
    thresholds = (50 / 60, 2.0, -1.0)
    points = [point_at_threshold(score_B, label_B, patient_B, one, confidence=0.95) for one in thresholds]
    for point in (*points, *points_at_sensitivity(score_B, label_B, patient_B, [0.9], confidence=0.95)):
        assert point is not None and (point.patients, point.positive_patients) == (30, 5)
        assert point.negative_predictive_value is not None
        for rate in (
            point.sensitivity, point.specificity, point.recall_rate, point.positive_predictive_value,
            point.negative_predictive_value,
        ):  # fmt: skip
            if rate.value is not None:
                assert rate.low is not None and rate.high is not None
                assert 0.0 <= rate.low <= rate.value <= rate.high <= 1.0 and rate.high - rate.low > 0.005


def test_one_class_has_no_points() -> None:
    """Neither a target nor a threshold means anything there, unknown labels left out."""
    for label_B in ([0, 0, 0], [1, 1, 255], []):
        score_B, patient_B = np.linspace(0.1, 0.9, len(label_B)), np.arange(len(label_B))
        assert points_at_specificity(score_B, label_B, patient_B, [0.9], confidence=0.9) == ()
        assert points_at_sensitivity(score_B, label_B, patient_B, [0.9], confidence=0.9) == ()
        assert point_at_threshold(score_B, label_B, patient_B, 0.5, confidence=0.9) is None
        assert threshold_table(score_B, label_B) is None


def test_below_five_patients_of_a_class_there_are_counts_and_no_interval() -> None:
    """Eight positive breasts of four patients are four; a fifth patient brings every interval."""
    label_B = np.repeat([1, 0], [10, 40])
    for patients, has_ends in ((4, False), (5, True)):
        patient_B = np.concatenate([np.arange(10) % patients, 100 + np.arange(40)])
        point = point_at_threshold(np.linspace(1.0, 0.0, 50), label_B, patient_B, 0.5, confidence=0.9)
        assert point is not None and point.positive_patients == patients and point.true_positives == 10
        assert point.sensitivity.value == 1.0 and point.specificity.value == pytest.approx(25 / 40)
        rates = (point.sensitivity, point.specificity, point.recall_rate, point.positive_predictive_value)
        assert all((rate.low is not None) is has_ends for rate in rates)


def test_table_goes_from_nothing_to_everything() -> None:
    """One line per distinct score after the first, which recalls none."""
    table = threshold_table([0.5, 0.5, 0.9, 0.1], [1, 0, 1, 0])
    assert table is not None
    assert table.threshold_T.tolist() == [np.inf, 0.9, 0.5, 0.1]
    assert table.true_positives_T.tolist() == [0, 1, 2, 2]
    assert table.false_positives_T.tolist() == [0, 0, 1, 2]
