"""Calibration: bins of equal numbers, scikit-learn's Brier score, a temperature that is a regression slope, limits told."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from gmic_model.metrics.bootstrap import Bootstrap
from gmic_model.metrics.calibration import apply_temperature, calibration_report, fit_temperature, to_logit
from gmic_model.metrics.ranking import auroc
from schemas.errors import MammoError

BOOTSTRAP = Bootstrap(resamples=80, confidence=0.95, seed=1)


def _cohort(breasts: int = 600, temperature: float = 1.0) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Scores that are the true probability at temperature 1, too extreme above."""
    rng = np.random.default_rng(2)
    logit_B = rng.normal(-1.0, 1.5, size=breasts)
    label_B = (rng.random(breasts) < 1 / (1 + np.exp(-logit_B))).astype(np.int64)
    return 1 / (1 + np.exp(-logit_B * temperature)), label_B, np.arange(breasts) // 2


def test_curve_and_brier_are_scikit_learns() -> None:
    """600 distinct scores in 10 bins of 60: scikit-learn's quantile curve, and its Brier score."""
    score_B, label_B, patient_B = _cohort()
    report = calibration_report(score_B, label_B, patient_B, bins=10, bootstrap=BOOTSTRAP)
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
    report = calibration_report([0.0] * 8 + [0.4, 0.9], [0] * 7 + [1, 0, 1], np.arange(10), bins=5, bootstrap=BOOTSTRAP)
    assert report is not None
    assert [(one.lowest_score, one.highest_score, one.breasts, one.positive_breasts) for one in report.bins] == [
        (0.0, 0.0, 8, 1), (0.4, 0.9, 2, 1),
    ]  # fmt: skip
    # |8 x 0 - 1| + |1.3 - 1| over ten breasts
    assert report.expected_calibration_error.value == pytest.approx((1.0 + 0.3) / 10)


def test_intervals_hold_the_value_and_a_calibrated_score_has_a_small_error() -> None:
    """True probabilities: the error is near 0, and the diagonal is inside nearly every bin's interval."""
    score_B, label_B, patient_B = _cohort()
    report = calibration_report(score_B, label_B, patient_B, bootstrap=BOOTSTRAP)
    assert report is not None and report.expected_calibration_error.value is not None
    assert report.expected_calibration_error.value < 0.05
    assert report.brier.low is not None and report.brier.high is not None and report.brier.value is not None
    assert report.brier.low < report.brier.value < report.brier.high
    inside = sum((one.observed.low or 0.0) <= one.mean_score <= (one.observed.high or 1.0) for one in report.bins)
    assert inside >= 8


def test_one_class_still_has_a_brier_score() -> None:
    """No cancer: the reliability is defined, its interval is not; no breast at all is None."""
    report = calibration_report([0.1, 0.3], [0, 0], [1, 2], bootstrap=BOOTSTRAP)
    assert report is not None
    assert report.brier.value == pytest.approx((0.01 + 0.09) / 2) and report.brier.low is None
    assert calibration_report([0.1], [255], [1], bootstrap=BOOTSTRAP) is None


def test_temperature_is_the_slope_of_a_logistic_regression() -> None:
    """1 / temperature is scikit-learn's coefficient without intercept and penalty; scores twice too extreme give 2."""
    score_B, label_B, _ = _cohort(temperature=2.0)
    fit = fit_temperature(score_B, label_B)
    slope = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(to_logit(score_B)[:, None], label_B).coef_[0, 0]
    assert fit.temperature == pytest.approx(1 / slope, rel=1e-4)
    assert fit.temperature == pytest.approx(2.0, rel=0.15)
    assert fit.log_loss_after is not None and fit.log_loss_before is not None and fit.log_loss_after < fit.log_loss_before


def test_scaling_keeps_the_order_and_mends_the_error() -> None:
    """AUROC stays to the last bit; the calibration error falls."""
    score_B, label_B, patient_B = _cohort(temperature=2.0)
    fit = fit_temperature(score_B, label_B)
    assert fit.temperature is not None
    scaled_B = apply_temperature(score_B, fit.temperature)
    assert auroc(scaled_B, label_B) == auroc(score_B, label_B)
    before, after = (calibration_report(one, label_B, patient_B, bootstrap=BOOTSTRAP) for one in (score_B, scaled_B))
    assert before is not None and after is not None
    assert (after.expected_calibration_error.value or 0) < 0.5 * (before.expected_calibration_error.value or 0)


@pytest.mark.parametrize(
    ("score_B", "label_B", "reason"),
    [
        ([0.1, 0.2], [0, 0], "one class only"),
        ([], [], "one class only"),
        ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], "parted perfectly"),
        ([0.9, 0.8, 0.1, 0.2], [0, 0, 1, 1], "ranked by chance"),
    ],
)
def test_a_temperature_that_the_breasts_do_not_determine_is_not_given(
    score_B: list[float], label_B: list[int], reason: str
) -> None:
    """Perfect parting pulls it to 0, wrong order to infinity: None, with the reason."""
    fit = fit_temperature(score_B, label_B)
    assert fit.temperature is None and reason in fit.reason


def test_logits_are_refused() -> None:
    """A score of 2.5 is no probability."""
    with pytest.raises(MammoError, match="between 0 and 1"):
        calibration_report([2.5, 0.1], [1, 0], [1, 2], bootstrap=BOOTSTRAP)


def test_certain_scores_are_finite() -> None:
    """0 and 1 have finite logits and come back near themselves."""
    np.testing.assert_allclose(apply_temperature([0.0, 1.0], 1.0), [0.0, 1.0], atol=1e-6)
