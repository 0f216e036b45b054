"""Do scores mean probabilities? Intercept, slope, observed to expected, reliability curve, Brier score; and recalibration.

How well scores rank is in ``ranking.py``. Axes: ``B`` breasts, ``K`` bins.

Binning: breasts by rising score are cut into ``bins`` groups of equal size, equal scores never parted. Equal widths would put
nearly every breast of a screening population into the first bin.

Sources: Cox 1958 (intercept and slope); Van Calster 2019 (BMC Medicine 17, 230: what to report, and that the intercept is that
of a slope of 1); Steyerberg 2004 (updating the intercept alone where data are few).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from gmic_model.metrics.areas import has_enough
from gmic_model.metrics.proportions import (
    MINIMUM_PATIENTS,
    clustered_variance,
    proportion,
    student_quantile,
    wilson,
)
from gmic_model.metrics.ranking import KnownBreasts, known_breasts
from schemas.errors import MammoError
from schemas.reports.evaluation import CalibrationBin, CalibrationReport, RecalibrationFit
from schemas.reports.report import Interval

SMALLEST_PROBABILITY = 1e-7
"""Scores are kept this far from 0 and 1, where a logit is infinite."""
SLOPE_LIMITS = (0.02, 50.0)
"""Outside, the breasts do not determine a slope: they are ranked no better than by chance (0), or parted perfectly."""
MINIMUM_BREASTS_FOR_SLOPE = 10
"""Of each class; with fewer only the intercept is fitted: a slope of so few is mostly chance."""


class Recalibration(NamedTuple):
    """``sigmoid(intercept + slope * logit(score))``."""

    intercept: float
    slope: float


def calibration_report(
    probability_B: ArrayLike, label_B: ArrayLike, patient_B: ArrayLike, *, bins: int = 10, confidence: float
) -> CalibrationReport | None:
    """Intercept, slope, observed to expected, reliability curve and Brier score, with intervals over patients.

    The expected calibration error is the mean over breasts of |mean score - observed share| of the breast's bin (Naeini 2015,
    with the bins of this module). It is never negative and above 0 by chance alone: it has no interval.

    Returns:
        None without any labelled breast.

    Raises:
        MammoError: A score is not between 0 and 1 or not finite, or a label is none of 0, 1, 255.
    """
    known = known_breasts(probability_B, label_B)
    if not len(known.score_B):
        return None
    _require_probabilities(known.score_B)
    patients_B = np.asarray(patient_B)[known.index_B]
    bin_B = _equal_count_bins(known.score_B, bins)
    brier = float(np.mean((known.score_B - known.is_positive_B) ** 2))
    prevalence = float(known.is_positive_B.mean())
    of_prevalence = prevalence * (1.0 - prevalence)
    intercept, slope = _intercept_and_slope(known, patients_B, confidence)
    return CalibrationReport(
        binning=f"up to {bins} bins with equal numbers of breasts by rising score; equal scores share a bin",
        bins=_bins(known, bin_B, patients_B, confidence),
        intercept=intercept,
        slope=slope,
        observed_to_expected=_observed_to_expected(known, patients_B, confidence),
        brier=_brier(brier, known, patients_B, confidence),
        brier_of_prevalence=of_prevalence,
        brier_skill=1.0 - brier / of_prevalence if of_prevalence else None,
        expected_calibration_error=Interval(value=_calibration_error(known, bin_B), low=None, high=None),
        mean_score=float(known.score_B.mean()),
        prevalence=prevalence,
    )


def fit_recalibration(probability_B: ArrayLike, label_B: ArrayLike, patient_B: ArrayLike) -> RecalibrationFit:
    """Intercept and slope of the smallest log loss (logistic recalibration), on breasts the network was not trained on.

    ``sigmoid(intercept + slope * logit(score))``: the ranking stays, so AUROC and AUPRC do too. The intercept brings scores of
    balanced training to this data's share of findings, which one temperature cannot.

    Raises:
        MammoError: A score is not between 0 and 1 or not finite, or a label is none of 0, 1, 255.
    """
    known = known_breasts(probability_B, label_B)
    _require_probabilities(known.score_B)
    patients_B = np.asarray(patient_B)[known.index_B]
    positives = int(known.is_positive_B.sum())
    negatives = len(known.score_B) - positives
    counts = {
        "breasts": len(known.score_B),
        "positive_breasts": positives,
        "patients": len(np.unique(patients_B)),
        "positive_patients": len(np.unique(patients_B[known.is_positive_B])),
        "prevalence": positives / len(known.score_B) if len(known.score_B) else None,
    }
    if not positives or not negatives:
        return RecalibrationFit(intercept=None, slope=None, reason="one class only", **counts)
    logit_B = to_logit(known.score_B)
    reason, slope = "", 1.0
    if min(positives, negatives) < MINIMUM_BREASTS_FOR_SLOPE:
        reason = f"fewer than {MINIMUM_BREASTS_FOR_SLOPE} breasts of a class: the slope stays 1, only the intercept is fitted"
        intercept = _fitted_intercept(logit_B, known.is_positive_B)
    else:
        found = _fitted_line(logit_B, known.is_positive_B)
        if found is None:
            reason = "these breasts determine no slope: parted perfectly, or ranked by chance"
            return RecalibrationFit(intercept=None, slope=None, reason=reason, **counts)
        intercept, slope = found
    return RecalibrationFit(
        intercept=intercept,
        slope=slope,
        reason=reason,
        log_loss_before=_log_loss(logit_B, known.is_positive_B),
        log_loss_after=_log_loss(intercept + slope * logit_B, known.is_positive_B),
        **counts,
    )


def recalibrated(probability_B: ArrayLike, intercept: float, slope: float) -> NDArray[np.float64]:
    """Scores after recalibration. A temperature of former releases is a slope of its inverse without intercept."""
    return np.asarray(expit(intercept + slope * to_logit(probability_B)), dtype=np.float64)


def shifted_intercept(intercept: float, *, fitted_prevalence: float, prevalence: float) -> float:
    """The intercept for a population with another share of findings and findings of the same kind (Saerens 2002)."""
    return intercept + float(logit(prevalence) - logit(fitted_prevalence))


def to_logit(probability_B: ArrayLike) -> NDArray[np.float64]:
    """log(p / (1 - p)), finite: scores of exactly 0 and 1 are moved by ``SMALLEST_PROBABILITY``."""
    clipped_B = np.clip(np.asarray(probability_B, dtype=np.float64), SMALLEST_PROBABILITY, 1.0 - SMALLEST_PROBABILITY)
    return np.asarray(logit(clipped_B), dtype=np.float64)


# ---------------------------------------------------------------------------------------------------------------------


def _fitted_intercept(logit_B: NDArray[np.float64], is_positive_B: NDArray[np.bool_]) -> float:
    """The shift at which the scores sum to the number of findings; both classes are there, so it exists."""
    low, high = -40.0, 40.0
    for _ in range(80):
        middle = (low + high) / 2.0
        low, high = (middle, high) if expit(middle + logit_B).sum() < is_positive_B.sum() else (low, middle)
    return (low + high) / 2.0


def _fitted_line(logit_B: NDArray[np.float64], is_positive_B: NDArray[np.bool_]) -> tuple[float, float] | None:
    """Intercept and slope of a logistic regression by Newton's steps, halved until the loss falls; None outside the limits."""
    if logit_B[is_positive_B].min() >= logit_B[~is_positive_B].max():
        return None  # the loss falls for ever
    truth_B = is_positive_B.astype(np.float64)
    design_BX = np.stack([np.ones_like(logit_B), logit_B], axis=1)
    line_X = np.array([_fitted_intercept(logit_B, is_positive_B), 1.0])
    loss = _log_loss(design_BX @ line_X, is_positive_B)
    for _ in range(100):
        expected_B = expit(design_BX @ line_X)
        weight_B = expected_B * (1.0 - expected_B)
        bend_XX = design_BX.T @ (weight_B[:, None] * design_BX) + 1e-12 * np.eye(2)
        step_X = np.linalg.solve(bend_XX, design_BX.T @ (truth_B - expected_B))
        while (tried := _log_loss(design_BX @ (line_X + step_X), is_positive_B)) > loss and np.abs(step_X).max() > 1e-12:
            step_X = step_X / 2.0
        line_X, gained, loss = line_X + step_X, loss - tried, tried
        if line_X[1] > SLOPE_LIMITS[1]:
            return None
        if np.abs(step_X).max() < 1e-10 or gained < 1e-15:
            break
    intercept, slope = (float(value) for value in line_X)
    return (intercept, slope) if SLOPE_LIMITS[0] < slope < SLOPE_LIMITS[1] else None


