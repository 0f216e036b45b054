"""How sure a curve is: at each place of the ROC and the precision-recall curve the interval that an operating point has there.

So a band and the table of operating points say the same, and few patients do not make a band narrow. Each interval holds for
its own place; the whole curve lies in the band less often. The curves themselves are in ``ranking.py``.
Axes: ``B`` breasts, ``G`` grid of the horizontal axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmic_model.metrics.operating_points import points_at_sensitivity, points_at_specificity
from schemas.reports.evaluation import OperatingPoint
from schemas.reports.report import Interval

GRID_STEPS: Final = 100
_SOMETHING = 1e-6
"""A recall of 0 is that of recalling nothing, which has no precision: the first positive recalled stands for it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CurveBand:
    """Ends of the interval at each place of the grid, and the value that it is of."""

    at_G: NDArray[np.float64]
    value_G: NDArray[np.float64]
    low_G: NDArray[np.float64]
    high_G: NDArray[np.float64]


def roc_band(score_B: ArrayLike, label_B: ArrayLike, patient_B: ArrayLike, *, confidence: float) -> CurveBand | None:
    """Sensitivity at each false positive rate: the largest of a threshold whose rate is at most that; no interpolation.

    Returns:
        None where one class is missing or fewer than five patients carry either.

    Raises:
        MammoError: A score of a labelled breast is not finite, or a label is none of 0, 1, 255.
    """
    at_G = np.linspace(0.0, 1.0, GRID_STEPS + 1)
    points = points_at_specificity(score_B, label_B, _numbered(patient_B), (1.0 - at_G).tolist(), confidence=confidence)
    return _band(at_G, [point.sensitivity for point in points])


def pr_band(score_B: ArrayLike, label_B: ArrayLike, patient_B: ArrayLike, *, confidence: float) -> CurveBand | None:
    """Precision at each recall: that of the highest threshold that reaches it, as the curve's steps are drawn.

    The recall is what was asked for, and the share of findings is this data's: what is not known is how many others are called.

    Returns:
        None where one class is missing or fewer than five patients carry either.

    Raises:
        MammoError: A score of a labelled breast is not finite, or a label is none of 0, 1, 255.
    """
    at_G = np.linspace(0.0, 1.0, GRID_STEPS + 1)
    recalls = np.maximum(at_G, _SOMETHING).tolist()
    points = points_at_sensitivity(score_B, label_B, _numbered(patient_B), recalls, confidence=confidence)
    return _band(at_G, [_precision(point) for point in points])


def _band(at_G: NDArray[np.float64], intervals: list[Interval]) -> CurveBand | None:
    told = [(one.value, one.low, one.high) for one in intervals if one.low is not None and one.high is not None]
    if len(told) < len(at_G):
        return None
    value_G, low_G, high_G = np.array(told, dtype=np.float64).T
    return CurveBand(at_G=at_G, value_G=value_G, low_G=low_G, high_G=high_G)


def _numbered(patient_B: ArrayLike) -> NDArray[np.intp]:
    """Patients as numbers: they are sorted at each place of the grid, and names take longer."""
    return np.unique(np.asarray(patient_B), return_inverse=True)[1]


def _precision(point: OperatingPoint) -> Interval:
    """From the interval of the false alarms: the share of those recalled that have the finding."""
    specificity, negatives = point.specificity, point.false_positives + point.true_negatives
    if specificity.value is None or specificity.low is None or specificity.high is None:
        return specificity
    value, low, high = (
        point.true_positives / (point.true_positives + negatives * (1.0 - end))
        for end in (specificity.value, specificity.low, specificity.high)
    )
    return Interval(value=value, low=low, high=high)
