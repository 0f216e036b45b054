"""Intervals of areas under curves that hold with few patients: AUROC, average precision, a difference of two AUROCs.

The variance comes from what each breast contributes, summed by patient. Few patients estimate it badly, so it is drawn towards
the variance that the area itself implies, and the interval is a score interval: its ends are the areas at which the found one
would just not surprise. So a perfect ranking has an interval too. Which cells it was measured in, and how it fares beside other
methods, is what ``benchmarks/evaluation/bench_coverage.py`` prints. Axes: ``S`` scores of the same breasts, ``B`` breasts.

Sources: DeLong 1988 and Obuchowski 1997 (contributions, clusters); Newcombe 2006 (Statistics in Medicine 25, 559: the score
interval and the variance an area implies, method 5); Boyd, Eng and Page 2013 (average precision as a binomial proportion);
Haldane 1945 (Biometrika 33, 222: what counting until a case turns up does to a share).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmic_model.metrics.delong import delong_covariance
from gmic_model.metrics.proportions import (
    MINIMUM_PATIENTS,
    Part,
    design_effect,
    drawn_factor,
    wilson,
)
from gmic_model.metrics.ranking import Metric, auprc, auroc, known_breasts
from schemas.reports.report import Interval

_PRECISION_FACTOR = 0.85
"""What an average precision varies less than a proportion of the positives with its value does, in the study's cells."""
_PRECISION_PRIOR_PATIENTS = 8.0
"""The proportion is a poor guide to an average precision's variance: it weighs little against the data."""
_SELF_FOUND = 0.5
"""Of what lacks to 1, for each positive: by so much the interval stands below an average precision. Of few positives it is too
high on average, as each is counted in its own precision (as in a share that is counted until a case turns up: Haldane 1945)."""
_DIFFERENCE_PRIOR_PATIENTS_UP, _DIFFERENCE_PRIOR_PATIENTS_DOWN = 3.0, 50.0
"""What two areas imply of their difference weighs little against more that was found, and much against less: where few breasts
are ordered otherwise, the found variance is too small more often than not."""
_ADDED_POSITIVES, _ADDED_POSITIVES_OF_DIFFERENCE = 1.0, 0.25
"""At chance, to the positives whose area implies a variance."""

_INSIDE = 1e-12
"""At 0 and 1 itself no variance is implied: an end is looked for inside."""


def area_interval(
    metric: Metric | str, score_SB: ArrayLike, label_B: ArrayLike, patient_B: ArrayLike, *, confidence: float
) -> Interval:
    """AUROC or average precision, or its mean over several scores of the same breasts, with an interval over patients.

    The interval holds these scores (these models) fixed. None if one class only; no ends where fewer than five patients have,
    or lack, the finding in some breast.

    Raises:
        MammoError: A score of a labelled breast is not finite, or a label is none of 0, 1, 255.
    """
    scores_SB = np.atleast_2d(np.asarray(score_SB, dtype=np.float64))
    measure = {Metric.AUROC: auroc, Metric.AUPRC: auprc}[Metric(metric)]
    values = [value for value in (measure(score_B, label_B) for score_B in scores_SB) if value is not None]
    if not values:
        return Interval(value=None, low=None, high=None)
    value = float(np.mean(values))
    known = known_breasts(scores_SB[0], label_B)
    patients_B, scores_SB = np.asarray(patient_B)[known.index_B], scores_SB[:, known.index_B]
    if not has_enough(known.is_positive_B, patients_B):
        return Interval(value=value, low=None, high=None)
    if Metric(metric) is Metric.AUROC:
        result = delong_covariance(scores_SB, known.is_positive_B.astype(int), patient_B=patients_B)
        variance = 0.0 if result is None else max(0.0, float(result.covariance_MM.mean()))
        found = _auroc_part(value, variance, known.is_positive_B, patients_B, confidence)
    else:
        found = _precision_part(value, scores_SB, known.is_positive_B, patients_B, confidence)
    return found.interval()


def auroc_by_confidence(
    score_B: NDArray[np.float64], is_positive_B: NDArray[np.bool_], patient_B: NDArray[np.generic]
) -> Callable[[float], Part]:
    """An AUROC whose interval can be asked for at any level: what it is made of is computed once.

    Both classes must have at least five patients.
    """
    result = delong_covariance(score_B, is_positive_B.astype(int), patient_B=patient_B)
    variance = 0.0 if result is None else max(0.0, float(result.covariance_MM[0, 0]))
    value = float(auroc(score_B, is_positive_B.astype(int)) or 0.0)
    return lambda confidence: _auroc_part(value, variance, is_positive_B, patient_B, confidence)


