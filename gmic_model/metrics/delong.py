"""Do two sets of scores rank the same breasts differently? DeLong's test of paired AUROCs, with patients as clusters.

The metrics themselves are in ``metrics.py``. Axes: ``M`` models or readers, ``B`` breasts, ``G`` clusters (patients).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from gmic_model.metrics.bootstrap import MINIMUM_PATIENTS_PER_CLASS
from gmic_model.metrics.ranking import known_breasts, require_finite


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """AUROC of A minus AUROC of B on the same breasts, with its normal interval and two-sided p-value."""

    auroc_a: float
    auroc_b: float
    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AurocCovariance:
    """AUROCs of several scores of the same breasts, and their covariance over patients."""

    auroc_M: NDArray[np.float64]
    covariance_MM: NDArray[np.float64]


def delong_covariance(score_MB: ArrayLike, label_B: ArrayLike, *, patient_B: ArrayLike | None = None) -> AurocCovariance | None:
    """Covariance of any number of AUROCs on the same breasts (DeLong 1988), with patients as Obuchowski's clusters (1997).

    Returns:
        None where it is not defined: fewer than two patients with, or without, the finding.
    """
    scores_MB = np.atleast_2d(np.asarray(score_MB, dtype=np.float64))
    known = known_breasts(scores_MB[0], label_B)
    scores_MB = scores_MB[:, known.index_B]
    require_finite(scores_MB)
    placement_MB = np.stack([placements(score_B, known.is_positive_B) for score_B in scores_MB])
    cluster_B = cluster_index(known.index_B if patient_B is None else np.asarray(patient_B)[known.index_B])
    covariance_MM = _clustered_covariance(placement_MB, known.is_positive_B, cluster_B)
    if covariance_MM is None:
        return None
    return AurocCovariance(auroc_M=placement_MB[:, known.is_positive_B].mean(axis=1), covariance_MM=covariance_MM)


def delong_test(
    score_a_B: ArrayLike,
    score_b_B: ArrayLike,
    label_B: ArrayLike,
    *,
    patient_B: ArrayLike | None = None,
    confidence: float = 0.95,
) -> PairedDifference | None:
    """Difference of two AUROCs on the same breasts (DeLong 1988); with patients, Obuchowski's clustered form (1997).

    Each positive's placement is the share of negatives below it, each negative's the share of positives above it; the
    variance is that of their sums per patient. Without ``patient_B`` every breast is its own cluster.

    Returns:
        None where the variance is not defined: fewer than two patients with, or without, the finding.
    """
    result = delong_covariance(np.stack([np.asarray(score_a_B), np.asarray(score_b_B)]), label_B, patient_B=patient_B)
    if result is None:
        return None
    variance = result.covariance_MM
    auroc_a, auroc_b = (float(area) for area in result.auroc_M)
    difference = auroc_a - auroc_b
    deviation = float(np.sqrt(max(0.0, variance[0, 0] + variance[1, 1] - 2.0 * variance[0, 1])))
    reach = float(ndtri((1.0 + confidence) / 2.0)) * deviation
    certain = 1.0 if difference == 0.0 else 0.0
    p_value = float(2.0 * ndtr(-abs(difference) / deviation)) if deviation > 0.0 else certain
    return PairedDifference(
        auroc_a=auroc_a,
        auroc_b=auroc_b,
        difference=difference,
        low=difference - reach,
        high=difference + reach,
        p_value=p_value,
    )


def cluster_index(patient_B: ArrayLike) -> NDArray[np.intp]:
    """Patients as 0, 1, 2, ..."""
    return np.unique(np.asarray(patient_B), return_inverse=True)[1]


def placements(score_B: NDArray[np.float64], is_positive_B: NDArray[np.bool_]) -> NDArray[np.float64]:
    """DeLong's structural components: a positive's share of negatives below, a negative's share of positives above."""
    positive_M, negative_n = np.sort(score_B[is_positive_B]), np.sort(score_B[~is_positive_B])
    placement_B = np.empty(len(score_B))
    below = [np.searchsorted(negative_n, score_B[is_positive_B], side=side) for side in ("left", "right")]
    placement_B[is_positive_B] = (below[0] + below[1]) / (2.0 * max(1, len(negative_n)))
    not_above = [np.searchsorted(positive_M, score_B[~is_positive_B], side=side) for side in ("left", "right")]
    placement_B[~is_positive_B] = 1.0 - (not_above[0] + not_above[1]) / (2.0 * max(1, len(positive_M)))
    return placement_B


def _clustered_covariance(
    placement_MB: NDArray[np.float64], is_positive_B: NDArray[np.bool_], cluster_B: NDArray[np.intp]
) -> NDArray[np.float64] | None:
    """Covariance (M, M) of AUROCs by Obuchowski's sums per cluster; equal to DeLong's where clusters are single."""
    clusters = int(cluster_B.max(initial=-1)) + 1
    has_positive, has_negative = len(np.unique(cluster_B[is_positive_B])), len(np.unique(cluster_B[~is_positive_B]))
    if min(has_positive, has_negative) < MINIMUM_PATIENTS_PER_CLASS:
        return None
    positives, negatives = int(is_positive_B.sum()), int((~is_positive_B).sum())
    centred_MB = placement_MB - placement_MB[:, is_positive_B].mean(axis=1, keepdims=True)
    total_YMG = np.zeros((2, len(placement_MB), clusters))  # Y: positives, negatives
    for index, is_member_B in enumerate((is_positive_B, ~is_positive_B)):
        for row in range(len(placement_MB)):
            total_YMG[index, row] = np.bincount(
                cluster_B[is_member_B], weights=centred_MB[row, is_member_B], minlength=clusters
            )
    within_positive = has_positive / (has_positive - 1) * (total_YMG[0] @ total_YMG[0].T) / positives**2
    within_negative = has_negative / (has_negative - 1) * (total_YMG[1] @ total_YMG[1].T) / negatives**2
    cross = clusters / (clusters - 1) * (total_YMG[0] @ total_YMG[1].T) / (positives * negatives)
    covariance: NDArray[np.float64] = within_positive + within_negative + cross + cross.T
    return covariance
