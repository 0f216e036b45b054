"""Areas with few patients: the interval holds as often as it says, a perfect ranking has one too, below five there is none."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import norm
from sklearn.metrics import average_precision_score

from gmic_model.metrics.areas import area_interval, auroc_difference, implied_variance, precision_influence
from gmic_model.metrics.ranking import Metric


@pytest.mark.parametrize(("area", "positives", "breasts"), [(0.95, 10, 1), (0.90, 10, 2)])
def test_an_auroc_of_few_patients_is_held_as_often_as_said(area: float, positives: int, breasts: int) -> None:
    """400 cohorts: at nominal 95 %, 0.93 to 0.98 hold the truth; the percentile bootstrap held 0.80 of the first kind."""
    rng = np.random.default_rng(positives)
    label_B = np.repeat([1, 0], [positives * breasts, 100 * breasts])
    patient_B = np.arange(len(label_B)) // breasts
    held = 0
    for _ in range(400):
        shared_B = np.sqrt(0.5) * rng.normal(size=len(label_B))[patient_B]
        score_B = shared_B + np.sqrt(0.5) * rng.normal(size=len(label_B)) + np.sqrt(2.0) * ndtri(area) * label_B
        found = area_interval(Metric.AUROC, score_B, label_B, patient_B, confidence=0.95)
        assert found.low is not None and found.high is not None
        held += found.low <= area <= found.high
    assert 0.93 <= held / 400 <= 0.98


def test_an_average_precision_of_few_positives_is_held_though_it_is_too_high_on_average() -> None:
    """400 cohorts of 5 positives among 200 others: 0.93 to 0.98 hold the truth; around the value itself 0.90 did."""
    rng, label_B = np.random.default_rng(4), np.repeat([1, 0], [5, 200])
    shift, z_Q = np.sqrt(2.0) * ndtri(0.70), np.linspace(-8.0, 8.0, 4001)
    true_Q, false_Q = 5.0 * norm.sf(z_Q), 200.0 * norm.sf(z_Q + shift)
    truth = float(np.trapezoid(true_Q / np.maximum(true_Q + false_Q, 1e-300) * norm.pdf(z_Q), z_Q))
    held, values = 0, []
    for _ in range(400):
        found = area_interval(Metric.AUPRC, rng.normal(shift * label_B), label_B, np.arange(205), confidence=0.95)
        assert found.value is not None and found.low is not None and found.high is not None
        assert found.low <= found.value <= found.high
        held += found.low <= truth <= found.high
        values.append(found.value)
    assert np.mean(values) > 1.5 * truth and 0.93 <= held / 400 <= 0.98


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_perfect_and_a_wrong_ranking_have_an_interval(metric: Metric, sign: float) -> None:
    """Ten of ten positives on top say less than that all always are: the ends part, around the value."""
    label_B = np.repeat([1, 0], [10, 90])
    found = area_interval(metric, sign * np.linspace(1, 0, 100), label_B, np.arange(100), confidence=0.95)
    assert found.value is not None and found.low is not None and found.high is not None
    assert found.low <= found.value <= found.high and found.high - found.low > 0.02


def test_equal_models_differ_by_nothing_within_a_width() -> None:
    """The difference of a score to itself is 0; ten patients do not make that certain."""
    rng = np.random.default_rng(1)
    label_B = np.repeat([1, 0], [10, 90])
    score_B = rng.normal(label_B)
    same = auroc_difference(score_B, score_B, label_B, np.arange(100), confidence=0.95)
    assert same.value == 0.0 and same.low is not None and same.high is not None and same.low < 0.0 < same.high
    worse = auroc_difference(score_B, rng.normal(size=100), label_B, np.arange(100), confidence=0.95)
    assert worse.value is not None and worse.low is not None and worse.high is not None
    assert worse.low < worse.value < worse.high and worse.high - worse.low > 3 * (same.high - same.low)


def test_a_difference_of_areas_near_1_is_held() -> None:
    """400 cohorts of 20 patients with both breasts positive: 0.93 to 0.98 hold the truth; DeLong's, with t, 0.87 of them."""
    rng, shift = np.random.default_rng(11), np.sqrt(2.0) * ndtri(0.98)
    label_B, patient_B = np.repeat([1, 0], [40, 400]), np.arange(440) // 2
    truth = 0.98 - ndtr(0.8 * ndtri(0.98))
    held = 0
    for _ in range(400):
        image_MB = np.sqrt(0.5) * (rng.normal(size=220)[patient_B] + rng.normal(size=(3, 440)))
        one_B, other_B = ((image_MB[0] + image_MB[place]) / np.sqrt(3.0) for place in (1, 2))
        found = auroc_difference(one_B + shift * label_B, other_B + 0.8 * shift * label_B, label_B, patient_B, confidence=0.95)
        assert found.low is not None and found.high is not None
        held += found.low <= truth <= found.high
    assert 0.93 <= held / 400 <= 0.98


def test_below_five_patients_of_a_class_there_is_no_interval() -> None:
    """Eight positive breasts of four patients are four; the value stands; one class only has neither."""
    label_B, score_B = np.repeat([1, 0], [8, 40]), np.linspace(1, 0, 48)
    patient_B = np.concatenate([np.arange(8) // 2, 100 + np.arange(40)])
    for metric in Metric:
        found = area_interval(metric, score_B, label_B, patient_B, confidence=0.95)
        assert (found.value, found.low, found.high) == (1.0, None, None)
        assert area_interval(metric, score_B, label_B * 0, patient_B, confidence=0.95).value is None
    assert auroc_difference(score_B, -score_B, label_B, patient_B, confidence=0.95).low is None
    assert auroc_difference(score_B, -score_B, label_B * 0, patient_B, confidence=0.95).value is None


def _weighted(score_B: NDArray[np.float64], label_B: NDArray[np.int64], weight_B: NDArray[np.float64]) -> float:
    return float(average_precision_score(label_B, score_B, sample_weight=weight_B))


def test_an_influence_is_the_derivative_of_scikit_learns_average_precision() -> None:
    """By the weight of each breast, its class's other weights lowered so that the class weighs the same; ties included."""
    rng = np.random.default_rng(3)
    label_B = (rng.random(40) < 0.3).astype(np.int64)
    score_B = np.round(rng.normal(label_B), 1)
    influence_B = precision_influence(score_B, label_B == 1)
    for breast in range(40):
        own_B = (label_B == label_B[breast]).astype(np.float64)
        change_B = (np.arange(40) == breast) - own_B / own_B.sum()
        ends = [_weighted(score_B, label_B, 1.0 + step * change_B) for step in (1e-5, -1e-5)]
        assert influence_B[breast] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-6)


def test_the_implied_variance_is_hanley_and_mcneils_at_equal_counts() -> None:
    """With as many positives as negatives both of their exponential terms weigh the same: equation 2 of 1982."""
    area, count = 0.85, 30
    terms = (count - 1) * (area / (2 - area) - area**2) + (count - 1) * (2 * area**2 / (1 + area) - area**2)
    assert implied_variance(area, count, count) == pytest.approx((area * (1 - area) + terms) / count**2)
