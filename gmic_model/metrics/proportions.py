"""Intervals of proportions and means that hold with few patients, with patients as clusters. No resampling.

Shares of what is counted have Agresti and Coull's interval, cut where Clopper and Pearson's exact one is narrower; means of
values between 0 and 1 have Wilson's. A proportion of ``n`` breasts of which some share a patient counts as ``n / factor`` ones,
where the design effect ``factor`` is the clustered variance over that of independent breasts. Few patients estimate it badly,
so it is drawn towards what is expected beforehand. Areas under curves are in ``areas.py``. Axes: ``N`` breasts or images, ``G``
patients.

Sources: Agresti and Coull 1998; Clopper and Pearson 1934; Brown, Cai and DasGupta 2001 (which of them hold); Korn and Graubard
1998 (limits of an effective sample size); Wilson 1927; Newcombe 1998 (Statistics in Medicine 17, 857); Rao and Scott 1992
(design effects); Donner and Zou 2012 (ratios from the limits of their parts); Mercaldo, Lau and Zhou 2007 (predictive values);
Newcombe 1998 (Statistics in Medicine 17, 2635: paired differences, the profile likelihood among them); Tango 1998 (the
likeliest disagreement of a difference).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, ndtr, ndtri, stdtrit

from schemas.reports.report import Interval

MINIMUM_PATIENTS = 5
"""Of each class that a number is made of. Below, an interval says next to nothing and no method was found to hold."""
EXPECTED_LIKENESS = 0.5
"""How alike two breasts of a patient are taken to be before they are seen (an intraclass correlation)."""
_PRIOR_PATIENTS_UP, _PRIOR_PATIENTS_DOWN = 10.0, 30.0
"""How many patients the expectation weighs where the data say more than it, and less: an underestimate is the worse error."""
_COUNTED_PRIOR_PATIENTS_UP, _COUNTED_PRIOR_PATIENTS_DOWN = 12.0, 40.0
"""The same of shares that are counted, whose exact sums over all outcomes tell finer what suits than draws do."""
_EXPECTED_SPREAD = 0.5
"""Of values between 0 and 1 that are no decisions: their variance over that of decisions with the same mean."""
_SPREAD_PRIOR_PATIENTS = 5.0
"""What that expectation weighs: five patients with values near 1 show next to nothing of the low ones that others have."""
_ADDED_DISAGREEMENT = 0.25
"""Breasts added to either kind of disagreement of two decisions, so that no difference of few breasts is impossible: with
nothing added as little as 0.88 is held, with one half more than need be."""
_HALVINGS = 50
"""Of the way from a difference to 1: to the last bit."""
_LEAST_CHANCE = 1e-300
_DISAGREEMENT_LIKENESS = 0.1
"""How alike two breasts of a patient are expected to be in whether two decisions differ: less than in the decisions themselves,
as what both see of the patient cancels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A value between 0 and 1 with the ends of its interval."""

    value: float
    low: float
    high: float

    def interval(self) -> Interval:
        """As reports hold it."""
        return Interval(value=self.value, low=self.low, high=self.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A share of what is counted, as so many independent cases say it.

    Attributes:
        value: The share.
        count: Cases, whole or not: breasts over the design effect of their patients.
        quantile: Of the interval.
    """

    value: float
    count: float
    quantile: float

    @property
    def eased(self) -> float:
        """Agresti and Coull's middle: never 0 or 1, so what it implies is never nothing."""
        square = self.quantile * self.quantile
        return (self.value * self.count + square / 2.0) / (self.count + square)

    def part(self) -> Part:
        """With its interval."""
        return share_of(self.value, self.count, self.quantile)

    def varying(self, variance: float) -> Part:
        """With the interval that also counts an independent second source of so much variance: fewer cases say as much."""
        spread = self.eased * (1.0 - self.eased)
        return share_of(self.value, self.count / (1.0 + variance * self.count / spread), self.quantile)


def mean_interval(value_N: ArrayLike, patient_N: ArrayLike, *, confidence: float) -> Interval:
    """Mean of values between 0 and 1; of decisions it is a proportion. None without any, no ends below five patients."""
    values_N = np.asarray(value_N, dtype=np.float64)
    return ratio_interval(values_N, np.ones_like(values_N), patient_N, confidence=confidence)


