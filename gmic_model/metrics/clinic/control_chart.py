"""Has a device begun to give other values? Cumulative sums over exams, in the order in which they were scored.

Page's CUSUM (Biometrika 41, 1954) in the two-sided form of Montgomery (*Introduction to Statistical Quality Control*,
section 9.1) on normal scores: each value becomes the normal quantile of its rank among the first exams. So skew and scale of
the values do not matter, nor does the threshold in use, and no value weighs more than the largest of these.

What is yes or no, such as a recall, has no ranks. Its sum is of log likelihood ratios between the rate that was and one of
other odds (Steiner, Cook, Farewell and Treasure, Biostatistics 1, 2000, without their risks). Axis: ``E`` exams.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from schemas.config.evaluation import BASELINE_EXAMS

BASELINE: Final = BASELINE_EXAMS
"""Exams by which the later ones are judged; their rank is known to 1/1000, their mean to 0.03 standard deviations."""
ALLOWANCE: Final = 0.25
"""k: half the shift, in standard deviations, that is looked for; smaller ones are let pass."""
DECISION: Final = 26.0
"""h. Simulated: of 1,500 quiet streams of 5,000 exams 0.5 % raise an alarm; a shift of 0.5 is told within 200 exams in 97 %."""
ODDS_RATIO: Final = 3.0
"""Of a rate: the change of its odds that is looked for, in both directions."""
RATE_DECISION: Final = 12.0
"""h of rates. Simulated: of 1,500 quiet streams of 5,000 exams 0.4 % raise an alarm; where one in ten happened and its odds
triple, 82 % tell it within 200 exams; what is rarer is told later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Where the sum passed its limit.

    Attributes:
        exam: Index of the exam that raised it.
        began: Index of the first exam since which the sum was never 0: the estimate of where the change began.
        is_upward: Values became higher.
        shift: How large the change is: mean normal score since then, in standard deviations; of a rate, what it is since then
            less what it was.
    """

    exam: int
    began: int
    is_upward: bool
    shift: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ControlChart:
    """The sums of one stream of exams.

    Attributes:
        up_E, down_E: After each exam behind the baseline: the sum that grows with higher values, and with lower ones.
        limit: An alarm is where one of them passes it.
        alarm: The first; None = none.
    """

    up_E: NDArray[np.float64]
    down_E: NDArray[np.float64]
    limit: float
    alarm: Alarm | None


def value_chart(
    value_E: ArrayLike, *, baseline: int = BASELINE, allowance: float = ALLOWANCE, decision: float = DECISION
) -> ControlChart | None:
    """The chart of numbers; None = there are no more of them than a baseline."""
    values_E = np.asarray(value_E, dtype=np.float64)
    if len(values_E) <= baseline:
        return None
    normal_E = normal_scores(values_E[baseline:], values_E[:baseline])
    return _charted(normal_E - allowance, -normal_E - allowance, normal_E, baseline, decision)


def rate_chart(
    happened_E: ArrayLike, *, baseline: int = BASELINE, odds_ratio: float = ODDS_RATIO, decision: float = RATE_DECISION
) -> ControlChart | None:
    """The chart of what happened or did not; None = there are no more exams than a baseline.

    How often it happens is known from the baseline only so well: each sum looks from a standard error away.
    """
    values_E = np.asarray(happened_E, dtype=np.float64)
    if len(values_E) <= baseline:
        return None
    rate = (values_E[:baseline].sum() + 0.5) / (baseline + 1.0)
    error = float(np.sqrt(rate * (1.0 - rate) / baseline))
    later_E = values_E[baseline:]
    up_E = _log_ratios(later_E, rate + error, odds_ratio)
    down_E = _log_ratios(later_E, max(rate - error, rate / 2.0), 1.0 / odds_ratio)
    return _charted(up_E, down_E, later_E - rate, baseline, decision)


def first_alarm(
    value_E: ArrayLike, *, baseline: int = BASELINE, allowance: float = ALLOWANCE, decision: float = DECISION
) -> Alarm | None:
    """The first alarm after the baseline; None = none, or fewer exams than a baseline."""
    chart = value_chart(value_E, baseline=baseline, allowance=allowance, decision=decision)
    return None if chart is None else chart.alarm


def normal_scores(value_E: NDArray[np.float64], baseline_E: NDArray[np.float64]) -> NDArray[np.float64]:
    """The normal quantile of each value's rank among the baseline's; of equal values the middle rank."""
    ordered = np.sort(baseline_E)
    below_E, not_above_E = (np.searchsorted(ordered, value_E, side=side) for side in ("left", "right"))
    normal_E: NDArray[np.float64] = ndtri(((below_E + not_above_E) / 2.0 + 0.5) / (len(ordered) + 1.0))
    return normal_E


def _log_ratios(happened_E: NDArray[np.float64], rate: float, odds_ratio: float) -> NDArray[np.float64]:
    """Of each exam: log of its likelihood at the other odds over that at the rate."""
    other = odds_ratio * rate / (1.0 - rate + odds_ratio * rate)
    event, none = float(np.log(other / rate)), float(np.log((1.0 - other) / (1.0 - rate)))
    ratio_E: NDArray[np.float64] = np.where(happened_E > 0.0, event, none)
    return ratio_E


def _charted(
    up_step_E: NDArray[np.float64],
    down_step_E: NDArray[np.float64],
    change_E: NDArray[np.float64],
    baseline: int,
    decision: float,
) -> ControlChart:
    up_E, down_E = _sums(up_step_E), _sums(down_step_E)
    alarms = [
        alarm
        for sum_E, is_upward in ((up_E, True), (down_E, False))
        if (alarm := _passed(sum_E, change_E, baseline, is_upward, decision)) is not None
    ]
    return ControlChart(
        up_E=up_E[1:], down_E=down_E[1:], limit=decision, alarm=min(alarms, key=lambda alarm: alarm.exam, default=None)
    )


def _sums(step_E: NDArray[np.float64]) -> NDArray[np.float64]:
    """S_n = max(0, S_{n-1} + step): the walk's height above its lowest point so far. The first is S_0."""
    walk_E = np.concatenate([[0.0], np.cumsum(step_E)])
    return walk_E - np.minimum.accumulate(walk_E)


def _passed(
    sum_E: NDArray[np.float64], change_E: NDArray[np.float64], baseline: int, is_upward: bool, decision: float
) -> Alarm | None:
    over_E = np.flatnonzero(sum_E > decision)
    if not len(over_E):
        return None
    end = int(over_E[0])
    start = int(np.flatnonzero(sum_E[:end] == 0.0)[-1])
    return Alarm(exam=baseline + end - 1, began=baseline + start, is_upward=is_upward, shift=float(change_E[start:end].mean()))
