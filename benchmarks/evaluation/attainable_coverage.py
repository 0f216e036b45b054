"""Which coverage an interval of few breasts can have at all: outcomes added up, without draws.

    OMP_NUM_THREADS=1 python -m benchmarks.evaluation.attainable_coverage [--band 0.93 0.98]

A share of ten breasts has eleven values, so the chance that an interval holds the truth is a sum of some of eleven chances.
Where no such sum lies in the band, no interval can hold there, whoever made it; only one that throws dice could. Five bounds,
each for every interval whose ends do not fall when more is found:

* **range**: it holds the truth for a range of neighbouring counts. No range of them has a chance in the band.
* **nuisance**: what disturbs (how often two decisions differ, how alike two breasts of a patient are) is not known to any
  method. Whatever outcomes it leaves out to hold at most the band's upper end in this cell, it would hold less than the lower
  end in another cell with the same truth. The least that is left out there is a fractional knapsack, as in Neyman and
  Pearson's lemma.
* **joint**: the same for all other populations at once, of outcomes missed whole or not at all, by integer programming.
* **plan**: over all truths at once, by dynamic programming: at what share of the truths from 0.05 to 0.99 even the best
  family of ranges, whose ends rise with the truth, lies outside.

Beside them stands what the house's own interval holds, added up as well, and of paired differences what others hold. The
populations are those of ``bench_coverage.py``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array
from scipy.special import ndtr, ndtri, roots_legendre
from scipy.stats import beta, binom, multinomial, multivariate_normal

from benchmarks.evaluation.bench_coverage import AREAS, BAND, NEGATIVES_PER_POSITIVE, POSITIVES, ROC_PLACES, SPECIFICITY
from benchmarks.evaluation.other_intervals import PAIRED, PairedMethod
from gmic_model.metrics.proportions import complement, paired_difference, predictive_value, proportion, share_of
from schemas.reports.report import Interval

Floats = NDArray[np.float64]
Z = float(ndtri(0.975))
ALIKE_SCORES = 2.0 / 3.0
"""Correlation of the scores of two breasts of a patient."""
ALIKE_MODELS = {"one breast": 0.5, "two, one positive": 2.5 / 3.0}
"""Correlation of two models' scores of one breast."""
TRUTHS = np.linspace(0.05, 0.99, 189)
_MOST_DISAGREE = 0.5
"""Of the pairs, in the populations in which an interval of a difference shall not hold too little."""
_FAMILY_PAIRS = 20
"""More take minutes, and in all cells of them some interval can lie inside."""
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


def most_inside(
    count: int, cells: Sequence[tuple[float, float]], band: tuple[float, float] = BAND, most_disagree: float = _MOST_DISAGREE
) -> int:
    """In how many cells of a difference of ``count`` pairs one family of intervals can hold within the band (see above).

    Args:
        count: Pairs.
        cells: Each a difference, and the share of pairs that disagree.
        band: Least and most that it holds in those that count; the least it holds in all populations.
        most_disagree: Of the pairs, in those populations.
    """
    outcomes = [(a, b) for a in range(count + 1) for b in range(count + 1 - a)]
    truths = sorted({0.0} | {difference for difference, _ in cells})
    more = [(i, j) for i, (a, b) in enumerate(outcomes) for j, (c, d) in enumerate(outcomes)
            if (c, d) in {(a + 1, b), (a, b - 1), (a + 1, b - 1)}]  # fmt: skip
    size = len(outcomes)
    least, most = 1.0 - band[1], 1.0 - band[0]
    rows = list[tuple[dict[int, float], float, float]]()

    def lies(truth: int, side: int, outcome: int) -> int:
        """The variable that is 1 if the whole interval of this outcome lies above (0), or below (1), this truth."""
        return (truth * 2 + side) * size + outcome

    def missed(truth: int, disagree: float) -> dict[int, float]:
        difference = truths[truth]
        chance_XY = _three_way(count, (disagree + difference) / 2.0, (disagree - difference) / 2.0)
        return {lies(truth, side, i): float(chance_XY[outcome]) for side in (0, 1) for i, outcome in enumerate(outcomes)}

    upper = np.ones(2 * size * len(truths) + len(cells))
    for k, truth in enumerate(truths):
        rows += [(missed(k, disagree), 0.0, most) for disagree in np.linspace(truth, most_disagree, 30)[1:]]
        rows += [({lies(k, 0, i): 1.0, lies(k, 0, j): -1.0}, -1.0, 0.0) for i, j in more]
        rows += [({lies(k, 1, j): 1.0, lies(k, 1, i): -1.0}, -1.0, 0.0) for i, j in more]
        for i, (a, b) in enumerate(outcomes):
            upper[lies(k, 0, i)] = float((a - b) / count > truth)
            upper[lies(k, 1, i)] = float((a - b) / count < truth)
            if truth == 0.0:
                rows.append(({lies(k, 0, i): 1.0, lies(k, 1, outcomes.index((b, a))): -1.0}, 0.0, 0.0))
            if k + 1 < len(truths):
                rows.append(({lies(k + 1, 0, i): 1.0, lies(k, 0, i): -1.0}, -1.0, 0.0))
                rows.append(({lies(k, 1, i): 1.0, lies(k + 1, 1, i): -1.0}, -1.0, 0.0))
    is_inside = len(upper) - len(cells)
    for cell, (difference, disagree) in enumerate(cells):
        here = missed(truths.index(difference), disagree)
        rows += [(here, 0.0, most), (here | {is_inside + cell: -least}, 0.0, 1.0)]
    places = [(row, column) for row, (terms, _, _) in enumerate(rows) for column in terms]
    factors = [factor for terms, _, _ in rows for factor in terms.values()]
    matrix = csr_array((factors, tuple(zip(*places, strict=True))), shape=(len(rows), len(upper)))
    best = milp(
        np.where(np.arange(len(upper)) < is_inside, 0.0, -1.0),
        constraints=LinearConstraint(matrix, [low for _, low, _ in rows], [high for _, _, high in rows]),
        integrality=np.ones(len(upper)),
        bounds=Bounds(0.0, upper),
    )
    return 0 if best.x is None else round(-best.fun)