def ratio_interval(part_N: ArrayLike, whole_N: ArrayLike, patient_N: ArrayLike, *, confidence: float) -> Interval:
    """Sum of the parts over sum of the wholes, such as lesions reached of all lesions; images of a patient stay together."""
    parts_N, wholes_N = np.asarray(part_N, dtype=np.float64), np.asarray(whole_N, dtype=np.float64)
    total = float(wholes_N.sum())
    if not total:
        return Interval(value=None, low=None, high=None)
    patients_N = np.asarray(patient_N)[wholes_N > 0]
    if len(np.unique(patients_N)) < MINIMUM_PATIENTS:
        return Interval(value=float(parts_N.sum() / total), low=None, high=None)
    return ratio(parts_N[wholes_N > 0], wholes_N[wholes_N > 0], patients_N, confidence=confidence).interval()


def proportion(is_hit_N: ArrayLike, patient_N: ArrayLike, *, confidence: float) -> Part:
    """Share of hits, with the design effect of patients."""
    return share(is_hit_N, patient_N, confidence=confidence).part()


def share(is_hit_N: ArrayLike, patient_N: ArrayLike, *, confidence: float) -> Share:
    """What ``proportion`` makes its interval of."""
    hits_N = np.asarray(is_hit_N, dtype=np.float64)
    return _counted_share(hits_N, np.ones_like(hits_N), np.asarray(patient_N), confidence)


def ratio(
    part_N: NDArray[np.float64], whole_N: NDArray[np.float64], patient_N: NDArray[np.generic], *, confidence: float
) -> Part:
    """A ratio of sums between 0 and 1, its variance from residuals by patient (Taylor series), drawn towards the expected one.

    What is counted (decisions, lesions) is expected to vary as decisions do; other values between 0 and 1 to vary less.
    """
    total = float(whole_N.sum())
    value = min(1.0, max(0.0, float(part_N.sum()) / total))
    binomial = value * (1.0 - value) / total
    if binomial <= 0.0 or bool((part_N == np.rint(part_N)).all() and (whole_N == np.rint(whole_N)).all()):
        return _counted_share(part_N, whole_N, patient_N, confidence).part()
    variance, patients = clustered_variance((part_N - value * whole_N) / total, patient_N)
    expected = design_effect(whole_N, patient_N)
    factor, quantile = drawn_factor(
        variance / binomial,
        _EXPECTED_SPREAD * expected,
        patients,
        confidence=confidence,
        prior_up=_SPREAD_PRIOR_PATIENTS,
        prior_down=_SPREAD_PRIOR_PATIENTS,
    )
    return wilson(value, total / factor, quantile)


def _counted_share(
    part_N: NDArray[np.float64], whole_N: NDArray[np.float64], patient_N: NDArray[np.generic], confidence: float
) -> Share:
    total = float(whole_N.sum())
    value = min(1.0, max(0.0, float(part_N.sum()) / total))
    variance, patients = clustered_variance((part_N - value * whole_N) / total, patient_N)
    expected, binomial = design_effect(whole_N, patient_N), value * (1.0 - value) / total
    factor, quantile = expected, float(ndtri((1.0 + confidence) / 2.0))
    if binomial > 0.0 and patients < total:
        factor, quantile = drawn_counted_factor(variance / binomial, expected, patients, confidence=confidence)
    return Share(value=value, count=total / factor, quantile=quantile)


def share_of(value: float, count: float, quantile: float) -> Part:
    """Of a share of ``count`` independent cases, whole or not; never of no width, never wider than Clopper and Pearson's.

    Agresti and Coull's middle is Wilson's, its reach that of the normal distribution there: it holds where Wilson's misses near
    0 and 1. With few cases and a share near 0 or 1 it goes beyond the exact limits, so these cut it.
    """
    hits, tail, square = value * count, float(ndtr(-quantile)), quantile * quantile
    middle = (hits + square / 2.0) / (count + square)
    reach = quantile * float(np.sqrt(middle * (1.0 - middle) / (count + square)))
    exact_low = 0.0 if hits <= 0.0 else float(betaincinv(hits, count - hits + 1.0, tail))
    exact_high = 1.0 if hits >= count else float(betaincinv(hits + 1.0, count - hits, 1.0 - tail))
    low, high = max(exact_low, middle - reach), min(exact_high, middle + reach)
    return Part(value=value, low=min(low, value), high=max(high, value))


