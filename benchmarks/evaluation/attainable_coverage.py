"""Which coverage an interval of few breasts can have at all: outcomes added up, without draws.

    OMP_NUM_THREADS=1 python -m benchmarks.evaluation.attainable_coverage [--band 0.93 0.98]

A share of ten breasts has eleven values, so the chance that an interval holds the truth is a sum of some of eleven chances.
Where no such sum lies in the band, no interval can hold there, whoever made it; only one that throws dice could. Three bounds,
each for every interval whose ends do not fall when more is found:

* **range**: it holds the truth for a range of neighbouring counts. No range of them has a chance in the band.
* **nuisance**: what disturbs (how often two decisions differ, how alike two breasts of a patient are) is not known to any
  method. Whatever outcomes it leaves out to hold at most the band's upper end in this cell, it would hold less than the lower
  end in another cell with the same truth. The least that is left out there is a fractional knapsack, as in Neyman and
  Pearson's lemma.
* **plan**: over all truths at once, by dynamic programming: at what share of the truths from 0.05 to 0.99 even the best
  family of ranges, whose ends rise with the truth, lies outside.

Beside them stands what the house's own interval holds, added up as well, and of paired differences what others hold. The
populations are those of ``bench_coverage.py``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, roots_legendre
from scipy.stats import beta, binom, multinomial, multivariate_normal

from benchmarks.evaluation.bench_coverage import AREAS, BAND, NEGATIVES_PER_POSITIVE, POSITIVES, SPECIFICITY
from benchmarks.evaluation.other_intervals import PAIRED, PairedMethod
from gmic_model.metrics.proportions import complement, paired_proportions, predictive_value, proportion, share_of
from schemas.reports.report import Interval

Floats = NDArray[np.float64]
Z = float(ndtri(0.975))
ALIKE_SCORES = 2.0 / 3.0
"""Correlation of the scores of two breasts of a patient."""
ALIKE_MODELS = {"one breast": 0.5, "two, one positive": 2.5 / 3.0}
"""Correlation of two models' scores of one breast."""
TRUTHS = np.linspace(0.05, 0.99, 189)
_FEWEST = 1e-9
"""Outcomes that are less likely than this are left out of a sum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One cell: what the house's interval holds, and why no other could hold within the band; empty = one could."""

    kind: str
    cell: str
    held: float
    why_none: str


def has_range(chance_X: Floats, band: tuple[float, float] = BAND) -> bool:
    """Whether some range of neighbouring counts has a chance within the band."""
    below = np.concatenate([[0.0], np.cumsum(chance_X)])
    sums = below[None, :] - below[:, None]
    return bool(((sums >= band[0]) & (sums <= band[1])).any())


def least_outside(count: int, truths: Floats = TRUTHS, band: tuple[float, float] = BAND) -> float:
    """At what share of the truths the best plan of ranges, whose ends do not fall as the truth rises, lies outside the band."""
    least_HL = np.zeros((count + 1, count + 1))
    for truth in truths:
        below = np.concatenate([[0.0], np.cumsum(binom.pmf(np.arange(count + 1), count, truth))])
        held_LH = below[None, 1:] - below[:-1, None]
        least_HL = np.minimum.accumulate(np.minimum.accumulate(least_HL, axis=0), axis=1)
        least_HL = least_HL + ~((held_LH >= band[0]) & (held_LH <= band[1]))
    return float(least_HL.min() / len(truths))


def least_missed_elsewhere(
    here_XY: Floats, there_XY: Floats, above_XY: NDArray[np.bool_], band: tuple[float, float] = BAND
) -> float:
    """How much an interval misses there at least, if it holds here within the band; infinity if it cannot even hold here.

    Args:
        here_XY: Chances of the outcomes in this cell.
        there_XY: In the other.
        above_XY: For each pair of outcomes whether the second says at least as much as the first: (outcomes, outcomes).
        band: Least and most that it holds.
    """
    least, most = 1.0 - band[1], 1.0 - band[0]
    here, there = here_XY.ravel(), there_XY.ravel()
    # Who misses the truth for an outcome misses it for all that say more of the same, on one of both sides.
    may_miss = (np.minimum(above_XY @ here, above_XY.T @ here) <= most) & (here > 0.0)
    here, there = here[may_miss], there[may_miss]
    order = np.argsort(there / here)
    filled = np.cumsum(here[order])
    if not len(filled) or filled[-1] < least:
        return float("inf")
    last = int(np.searchsorted(filled, least))
    before = filled[last - 1] if last else 0.0
    return float(there[order][:last].sum() + there[order][last] * (least - before) / here[order][last])


# --------------------------------------------------------------------------------------------------------------- kinds