def auroc_difference(
    score_a_B: ArrayLike, score_b_B: ArrayLike, label_B: ArrayLike, patient_B: ArrayLike, *, confidence: float
) -> Interval:
    """AUROC of A less that of B on the same breasts; None if one class only, no ends below five patients of a class.

    Raises:
        MammoError: A score of a labelled breast is not finite, or a label is none of 0, 1, 255.
    """
    score_MB = np.stack([np.asarray(score_a_B, np.float64), np.asarray(score_b_B, np.float64)])
    values = [auroc(score_B, label_B) for score_B in score_MB]
    if values[0] is None or values[1] is None:
        return Interval(value=None, low=None, high=None)
    known = known_breasts(score_MB[0], label_B)
    is_positive_B, patients_B = known.is_positive_B, np.asarray(patient_B)[known.index_B]
    if not has_enough(is_positive_B, patients_B):
        return Interval(value=values[0] - values[1], low=None, high=None)
    result = delong_covariance(score_MB[:, known.index_B], is_positive_B.astype(int), patient_B=patients_B)
    if result is None:
        return Interval(value=values[0] - values[1], low=None, high=None)
    observed = float(result.covariance_MM[0, 0] + result.covariance_MM[1, 1] - 2.0 * result.covariance_MM[0, 1])
    factor, quantile = drawn_factor(
        max(0.0, observed),
        _implied_difference(result.auroc_M, result.covariance_MM, is_positive_B, patients_B),
        _fewest_patients(is_positive_B, patients_B),
        confidence=confidence,
        prior_up=_DIFFERENCE_PRIOR_PATIENTS_UP,
        prior_down=_DIFFERENCE_PRIOR_PATIENTS_DOWN,
    )
    value, reach = values[0] - values[1], quantile * float(np.sqrt(factor))
    return Interval(value=value, low=max(-1.0, value - reach), high=min(1.0, value + reach))


def has_enough(is_positive_B: NDArray[np.bool_], patient_B: NDArray[np.generic]) -> bool:
    """True if at least ``MINIMUM_PATIENTS`` patients have, and as many lack, the finding in some breast."""
    return _fewest_patients(is_positive_B, patient_B) >= MINIMUM_PATIENTS


def implied_variance(area: float, positives: int, negatives: int) -> float:
    """The variance of an empirical AUROC that the area itself implies (Hanley and McNeil 1982 in Newcombe's method 5)."""
    mean_less_1 = (positives + negatives) / 2.0 - 1.0
    alike = (1.0 - area) / (2.0 - area) + area / (1.0 + area)
    return area * (1.0 - area) * (1.0 + mean_less_1 * alike) / (positives * negatives)


def standard_error(area: float, positives: int, negatives: int) -> float:
    """Of an empirical AUROC, by the area and the sizes alone (Hanley and McNeil 1982, scores of exponential distribution)."""
    alike_positive, alike_negative = area / (2.0 - area), 2.0 * area**2 / (1.0 + area)
    spread = (positives - 1) * (alike_positive - area**2) + (negatives - 1) * (alike_negative - area**2)
    return float(np.sqrt((area * (1.0 - area) + spread) / (positives * negatives)))


def precision_influence(score_B: NDArray[np.float64], is_positive_B: NDArray[np.bool_]) -> NDArray[np.float64]:
    """By how much the average precision moves with each breast's weight, sums over each class zero.

    The derivative of ``sum over positives i of TP_i / (TP_i + FP_i) / P`` with the numbers of both classes held: a positive
    adds its own precision and lifts that of those below it; a negative lowers that of the positives below it.
    """
    order_B = np.argsort(-score_B, kind="stable")
    sorted_B, positive_B = score_B[order_B], is_positive_B[order_B].astype(np.float64)
    group_B = np.cumsum(np.concatenate([[0], np.diff(sorted_B) != 0]).astype(np.intp))
    last_T = np.concatenate([np.flatnonzero(np.diff(group_B)), [len(group_B) - 1]])
    true_T = np.cumsum(positive_B)[last_T]
    called_T = last_T + 1.0
    gained_T = np.diff(np.concatenate([[0.0], true_T]))

    def at_or_below(term_T: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.cumsum((gained_T * term_T)[::-1])[::-1][group_B])

    positives = float(true_T[-1])
    lifted_B = (true_T / called_T)[group_B] + at_or_below((called_T - true_T) / called_T**2)
    lowered_B = -at_or_below(true_T / called_T**2)
    influence_B = np.where(positive_B > 0.0, lifted_B, lowered_B) / positives
    for is_member_B in (positive_B > 0.0, positive_B == 0.0):
        influence_B[is_member_B] -= influence_B[is_member_B].mean()
    unsorted_B = np.empty_like(influence_B)
    unsorted_B[order_B] = influence_B
    return unsorted_B


# ---------------------------------------------------------------------------------------------------------------------