def wilson(value: float, count: float, quantile: float) -> Part:
    """Wilson's score interval of a share of ``count`` independent cases; never of no width."""
    square = quantile * quantile
    middle = (value + square / (2.0 * count)) / (1.0 + square / count)
    reach = quantile / (1.0 + square / count) * np.sqrt(value * (1.0 - value) / count + square / (4.0 * count * count))
    low, high = max(0.0, float(middle - reach)), min(1.0, float(middle + reach))
    # The value itself lies inside but for the last bit.
    return Part(value=value, low=min(low, value) if value < 1.0 else low, high=max(high, value) if value > 0.0 else high)


def design_effect(whole_N: NDArray[np.float64], patient_N: NDArray[np.generic], likeness: float = EXPECTED_LIKENESS) -> float:
    """The design effect that is expected of these patients' numbers of breasts before anything is known of their likeness.

    Several of one image, such as its lesions, are as alike as those of several images of the patient.
    """
    size_G = np.bincount(np.unique(patient_N, return_inverse=True)[1], weights=whole_N)
    total = float(whole_N.sum())
    return 1.0 + likeness * (float((size_G**2).sum()) - total) / total


def clustered_variance(influence_N: NDArray[np.float64], patient_N: NDArray[np.generic]) -> tuple[float, int]:
    """Variance of a sum of influences whose mean is zero, by patient, and the number of patients."""
    patient_index_N = np.unique(patient_N, return_inverse=True)[1]
    total_G = np.bincount(patient_index_N, weights=influence_N)
    patients = len(total_G)
    return (patients / (patients - 1) * float(total_G @ total_G) if patients > 1 else 0.0), patients


def drawn_factor(
    observed: float,
    expected: float,
    patients: int,
    *,
    confidence: float,
    prior_up: float = _PRIOR_PATIENTS_UP,
    prior_down: float = _PRIOR_PATIENTS_DOWN,
) -> tuple[float, float]:
    """A variance factor drawn towards what is expected, and the quantile of Student's t with the degrees of both."""
    prior = prior_up if observed > expected else prior_down
    weight = (patients - 1) / (patients - 1 + prior)
    return weight * observed + (1.0 - weight) * expected, student_quantile(patients - 1 + prior, confidence)


def drawn_counted_factor(observed: float, expected: float, patients: int, *, confidence: float) -> tuple[float, float]:
    """The same of a share that is counted."""
    up, down = _COUNTED_PRIOR_PATIENTS_UP, _COUNTED_PRIOR_PATIENTS_DOWN
    return drawn_factor(observed, expected, patients, confidence=confidence, prior_up=up, prior_down=down)


def student_quantile(degrees: float, confidence: float) -> float:
    """Of the two-sided interval."""
    return float(stdtrit(degrees, (1.0 + confidence) / 2.0))


def complement(part: Part) -> Part:
    """One less the value: misses from sensitivity."""
    return Part(value=1.0 - part.value, low=1.0 - part.high, high=1.0 - part.low)


def weighted_sum(first: Part, second: Part, share: float) -> Part:
    """``share`` of the first and the rest of the second, independent: the recall rate from sensitivity and false alarms.

    Limits of a sum from those of its parts (Zou and Donner 2008).
    """
    value = share * first.value + (1.0 - share) * second.value
    below = np.hypot(share * (first.value - first.low), (1.0 - share) * (second.value - second.low))
    above = np.hypot(share * (first.high - first.value), (1.0 - share) * (second.high - second.value))
    return Part(value=value, low=max(0.0, value - float(below)), high=min(1.0, value + float(above)))


def predictive_value(right: Part, wrong: Part, share: float) -> Part | None:
    """``share * right / (share * right + (1 - share) * wrong)``: a predictive value at a given share of findings.

    The share is taken as known: the interval holds sensitivity and specificity only. Of the odds ``wrong / right`` the limits
    come from those of the parts (Donner and Zou 2012, equation 9). None where nothing is called.
    """
    a, b = (
        Part(value=scale * part.value, low=scale * part.low, high=scale * part.high)
        for scale, part in ((share, right), (1.0 - share, wrong))
    )
    if a.value + b.value <= 0.0:
        return None
    if a.value >= b.value:
        low_odds, high_odds = _ratio_limits(b, a)
        return Part(value=a.value / (a.value + b.value), low=1.0 / (1.0 + high_odds), high=1.0 / (1.0 + low_odds))
    low_odds, high_odds = _ratio_limits(a, b)
    return Part(value=a.value / (a.value + b.value), low=low_odds / (1.0 + low_odds), high=high_odds / (1.0 + high_odds))


