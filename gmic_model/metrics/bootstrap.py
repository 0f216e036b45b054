"""Means and ratios over images with patient-clustered bootstrap intervals; ranking metrics have theirs in ``metrics.py``.

Axes: ``N`` images, ``R`` resamples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from gmic_model.metrics.operating_points import Bootstrap
from gmic_model.metrics.ranking import MINIMUM_PATIENTS_PER_CLASS, patient_weights, percentile_ends
from schemas.reports.pages import Interval


def mean_interval(value_N: ArrayLike, patient_N: ArrayLike, *, bootstrap: Bootstrap) -> Interval:
    """Mean over images; None without any, no ends below two patients."""
    values_N = np.asarray(value_N, dtype=np.float64)
    return ratio_interval(values_N, np.ones_like(values_N), patient_N, bootstrap=bootstrap)


def ratio_interval(part_N: ArrayLike, whole_N: ArrayLike, patient_N: ArrayLike, *, bootstrap: Bootstrap) -> Interval:
    """Sum of the parts over sum of the wholes, such as lesions reached of all lesions; images of a patient stay together."""
    parts_N, wholes_N = np.asarray(part_N, dtype=np.float64), np.asarray(whole_N, dtype=np.float64)
    patients_N = np.asarray(patient_N)
    if not wholes_N.sum():
        return Interval(value=None, low=None, high=None)
    value = float(parts_N.sum() / wholes_N.sum())
    if len(np.unique(patients_N)) < MINIMUM_PATIENTS_PER_CLASS or bootstrap.resamples < 1:
        return Interval(value=value, low=None, high=None)
    with np.errstate(invalid="ignore", divide="ignore"):
        value_R = np.concatenate(
            [
                (weight_RN @ parts_N) / (weight_RN @ wholes_N)
                for weight_RN in patient_weights(patients_N, resamples=bootstrap.resamples, seed=bootstrap.seed)
            ]
        )
    low, high = percentile_ends(value_R, confidence=bootstrap.confidence)
    return Interval(value=value, low=low, high=high)