_UNDEFINED = Interval(value=None, low=None, high=None)


def _intercept_and_slope(known: KnownBreasts, patient_B: NDArray[np.generic], confidence: float) -> tuple[Interval, Interval]:
    """The intercept beside a slope of 1, and the slope with its own intercept; intervals by residuals of patients."""
    if known.is_positive_B.all() or not known.is_positive_B.any():
        return _UNDEFINED, _UNDEFINED
    logit_B = to_logit(known.score_B)
    shift = _fitted_intercept(logit_B, known.is_positive_B)
    ones_B1 = np.ones((len(logit_B), 1))
    intercept = _with_ends(shift, _deviations(ones_B1, shift + logit_B, known, patient_B)[0], known, patient_B, confidence)
    line = _fitted_line(logit_B, known.is_positive_B)
    if line is None:
        return intercept, _UNDEFINED
    design_BX = np.stack([ones_B1[:, 0], logit_B], axis=1)
    deviation = _deviations(design_BX, line[0] + line[1] * logit_B, known, patient_B)[1]
    return intercept, _with_ends(line[1], deviation, known, patient_B, confidence)


def _deviations(
    design_BX: NDArray[np.float64], logit_B: NDArray[np.float64], known: KnownBreasts, patient_B: NDArray[np.generic]
) -> list[float]:
    """Standard deviation of each coefficient: the sandwich of Liang and Zeger 1986, patients as clusters."""
    expected_B = expit(logit_B)
    bend_XX = design_BX.T @ ((expected_B * (1.0 - expected_B))[:, None] * design_BX)
    influence_BX = (design_BX * (known.is_positive_B - expected_B)[:, None]) @ np.linalg.pinv(bend_XX)
    return [float(np.sqrt(clustered_variance(influence_B, patient_B)[0])) for influence_B in influence_BX.T]