def sensitivities(area: float, count: int, band: tuple[float, float]) -> Iterator[Found]:
    """At a fixed threshold: of single positive breasts (two layouts alike), and of two that are alike."""
    truth = _sensitivity(area)
    chance_X = binom.pmf(np.arange(count + 1), count, truth)
    parts = [share_of(hits / count, float(count), Z) for hits in range(count + 1)]
    held = sum(chance for chance, part in zip(chance_X, parts, strict=True) if part.low <= truth <= part.high)
    why = "" if has_range(chance_X, band) else "range"
    for layout in ALIKE_MODELS:
        yield Found(kind="sensitivity", cell=_cell(area, count, layout), held=float(held), why_none=why)
    both = _both(ndtri(truth), ndtri(truth), ALIKE_SCORES)
    chance_XY = _three_way(count, 2.0 * (truth - both), both)
    patient_N = np.repeat(np.arange(count), 2)

    def interval(one: int, two: int) -> Interval:
        hits_N = np.zeros(2 * count, dtype=bool)
        hits_N[: 2 * two] = True
        hits_N[2 * two : 2 * (two + one) : 2] = True
        return proportion(hits_N, patient_N, confidence=0.95).interval()

    held = _held(chance_XY, interval, truth)
    others = (_three_way(count, 2.0 * (truth - again), again) for again in np.linspace(truth**2, truth, 9))
    why = _nuisance(chance_XY, others, _says_more(count, lambda one, two: (one + two, two)), band) if count <= 20 else ""
    yield Found(kind="sensitivity", cell=_cell(area, count, "two alike"), held=held, why_none=why)


def differences(area: float, count: int, band: tuple[float, float]) -> Iterator[Found]:
    """Of two sensitivities of the same single positive breasts."""
    own, other = _sensitivity(area), float(ndtr(0.8 * np.sqrt(2.0) * ndtri(area) - ndtri(SPECIFICITY)))
    for layout, alike in ALIKE_MODELS.items():
        both = _both(ndtri(own), ndtri(other), alike)
        chance_XY, difference = _three_way(count, own - both, other - both), own - other
        place_N = np.arange(count)

        def interval(a: int, b: int, place_N: NDArray[np.int64] = place_N) -> Interval:
            return paired_proportions(place_N < a, (place_N >= a) & (place_N < a + b), place_N, confidence=0.95)

        held = _held(chance_XY, interval, difference)
        others = (
            _three_way(count, (differ + difference) / 2.0, (differ - difference) / 2.0)
            for differ in np.linspace(difference, 1.0, 25)[1:-1]
        )
        why = _nuisance(chance_XY, others, _says_more(count, lambda a, b: (a, -b)), band) if count <= 20 else ""
        yield Found(kind="difference of sensitivity", cell=_cell(area, count, layout), held=held, why_none=why)
        for title, method in PAIRED.items():

            def theirs(a: int, b: int, place_N: NDArray[np.int64] = place_N, method: PairedMethod = method) -> Interval:
                low, high = method(place_N < a, (place_N >= a) & (place_N < a + b))
                return Interval(value=(a - b) / len(place_N), low=low, high=high)

            held = _held(chance_XY, theirs, difference)
            yield Found(kind=f"  by {title}", cell=_cell(area, count, layout), held=held, why_none="")


def predictive_values(area: float, count: int, band: tuple[float, float]) -> Iterator[Found]:
    """At a fixed threshold, of single breasts: both counts added up. No bound: the healthy ones' count is a finer one."""
    truth, negatives = _sensitivity(area), NEGATIVES_PER_POSITIVE * count
    share = count / (count + negatives)
    right = [share_of(hits / count, float(count), Z) for hits in range(count + 1)]
    spared = [share_of(hits / negatives, float(negatives), Z) for hits in range(negatives + 1)]
    chance_XY = np.outer(
        binom.pmf(np.arange(count + 1), count, truth), binom.pmf(np.arange(negatives + 1), negatives, SPECIFICITY)
    )
    called = share * truth + (1.0 - share) * (1.0 - SPECIFICITY)
    values = {"PPV": share * truth / called, "NPV": (1.0 - share) * SPECIFICITY / (1.0 - called)}
    for kind, value in values.items():

        def interval(hits: int, kept: int, kind: str = kind) -> Interval:
            sensitivity, specificity = right[hits], spared[kept]
            if kind == "PPV":
                part = predictive_value(sensitivity, complement(specificity), share)
            else:
                part = predictive_value(specificity, complement(sensitivity), 1.0 - share)
            return Interval(value=None, low=None, high=None) if part is None else part.interval()

        held = _held(chance_XY, interval, value)
        yield Found(kind=kind, cell=_cell(area, count, "one breast"), held=held, why_none="")


