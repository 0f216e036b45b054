"""Intervals that others print, beside which ``bench_coverage.py`` holds the house's: from the literature, written plainly.

A method stands beside a cohort only where it is one for such a cohort: those of independent breasts say nothing where two of a
patient are counted. An interval of no width is none, though it counts as one that misses.

The bootstrap of Zhou and Qin's is added up: which of the healthy breasts sets the threshold of a resample has a known chance,
and how many of the positives lie above it a binomial one.

Sources: DeLong 1988, Obuchowski 1997 (clusters) on the logit scale; Clopper and Pearson 1934; Korn and Graubard 1998 (exact
limits of an effective sample size, for clusters); Mercaldo, Lau and Zhou 2007 (predictive values); Zhou and Qin 2005
(sensitivity at a specificity, BTII); Tango 1998, Newcombe 1998 (method 10) and Bonett and Price 2012 (paired differences).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import beta, binom

from gmic_model.metrics.areas import precision_influence
from gmic_model.metrics.bootstrap import patient_weights
from gmic_model.metrics.delong import delong_covariance
from gmic_model.metrics.proportions import clustered_variance, student_quantile, wilson

Floats = NDArray[np.float64]
Ends = tuple[float, float]
Z = 1.959963984540054


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cohort:
    """One draw: two models' scores of the same breasts."""

    score_B: Floats
    other_B: Floats
    label_B: NDArray[np.int64]
    patient_B: NDArray[np.int64]
    threshold: float


Other = Callable[[Cohort], Ends | None]
PairedMethod = Callable[[NDArray[np.bool_], NDArray[np.bool_]], Ends]


def logit_delong(cohort: Cohort) -> Ends | None:
    """Logit, clustered DeLong, Student's t."""
    found = delong_covariance(cohort.score_B, cohort.label_B, patient_B=cohort.patient_B)
    assert found is not None
    return _logit(float(found.auroc_M[0]), float(found.covariance_MM[0, 0]), _quantile(cohort))


def delong_difference(cohort: Cohort) -> Ends | None:
    """Clustered DeLong, Student's t."""
    scores = np.stack([cohort.score_B, cohort.other_B])
    found = delong_covariance(scores, cohort.label_B, patient_B=cohort.patient_B)
    assert found is not None
    contrast = np.array([1.0, -1.0])
    reach = _quantile(cohort) * np.sqrt(max(0.0, contrast @ found.covariance_MM @ contrast))
    difference = float(contrast @ found.auroc_M)
    return difference - reach, difference + reach


def logit_precision(cohort: Cohort) -> Ends | None:
    """Logit, influences by patient, Student's t."""
    influence_B = precision_influence(cohort.score_B, cohort.label_B == 1)
    variance, _ = clustered_variance(influence_B, cohort.patient_B)
    order_B = np.argsort(-cohort.score_B)
    truth_B = cohort.label_B[order_B]
    value = float((np.cumsum(truth_B) / np.arange(1, len(truth_B) + 1) * truth_B).sum() / truth_B.sum())
    return _logit(value, variance, _quantile(cohort))


def exact_sensitivity(cohort: Cohort) -> Ends | None:
    """Of the positives: Clopper and Pearson, with clusters Korn and Graubard."""
    return _exact(cohort, cohort.label_B == 1)


def exact_specificity(cohort: Cohort) -> Ends | None:
    """Of the negatives, the same."""
    low, high = _exact(cohort, cohort.label_B == 0)
    return 1.0 - high, 1.0 - low


def logit_ppv(cohort: Cohort) -> Ends | None:
    """Logit of the predictive value at a known share, residuals by patient, Student's t where there are clusters."""
    is_recalled_B, is_positive_B = cohort.score_B >= cohort.threshold, cohort.label_B == 1
    right, wrong = int((is_recalled_B & is_positive_B).sum()), int((is_recalled_B & ~is_positive_B).sum())
    if not right or not wrong:
        return None
    value = right / (right + wrong)
    influence_B = np.zeros(len(is_positive_B))
    for of_B, count, sign in ((is_positive_B, right, 1.0), (~is_positive_B, wrong, -1.0)):
        influence_B[of_B] = sign * (is_recalled_B[of_B] - is_recalled_B[of_B].mean()) / count
    is_single = not _is_clustered(cohort, is_positive_B) and not _is_clustered(cohort, ~is_positive_B)
    variance = float(influence_B @ influence_B) if is_single else clustered_variance(influence_B, cohort.patient_B)[0]
    return _logit(value, (value * (1.0 - value)) ** 2 * variance, Z if is_single else _quantile(cohort))


