"""Thresholds of a site: what a choice on few exams recalls later, and how many exams decide."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, norm

from gmic_model.metrics.clinic.site_threshold import is_within, needed_exams, needed_patients, threshold_for
from gmic_model.metrics.proportions import mean_interval
from schemas.reports.report import Interval


def rate(value: float | None, low: float | None = None, high: float | None = None) -> Interval:
    """An estimate with its interval."""
    return Interval(value=value, low=low, high=high)


def test_what_a_threshold_recalls_later_is_in_its_interval_as_often_as_it_says() -> None:
    """Of 2,000 thresholds chosen on 300 exams each, 95 % recall a share of all later exams that lies in their interval.

    Uniform scores: a threshold t recalls 1 - t of all later ones. The ends are scipy's quantiles of the beta distribution.
    """
    rng = np.random.default_rng(0)
    patients, hits = np.arange(300), 0
    for _ in range(2000):
        found = threshold_for(rng.random(300), patients, 0.1, confidence=0.95)
        assert found is not None and found.expected.low is not None and found.expected.high is not None
        hits += found.expected.low <= 1.0 - found.threshold <= found.expected.high
    assert 0.935 <= hits / 2000 <= 0.965
    assert (found.expected.low, found.expected.high) == pytest.approx(beta.ppf([0.025, 0.975], 30, 271), abs=1e-9)


def test_a_threshold_of_its_own_brings_recall_back_where_new_software_tripled_it() -> None:
    """Recall goes from 10 to 30 %; of 500 thresholds chosen on as many exams as are asked for, 95 % recall 10 % within a point.

    What a threshold recalls of all later exams is known: the scores' logits are normal.
    """
    rng, share = np.random.default_rng(1), norm(0.6, 1.3)
    assert norm.sf(norm.isf(0.1)) == pytest.approx(0.1) and share.sf(norm.isf(0.1)) == pytest.approx(0.3, abs=0.005)
    exams = needed_patients(0.1, 0.01, confidence=0.95)
    chosen = [threshold_for(rng.normal(0.6, 1.3, exams), np.arange(exams), 0.1, confidence=0.95) for _ in range(500)]
    back = [abs(share.sf(found.threshold) - 0.1) <= 0.01 for found in chosen if found is not None]
    assert len(back) == 500 and np.mean(back) >= 0.94


def test_exams_of_one_patient_count_as_one() -> None:
    """The same scores from half as many patients: the same threshold, a wider interval."""
    score_E = np.linspace(0, 1, 400)
    alone, shared = (threshold_for(score_E, np.arange(400) // size, 0.1, confidence=0.95) for size in (1, 2))
    assert alone is not None and shared is not None and alone.threshold == shared.threshold
    assert (shared.expected.high or 0) - (shared.expected.low or 0) > 1.3 * (
        (alone.expected.high or 0) - (alone.expected.low or 0)
    )


def test_equal_scores_are_recalled_together() -> None:
    """Half the exams score alike: the threshold recalls as near to the share as can be, and its interval is of what it does."""
    score_E = np.array([0.5] * 50 + [0.1] * 50)
    found = threshold_for(score_E, np.arange(100), 0.3, confidence=0.95)
    assert found is not None and found.threshold == 0.5 and found.expected.value == pytest.approx(50 / 101)
    assert threshold_for([], [], 0.3, confidence=0.95) is None


@pytest.mark.parametrize(("wanted", "margin"), [(0.1, 0.03), (0.05, 0.02), (0.02, 0.03)])
def test_so_many_patients_are_enough_and_one_fewer_is_not(wanted: float, margin: float) -> None:
    """The interval of the very share lies within the margin with that number of patients, and beyond it with one fewer."""
    enough = needed_patients(wanted, margin, confidence=0.95)
    for patients, is_enough in ((enough, True), (enough - 1, False)):
        recalled = max(1.0, wanted * (patients + 1))
        low, high = beta.ppf([0.025, 0.975], recalled, patients - recalled + 1)
        assert bool(wanted - margin <= low and high <= wanted + margin) is is_enough


def test_a_rate_is_as_wanted_or_not_or_not_decided() -> None:
    """Its whole interval within the limits, all of it outside, or neither; without an interval nothing is decided."""
    assert is_within(rate(0.1, 0.08, 0.12), 0.07, 0.13) is True
    assert is_within(rate(0.2, 0.15, 0.25), 0.07, 0.13) is False and is_within(rate(0.01, 0.0, 0.03), 0.07, 0.13) is False
    assert is_within(rate(0.1, 0.05, 0.16), 0.07, 0.13) is None and is_within(rate(0.1), 0.07, 0.13) is None


@pytest.mark.parametrize(("share", "answer"), [(0.1, True), (0.2, False)])
def test_about_so_many_exams_decide(share: float, answer: bool) -> None:
    """Sixty exams do not decide whether a rate is 7 to 13 %; a third more than the number that is named do, half do not."""

    def found(exams: int) -> Interval:
        return mean_interval(np.arange(exams) < share * exams, np.arange(exams), confidence=0.95)

    assert is_within(found(60), 0.07, 0.13) is None
    needed = needed_exams(60, found(60), 0.07, 0.13)
    assert needed is not None and is_within(found(4 * needed // 3), 0.07, 0.13) is answer
    assert is_within(found(needed // 2), 0.07, 0.13) is None
    assert needed_exams(9, rate(0.07, 0.01, 0.2), 0.07, 0.13) is None and needed_exams(9, rate(None), 0.07, 0.13) is None