def _fewest_patients(is_positive_B: NDArray[np.bool_], patient_B: NDArray[np.generic]) -> int:
    return min(len(np.unique(patient_B[members_B])) for members_B in (is_positive_B, ~is_positive_B))


def _implied_difference(
    auroc_M: NDArray[np.float64],
    covariance_MM: NDArray[np.float64],
    is_positive_B: NDArray[np.bool_],
    patient_B: NDArray[np.generic],
) -> float:
    """The variance of a difference that both areas and their correlation imply.

    Two rankings of few patients may agree by chance: the correlation is never nearer to 1 than half a patient's share.
    """
    positives, negatives = int(is_positive_B.sum()), int((~is_positive_B).sum())
    eased = [_eased(float(area), positives, _ADDED_POSITIVES_OF_DIFFERENCE) for area in auroc_M]
    single = [implied_variance(area, positives, negatives) for area in eased]
    scale = float(np.sqrt(max(0.0, covariance_MM[0, 0]) * max(0.0, covariance_MM[1, 1])))
    closest = 1.0 - 0.5 / _fewest_patients(is_positive_B, patient_B)
    correlation = float(np.clip(covariance_MM[0, 1] / scale, -1.0, closest)) if scale > 0.0 else 0.0
    shared = 2.0 * correlation * float(np.sqrt(single[0] * single[1]))
    return (sum(single) - shared) * design_effect(np.ones(positives), patient_B[is_positive_B])


def _eased(area: float, positives: int, added: float = _ADDED_POSITIVES) -> float:
    """With some positives more, at chance: a perfect ranking implies no variance."""
    return (area * positives + 0.5 * added) / (positives + added)


def _auroc_part(
    value: float, variance: float, is_positive_B: NDArray[np.bool_], patient_B: NDArray[np.generic], confidence: float
) -> Part:
    positives, negatives = int(is_positive_B.sum()), int((~is_positive_B).sum())
    patients = _fewest_patients(is_positive_B, patient_B)
    factor, quantile = drawn_factor(
        variance / implied_variance(_eased(value, positives), positives, negatives),
        design_effect(np.ones(positives), patient_B[is_positive_B]),
        patients,
        confidence=confidence,
    )

    from scipy.optimize import brentq  # a fifth of a second of CPU, which who only draws or predicts need not spend

    def surprise(area: float) -> float:
        return (value - area) ** 2 - quantile**2 * factor * implied_variance(area, positives, negatives)

    low = 0.0 if value <= 0.0 else float(brentq(surprise, 0.0, min(value, 1.0 - _INSIDE)))
    high = 1.0 if value >= 1.0 else float(brentq(surprise, max(value, _INSIDE), 1.0))
    return Part(value=value, low=low, high=high)


def _precision_part(
    value: float,
    scores_SB: NDArray[np.float64],
    is_positive_B: NDArray[np.bool_],
    patient_B: NDArray[np.generic],
    confidence: float,
) -> Part:
    positives = float(is_positive_B.sum())
    influence_B = np.mean([precision_influence(score_B, is_positive_B) for score_B in scores_SB], axis=0)
    patients = _fewest_patients(is_positive_B, patient_B)
    factor, quantile = drawn_factor(
        positives * _two_class_variance(influence_B, is_positive_B, patient_B) / max(value * (1.0 - value), 1e-9),
        _PRECISION_FACTOR * design_effect(np.ones(int(positives)), patient_B[is_positive_B]),
        patients,
        confidence=confidence,
        prior_up=_PRECISION_PRIOR_PATIENTS,
        prior_down=_PRECISION_PRIOR_PATIENTS,
    )
    around = wilson(max(0.0, value - _SELF_FOUND * (1.0 - value) / positives), positives / factor, quantile)
    return Part(value=value, low=min(around.low, value), high=max(around.high, value))


def _two_class_variance(
    influence_B: NDArray[np.float64], is_positive_B: NDArray[np.bool_], patient_B: NDArray[np.generic]
) -> float:
    """Variance of the sum of influences over patients, each class corrected for its own number of them (Obuchowski 1997)."""
    patient_index_B = np.unique(patient_B, return_inverse=True)[1]
    patients = int(patient_index_B.max()) + 1
    total_YG, corrected = [], 0.0
    for is_member_B in (is_positive_B, ~is_positive_B):
        total_G = np.bincount(patient_index_B[is_member_B], weights=influence_B[is_member_B], minlength=patients)
        members = len(np.unique(patient_index_B[is_member_B]))
        corrected += members / (members - 1) * float(total_G @ total_G)
        total_YG.append(total_G)
    return max(0.0, corrected + 2.0 * patients / (patients - 1) * float(total_YG[0] @ total_YG[1]))
