"""Do scores mean probabilities? Reliability curve, Brier score, expected calibration error, and a fitted temperature.

How well scores rank is in ``metrics.py``. Axes: ``B`` breasts, ``R`` resamples, ``K`` bins.

Binning: breasts by rising score are cut into ``bins`` groups of equal size, equal scores never parted. Equal widths would put
nearly every breast of a screening population into the first bin.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from gmic_model.metrics.bootstrap import Bootstrap, patient_weights, percentile_ends
from gmic_model.metrics.ranking import KnownBreasts, has_enough_patients, known_breasts
from schemas.errors import MammoError
from schemas.reports.evaluation import CalibrationBin, CalibrationReport, TemperatureFit
from schemas.reports.report import Interval

SMALLEST_PROBABILITY = 1e-7
"""Scores are kept this far from 0 and 1, where a logit is infinite."""
TEMPERATURE_LIMITS = (0.02, 50.0)
"""Outside, the breasts do not determine a temperature: they are parted perfectly (0) or ranked no better than by chance."""


def calibration_report(
    probability_B: ArrayLike, label_B: ArrayLike, patient_B: ArrayLike, *, bins: int = 10, bootstrap: Bootstrap
) -> CalibrationReport | None:
    """Reliability curve, Brier score and expected calibration error with patient-clustered intervals.

    The expected calibration error is the mean over breasts of |mean score - observed share| of the breast's bin (Naeini 2015,
    with the bins of this module). It is never negative, so resamples raise it: read its interval as an upper reach. Bin edges
    are those of all breasts in every resample.

    Returns:
        None without any labelled breast.

    Raises:
        MammoError: A score is not between 0 and 1 or not finite, or a label is none of 0, 1, 255.
    """
    known = known_breasts(probability_B, label_B)
    if not len(known.score_B):
        return None
    _require_probabilities(known.score_B)
    bin_B = _equal_count_bins(known.score_B, bins)
    patients_B = np.asarray(patient_B)[known.index_B]
    brier_1, error_1, share_K1 = _statistics(known, bin_B, np.ones((1, len(bin_B)), dtype=np.int32))
    brier, error, share = [np.empty(0)], [np.empty(0)], [np.empty((len(share_K1), 0))]
    if bootstrap.resamples and has_enough_patients(known.is_positive_B, patients_B):
        for weight_RB in patient_weights(patients_B, resamples=bootstrap.resamples, seed=bootstrap.seed):
            brier_R, error_R, share_KR = _statistics(known, bin_B, weight_RB)
            brier.append(brier_R)
            error.append(error_R)
            share.append(share_KR)
    prevalence = float(known.is_positive_B.mean())
    return CalibrationReport(
        binning=f"up to {bins} bins with equal numbers of breasts by rising score; equal scores share a bin",
        bins=_bins(known, bin_B, share_K1[:, 0], np.concatenate(share, axis=1), bootstrap.confidence),
        brier=_interval(brier_1[0], np.concatenate(brier), bootstrap.confidence),
        brier_of_prevalence=prevalence * (1.0 - prevalence),
        expected_calibration_error=_interval(error_1[0], np.concatenate(error), bootstrap.confidence),
        mean_score=float(known.score_B.mean()),
        prevalence=prevalence,
    )


def fit_temperature(probability_B: ArrayLike, label_B: ArrayLike) -> TemperatureFit:
    """The temperature that gives the smallest log loss (Guo 2017), on breasts the network was not trained on.

    ``sigmoid(logit(score) / temperature)``: the ranking stays, so AUROC and AUPRC do too. A temperature cannot mend a wrong
    prevalence: a score of 0.5 stays 0.5.

    Raises:
        MammoError: A score is not between 0 and 1 or not finite, or a label is none of 0, 1, 255.
    """
    known = known_breasts(probability_B, label_B)
    _require_probabilities(known.score_B)
    positives = int(known.is_positive_B.sum())
    counts = {"breasts": len(known.score_B), "positive_breasts": positives}
    if positives in (0, len(known.score_B)):
        return TemperatureFit(temperature=None, reason="one class only", **counts)
    from scipy.optimize import minimize_scalar  # a quarter of a second to import, for those who only apply temperatures

    logit_B = to_logit(known.score_B)
    low, high = np.log(TEMPERATURE_LIMITS)

    def loss(log_temperature: float) -> float:
        return _log_loss(logit_B / np.exp(log_temperature), known.is_positive_B)

    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-9})
    log_temperature = float(found.x)
    if min(log_temperature - low, high - log_temperature) < 1e-3:
        return TemperatureFit(
            temperature=None, reason="these breasts determine no temperature: parted perfectly, or ranked by chance", **counts
        )
    return TemperatureFit(
        temperature=float(np.exp(log_temperature)), log_loss_before=loss(0.0), log_loss_after=float(found.fun), **counts
    )


def apply_temperature(probability_B: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """Scores after division of their logits."""
    return np.asarray(expit(to_logit(probability_B) / temperature), dtype=np.float64)


def to_logit(probability_B: ArrayLike) -> NDArray[np.float64]:
    """log(p / (1 - p)), finite: scores of exactly 0 and 1 are moved by ``SMALLEST_PROBABILITY``."""
    clipped_B = np.clip(np.asarray(probability_B, dtype=np.float64), SMALLEST_PROBABILITY, 1.0 - SMALLEST_PROBABILITY)
    return np.asarray(logit(clipped_B), dtype=np.float64)


# ---------------------------------------------------------------------------------------------------------------------


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


def _statistics(
    known: KnownBreasts, bin_B: NDArray[np.intp], weight_RB: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Brier score (R), expected calibration error (R), observed shares (K, R) under each row of weights."""
    order_B = np.argsort(bin_B, kind="stable")
    first_K = np.flatnonzero(np.diff(bin_B[order_B], prepend=-1))
    weights_RB = weight_RB[:, order_B].astype(np.float64)
    score_B, truth_B = known.score_B[order_B], known.is_positive_B[order_B].astype(np.float64)
    total_R = weights_RB.sum(axis=1)
    count_RK = np.add.reduceat(weights_RB, first_K, axis=1)
    positive_RK = np.add.reduceat(weights_RB * truth_B, first_K, axis=1)
    score_RK = np.add.reduceat(weights_RB * score_B, first_K, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        share_RK = positive_RK / count_RK
    # |sum of scores - sum of labels| over a bin is its count times |mean score - share|.
    error_R = np.abs(score_RK - positive_RK).sum(axis=1) / total_R
    return weights_RB @ (score_B - truth_B) ** 2 / total_R, error_R, share_RK.T


def _bins(
    known: KnownBreasts,
    bin_B: NDArray[np.intp],
    share_K: NDArray[np.float64],
    share_KR: NDArray[np.float64],
    confidence: float,
) -> tuple[CalibrationBin, ...]:
    bins = []
    for index, (share, share_R) in enumerate(zip(share_K, share_KR, strict=True)):
        is_member_B = bin_B == index
        score_B = known.score_B[is_member_B]
        bins.append(
            CalibrationBin(
                lowest_score=float(score_B.min()),
                highest_score=float(score_B.max()),
                breasts=int(is_member_B.sum()),
                positive_breasts=int(known.is_positive_B[is_member_B].sum()),
                mean_score=float(score_B.mean()),
                observed=_interval(share, share_R, confidence),
            )
        )
    return tuple(bins)


def _interval(value: float, value_R: NDArray[np.float64], confidence: float) -> Interval:
    low, high = percentile_ends(value_R, confidence=confidence)
    return Interval(value=float(value), low=low, high=high)


def _log_loss(logit_B: NDArray[np.float64], is_positive_B: NDArray[np.bool_]) -> float:
    return float(np.logaddexp(0.0, np.where(is_positive_B, -logit_B, logit_B)).mean())
