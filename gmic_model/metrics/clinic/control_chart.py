"""Has a device begun to give other scores? A cumulative sum over exams, in the order in which they were scored.

Page's CUSUM (Biometrika 41, 1954) in the two-sided form of Montgomery (*Introduction to Statistical Quality Control*,
section 9.1) on normal scores: each value becomes the normal quantile of its rank among the first exams. So skew and scale of
the scores do not matter, nor does the threshold in use, and no value weighs more than the largest of these. Axis: ``E`` exams.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

BASELINE: Final = 1000
"""Exams by which the later ones are judged; their rank is known to 1/1000, their mean to 0.03 standard deviations."""
ALLOWANCE: Final = 0.25
"""k: half the shift, in standard deviations, that is looked for; smaller ones are let pass."""
DECISION: Final = 22.0
"""h. Simulated: of 300 quiet streams of 5,000 exams 1 % raise an alarm; a shift of 0.5 is told within 200 exams in 99 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Where the sum passed its limit.

    Attributes:
        exam: Index of the exam that raised it.
        began: Index of the first exam since which the sum was never 0: the estimate of where the change began.
        is_upward: Scores became higher.
        shift: Mean normal score since then: how large the change is, in standard deviations.
    """

    exam: int
    began: int
    is_upward: bool
    shift: float


def first_alarm(
    value_E: ArrayLike, *, baseline: int = BASELINE, allowance: float = ALLOWANCE, decision: float = DECISION
) -> Alarm | None:
    """The first alarm after the baseline; None = none, or fewer exams than a baseline."""
    values_E = np.asarray(value_E, dtype=np.float64)
    if len(values_E) <= baseline:
        return None
    normal_E = normal_scores(values_E[baseline:], values_E[:baseline])
    found = [
        alarm
        for sign in (1.0, -1.0)
        if (alarm := _one_sided(sign * normal_E, baseline, sign > 0, allowance, decision)) is not None
    ]
    return min(found, key=lambda alarm: alarm.exam, default=None)


def normal_scores(value_E: NDArray[np.float64], baseline_E: NDArray[np.float64]) -> NDArray[np.float64]:
    """The normal quantile of each value's rank among the baseline's; of equal values the middle rank."""
    ordered = np.sort(baseline_E)
    below_E, not_above_E = (np.searchsorted(ordered, value_E, side=side) for side in ("left", "right"))
    normal_E: NDArray[np.float64] = ndtri(((below_E + not_above_E) / 2.0 + 0.5) / (len(ordered) + 1.0))
    return normal_E


def _one_sided(
    normal_E: NDArray[np.float64], baseline: int, is_upward: bool, allowance: float, decision: float
) -> Alarm | None:
    # S_n = max(0, S_{n-1} + z_n - k) is the walk's height above its lowest point so far.
    walk_E = np.concatenate([[0.0], np.cumsum(normal_E - allowance)])
    sum_E = walk_E - np.minimum.accumulate(walk_E)
    over_E = np.flatnonzero(sum_E > decision)
    if not len(over_E):
        return None
    end = int(over_E[0])
    start = int(np.flatnonzero(sum_E[:end] == 0.0)[-1])
    shift = float(normal_E[start:end].mean())
    return Alarm(exam=baseline + end - 1, began=baseline + start, is_upward=is_upward, shift=shift if is_upward else -shift)
