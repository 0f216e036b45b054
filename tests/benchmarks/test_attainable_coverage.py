"""What no interval of few breasts can hold: the bounds, beside every set of outcomes tried."""

from __future__ import annotations

import importlib
from itertools import pairwise, product
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, multinomial

ROOT = Path(__file__).parents[2]
BAND = (0.93, 0.98)


@pytest.fixture
def bounds(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The study's module: benchmarks are no part of what is installed."""
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.evaluation.attainable_coverage")


def _chances(count: int, share: float) -> NDArray[np.float64]:
    return np.asarray(binom.pmf(np.arange(count + 1), count, share))


def test_a_range_of_counts_is_found_if_there_is_one(bounds: ModuleType) -> None:
    """Ten breasts of 0.948: nine or ten of ten, and eight to ten, hold 0.908 and 0.987; of 0.852 seven to ten hold 0.95."""
    assert not bounds.has_range(_chances(10, 0.948)) and bounds.has_range(_chances(10, 0.852))


def test_the_best_plan_is_that_of_all_plans_tried(bounds: ModuleType) -> None:
    """Two breasts, four truths, every choice of a range at each: the fewest truths outside of those whose ends do not fall."""
    truths = np.array([0.1, 0.3, 0.5, 0.9])
    ranges = [(low, high) for low in range(3) for high in range(low, 3)]
    outside = {
        (truth, one): not 0.7 <= _chances(2, truth)[one[0] : one[1] + 1].sum() <= 0.95 for truth in truths for one in ranges
    }
    plans = (
        plan
        for plan in product(ranges, repeat=4)
        if all(now[0] <= then[0] and now[1] <= then[1] for now, then in pairwise(plan))
    )
    fewest = min(sum(outside[pair] for pair in zip(truths, plan, strict=True)) for plan in plans)
    assert bounds.least_outside(2, truths, (0.7, 0.95)) == fewest / 4


def test_what_is_missed_elsewhere_is_no_less_than_the_bound(bounds: ModuleType) -> None:
    """Three pairs: of all sets of outcomes that an interval could miss here, none misses less in the other population."""
    outcomes = [(a, b) for a in range(4) for b in range(4) if a + b <= 3]
    here, there = (_pairs(outcomes, *shares) for shares in ((0.1, 0.06), (0.4, 0.36)))
    above = np.array([[two[0] >= one[0] and two[1] <= one[1] for two in outcomes] for one in outcomes])
    bound, tried = bounds.least_missed_elsewhere(here, there, above, BAND), []
    for bits in range(1, 2 ** len(outcomes)):
        missed = np.array([bool(bits >> place & 1) for place in range(len(outcomes))])
        up, down = ~(above & ~missed[None, :]).any(axis=1), ~(above.T & ~missed[None, :]).any(axis=1)
        if (missed == (missed & (up | down))).all() and 0.02 <= here[missed].sum() <= 0.07:
            tried.append(there[missed].sum())
    assert tried and min(tried) >= bound > 0.0


def test_the_cells_of_the_best_family_of_intervals_are_those_of_all_families_tried(bounds: ModuleType) -> None:
    """Two pairs, three cells: every set of outcomes whose interval lies above 0 and above the difference, and below."""
    outcomes = [(a, b) for a in range(3) for b in range(3) if a + b <= 2]
    mirror = [outcomes.index((b, a)) for a, b in outcomes]
    sets = [np.array([bool(bits >> place & 1) for place in range(6)]) for bits in range(64)]
    value = np.array([(a - b) / 2 for a, b in outcomes])
    above = np.array([[two != one and two[0] >= one[0] and two[1] <= one[1] for two in outcomes] for one in outcomes])
    rising = [one for one in sets if not (above[one] & ~one).any()]
    falling = [one for one in sets if not (above.T[one] & ~one).any()]
    for difference, cells in ((0.1, (0.15, 0.3, 0.6)), (0.3, (0.35, 0.5, 0.9)), (0.05, (0.1, 0.2))):
        here = [_pairs(outcomes, (q + difference) / 2, (q - difference) / 2, 2) for q in cells]
        least = [
            [_pairs(outcomes, (q + truth) / 2, (q - truth) / 2, 2) for q in np.linspace(truth, 0.7, 30)[1:]]
            for truth in (0.0, difference)
        ]
        tried = [0]
        for over, over_0, under in product(rising, rising, falling):
            missed_0, missed = over_0 | over_0[mirror], over | under
            fits = (over <= over_0).all() and (over_0[mirror] <= under).all() and not (over_0 & over_0[mirror]).any()
            if (
                fits
                and not (over & (value <= difference)).any()
                and not (under & (value >= difference)).any()
                and not (over_0 & (value <= 0)).any()
                and all(
                    1 - one[sets_].sum() >= 0.7 for ones, sets_ in zip(least, (missed_0, missed), strict=True) for one in ones
                )
                and all(1 - one[missed].sum() >= 0.7 for one in here)
            ):
                tried.append(sum(1 - one[missed].sum() <= 0.95 for one in here))
        assert bounds.most_inside(2, [(difference, q) for q in cells], (0.7, 0.95), 0.7) == max(tried)


def test_an_interval_is_found_if_one_of_all_tried_can_hold(bounds: ModuleType) -> None:
    """Three breasts, four truths, three least: every two sets of counts that are missed, beside the integer program."""
    counts, more, answers = np.arange(4), [(0, 1), (1, 2), (2, 3)], set()
    populations = ((0.3, (0.25, 0.4)), (0.5, (0.45, 0.7)), (0.8, (0.6, 0.9)), (0.45, (0.1, 0.45)))
    for least, (truth, others) in product((0.6, 0.8, 0.9), populations):
        here, elsewhere = _chances(3, truth), np.array([_chances(3, other) for other in others])
        can = False
        for below, above in product(range(5), repeat=2):  # missed are all counts from the one on, and all up to the other
            missed = (counts >= above) | (counts < below)
            sides = bool((counts[above:] / 3.0 > truth).all() and (counts[:below] / 3.0 < truth).all())
            can |= (
                sides and least <= 1.0 - here[missed].sum() <= 0.95 and bool((1.0 - elsewhere[:, missed].sum(1) >= least).all())
            )
        assert bounds.can_hold(here, elsewhere, more, counts / 3.0, truth, (least, 0.95)) == can
        answers.add(can)
    assert answers == {False, True}


def _pairs(outcomes: list[tuple[int, int]], first: float, second: float, count: int = 3) -> NDArray[np.float64]:
    return np.array([multinomial.pmf((a, b, count - a - b), count, (first, second, 1.0 - first - second)) for a, b in outcomes])
