"""What a threshold does to a screening population: sensitivity, specificity, recall rate, PPV, NPV, with their intervals.

Ranking metrics are in ``ranking.py``, whether scores mean probabilities in ``calibration.py``. A breast is recalled if its
score is at or above the threshold. Axes: ``B`` breasts, ``T`` thresholds (index 0 is above every score).

Intervals: sensitivity and specificity are proportions of the breasts with, and without, the finding. A target that was met by
choosing the threshold on these same breasts moves the other rate: that is counted. Recall rate and predictive values are made
of both at this data's share of findings, which is taken as known. Fewer than five patients of a class: counts only.

Source: Zhou and Qin 2005 (Statistics in Medicine 24, 465: the two parts of the variance of a sensitivity at a specificity).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from gmic_model.metrics.areas import has_enough
from gmic_model.metrics.proportions import Part, Share, complement, predictive_value, proportion, share, weighted_sum, widened
from gmic_model.metrics.ranking import KnownBreasts, known_breasts
from schemas.reports.evaluation import OperatingPoint
from schemas.reports.report import Interval

_SLACK = 1e-9
"""Counts are whole numbers: a target that is reached exactly must not be missed by the last bit of ``1 - specificity``."""

_PRIOR_POSITIVES = 3.0
"""What the expected number of positives between two thresholds weighs, in positives (see ``_sensitivity_keeping``)."""

_UNDEFINED = Interval(value=None, low=None, high=None)


def points_at_specificity(
    score_B: ArrayLike,
    label_B: ArrayLike,
    patient_B: ArrayLike,
    specificities: Sequence[float],
    *,
    confidence: float,
    basis: str = "",
) -> tuple[OperatingPoint, ...]:
    """The lowest threshold that keeps at least each specificity; no interpolation. Empty if one class only.

    Raises:
        MammoError: A score of a labelled breast is not finite, or a label is none of 0, 1, 255.
    """
    chosen = [("specificity", target, _keeping_specificity) for target in specificities]
    return _points(score_B, label_B, patient_B, chosen, confidence, basis)


def points_at_sensitivity(
    score_B: ArrayLike,
    label_B: ArrayLike,
    patient_B: ArrayLike,
    sensitivities: Sequence[float],
    *,
    confidence: float,
    basis: str = "",
) -> tuple[OperatingPoint, ...]:
    """The highest threshold that reaches at least each sensitivity; no interpolation. Empty if one class only.

    Raises:
        MammoError: A score of a labelled breast is not finite, or a label is none of 0, 1, 255.
    """
    chosen = [("sensitivity", target, _reaching_sensitivity) for target in sensitivities]
    return _points(score_B, label_B, patient_B, chosen, confidence, basis)


def point_at_threshold(
    score_B: ArrayLike,
    label_B: ArrayLike,
    patient_B: ArrayLike,
    threshold: float,
    *,
    confidence: float,
    basis: str = "",
) -> OperatingPoint | None:
    """A threshold that was fixed beforehand, on other breasts; its intervals hold no choice. None if one class only.

    Raises:
        MammoError: A score of a labelled breast is not finite, or a label is none of 0, 1, 255.
    """
    points = _points(score_B, label_B, patient_B, [("threshold", threshold, _at_or_above)], confidence, basis)
    return points[0] if points else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ThresholdTable:
    """True and false positives at each distinct score, falling; the first line recalls nothing."""

    threshold_T: NDArray[np.float64]
    true_positives_T: NDArray[np.int64]
    false_positives_T: NDArray[np.int64]


def threshold_table(score_B: ArrayLike, label_B: ArrayLike) -> ThresholdTable | None:
    """Every threshold that differs in what it recalls; None if one class only."""
    known = known_breasts(score_B, label_B)
    if known.is_positive_B.all() or not known.is_positive_B.any():
        return None
    return _table(known.score_B, known.is_positive_B)


# ---------------------------------------------------------------------------------------------------------------------

_Choice = Callable[[ThresholdTable, float], int]
"""From the table and a target to the chosen line."""


def _table(score_B: NDArray[np.float64], is_positive_B: NDArray[np.bool_]) -> ThresholdTable:
    order_B = np.argsort(-score_B, kind="stable")
    sorted_B = score_B[order_B]
    last_T = np.concatenate([np.flatnonzero(np.diff(sorted_B)), [len(sorted_B) - 1]])
    true_T = np.cumsum(is_positive_B[order_B], dtype=np.int64)[last_T]
    return ThresholdTable(
        threshold_T=np.concatenate([[np.inf], sorted_B[last_T]]),
        true_positives_T=np.concatenate([[0], true_T]),
        false_positives_T=np.concatenate([[0], last_T + 1 - true_T]),
    )


def _keeping_specificity(table: ThresholdTable, target: float) -> int:
    false_T = table.false_positives_T
    return int((false_T <= (1.0 - target) * false_T[-1] + _SLACK).sum()) - 1


def _reaching_sensitivity(table: ThresholdTable, target: float) -> int:
    true_T = table.true_positives_T
    return int(np.argmax(true_T >= target * true_T[-1] - _SLACK))


def _at_or_above(table: ThresholdTable, target: float) -> int:
    return int((table.threshold_T >= target).sum()) - 1


def _points(
    score_B: ArrayLike,
    label_B: ArrayLike,
    patient_B: ArrayLike,
    chosen: Sequence[tuple[str, float, _Choice]],
    confidence: float,
    basis: str,
) -> tuple[OperatingPoint, ...]:
    known = known_breasts(score_B, label_B)
    if known.is_positive_B.all() or not known.is_positive_B.any():
        return ()
    patients_B = np.asarray(patient_B)[known.index_B]
    table, is_enough = _table(known.score_B, known.is_positive_B), has_enough(known.is_positive_B, patients_B)
    patients, positive_patients = (len(np.unique(named_B)) for named_B in (patients_B, patients_B[known.is_positive_B]))
    points, rates_of = [], dict[tuple[str, int], dict[str, Interval]]()
    for criterion, target, choose in chosen:
        index = choose(table, target)
        threshold = float(target) if criterion == "threshold" else float(table.threshold_T[index])
        true, false = int(table.true_positives_T[index]), int(table.false_positives_T[index])
        positives, negatives = int(table.true_positives_T[-1]), int(table.false_positives_T[-1])
        if (rates := rates_of.get((criterion, index))) is None:  # the places of a band share few thresholds
            if is_enough:
                rates = _with_intervals(known, patients_B, threshold, table, criterion, confidence)
            else:
                rates = _counted(true, false, positives, negatives)
            rates_of[criterion, index] = rates
        points.append(
            OperatingPoint(
                criterion=criterion,
                target=target,
                basis=basis,
                threshold=threshold if np.isfinite(threshold) else None,
                true_positives=true,
                false_positives=false,
                true_negatives=negatives - false,
                false_negatives=positives - true,
                patients=patients,
                positive_patients=positive_patients,
                **rates,
            )
        )
    return tuple(points)


def _counted(true: int, false: int, positives: int, negatives: int) -> dict[str, Interval]:
    """The rates without intervals."""
    return {
        "sensitivity": _alone(true, positives),
        "specificity": _alone(negatives - false, negatives),
        "recall_rate": _alone(true + false, positives + negatives),
        "positive_predictive_value": _alone(true, true + false),
        "negative_predictive_value": _alone(negatives - false, positives + negatives - true - false),
    }


def _alone(part: int, whole: int) -> Interval:
    return Interval(value=part / whole if whole else None, low=None, high=None)


def _with_intervals(
    known: KnownBreasts,
    patient_B: NDArray[np.generic],
    threshold: float,
    table: ThresholdTable,
    criterion: str,
    confidence: float,
) -> dict[str, Interval]:
    is_recalled_B, is_positive_B = known.score_B >= threshold, known.is_positive_B
    of_findings = float(is_positive_B.mean())
    found = share(is_recalled_B[is_positive_B], patient_B[is_positive_B], confidence=confidence)
    sensitivity = found.part()
    specificity = proportion(~is_recalled_B[~is_positive_B], patient_B[~is_positive_B], confidence=confidence)
    missed, alarms = complement(sensitivity), complement(specificity)
    positive = predictive_value(sensitivity, alarms, of_findings)
    negative = predictive_value(specificity, missed, 1.0 - of_findings)
    kept = _sensitivity_keeping(found, specificity, table) if criterion == "specificity" else sensitivity
    reached = _specificity_reaching(specificity, sensitivity, table) if criterion == "sensitivity" else specificity
    return {
        "sensitivity": kept.interval(),
        "specificity": reached.interval(),
        "recall_rate": weighted_sum(sensitivity, alarms, of_findings).interval(),
        "positive_predictive_value": _UNDEFINED if positive is None else positive.interval(),
        "negative_predictive_value": _UNDEFINED if negative is None else negative.interval(),
    }


def _sensitivity_keeping(found: Share, met: Part, table: ThresholdTable) -> Part:
    """Other breasts would have chosen another threshold, and found more or fewer with it.

    By how much is what the curve rises over the interval of the specificity that was met. Few positives lie there, so their
    number is drawn towards that of the binormal curve of equal spreads through the point: a Poisson count with a gamma prior.
    """
    first, last = (_keeping_specificity(table, end) for end in (met.high, met.low))
    positives, negatives = float(table.true_positives_T[-1]), float(table.false_positives_T[-1])
    alarms = min(max(1.0 - met.value, 0.5 / negatives), 1.0 - 0.5 / negatives)
    shift = ndtri(found.eased) - ndtri(alarms)
    expected = positives * float(ndtr(shift + ndtri(1.0 - met.low)) - ndtr(shift + ndtri(1.0 - met.high)))
    passed = float(table.true_positives_T[last] - table.true_positives_T[first])
    steepness = (passed + _PRIOR_POSITIVES) / (expected + _PRIOR_POSITIVES)
    deviation = steepness * expected / positives / (2.0 * found.quantile)
    return found.varying(deviation * deviation)


def _specificity_reaching(rate: Part, met: Part, table: ThresholdTable) -> Part:
    """Of the thresholds that reach the ends of the interval of the sensitivity that was met.

    Half a positive further at either end: the threshold lies between two of the few, and may lie beyond the last one.
    """
    true_T, false_T = table.true_positives_T, table.false_positives_T
    fewest, most = (end * true_T[-1] + step for end, step in ((met.low, -0.5), (met.high, 0.5)))
    chosen = np.searchsorted(true_T, (fewest - _SLACK, most - _SLACK), side="left").clip(max=len(true_T) - 1)
    others = [float(1.0 - false_T[index] / false_T[-1]) for index in chosen]
    return widened(rate, min(*others, rate.value), max(*others, rate.value))
