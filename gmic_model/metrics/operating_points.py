"""What a threshold does to a screening population: sensitivity, specificity, recall rate, PPV, with intervals over patients.

Ranking metrics are in ``metrics.py``, whether scores mean probabilities in ``calibration.py``. A breast is recalled if its
score is at or above the threshold. Axes: ``B`` breasts, ``R`` resamples, ``T`` thresholds (index 0 is above every score).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmic_model.metrics.bootstrap import Bootstrap, patient_weights, percentile_ends
from gmic_model.metrics.ranking import has_enough_patients, known_breasts
from schemas.reports.evaluation import OperatingPoint
from schemas.reports.report import Interval

_SLACK = 1e-9
"""Counts are whole numbers: a target that is reached exactly must not be missed by the last bit of ``1 - specificity``."""


def points_at_specificity(
    score_B: ArrayLike,
    label_B: ArrayLike,
    patient_B: ArrayLike,
    specificities: Sequence[float],
    *,
    bootstrap: Bootstrap,
    basis: str = "",
) -> tuple[OperatingPoint, ...]:
    """The lowest threshold that keeps at least each specificity; no interpolation. Empty if one class only.

    Raises:
        MammoError: A score of a labelled breast is not finite, or a label is none of 0, 1, 255.
    """
    chosen = [("specificity", target, _keeping_specificity(target)) for target in specificities]
    return _points(score_B, label_B, patient_B, chosen, bootstrap, basis)


def points_at_sensitivity(
    score_B: ArrayLike,
    label_B: ArrayLike,
    patient_B: ArrayLike,
    sensitivities: Sequence[float],
    *,
    bootstrap: Bootstrap,
    basis: str = "",
) -> tuple[OperatingPoint, ...]:
    """The highest threshold that reaches at least each sensitivity; no interpolation. Empty if one class only.

    Raises:
        MammoError: A score of a labelled breast is not finite, or a label is none of 0, 1, 255.
    """
    chosen = [("sensitivity", target, _reaching_sensitivity(target)) for target in sensitivities]
    return _points(score_B, label_B, patient_B, chosen, bootstrap, basis)


def point_at_threshold(
    score_B: ArrayLike,
    label_B: ArrayLike,
    patient_B: ArrayLike,
    threshold: float,
    *,
    bootstrap: Bootstrap,
    basis: str = "",
) -> OperatingPoint | None:
    """A threshold that was fixed beforehand, on other breasts; its interval holds no choice. None if one class only.

    Raises:
        MammoError: A score of a labelled breast is not finite, or a label is none of 0, 1, 255.
    """
    points = _points(score_B, label_B, patient_B, [("threshold", threshold, _at_or_above(threshold))], bootstrap, basis)
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
    steps = _Steps.of(known.score_B, known.is_positive_B)
    true_RT, false_RT = steps.counts(np.ones((1, len(known.score_B)), dtype=np.int32))
    return ThresholdTable(
        threshold_T=steps.threshold_T,
        true_positives_T=true_RT[0].astype(np.int64),
        false_positives_T=false_RT[0].astype(np.int64),
    )


# ---------------------------------------------------------------------------------------------------------------------

_Choice = Callable[[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]], NDArray[np.intp]]
"""From true and false positives (R, T) and thresholds (T) to the chosen T of each resample."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Steps:
    """Breasts by falling score and where each distinct score ends."""

    order_B: NDArray[np.intp]
    is_positive_B: NDArray[np.bool_]
    last_T: NDArray[np.intp]
    threshold_T: NDArray[np.float64]

    @classmethod
    def of(cls, score_B: NDArray[np.float64], is_positive_B: NDArray[np.bool_]) -> _Steps:
        order_B = np.argsort(-score_B, kind="stable")
        sorted_B = score_B[order_B]
        last_T = np.concatenate([np.flatnonzero(np.diff(sorted_B)), [len(sorted_B) - 1]])
        return cls(
            order_B=order_B,
            is_positive_B=is_positive_B[order_B],
            last_T=last_T,
            threshold_T=np.concatenate([[np.inf], sorted_B[last_T]]),
        )

    def counts(self, weight_RB: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """True and false positives (R, T) at each threshold."""
        sorted_RB = weight_RB[:, self.order_B]
        none_R1 = np.zeros((len(weight_RB), 1), dtype=np.int32)
        true_RB = np.cumsum(sorted_RB * self.is_positive_B, axis=1, dtype=np.int32)
        false_RB = np.cumsum(sorted_RB, axis=1, dtype=np.int32) - true_RB
        return (
            np.concatenate([none_R1, true_RB[:, self.last_T]], axis=1),
            np.concatenate([none_R1, false_RB[:, self.last_T]], axis=1),
        )


def _keeping_specificity(target: float) -> _Choice:
    def choose(true_RT: NDArray[np.int32], false_RT: NDArray[np.int32], threshold_T: NDArray[np.float64]) -> NDArray[np.intp]:
        allowed_R1 = (1.0 - target) * false_RT[:, -1:] + _SLACK
        return np.asarray((false_RT <= allowed_R1).sum(axis=1) - 1, dtype=np.intp)

    return choose


def _reaching_sensitivity(target: float) -> _Choice:
    def choose(true_RT: NDArray[np.int32], false_RT: NDArray[np.int32], threshold_T: NDArray[np.float64]) -> NDArray[np.intp]:
        return np.asarray(np.argmax(true_RT >= target * true_RT[:, -1:] - _SLACK, axis=1), dtype=np.intp)

    return choose


def _at_or_above(threshold: float) -> _Choice:
    def choose(true_RT: NDArray[np.int32], false_RT: NDArray[np.int32], threshold_T: NDArray[np.float64]) -> NDArray[np.intp]:
        return np.full(len(true_RT), int((threshold_T >= threshold).sum()) - 1, dtype=np.intp)

    return choose


def _points(
    score_B: ArrayLike,
    label_B: ArrayLike,
    patient_B: ArrayLike,
    chosen: Sequence[tuple[str, float, _Choice]],
    bootstrap: Bootstrap,
    basis: str,
) -> tuple[OperatingPoint, ...]:
    known = known_breasts(score_B, label_B)
    if known.is_positive_B.all() or not known.is_positive_B.any():
        return ()
    patients_B = np.asarray(patient_B)[known.index_B]
    steps = _Steps.of(known.score_B, known.is_positive_B)
    whole = steps.counts(np.ones((1, len(patients_B)), dtype=np.int32))
    rates_P: list[list[NDArray[np.float64]]] = [[] for _ in chosen]
    if bootstrap.resamples and has_enough_patients(known.is_positive_B, patients_B):
        for weight_RB in patient_weights(patients_B, resamples=bootstrap.resamples, seed=bootstrap.seed):
            counts = steps.counts(weight_RB)
            for rates, (_, _, choose) in zip(rates_P, chosen, strict=True):
                rates.append(_rates(*counts, choose(*counts, steps.threshold_T)))
    return tuple(
        _point(criterion, target, choose, steps, whole, rates, bootstrap, basis)
        for (criterion, target, choose), rates in zip(chosen, rates_P, strict=True)
    )


def _rates(true_RT: NDArray[np.int32], false_RT: NDArray[np.int32], index_R: NDArray[np.intp]) -> NDArray[np.float64]:
    """Sensitivity, specificity, recall rate and PPV, (4, R); NaN where a resample does not define one."""
    row_R = np.arange(len(index_R))
    true_R, false_R = true_RT[row_R, index_R].astype(np.float64), false_RT[row_R, index_R].astype(np.float64)
    positives_R, negatives_R = true_RT[:, -1].astype(np.float64), false_RT[:, -1].astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        rate_XR = [
            true_R / positives_R,
            1.0 - false_R / negatives_R,
            (true_R + false_R) / (positives_R + negatives_R),
            true_R / (true_R + false_R),
        ]
    return np.stack(rate_XR)


def _point(
    criterion: str,
    target: float,
    choose: _Choice,
    steps: _Steps,
    whole: tuple[NDArray[np.int32], NDArray[np.int32]],
    rates: list[NDArray[np.float64]],
    bootstrap: Bootstrap,
    basis: str,
) -> OperatingPoint:
    index_R = choose(*whole, steps.threshold_T)
    value_X1 = _rates(*whole, index_R)
    rate_XR = np.concatenate(rates, axis=1) if rates else np.empty((4, 0))
    intervals = []
    for value_1, rate_R in zip(value_X1, rate_XR, strict=True):
        low, high = percentile_ends(rate_R, confidence=bootstrap.confidence)
        is_defined = bool(np.isfinite(value_1[0]))
        intervals.append(
            Interval(value=float(value_1[0]), low=low, high=high) if is_defined else Interval(value=None, low=None, high=None)
        )
    index = int(index_R[0])
    (true_T,), (false_T,) = whole
    true, false = int(true_T[index]), int(false_T[index])
    threshold = float(target) if criterion == "threshold" else float(steps.threshold_T[index])
    return OperatingPoint(
        criterion=criterion,
        target=target,
        basis=basis,
        threshold=threshold if np.isfinite(threshold) else None,
        true_positives=true,
        false_positives=false,
        true_negatives=int(false_T[-1]) - false,
        false_negatives=int(true_T[-1]) - true,
        sensitivity=intervals[0],
        specificity=intervals[1],
        recall_rate=intervals[2],
        positive_predictive_value=intervals[3],
    )
