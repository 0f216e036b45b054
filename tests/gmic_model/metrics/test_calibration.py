"""Calibration: bins of equal numbers, scikit-learn's Brier score, recalibration that is a regression, limits told."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from gmic_model.metrics.calibration import calibration_report, fit_recalibration, recalibrated, shifted_intercept, to_logit
from gmic_model.metrics.ranking import auroc
from schemas.errors import MammoError


def _cohort(breasts: int = 600, steepness: float = 1.0) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Scores that are the true probability at steepness 1, too extreme above."""
    rng = np.random.default_rng(2)
    logit_B = rng.normal(-1.0, 1.5, size=breasts)
    label_B = (rng.random(breasts) < 1 / (1 + np.exp(-logit_B))).astype(np.int64)
    return 1 / (1 + np.exp(-logit_B * steepness)), label_B, np.arange(breasts) // 2


def test_curve_and_brier_are_scikit_learns() -> None:
    """600 distinct scores in 10 bins of 60: scikit-learn's quantile curve, and its Brier score."""
    score_B, label_B, patient_B = _cohort()
    report = calibration_report(score_B, label_B, patient_B, bins=10, confidence=0.95)
    assert report is not None
    share_K, mean_K = calibration_curve(label_B, score_B, n_bins=10, strategy="quantile")
    assert [one.breasts for one in report.bins] == [60] * 10
    np.testing.assert_allclose([one.observed.value for one in report.bins], share_K)
    np.testing.assert_allclose([one.mean_score for one in report.bins], mean_K)
    assert report.brier.value == pytest.approx(brier_score_loss(label_B, score_B))
    assert report.expected_calibration_error.value == pytest.approx(np.abs(share_K - mean_K).mean())
    assert report.prevalence == pytest.approx(label_B.mean()) and report.mean_score == pytest.approx(score_B.mean())


def test_equal_scores_share_a_bin() -> None:
    """Eight zeros and two others in five bins: the zeros are one bin, and no bin is empty."""
    report = calibration_report([0.0] * 8 + [0.4, 0.9], [0] * 7 + [1, 0, 1], np.arange(10), bins=5, confidence=0.95)
    assert report is not None
    assert [(one.lowest_score, one.highest_score, one.breasts, one.positive_patients) for one in report.bins] == [
        (0.0, 0.0, 8, 1), (0.4, 0.9, 2, 1),
    ]  # fmt: skip
    # |8 x 0 - 1| + |1.3 - 1| over ten breasts
    assert report.expected_calibration_error.value == pytest.approx((1.0 + 0.3) / 10)


def test_intervals_hold_the_value_and_a_calibrated_score_has_a_small_error() -> None:
    """True probabilities: the error is near 0, and the diagonal is inside nearly every bin's interval."""
    score_B, label_B, patient_B = _cohort()
    report = calibration_report(score_B, label_B, patient_B, confidence=0.95)
    assert report is not None and report.expected_calibration_error.value is not None
    assert report.expected_calibration_error.value < 0.05
    assert report.brier.low is not None and report.brier.high is not None and report.brier.value is not None
    assert report.brier.low < report.brier.value < report.brier.high
    inside = sum((one.observed.low or 0.0) <= one.mean_score <= (one.observed.high or 1.0) for one in report.bins)
    assert inside >= 8


def test_one_class_still_has_a_brier_score() -> None:
    """No cancer: the reliability is defined, its interval is not; no breast at all is None."""
    report = calibration_report([0.1, 0.3], [0, 0], [1, 2], confidence=0.95)
    assert report is not None
    assert report.brier.value == pytest.approx((0.01 + 0.09) / 2) and report.brier.low is None
    assert calibration_report([0.1], [255], [1], confidence=0.95) is None


def test_recalibration_is_a_logistic_regression() -> None:
    """Intercept and slope are scikit-learn's without penalty; scores twice too extreme have slope one half."""
    score_B, label_B, patient_B = _cohort(steepness=2.0)
    fit = fit_recalibration(score_B, label_B, patient_B)
    model = LogisticRegression(C=np.inf, tol=1e-12).fit(to_logit(score_B)[:, None], label_B)
    assert (fit.intercept, fit.slope) == pytest.approx((model.intercept_[0], model.coef_[0, 0]), rel=1e-4, abs=1e-5)
    assert fit.slope == pytest.approx(0.5, rel=0.15)
    assert (fit.patients, fit.positive_patients) == (300, len(np.unique(patient_B[label_B == 1])))
    assert fit.log_loss_after is not None and fit.log_loss_before is not None and fit.log_loss_after < fit.log_loss_before


