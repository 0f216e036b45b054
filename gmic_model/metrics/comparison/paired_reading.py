"""The original read as comparator: decisions of readers beside a model's scores on the same breasts, exams or patients.

A read is one decision, a model a score for every threshold. So the model is put where one of its rates is the read's, and the
other is compared: sensitivity at the readers' specificity, specificity at their sensitivity. Both are paired: the same woman
counts on both sides. That the threshold was chosen on the very units that are compared is counted: a unit more or less on the
one side moves the threshold, and with it the rate on the other.

Sources: Newcombe 1998 (paired difference); Hall and others 2013 and Piaggio and others 2012 (non-inferiority by the end
of a two-sided interval). Axes: ``U`` units (breasts, exams or patients).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmic_model.metrics.areas import has_enough
from gmic_model.metrics.operating_points import point_at_threshold, points_at_sensitivity, points_at_specificity
from gmic_model.metrics.proportions import MINIMUM_PATIENTS, paired_proportions, proportion
from gmic_model.metrics.ranking import RocCurve, roc_curve
from schemas.reports.evaluation import OperatingPoint
from schemas.reports.report import Interval
from schemas.reports.reviewed import ReadLevel, ReadPoint

_SLACK = 1e-12
AT_SPECIFICITY, AT_SENSITIVITY = "specificity of the read", "sensitivity of the read"
ON_TUNING = "read's specificity on tuning"
"""What the threshold was chosen for, in words."""


def beside_read(
    score_U: NDArray[np.float64],
    is_recalled_U: NDArray[np.bool_],
    label_U: NDArray[np.int64],
    patient_U: NDArray[np.generic],
    *,
    name: str,
    margin: float,
    confidence: float,
    tuned_threshold: float | None = None,
) -> ReadLevel:
    """Rates of the reads, and of the model at the reads' specificity, at their sensitivity, and at a threshold of use.

    Args:
        score_U: The model's scores.
        is_recalled_U: The reads' decisions.
        label_U: 1 with the finding, 0 without.
        patient_U: Whose the units are.
        name: ``breast``, ``exam`` or ``patient``.
        margin: By how much a rate of the model may lie below the read's and still be called no worse.
        confidence: Of the two-sided intervals; the decision's error is half of what is left.
        tuned_threshold: Chosen beforehand, on other patients; None = there is none.
    """
    is_positive_U = label_U == 1
    rates = tuple(
        _rate(hit_U[of_U], patient_U[of_U], confidence)
        for hit_U, of_U in ((is_recalled_U, is_positive_U), (~is_recalled_U, ~is_positive_U))
    )
    points: tuple[ReadPoint, ...] = ()
    if (curve := roc_curve(score_U, label_U)) is not None:
        found = _Paired(
            score_U=score_U,
            is_recalled_U=is_recalled_U,
            is_positive_U=is_positive_U,
            patient_U=patient_U,
            curve=curve,
            margin=margin,
            confidence=confidence,
        )
        points = (found.at_specificity(), found.at_sensitivity(), *found.at_threshold(tuned_threshold))
    return ReadLevel(
        name=name,
        units=len(label_U),
        positive_units=int(is_positive_U.sum()),
        patients=len(np.unique(patient_U)),
        positive_patients=len(np.unique(patient_U[is_positive_U])),
        recalled_units=int(is_recalled_U.sum()),
        read_sensitivity=rates[0],
        read_specificity=rates[1],
        points=points,
    )


def decision(difference: Interval, margin: float) -> str:
    """What an interval of model less read says of the margin, in words.

    The margin is met if the whole interval lies above it; nothing is met where the interval has no ends.
    """
    if difference.low is None or difference.high is None:
        return "too few patients to decide"
    if difference.low > 0.0:
        return "higher than the read"
    if difference.low > -margin:
        return "not inferior"
    if difference.high < -margin:
        return "inferior"
    return "not shown"


# ---------------------------------------------------------------------------------------------------------------------


def _rate(hit_U: NDArray[np.bool_], patient_U: NDArray[np.generic], confidence: float) -> Interval:
    if not len(hit_U):
        return Interval(value=None, low=None, high=None)
    if len(np.unique(patient_U)) < MINIMUM_PATIENTS:
        return Interval(value=float(hit_U.mean()), low=None, high=None)
    return proportion(hit_U, patient_U, confidence=confidence).interval()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Paired:
    """Scores and reads of both classes, and what is compared at a threshold."""

    score_U: NDArray[np.float64]
    is_recalled_U: NDArray[np.bool_]
    is_positive_U: NDArray[np.bool_]
    patient_U: NDArray[np.generic]
    curve: RocCurve
    margin: float
    confidence: float

    @property
    def _judged(self) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.generic]]:
        return self.score_U, self.is_positive_U.astype(np.int64), self.patient_U

    def at_specificity(self) -> ReadPoint:
        """The model keeps at least the read's specificity; the sensitivities are compared."""
        target = float(np.mean(~self.is_recalled_U[~self.is_positive_U]))
        (point,) = points_at_specificity(*self._judged, [target], confidence=self.confidence)
        met = self._difference(point, is_of_positives=False)
        reach = 0.0 if met.low is None or met.high is None else (met.high - met.low) / 2.0
        kept = 1.0 - point.false_positives / (point.false_positives + point.true_negatives)
        ends = tuple(self.curve.sensitivity_at(min(1.0, max(0.0, kept + end))) for end in (reach, -reach))
        difference = _widened(self._difference(point, is_of_positives=True), point.sensitivity.value, *ends)
        return self._point(AT_SPECIFICITY, point, sensitivity=difference)

    def at_sensitivity(self) -> ReadPoint:
        """The model reaches at least the read's sensitivity; the specificities are compared."""
        target = float(np.mean(self.is_recalled_U[self.is_positive_U]))
        (point,) = points_at_sensitivity(*self._judged, [target], confidence=self.confidence)
        met = self._difference(point, is_of_positives=True)
        reach = 0.0 if met.low is None or met.high is None else (met.high - met.low) / 2.0
        reached = point.true_positives / (point.true_positives + point.false_negatives)
        ends = tuple(_specificity_at(self.curve, min(1.0, max(0.0, reached + end))) for end in (reach, -reach))
        difference = _widened(self._difference(point, is_of_positives=False), point.specificity.value, *ends)
        return self._point(AT_SENSITIVITY, point, specificity=difference)

    def at_threshold(self, threshold: float | None) -> tuple[ReadPoint, ...]:
        """One that was fixed beforehand, if there is one: both rates are compared, and no choice is counted."""
        point = None if threshold is None else point_at_threshold(*self._judged, threshold, confidence=self.confidence)
        if point is None:
            return ()
        sensitivity, specificity = (self._difference(point, is_of_positives=one) for one in (True, False))
        return (self._point(ON_TUNING, point, sensitivity=sensitivity, specificity=specificity),)

    def _difference(self, point: OperatingPoint, *, is_of_positives: bool) -> Interval:
        of_U = self.is_positive_U if is_of_positives else ~self.is_positive_U
        by_model_U = self.score_U >= (np.inf if point.threshold is None else point.threshold)
        model_U, read_U = (hit_U[of_U] == is_of_positives for hit_U in (by_model_U, self.is_recalled_U))
        found = paired_proportions(model_U, read_U, self.patient_U[of_U], confidence=self.confidence)
        if not has_enough(self.is_positive_U, self.patient_U):
            return found.model_copy(update={"low": None, "high": None})
        return found

    def _point(
        self, name: str, point: OperatingPoint, *, sensitivity: Interval | None = None, specificity: Interval | None = None
    ) -> ReadPoint:
        return ReadPoint(
            name=name,
            threshold=point.threshold,
            sensitivity=point.sensitivity,
            specificity=point.specificity,
            sensitivity_difference=sensitivity,
            sensitivity_decision="" if sensitivity is None else decision(sensitivity, self.margin),
            specificity_difference=specificity,
            specificity_decision="" if specificity is None else decision(specificity, self.margin),
        )


def _specificity_at(curve: RocCurve, sensitivity: float) -> float:
    """Largest specificity of a threshold whose sensitivity is at least the given one; no interpolation."""
    is_allowed_T = curve.true_positive_rate_T >= sensitivity - _SLACK
    return float(1.0 - curve.false_positive_rate_T[is_allowed_T].min())


def _widened(difference: Interval, rate: float | None, low_rate: float, high_rate: float) -> Interval:
    """The interval of a difference that also counts how the choice of the threshold moves the model's rate.

    Args:
        difference: As if the threshold were fixed.
        rate: The model's at the threshold.
        low_rate: At the strictest threshold that other units would have led to.
        high_rate: At the loosest.
    """
    if difference.value is None or difference.low is None or difference.high is None or rate is None:
        return difference
    below = np.hypot(difference.value - difference.low, max(0.0, rate - low_rate))
    above = np.hypot(difference.high - difference.value, max(0.0, high_rate - rate))
    return Interval(
        value=difference.value,
        low=max(-1.0, difference.value - float(below)),
        high=min(1.0, difference.value + float(above)),
    )
