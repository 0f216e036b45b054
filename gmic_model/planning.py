"""How many patients an interval of a given width takes, by the very methods that an evaluation has its intervals from.

A study is supposed to have so many patients with the finding, each in one breast, and as many others as the prevalence says;
two breasts of a patient are half alike, as the intervals expect. For a share the factor of the patients is known then. Of an
AUROC a few cohorts with normal scores are drawn and their widths averaged: the same seeds give the same plan.
Axes: ``B`` breasts, ``P`` patients.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from gmic_model.metrics.areas import area_interval
from gmic_model.metrics.proportions import (
    EXPECTED_LIKENESS,
    MINIMUM_PATIENTS,
    Part,
    design_effect,
    drawn_counted_factor,
    share_of,
)
from gmic_model.metrics.ranking import Metric
from schemas.errors import ConfigError
from schemas.reports.precision import PlannedInterval

MOST_POSITIVES: Final = 200_000
"""Patients with the finding: no programme has more, and no search goes further."""
_MOST_POSITIVES_OF_AREA = 20_000
"""An AUROC's cohorts are drawn: beyond, a plan takes minutes."""
_MOST_OTHERS = 50
"""Patients without the finding drawn for each one with it: more narrow an AUROC's interval by less than one part in fifty."""
_PATIENTS_DRAWN = 4_000
"""Of all cohorts of one number of patients: few large ones vary as little as many small ones."""


class Planned(StrEnum):
    """What may be planned."""

    AUROC = "AUROC"
    SENSITIVITY = "sensitivity"
    SPECIFICITY = "specificity"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyShape:
    """What is supposed of the patients."""

    prevalence: float
    breasts_per_patient: int
    confidence: float


def planned_interval(measure: Planned, value: float, positives: int, shape: StudyShape) -> PlannedInterval:
    """The interval that so many patients with the finding may expect, with the others that the prevalence brings."""
    others = max(MINIMUM_PATIENTS, round(positives * (1.0 - shape.prevalence) / shape.prevalence))
    found = {Planned.AUROC: _area, Planned.SENSITIVITY: _sensitivity, Planned.SPECIFICITY: _specificity}[measure](
        value, positives, others, shape
    )
    return PlannedInterval(
        measure=measure.value,
        value=value,
        low=found.low,
        high=found.high,
        positive_patients=positives,
        patients=positives + others,
        positive_breasts=positives,
        breasts=(positives + others) * shape.breasts_per_patient,
    )


def patients_for(measure: Planned, value: float, width: float, shape: StudyShape) -> PlannedInterval:
    """The fewest patients with the finding whose interval is no wider, at least five.

    Raises:
        ConfigError: More than a search goes to.
    """
    most = _MOST_POSITIVES_OF_AREA if measure is Planned.AUROC else MOST_POSITIVES

    def plan(positives: int) -> PlannedInterval:
        return planned_interval(measure, value, positives, shape)

    def is_enough(positives: int) -> bool:
        found = plan(positives)
        return found.high - found.low <= width

    many = MINIMUM_PATIENTS
    while not is_enough(many):
        if many >= most:
            raise ConfigError(
                f"No study of {most:,} patients with the finding has so narrow an interval",
                expected=f"a wider interval for {measure.value} {value:g}",
                got=f"a width of {width:g}",
                remedy="ask for a wider one; what a study of a given size has, --positives says",
            )
        many = min(most, 2 * many)
    return plan(_fewest(is_enough, many)).model_copy(update={"wanted_width": width})


# ---------------------------------------------------------------------------------------------------------------------


def _fewest(is_enough: Callable[[int], bool], many: int) -> int:
    few = max(MINIMUM_PATIENTS - 1, many // 2)
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if is_enough(middle) else (middle, many)
    return many


def _sensitivity(value: float, positives: int, others: int, shape: StudyShape) -> Part:
    return _share(value, np.arange(positives), shape.confidence)


def _specificity(value: float, positives: int, others: int, shape: StudyShape) -> Part:
    """Of the breasts without the finding: all of the others, and the second ones of those who have it."""
    beside_P, whole_P = np.arange(positives), np.arange(positives, positives + others)
    patient_B = np.concatenate(
        [np.repeat(whole_P, shape.breasts_per_patient), np.repeat(beside_P, shape.breasts_per_patient - 1)]
    )
    return _share(value, patient_B, shape.confidence)


def _share(value: float, patient_B: NDArray[np.intp], confidence: float) -> Part:
    """As ``proportion`` has it where breasts of a patient are as alike as expected."""
    patients, breasts = len(np.unique(patient_B)), len(patient_B)
    if patients == breasts:
        return share_of(value, float(breasts), float(ndtri((1.0 + confidence) / 2.0)))
    expected = design_effect(np.ones(breasts), patient_B)
    factor, quantile = drawn_counted_factor(expected, expected, patients, confidence=confidence)
    return share_of(value, breasts / factor, quantile)


def _area(value: float, positives: int, others: int, shape: StudyShape) -> Part:
    others = min(others, max(MINIMUM_PATIENTS, _MOST_OTHERS * positives))
    cohorts = max(3, min(40, math.ceil(_PATIENTS_DRAWN / (positives + others) * 4)))
    reach_C2 = []
    for seed in range(cohorts):
        score_B, label_B, patient_B = _cohort(value, positives, others, shape.breasts_per_patient, np.random.default_rng(seed))
        found = area_interval(Metric.AUROC, score_B, label_B, patient_B, confidence=shape.confidence)
        if found.value is not None and found.low is not None and found.high is not None:
            reach_C2.append((found.low - found.value, found.high - found.value))
    below, above = np.mean(reach_C2, axis=0)
    return Part(value=value, low=max(0.0, value + float(below)), high=min(1.0, value + float(above)))


def _cohort(
    value: float, positives: int, others: int, breasts_per_patient: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.intp]]:
    """Normal scores of equal spread. Evenly placed and shuffled: cohorts vary little around the foreseen area."""
    patients = positives + others
    patient_B = np.repeat(np.arange(patients), breasts_per_patient)
    label_B = np.zeros(len(patient_B), dtype=np.int64)
    label_B[: positives * breasts_per_patient : breasts_per_patient] = 1
    score_B = np.sqrt(EXPECTED_LIKENESS) * rng.normal(size=patients)[patient_B]
    score_B += np.sqrt(1.0 - EXPECTED_LIKENESS) * rng.normal(size=len(patient_B))
    for label in (0, 1):
        is_member_B = label_B == label
        order = np.argsort(np.argsort(score_B[is_member_B]))
        score_B[is_member_B] = ndtri((order + 0.5) / len(order))
    return score_B + np.sqrt(2.0) * float(ndtri(value)) * label_B, label_B, patient_B