def chosen_sensitivities(area: float, count: int, band: tuple[float, float]) -> Iterator[Found]:
    """At the threshold that keeps a specificity of these breasts: ranges of how many positives are found.

    The share of healthy breasts above the threshold that was chosen has a beta distribution whatever the scores are. What the
    house holds is drawn (``bench_coverage.py``), as it depends on more than the count.
    """
    negatives = NEGATIVES_PER_POSITIVE * count
    allowed = int((1.0 - SPECIFICITY) * negatives + 1e-9)
    node_Q, weight_Q = roots_legendre(400)
    alarm_Q = (node_Q + 1.0) / 2.0
    weight_Q = weight_Q / 2.0 * beta.pdf(alarm_Q, allowed + 1, negatives - allowed)
    found_Q = ndtr(np.sqrt(2.0) * ndtri(area) + ndtri(alarm_Q))
    chance_X = (weight_Q[:, None] * binom.pmf(np.arange(count + 1)[None, :], count, found_Q[:, None])).sum(axis=0)
    why = "" if has_range(chance_X, band) else "range of the count"
    yield Found(kind="sensitivity at specificity", cell=_cell(area, count, "one breast"), held=float("nan"), why_none=why)


# ---------------------------------------------------------------------------------------------------------------------


def _sensitivity(area: float) -> float:
    return float(ndtr(np.sqrt(2.0) * ndtri(area) - ndtri(SPECIFICITY)))


def _both(first: float, second: float, correlation: float) -> float:
    """Chance that two normal scores both lie below these."""
    return float(multivariate_normal.cdf([first, second], cov=[[1.0, correlation], [correlation, 1.0]]))


def _cell(area: float, count: int, layout: str) -> str:
    return f"area {area:.2f}, {count} positive patients, {layout}"


def _three_way(count: int, first: float, second: float) -> Floats:
    """Chances of every pair of counts of two kinds out of three; 0 where they are more than there are."""
    x_X = np.arange(count + 1)
    x_XY, y_XY = np.meshgrid(x_X, x_X, indexing="ij")
    rest_XY = np.maximum(0, count - x_XY - y_XY)
    shares = np.clip([first, second, 1.0 - first - second], 0.0, 1.0)
    chance_XY = multinomial.pmf(np.stack([x_XY, y_XY, rest_XY], axis=-1), count, shares)
    return np.where(x_XY + y_XY <= count, chance_XY, 0.0)


def _says_more(count: int, ranks: Callable[[int, int], tuple[int, int]]) -> NDArray[np.bool_]:
    """For each pair of outcomes whether the second is at least the first in both ranks."""
    rank_NR = np.array([ranks(x, y) for x, y in product(range(count + 1), repeat=2)])
    return np.asarray((rank_NR[None, :, :] >= rank_NR[:, None, :]).all(axis=2))


def _held(chance_XY: Floats, interval: Callable[[int, int], Interval], truth: float) -> float:
    """Among the outcomes for which there is an interval."""
    held = counted = 0.0
    for x, y in np.argwhere(chance_XY > _FEWEST):
        found = interval(int(x), int(y))
        if found.low is not None and found.high is not None:
            counted += chance_XY[x, y]
            held += chance_XY[x, y] if found.low - 1e-12 <= truth <= found.high + 1e-12 else 0.0
    return float(held / counted)


def _nuisance(here_XY: Floats, others: Iterator[Floats], above_XY: NDArray[np.bool_], band: tuple[float, float]) -> str:
    missed = max(least_missed_elsewhere(here_XY, there_XY, above_XY, band) for there_XY in others)
    return "range" if np.isinf(missed) else "nuisance" if missed > 1.0 - band[0] else ""


def main() -> None:
    """Adds up and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--band", type=float, nargs=2, default=BAND)
    low, high = parser.parse_args().band
    found: dict[str, list[Found]] = {}
    for kind in (sensitivities, differences, predictive_values, chosen_sensitivities):
        for area, count in product(AREAS, POSITIVES):
            for one in kind(area, count, (low, high)):
                found.setdefault(one.kind, []).append(one)
                if one.kind.startswith(" "):
                    continue
                if one.why_none or not (low <= one.held <= high or np.isnan(one.held)):
                    print(f"{one.kind}, {one.cell}: {one.held:.3f} {'none can: ' + one.why_none if one.why_none else ''}")
    for name, cells in found.items():
        below, above = (
            sum(test for test in tests) for tests in zip(*((c.held < low, c.held > high) for c in cells), strict=True)
        )
        none = [one for one in cells if one.why_none]
        outside = sum(one.held < low or one.held > high for one in none)
        print(f"{name}: {len(cells)} cells, {below} below, {above} above; in {len(none)} none can, {outside} of those outside")
    for count in POSITIVES:
        print(f"a share of {count}: at {least_outside(count, band=(low, high)):.3f} of truths no interval of any plan can")


if __name__ == "__main__":
    main()