def _ratio_limits(top: Part, bottom: Part) -> tuple[float, float]:
    """Limits of ``top / bottom`` of independent parts, the bottom's value and lower limit above 0."""
    product = top.value * bottom.value
    low_top, high_top = top.low * (2.0 * top.value - top.low), top.high * (2.0 * top.value - top.high)
    low_bottom = bottom.low * (2.0 * bottom.value - bottom.low)
    high_bottom = bottom.high * (2.0 * bottom.value - bottom.high)
    low = low_top / (product + np.sqrt(max(0.0, product**2 - low_top * high_bottom))) if low_top > 0.0 else 0.0
    high = (product + np.sqrt(max(0.0, product**2 - high_top * low_bottom))) / low_bottom
    return float(low), float(high)


def widened(part: Part, low: float, high: float) -> Part:
    """An interval that also counts an independent second source, which alone would move the value from ``low`` to ``high``."""
    below, above = np.hypot(part.value - part.low, part.value - low), np.hypot(part.high - part.value, high - part.value)
    return Part(value=part.value, low=max(0.0, part.value - float(below)), high=min(1.0, part.value + float(above)))


def paired_proportions(is_hit_a_N: ArrayLike, is_hit_b_N: ArrayLike, patient_N: ArrayLike, *, confidence: float) -> Interval:
    """Share of hits of A less that of B on the same breasts, such as two sensitivities.

    None without any, no ends below five patients. The interval of the likelihood, which needs no symmetry and cannot leave -1
    to 1, of as many breasts as the design effect of patients leaves. Something is added to either kind of disagreement, so
    equal decisions do not give an interval of no width.
    """
    a_N, b_N = np.asarray(is_hit_a_N, dtype=bool), np.asarray(is_hit_b_N, dtype=bool)
    patients_N = np.asarray(patient_N)
    if not len(a_N):
        return Interval(value=None, low=None, high=None)
    change_N = a_N.astype(np.float64) - b_N
    value = float(change_N.mean())
    if len(np.unique(patients_N)) < MINIMUM_PATIENTS:
        return Interval(value=value, low=None, high=None)
    variance, patients = clustered_variance((change_N - value) / len(a_N), patients_N)
    factor, quantile = 1.0, float(ndtri((1.0 + confidence) / 2.0))
    if patients < len(a_N):
        factor = design_effect(np.ones(len(a_N)), patients_N, _DISAGREEMENT_LIKENESS)
        if (single := float(change_N.var()) / len(a_N)) > 0.0:
            factor, quantile = drawn_factor(variance / single, factor, patients, confidence=confidence)
    only_a, only_b = (float(kind_N.sum()) / factor for kind_N in (a_N & ~b_N, ~a_N & b_N))
    return paired_difference(only_a, only_b, len(a_N) / factor, quantile).interval()


def paired_difference(only_a: float, only_b: float, count: float, quantile: float) -> Part:
    """Of ``count`` independent pairs, whole or not, of which some have A only and some B only: the share of A less that of B.

    The differences whose likelihood, with the disagreement that suits each of them best, is not too far below the greatest.
    """
    value = (only_a - only_b) / count
    a, b, none = only_a + _ADDED_DISAGREEMENT, only_b + _ADDED_DISAGREEMENT, max(0.0, count - only_a - only_b)
    likeliest = (a - b) / (a + b + none)
    reached = _paired_likelihood(likeliest, a, b, none) - quantile * quantile / 2.0

    def end(limit: float) -> float:
        near, far = likeliest, limit
        for _ in range(_HALVINGS):
            middle = (near + far) / 2.0
            near, far = (middle, far) if _paired_likelihood(middle, a, b, none) >= reached else (near, middle)
        return near

    return Part(value=value, low=min(value, end(-1.0)), high=max(value, end(1.0)))


def _paired_likelihood(difference: float, a: float, b: float, none: float) -> float:
    """Its logarithm at the likeliest disagreement of this difference (a root of a quadratic, as in Tango 1998)."""
    count = a + b + none
    linear = a + b - (2.0 * count - a + b) * difference
    root = math.sqrt(max(0.0, linear * linear + 8.0 * count * b * difference * (1.0 - difference)))
    share_b = min(max((root + linear) / (4.0 * count), 0.0, -difference), (1.0 - difference) / 2.0)
    parts = ((a, share_b + difference), (b, share_b), (none, 1.0 - difference - 2.0 * share_b))
    return sum(number * math.log(max(chance, _LEAST_CHANCE)) for number, chance in parts if number > 0.0)