def test_recalibration_keeps_the_order_and_mends_a_wrong_prevalence() -> None:
    """Balanced training at a share of 0.7 %: the top 1 % says more than twice what is there, and the truth afterwards.

    One temperature cannot do that: a score of one half stays one half.
    """
    rng = np.random.default_rng(5)
    tuning = test = (np.arange(20_000) < 140).astype(np.int64)
    scores = [1 / (1 + np.exp(-1.6 * rng.normal(1.8 * test - 0.9))) for _ in range(2)]
    fit = fit_recalibration(scores[0], tuning, np.arange(20_000))
    assert fit.intercept is not None and fit.slope is not None
    after_B = recalibrated(scores[1], fit.intercept, fit.slope)
    assert auroc(after_B, test) == auroc(scores[1], test)
    before, after = (calibration_report(one, test, np.arange(20_000), confidence=0.95) for one in (scores[1], after_B))
    assert before is not None and after is not None and before.brier_skill is not None and after.brier_skill is not None
    top = np.argsort(-scores[1])[:200]
    assert scores[1][top].mean() > 2 * test[top].mean()
    assert after_B[top].mean() == pytest.approx(test[top].mean(), rel=0.3)
    for found, right in ((after.intercept, 0.0), (after.slope, 1.0), (after.observed_to_expected, 1.0)):
        assert found is not None and found.low is not None and found.high is not None
        assert found.low < right < found.high
    assert before.observed_to_expected is not None and (before.observed_to_expected.high or 1.0) < 0.1
    assert before.brier_skill < 0 < after.brier_skill


def test_another_prevalence_moves_the_intercept_alone() -> None:
    """Right scores of a population at 50 % are right at 5 % after the shift by both shares' log odds (Saerens 2002)."""
    shift = shifted_intercept(0.0, fitted_prevalence=0.5, prevalence=0.05)
    assert shift == pytest.approx(np.log(0.05 / 0.95))
    assert recalibrated([0.8], shift, 1.0)[0] == pytest.approx(0.8 * 0.05 / (0.8 * 0.05 + 0.2 * 0.95))


def test_the_calibration_error_has_no_interval() -> None:
    """It is above 0 by chance alone: of 300 cohorts of true probabilities its percentile interval held 0 in none."""
    report = calibration_report(*_cohort(), confidence=0.95)
    assert report is not None and report.expected_calibration_error.value is not None
    assert (report.expected_calibration_error.low, report.expected_calibration_error.high) == (None, None)


@pytest.mark.parametrize(
    ("score_B", "label_B", "reason"),
    [
        ([0.1, 0.2], [0, 0], "one class only"),
        ([], [], "one class only"),
        ([0.1] * 10 + [0.9] * 10, [0] * 10 + [1] * 10, "parted perfectly"),
        ([0.9, 0.8] * 5 + [0.1, 0.2] * 5, [0] * 10 + [1] * 10, "ranked by chance"),
    ],
)
def test_a_slope_that_the_breasts_do_not_determine_is_not_given(score_B: list[float], label_B: list[int], reason: str) -> None:
    """Perfect parting pulls it to infinity, wrong order below 0: None, with the reason."""
    fit = fit_recalibration(score_B, label_B, np.arange(len(label_B)))
    assert fit.slope is None and reason in fit.reason


def test_few_breasts_move_the_intercept_only() -> None:
    """Nine of a class say little of a slope: it stays 1, and the scores sum to the number of findings."""
    score_B, label_B = np.linspace(0.05, 0.95, 30), np.repeat([0, 1], [21, 9])
    fit = fit_recalibration(score_B, label_B, np.arange(30))
    assert fit.slope == 1.0 and fit.intercept is not None and "fewer than 10" in fit.reason
    assert recalibrated(score_B, fit.intercept, fit.slope).sum() == pytest.approx(9.0)


def test_logits_are_refused() -> None:
    """A score of 2.5 is no probability."""
    with pytest.raises(MammoError, match="between 0 and 1"):
        calibration_report([2.5, 0.1], [1, 0], [1, 2], confidence=0.95)


def test_certain_scores_are_finite() -> None:
    """0 and 1 have finite logits and come back near themselves."""
    np.testing.assert_allclose(recalibrated([0.0, 1.0], 0.0, 1.0), [0.0, 1.0], atol=1e-6)