def student_mean(cohort: Cohort) -> Ends | None:
    """Mean and Student's t over patients."""
    is_positive_B = cohort.label_B == 1
    value_B = ndtr(cohort.score_B[is_positive_B] - 1.0) ** 2
    variance, patients = clustered_variance((value_B - value_B.mean()) / len(value_B), cohort.patient_B[is_positive_B])
    reach = student_quantile(patients - 1, 0.95) * np.sqrt(variance)
    return float(value_B.mean() - reach), float(value_B.mean() + reach)


def zhou_qin(cohort: Cohort) -> Ends | None:
    """Agresti and Coull's middle with the bootstrap's variance (BTII); of independent positives alone."""
    is_positive_B = cohort.label_B == 1
    if _is_clustered(cohort, is_positive_B):
        return None
    positive_P, healthy_N = np.sort(cohort.score_B[is_positive_B]), -np.sort(-cohort.score_B[~is_positive_B])
    positives, healthy = len(positive_P), len(healthy_N)
    allowed = int(0.1 * healthy + 1e-9)
    found_N = (positives - np.searchsorted(positive_P, healthy_N, side="right")) / positives
    reached_N = binom.sf(allowed, healthy, np.arange(1, healthy + 1) / healthy)
    chance_N = np.diff(np.concatenate([[0.0], reached_N]))
    mean = float(chance_N @ found_N)
    spread = float(chance_N @ (found_N * (1.0 - found_N) / positives + (found_N - mean) ** 2))
    reach = Z * np.sqrt(spread) * positives / (positives + Z**2)
    middle = (found_N[allowed] * positives + Z**2 / 2.0) / (positives + Z**2)
    return max(0.0, float(middle - reach)), min(1.0, float(middle + reach))


def percentile_sensitivity(cohort: Cohort) -> Ends | None:
    """What was printed before: percentiles of resampled patients."""
    is_positive_B = cohort.label_B == 1
    hits_N = (cohort.score_B >= cohort.threshold)[is_positive_B].astype(np.float64)
    (weight_RN,) = patient_weights(cohort.patient_B[is_positive_B], resamples=400, seed=0)
    low, high = np.quantile(weight_RN @ hits_N / weight_RN.sum(axis=1), [0.025, 0.975])
    return float(low), float(high)


def tango(is_hit_a_N: NDArray[np.bool_], is_hit_b_N: NDArray[np.bool_]) -> Ends:
    """The differences that a score test of the pairs does not reject."""
    count, a, b = len(is_hit_a_N), int((is_hit_a_N & ~is_hit_b_N).sum()), int((~is_hit_a_N & is_hit_b_N).sum())
    value = (a - b) / count

    def score(difference: float) -> float:
        linear = -a - b + (2 * count - a + b) * difference
        free = -b * difference * (1.0 - difference)
        only_b = (np.sqrt(max(0.0, linear**2 - 8.0 * count * free)) - linear) / (4.0 * count)
        variance = count * (2.0 * only_b + difference * (1.0 - difference))
        return float((a - b - count * difference) / np.sqrt(max(variance, 1e-300)))

    low = -1.0 if value <= -1.0 else float(brentq(lambda one: score(one) - Z, -1.0, value - 1e-12))
    high = 1.0 if value >= 1.0 else float(brentq(lambda one: score(one) + Z, value + 1e-12, 1.0))
    return low, high


def newcombe(is_hit_a_N: NDArray[np.bool_], is_hit_b_N: NDArray[np.bool_]) -> Ends:
    """From Wilson's limits of both and their correlation, corrected for continuity."""
    both, only_a, only_b, none = (
        float((first & second).sum())
        for first, second in (
            (is_hit_a_N, is_hit_b_N), (is_hit_a_N, ~is_hit_b_N), (~is_hit_a_N, is_hit_b_N), (~is_hit_a_N, ~is_hit_b_N)
        )
    )  # fmt: skip
    count = float(len(is_hit_a_N))
    a, b = wilson((both + only_a) / count, count, Z), wilson((both + only_b) / count, count, Z)
    margins, excess = (both + only_a) * (only_b + none) * (both + only_b) * (only_a + none), both * none - only_a * only_b
    excess = max(excess - count / 2.0, 0.0) if excess > 0.0 else excess
    phi = excess / np.sqrt(margins) if margins > 0.0 else 0.0
    below, above = (a.value - a.low, b.high - b.value), (a.high - a.value, b.value - b.low)
    reach = [float(np.sqrt(x * x - 2.0 * phi * x * y + y * y)) for x, y in (below, above)]
    return a.value - b.value - reach[0], a.value - b.value + reach[1]