def _with_ends(
    value: float, deviation: float, known: KnownBreasts, patient_B: NDArray[np.generic], confidence: float
) -> Interval:
    if not has_enough(known.is_positive_B, patient_B):
        return Interval(value=value, low=None, high=None)
    reach = _quantile(known, patient_B, confidence) * deviation
    return Interval(value=value, low=value - reach, high=value + reach)


def _quantile(known: KnownBreasts, patient_B: NDArray[np.generic], confidence: float) -> float:
    """The degrees of freedom are those of the rarer class: its patients carry the information."""
    fewest = min(len(np.unique(patient_B[members_B])) for members_B in (known.is_positive_B, ~known.is_positive_B))
    return student_quantile(fewest - 1, confidence)


def _observed_to_expected(known: KnownBreasts, patient_B: NDArray[np.generic], confidence: float) -> Interval:
    """Findings over the sum of scores, its interval on the logarithm."""
    observed, expected = float(known.is_positive_B.sum()), float(known.score_B.sum())
    if not expected:
        return _UNDEFINED
    value = observed / expected
    if not has_enough(known.is_positive_B, patient_B):
        return Interval(value=value, low=None, high=None)
    variance, _ = clustered_variance((known.is_positive_B - value * known.score_B) / observed, patient_B)
    reach = float(np.exp(_quantile(known, patient_B, confidence) * np.sqrt(variance)))
    return Interval(value=value, low=value / reach, high=value * reach)


def _brier(value: float, known: KnownBreasts, patient_B: NDArray[np.generic], confidence: float) -> Interval:
    """The mean squared distance in Wilson's form; that the share of findings is an outcome is counted, as in the intercept."""
    distance_B = (known.score_B - known.is_positive_B) ** 2
    variance, _ = clustered_variance((distance_B - value) / len(distance_B), patient_B)
    if not has_enough(known.is_positive_B, patient_B) or variance <= 0.0:
        return Interval(value=value, low=None, high=None)
    return wilson(value, value * (1.0 - value) / variance, _quantile(known, patient_B, confidence)).interval()


def _calibration_error(known: KnownBreasts, bin_B: NDArray[np.intp]) -> float:
    """|sum of scores - sum of labels| over a bin is its count times |mean score - share|."""
    excess_K = np.bincount(bin_B, weights=known.score_B - known.is_positive_B)
    return float(np.abs(excess_K).sum() / len(bin_B))


def _require_probabilities(score_B: NDArray[np.float64]) -> None:
    is_outside_B = (score_B < 0.0) | (score_B > 1.0)
    if is_outside_B.any():
        raise MammoError(
            "Scores are no probabilities",
            expected="values between 0 and 1",
            got=f"{int(is_outside_B.sum())} values outside among {score_B.size}",
            remedy="give the network's scores, not its logits",
        )


def _equal_count_bins(score_B: NDArray[np.float64], bins: int) -> NDArray[np.intp]:
    """The bin of each breast, without empty bins."""
    sorted_B = np.sort(score_B)
    last_K = np.ceil(np.arange(1, bins) * len(sorted_B) / bins).astype(np.intp) - 1
    edge_K = np.unique(sorted_B[np.maximum(last_K, 0)])
    return np.unique(np.searchsorted(edge_K, score_B, side="left"), return_inverse=True)[1]


def _bins(
    known: KnownBreasts, bin_B: NDArray[np.intp], patient_B: NDArray[np.generic], confidence: float
) -> tuple[CalibrationBin, ...]:
    has_ends = has_enough(known.is_positive_B, patient_B)
    bins = []
    for index in range(int(bin_B.max()) + 1):
        is_member_B = bin_B == index
        score_B, truth_B = known.score_B[is_member_B], known.is_positive_B[is_member_B]
        observed = Interval(value=float(truth_B.mean()), low=None, high=None)
        if has_ends and len(np.unique(patient_B[is_member_B])) >= MINIMUM_PATIENTS:
            observed = proportion(truth_B, patient_B[is_member_B], confidence=confidence).interval()
        bins.append(
            CalibrationBin(
                lowest_score=float(score_B.min()),
                highest_score=float(score_B.max()),
                breasts=int(is_member_B.sum()),
                positive_breasts=int(truth_B.sum()),
                patients=len(np.unique(patient_B[is_member_B])),
                positive_patients=len(np.unique(patient_B[is_member_B][truth_B])),
                mean_score=float(score_B.mean()),
                observed=observed,
            )
        )
    return tuple(bins)


def _log_loss(logit_B: NDArray[np.float64], is_positive_B: NDArray[np.bool_]) -> float:
    return float(np.logaddexp(0.0, np.where(is_positive_B, -logit_B, logit_B)).mean())
