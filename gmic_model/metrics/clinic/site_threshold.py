"""Does a threshold recall what it should at a site, how many exams would show it, and which threshold would? Axis: ``E`` exams.

A rate is as wanted if its whole interval lies between two limits, and is not if all of it lies outside; anything else is not
decided. A threshold that is chosen as the k-th highest of ``n`` scores recalls of all later exams a share that follows
Beta(k, n - k + 1), whatever the scores' distribution is (Wilks 1942, Annals of Mathematical Statistics 13, 400). Exams of one
patient are alike, so ``n`` is the number of patients: exact where each has one exam, wider than needed where some have more.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv

from schemas.reports.report import Interval

_MOST_PATIENTS = 10_000_000


def is_within(rate: Interval, low: float, high: float) -> bool | None:
    """True if the interval lies between the limits, False if all of it lies outside; None = neither, or there is none."""
    if rate.low is None or rate.high is None:
        return None
    if low <= rate.low and rate.high <= high:
        return True
    return False if rate.high < low or rate.low > high else None


def needed_exams(exams: int, rate: Interval, low: float, high: float) -> int | None:
    """About how many exams would decide ``is_within``, if the rate stays what it is; None = nobody can say.

    Half the width of an interval falls with the root of the number of exams; it must fit between the rate and a limit.
    """
    if rate.value is None or rate.low is None or rate.high is None:
        return None
    room = min(abs(rate.value - low), abs(rate.value - high))
    reach = (rate.high - rate.low) / 2.0
    return max(exams + 1, ceil(exams * (reach / room) ** 2)) if room > 0.0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteThreshold:
    """A threshold chosen on some exams.

    Attributes:
        threshold: An exam is recalled at or above it.
        expected: Share of later exams that it recalls.
    """

    threshold: float
    expected: Interval


def threshold_for(score_E: ArrayLike, patient_E: ArrayLike, rate: float, *, confidence: float) -> SiteThreshold | None:
    """The score at or above which about this share of exams lies; of equal scores all are recalled. None without exams."""
    scores_E = np.sort(np.asarray(score_E, dtype=np.float64))[::-1]
    exams = len(scores_E)
    if not exams:
        return None
    last_T = np.concatenate([np.flatnonzero(np.diff(scores_E)), [exams - 1]])
    index = int(np.argmin(np.abs(last_T + 1 - rate * (exams + 1))))
    patients = len(np.unique(np.asarray(patient_E)))
    recalled = (int(last_T[index]) + 1) * patients / exams
    return SiteThreshold(threshold=float(scores_E[last_T[index]]), expected=_expected(recalled, patients, confidence))


def needed_patients(rate: float, margin: float, *, confidence: float) -> int:
    """The fewest patients whose exams give a threshold that recalls the rate of later ones to within the margin."""
    few, many = 1, 2
    while not _is_enough(many, rate, margin, confidence) and many < _MOST_PATIENTS:
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if _is_enough(middle, rate, margin, confidence) else (middle, many)
    return many


# ---------------------------------------------------------------------------------------------------------------------


def _is_enough(patients: int, rate: float, margin: float, confidence: float) -> bool:
    recalled = min(float(patients), max(1.0, rate * (patients + 1)))
    return is_within(_expected(recalled, patients, confidence), rate - margin, rate + margin) is True


def _expected(recalled: float, patients: int, confidence: float) -> Interval:
    tail, others = (1.0 - confidence) / 2.0, patients - recalled + 1.0
    low, high = (float(betaincinv(recalled, others, end)) for end in (tail, 1.0 - tail))
    return Interval(value=recalled / (patients + 1.0), low=low, high=high)
