"""How sure a curve is: pointwise intervals of the ROC and the precision-recall curve over resampled patients.

The curves themselves are in ``metrics.py``. Axes: ``B`` breasts, ``R`` resamples, ``T`` thresholds,
``G`` grid of the horizontal axis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmic_model.metrics.areas import has_enough
from gmic_model.metrics.bootstrap import Bootstrap, patient_weights
from gmic_model.metrics.ranking import known_breasts

GRID_STEPS: Final = 100
_SLACK = 1e-9
"""Rates are ratios of whole numbers: one that is reached exactly must not be missed by the last bit."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CurveBand:
    """Ends of the percentile interval at each place of the grid."""

    at_G: NDArray[np.float64]
    low_G: NDArray[np.float64]
    high_G: NDArray[np.float64]


def roc_band(score_B: ArrayLike, label_B: ArrayLike, patient_B: ArrayLike, *, bootstrap: Bootstrap) -> CurveBand | None:
    """Sensitivity at each false positive rate: the largest of a threshold whose rate is at most that; no interpolation.

    Returns:
        None where one class is missing or fewer than five patients carry either.

    Raises:
        MammoError: A score of a labelled breast is not finite, or a label is none of 0, 1, 255.
    """
    return _band(score_B, label_B, patient_B, bootstrap, _sensitivity_at)


def pr_band(score_B: ArrayLike, label_B: ArrayLike, patient_B: ArrayLike, *, bootstrap: Bootstrap) -> CurveBand | None:
    """Precision at each recall: that of the highest threshold that reaches it, as the curve's steps are drawn.

    Returns:
        None where one class is missing or fewer than five patients carry either.

    Raises:
        MammoError: A score of a labelled breast is not finite, or a label is none of 0, 1, 255.
    """
    return _band(score_B, label_B, patient_B, bootstrap, _precision_at)


_Curve = Callable[[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]], NDArray[np.float64]]
"""From true and false positives at falling thresholds (T, the first recalls nothing) to the curve on the grid (G)."""


def _band(
    score_B: ArrayLike, label_B: ArrayLike, patient_B: ArrayLike, bootstrap: Bootstrap, curve: _Curve
) -> CurveBand | None:
    known = known_breasts(score_B, label_B)
    patients_B = np.asarray(patient_B)[known.index_B]
    if not bootstrap.resamples or not has_enough(known.is_positive_B, patients_B):
        return None
    order_B = np.argsort(-known.score_B, kind="stable")
    is_positive_B = known.is_positive_B[order_B]
    last_T = np.concatenate([np.flatnonzero(np.diff(known.score_B[order_B])), [len(order_B) - 1]])
    at_G = np.linspace(0.0, 1.0, GRID_STEPS + 1)
    curve_RG = []
    for weight_RB in patient_weights(patients_B, resamples=bootstrap.resamples, seed=bootstrap.seed):
        for weight_B in weight_RB[:, order_B]:
            true_T = np.concatenate([[0], np.cumsum(weight_B * is_positive_B)[last_T]])
            false_T = np.concatenate([[0], np.cumsum(weight_B)[last_T]]) - true_T
            if true_T[-1] and false_T[-1]:  # a resample of one class only defines no curve
                curve_RG.append(curve(true_T, false_T, at_G))
    if not curve_RG:
        return None
    ends = ((1.0 - bootstrap.confidence) / 2.0, (1.0 + bootstrap.confidence) / 2.0)
    low_G, high_G = np.quantile(np.stack(curve_RG), ends, axis=0)
    return CurveBand(at_G=at_G, low_G=low_G, high_G=high_G)


def _sensitivity_at(true_T: NDArray[np.int64], false_T: NDArray[np.int64], at_G: NDArray[np.float64]) -> NDArray[np.float64]:
    last_G = np.searchsorted(false_T / false_T[-1], at_G + _SLACK, side="right") - 1
    return np.asarray(true_T[last_G] / true_T[-1], np.float64)


def _precision_at(true_T: NDArray[np.int64], false_T: NDArray[np.int64], at_G: NDArray[np.float64]) -> NDArray[np.float64]:
    recall_T = true_T / true_T[-1]
    # Recall 0 is reached by recalling nothing, which has no precision: the first breasts recalled stand for it.
    first_recalled = int(np.flatnonzero(true_T + false_T)[0])
    first_G = np.maximum(np.searchsorted(recall_T, at_G - _SLACK, side="left"), first_recalled)
    return np.asarray(true_T[first_G] / (true_T[first_G] + false_T[first_G]), np.float64)