def can_hold(
    here_N: Floats,
    elsewhere_PN: Floats,
    more: Sequence[tuple[int, int]],
    value_N: Floats,
    truth: float,
    band: tuple[float, float],
) -> bool:
    """Whether some interval holds within the band here and no less than its lower end in any other population of this truth.

    ``more`` are pairs of outcomes of which the second says more of the same, ``value_N`` is what each outcome shows and its
    interval holds. Outcomes that are not given are taken as never missed.
    """
    size, least, most = len(here_N), 1.0 - band[1], 1.0 - band[0]
    # Whose interval lies above the truth stays above if more is found, whose lies below stays below if less is.
    order = np.zeros((2 * len(more), 2 * size))
    for row, (less, greater) in enumerate(more):
        order[2 * row, [less, greater]] = 1.0, -1.0
        order[2 * row + 1, [size + greater, size + less]] = 1.0, -1.0
    missed, lowest = np.tile(np.vstack([here_N, elsewhere_PN]), 2), np.concatenate([[least], np.zeros(len(elsewhere_PN))])
    best = milp(
        np.zeros(2 * size),
        constraints=[LinearConstraint(order, -1.0, 0.0), LinearConstraint(missed, lowest, most)],
        integrality=np.ones(2 * size),
        bounds=Bounds(0.0, np.concatenate([value_N > truth, value_N < truth]).astype(float)),
    )
    return best.x is not None


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
    for layout in ALIKE_MODELS:
        difference, disagree = disagreement(area, layout)
        chance_XY = _three_way(count, (disagree + difference) / 2.0, (disagree - difference) / 2.0)
        held = _held(chance_XY, lambda a, b: paired_difference(a, b, float(count), Z).interval(), difference)
        why = "family" if count <= _FAMILY_PAIRS and not most_inside(count, [(difference, disagree)], band) else ""
        yield Found(kind="difference of sensitivity", cell=_cell(area, count, layout), held=held, why_none=why)
        place_N = np.arange(count)
        for title, method in PAIRED.items():

            def theirs(a: int, b: int, place_N: NDArray[np.int64] = place_N, method: PairedMethod = method) -> Interval:
                low, high = method(place_N < a, (place_N >= a) & (place_N < a + b))
                return Interval(value=(a - b) / len(place_N), low=low, high=high)

            held = _held(chance_XY, theirs, difference)
            yield Found(kind=f"  by {title}", cell=_cell(area, count, layout), held=held, why_none="")


def disagreement(area: float, layout: str) -> tuple[float, float]:
    """By how much the sensitivities of a cell differ, and the share of pairs that disagree."""
    own, other = _sensitivity(area), float(ndtr(0.8 * np.sqrt(2.0) * ndtri(area) - ndtri(SPECIFICITY)))
    both = _both(ndtri(own), ndtri(other), ALIKE_MODELS[layout])
    return own - other, own + other - 2.0 * both


