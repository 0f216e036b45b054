"""Does the model work equally well for every kind of breast? Metrics by group, with counts and a rule for "too few".

Axes: ``B`` breasts. Which attributes a store knows is the tasks' business; here a group is a string, ``NOT_KNOWN`` among them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmic_model.metrics.areas import area_interval
from gmic_model.metrics.operating_points import point_at_threshold
from gmic_model.metrics.ranking import Metric, known_breasts
from schemas.exam import NOT_KNOWN
from schemas.reports.evaluation import SubgroupMetrics
from schemas.reports.report import Interval

MINIMUM_PATIENTS = 10
"""A group's metrics need this many patients with the finding and as many without: below, an interval says next to nothing."""
_AGE_BANDS = ((40, "under 40"), (50, "40 to 49"), (60, "50 to 59"), (70, "60 to 69"))

_UNDEFINED = Interval(value=None, low=None, high=None)


def subgroup_metrics(
    score_B: ArrayLike,
    label_B: ArrayLike,
    patient_B: ArrayLike,
    group_B: ArrayLike,
    *,
    attribute: str,
    threshold: float | None,
    confidence: float,
    minimum_patients: int = MINIMUM_PATIENTS,
) -> tuple[SubgroupMetrics, ...]:
    """One line per group, the largest first, ``NOT_KNOWN`` last.

    Sensitivity and specificity are read at one ``threshold`` for all groups, as in use (None = not read). A group with fewer
    than ``minimum_patients`` patients with the finding, or without it, gets counts only.

    Raises:
        MammoError: A score of a labelled breast is not finite, or a label is none of 0, 1, 255.
    """
    known = known_breasts(score_B, label_B)
    groups_B = np.asarray(group_B, dtype=np.str_)[known.index_B]
    patients_B = np.asarray(patient_B)[known.index_B]
    names, counts = np.unique(groups_B, return_counts=True)
    order = sorted(range(len(names)), key=lambda index: (names[index] == NOT_KNOWN, -counts[index], names[index]))
    lines = []
    for name in (str(names[index]) for index in order):
        is_member_B = groups_B == name
        lines.append(
            _line(
                known.score_B[is_member_B],
                known.is_positive_B[is_member_B],
                patients_B[is_member_B],
                SubgroupMetrics(
                    attribute=attribute,
                    group=name,
                    breasts=int(is_member_B.sum()),
                    patients=len(np.unique(patients_B[is_member_B])),
                    positive_breasts=int(known.is_positive_B[is_member_B].sum()),
                    positive_patients=len(np.unique(patients_B[is_member_B & known.is_positive_B])),
                    auroc=_UNDEFINED,
                    sensitivity=_UNDEFINED,
                    specificity=_UNDEFINED,
                ),
                threshold,
                confidence,
                minimum_patients,
            )
        )
    return tuple(lines)


def age_bands(age_years_B: ArrayLike) -> NDArray[np.str_]:
    """Ten-year bands of screening age; NaN is ``NOT_KNOWN``."""
    return np.array([_age_band(age) for age in np.asarray(age_years_B, dtype=np.float64)], dtype=np.str_)


def view_counts(view_count_B: ArrayLike) -> NDArray[np.str_]:
    """How many images a breast's score is the mean of, in words."""
    return np.array([f"{count} image{'' if count == 1 else 's'}" for count in np.asarray(view_count_B)], dtype=np.str_)


# ---------------------------------------------------------------------------------------------------------------------


def patients_of_both_kinds(with_finding: int, without: int) -> str:
    """In words. Who has the finding in one breast and not in the other is counted in both: the two may exceed all patients."""
    return f"patients with the finding in a breast: {with_finding}, with a breast without it: {without} (some may be both)"


def _line(
    score_B: NDArray[np.float64],
    is_positive_B: NDArray[np.bool_],
    patient_B: NDArray[np.generic],
    counted: SubgroupMetrics,
    threshold: float | None,
    confidence: float,
    minimum_patients: int,
) -> SubgroupMetrics:
    with_finding, without = (len(np.unique(patient_B[members_B])) for members_B in (is_positive_B, ~is_positive_B))
    if min(with_finding, without) < minimum_patients:
        return counted.model_copy(
            update={"too_few": f"{patients_of_both_kinds(with_finding, without)}; {minimum_patients} of each needed"}
        )
    label_B = is_positive_B.astype(np.int64)
    auroc = area_interval(Metric.AUROC, score_B, label_B, patient_B, confidence=confidence)
    point = None if threshold is None else point_at_threshold(score_B, label_B, patient_B, threshold, confidence=confidence)
    return counted.model_copy(
        update={
            "auroc": auroc,
            "sensitivity": _UNDEFINED if point is None else point.sensitivity,
            "specificity": _UNDEFINED if point is None else point.specificity,
        }
    )


def _age_band(age_years: float) -> str:
    if np.isnan(age_years):
        return NOT_KNOWN
    return next((name for limit, name in _AGE_BANDS if age_years < limit), "70 and over")