def bonett_price(is_hit_a_N: NDArray[np.bool_], is_hit_b_N: NDArray[np.bool_]) -> Ends:
    """The adjusted interval: one breast more of either kind of disagreement."""
    count = len(is_hit_a_N)
    a, b = ((float(one.sum()) + 1.0) / (count + 2.0) for one in (is_hit_a_N & ~is_hit_b_N, ~is_hit_a_N & is_hit_b_N))
    reach = Z * float(np.sqrt((a + b - (a - b) ** 2) / (count + 2.0)))
    return max(-1.0, a - b - reach), min(1.0, a - b + reach)


# ---------------------------------------------------------------------------------------------------------------------


def _quantile(cohort: Cohort) -> float:
    return student_quantile(len(np.unique(cohort.patient_B[cohort.label_B == 1])) - 1, 0.95)


def _is_clustered(cohort: Cohort, is_counted_B: NDArray[np.bool_]) -> bool:
    return len(np.unique(cohort.patient_B[is_counted_B])) < int(is_counted_B.sum())


def _logit(value: float, variance: float, quantile: float) -> Ends | None:
    if not 0.0 < value < 1.0:
        return None if value <= 0.0 else (1.0, 1.0)
    reach = quantile * np.sqrt(max(0.0, variance)) / (value * (1.0 - value))
    middle = np.log(value / (1.0 - value))
    return float(1.0 / (1.0 + np.exp(reach - middle))), float(1.0 / (1.0 + np.exp(-reach - middle)))


def _exact(cohort: Cohort, is_counted_B: NDArray[np.bool_]) -> Ends:
    hits_N = (cohort.score_B >= cohort.threshold)[is_counted_B].astype(np.float64)
    value, count = float(hits_N.mean()), float(len(hits_N))
    if _is_clustered(cohort, is_counted_B) and 0.0 < value < 1.0:
        variance, patients = clustered_variance((hits_N - value) / count, cohort.patient_B[is_counted_B])
        adjusted = value * (1.0 - value) / max(variance, 1e-12) * (Z / student_quantile(patients - 1, 0.95)) ** 2
        count = min(count, adjusted)
    hit = value * count
    low = float(beta.ppf(0.025, hit, count - hit + 1.0)) if hit > 0.0 else 0.0
    return low, float(beta.ppf(0.975, hit + 1.0, count - hit)) if hit < count else 1.0


def _paired(method: PairedMethod, *, is_of_positives: bool) -> Other:
    def ends(cohort: Cohort) -> Ends | None:
        of_B = (cohort.label_B == 1) == is_of_positives
        if _is_clustered(cohort, of_B):
            return None
        first, second = ((one >= cohort.threshold)[of_B] == is_of_positives for one in (cohort.score_B, cohort.other_B))
        return method(first, second)

    return ends


PAIRED: dict[str, PairedMethod] = {"Tango": tango, "Newcombe 10": newcombe, "Bonett-Price": bonett_price}

OTHERS: dict[str, dict[str, Other]] = {
    "AUROC": {"logit DeLong, t": logit_delong},
    "AUPRC": {"logit, influences, t": logit_precision},
    "difference of AUROC": {"DeLong, t": delong_difference},
    "sensitivity": {"exact": exact_sensitivity, "percentile bootstrap": percentile_sensitivity},
    "specificity": {"exact": exact_specificity},
    "PPV": {"logit at a known share": logit_ppv},
    "sensitivity at specificity": {"Zhou-Qin BTII": zhou_qin},
    "mean of shares": {"t over patients": student_mean},
    "difference of sensitivity": {name: _paired(method, is_of_positives=True) for name, method in PAIRED.items()},
    "difference of specificity": {name: _paired(method, is_of_positives=False) for name, method in PAIRED.items()},
}
"""By kind of number: what others print, and how."""