def differences_elsewhere(band: tuple[float, float], populations: int = 600) -> Iterator[Found]:
    """Of 5 to 50 pairs of which 3 to 70 % disagree, for the one or the other model: drawn, not of the study."""
    rng = np.random.default_rng(11)
    for _ in range(populations):
        count, disagree, share = int(rng.choice([5, 10, 20, 50])), rng.uniform(0.03, 0.7), rng.uniform(0.5, 1.0)
        chance_XY, difference = _three_way(count, disagree * share, disagree * (1.0 - share)), disagree * (2.0 * share - 1.0)
        held = _held(chance_XY, lambda a, b: paired_difference(a, b, float(count), Z).interval(), difference)  # noqa: B023
        yield Found(kind=f"difference of {count} pairs elsewhere", cell="", held=held, why_none="")


def predictive_values(area: float, count: int, band: tuple[float, float]) -> Iterator[Found]:
    """At a fixed threshold, of single breasts: both counts added up; the healthy ones' count is the finer one."""
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
        none = kind == "NPV" and held > band[1] and not _some_npv_can(chance_XY, (1.0 - truth) / SPECIFICITY, band)
        yield Found(kind=kind, cell=_cell(area, count, "one breast"), held=held, why_none="joint" if none else "")


def _some_npv_can(here_XY: Floats, odds: float, band: tuple[float, float]) -> bool:
    """Beside specificities from 0.5 to 0.99 with the same share of misses to spared, which is what an NPV is made of."""
    outcomes = [(int(x), int(y)) for x, y in np.argwhere(here_XY > 1e-6)]
    place = {outcome: index for index, outcome in enumerate(outcomes)}
    (hits_N, kept_N), (found, kept) = np.array(outcomes).T, np.array(here_XY.shape) - 1
    there = [binom.pmf(hits_N, found, 1.0 - odds * one) * binom.pmf(kept_N, kept, one) for one in np.linspace(0.5, 0.99, 99)]
    more = [(place[x, y], place[best]) for x, y in outcomes for best in ((x + 1, y), (x, y + 1)) if best in place]
    value_N = -(1.0 - hits_N / found) / (kept_N / kept)
    return can_hold(here_XY[hits_N, kept_N], np.array(there), more, value_N, -odds, band)


def chosen_sensitivities(area: float, count: int, band: tuple[float, float]) -> Iterator[Found]:
    """At the threshold that keeps a specificity of these breasts, and at places of the ROC: ranges of how many are found.

    The share of healthy breasts above the threshold that was chosen has a beta distribution whatever the scores are. What the
    house holds is drawn (``bench_coverage.py``), as it depends on more than the count.
    """
    negatives = NEGATIVES_PER_POSITIVE * count
    node_Q, weight_Q = roots_legendre(400)
    alarm_Q = (node_Q + 1.0) / 2.0
    found_Q = ndtr(np.sqrt(2.0) * ndtri(area) + ndtri(alarm_Q))
    places = {f"ROC at {at} %": at / 100.0 for at in ROC_PLACES}
    for kind, alarms in ({"sensitivity at specificity": 1.0 - SPECIFICITY} | places).items():
        allowed = int(alarms * negatives + 1e-9)
        chance_Q = weight_Q / 2.0 * beta.pdf(alarm_Q, allowed + 1, negatives - allowed)
        chance_X = (chance_Q[:, None] * binom.pmf(np.arange(count + 1)[None, :], count, found_Q[:, None])).sum(axis=0)
        why = "" if has_range(chance_X, band) else "range of the count"
        yield Found(kind=kind, cell=_cell(area, count, "one breast"), held=float("nan"), why_none=why)


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
    for one in differences_elsewhere((low, high)):
        found.setdefault(one.kind, []).append(one)
    for name, cells in found.items():
        below, above = (
            sum(test for test in tests) for tests in zip(*((c.held < low, c.held > high) for c in cells), strict=True)
        )
        none = [one for one in cells if one.why_none]
        outside = sum(one.held < low or one.held > high for one in none)
        least = min((one.held for one in cells if not np.isnan(one.held)), default=float("nan"))
        print(
            f"{name}: {len(cells)} cells, {below} below, {above} above, least {least:.3f};"
            f" in {len(none)} none can, {outside} of those outside"
        )
    for count in (one for one in POSITIVES if one <= _FAMILY_PAIRS):
        cells_of = [disagreement(area, layout) for area, layout in product(AREAS, ALIKE_MODELS)]
        inside = most_inside(count, cells_of, (low, high))
        print(f"a difference of {count} pairs: in {inside} of {len(cells_of)} cells one family of intervals can lie inside")
    for count in POSITIVES:
        print(f"a share of {count}: at {least_outside(count, band=(low, high)):.3f} of truths no interval of any plan can")


if __name__ == "__main__":
    main()
