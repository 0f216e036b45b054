"""Proportions and means with patients as clusters: the formulas' own numbers, and ends that never meet."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import ndtr, ndtri
from scipy.stats import binom, binomtest, chi2, multinomial, multivariate_normal, norm

from gmic_model.metrics.proportions import (
    Part,
    mean_interval,
    paired_proportions,
    predictive_value,
    proportion,
    ratio_interval,
    share_of,
    weighted_sum,
)


def test_single_breasts_have_agresti_and_coulls_interval_where_no_exact_one_is_narrower() -> None:
    """Beside scipy: the middle of its Wilson interval, and the reach of the normal distribution there; or its exact ends."""
    for hits, count in ((81, 263), (15, 148), (0, 20), (1, 29), (9, 10), (10, 10), (43, 60)):
        found = proportion(np.arange(count) < hits, np.arange(count), confidence=0.95)
        test, square = binomtest(hits, count), float(ndtri(0.975) ** 2)
        exact, wilson = (test.proportion_ci(0.95, method=method) for method in ("exact", "wilson"))
        middle = (wilson.low + wilson.high) / 2.0
        reach = np.sqrt(square * middle * (1.0 - middle) / (count + square))
        ends = max(exact.low, middle - reach), min(exact.high, middle + reach)
        assert (found.low, found.high) == pytest.approx(ends, abs=1e-9)


@pytest.mark.parametrize(("count", "least", "most_above"), [(5, 0.89, 0.4), (10, 0.92, 0.2), (20, 0.92, 0.1), (50, 0.93, 0.1)])
def test_a_share_of_few_breasts_is_held(count: int, least: float, most_above: float) -> None:
    """Added up under every share from 0.05 to 0.99: with ten, mid-P, printed before, held more than 0.98 of a third of them."""
    hits = np.arange(count + 1)
    ends = np.array([(part.low, part.high) for part in (share_of(hit / count, float(count), 1.959963985) for hit in hits)])
    shares = np.linspace(0.05, 0.99, 189)
    held = [binom.pmf(hits, count, share)[(ends[:, 0] <= share) & (share <= ends[:, 1])].sum() for share in shares]
    assert min(held) > least and 0.95 < np.mean(held) < 0.97
    assert np.mean(np.array(held) > 0.98) < most_above


@pytest.mark.parametrize(("patients", "truth"), [(5, 0.7022), (10, 0.9477)])
def test_a_share_of_breasts_that_are_alike_is_held(patients: int, truth: float) -> None:
    """Scores of a patient's two breasts correlate by two thirds. Added up over all outcomes: 0.93 to 0.98, formerly 0.988."""
    both = float(multivariate_normal.cdf([ndtri(truth), ndtri(truth)], cov=[[1.0, 2.0 / 3.0], [2.0 / 3.0, 1.0]]))
    patient_N, held = np.repeat(np.arange(patients), 2), 0.0
    for one in range(patients + 1):
        for two in range(patients + 1 - one):
            chances = (2.0 * (truth - both), both, 1.0 - 2.0 * truth + both)
            hits_N = np.concatenate([np.ones(2 * two), np.tile([1.0, 0.0], one), np.zeros(2 * (patients - one - two))])
            found = proportion(hits_N, patient_N, confidence=0.95)
            chance = multinomial.pmf((one, two, patients - one - two), patients, chances)
            held += chance if found.low <= truth <= found.high else 0.0
    assert 0.93 < held < 0.98


@pytest.mark.parametrize(("count", "most"), [(5, 1.0), (10, 0.98), (20, 0.98)])
def test_a_paired_difference_of_few_breasts_is_held(count: int, most: float) -> None:
    """Added up over all three kinds of breasts, where a quarter to two thirds disagree: 0.93 and more, 0.83 formerly."""
    outcomes = [(a, b) for a in range(count + 1) for b in range(count + 1 - a)]
    place_N = np.arange(count)
    found = [paired_proportions(place_N < a, (place_N >= a) & (place_N < a + b), place_N, confidence=0.95) for a, b in outcomes]
    for only_a, only_b in ((0.20, 0.07), (0.25, 0.08), (0.16, 0.11), (0.30, 0.25), (0.42, 0.15), (0.34, 0.31)):
        chances = multinomial.pmf([(a, b, count - a - b) for a, b in outcomes], count, (only_a, only_b, 1.0 - only_a - only_b))
        truth = only_a - only_b
        held = sum(
            chance
            for chance, one in zip(chances, found, strict=True)
            if one.low is not None and one.high is not None and one.low <= truth <= one.high
        )
        assert 0.93 < held < most, (only_a, only_b)


def test_no_interval_is_of_no_width() -> None:
    """Whatever few patients show, all or none, equal or not, one breast or several, decisions or values between 0 and 1."""
    rng = np.random.default_rng(4)
    for _ in range(300):
        patients = int(rng.integers(5, 12))
        patient_N = np.repeat(np.arange(patients), rng.integers(1, 4, size=patients))
        level = rng.choice([0.0, 0.02, 0.5, 0.98, 1.0])
        hits_N = rng.random(len(patient_N)) < level
        values_N = rng.choice([hits_N.astype(float), np.full(len(patient_N), level), rng.random(len(patient_N)) * level])
        other_N = hits_N if rng.random() < 0.5 else rng.random(len(patient_N)) < level
        for found in (
            mean_interval(values_N, patient_N, confidence=0.95),
            ratio_interval(hits_N * 2, np.full(len(hits_N), 2), patient_N, confidence=0.95),
            paired_proportions(hits_N, other_N, patient_N, confidence=0.95),
        ):
            assert found.value is not None and found.low is not None and found.high is not None
            assert found.low <= found.value <= found.high and found.high - found.low > 0.005


def test_a_mean_of_few_patients_with_values_near_1_is_held() -> None:
    """Five and ten patients whose values have a mean of 0.85: held in 0.93 or more; Student's t held 0.80 to 0.88."""
    rng, shift = np.random.default_rng(2), np.sqrt(2.0) * ndtri(0.98)
    z = np.linspace(-8.0, 8.0, 4001)
    truth = np.trapezoid(ndtr(z + shift - 1.0) ** 2 * norm.pdf(z), z)
    for patients in (5, 10):
        held = []
        for _ in range(300):
            values_N = ndtr(rng.normal(size=patients) + shift - 1.0) ** 2
            found = mean_interval(values_N, np.arange(patients), confidence=0.95)
            assert found.low is not None and found.high is not None
            held.append(found.low <= truth <= found.high)
        assert np.mean(held) >= 0.93


def test_breasts_that_say_the_same_are_no_more_than_their_patients() -> None:
    """Many patients of two equal breasts: as wide as one breast each; of independent ones: as all breasts."""
    rng = np.random.default_rng(0)
    single_P, patients_N = rng.random(2000) < 0.3, np.repeat(np.arange(2000), 2)
    twice, once = (
        proportion(hits_N, patient_N, confidence=0.95)
        for hits_N, patient_N in ((np.repeat(single_P, 2), patients_N), (single_P, np.arange(2000)))
    )
    assert (twice.high - twice.low) / (once.high - once.low) == pytest.approx(1.0, abs=0.02)
    apart = proportion(rng.random(4000) < 0.3, patients_N, confidence=0.95)
    assert (apart.high - apart.low) / (once.high - once.low) == pytest.approx(0.5**0.5, abs=0.03)


def test_ratio_and_mean_are_of_sums() -> None:
    """Lesions reached of lesions, each patient's images together; below five patients no ends, without lesions no value."""
    reached_N, total_N, patient_N = np.array([1, 0, 2, 1, 1, 3]), np.array([2, 0, 2, 3, 1, 3]), np.arange(6)
    found = ratio_interval(reached_N, total_N, patient_N, confidence=0.95)
    assert found.value == pytest.approx(8 / 11) and found.low is not None and found.high is not None
    assert 0.0 < found.low < 8 / 11 < found.high < 1.0
    few = mean_interval([0.2, 0.4, 0.9, 0.1, 0.2], ["P", "P", "Q", "R", "S"], confidence=0.95)
    assert (few.value, few.low, few.high) == (pytest.approx(0.36), None, None)
    assert mean_interval([], [], confidence=0.95).value is None
    assert ratio_interval([0, 0], [0, 0], ["P", "Q"], confidence=0.95).value is None
    equal = mean_interval([0.25] * 6, patient_N, confidence=0.95)
    assert equal.low is not None and equal.high is not None and equal.low < 0.25 < equal.high


def test_lesions_of_one_image_are_alike_as_those_of_a_patients_images() -> None:
    """The same lesions, told image by image or one by one, have one interval; all of 60 in 20 patients are not 60 witnesses."""
    rng = np.random.default_rng(5)
    for total_N in (np.full(20, 3), rng.integers(1, 5, size=20)):
        for reached_N in (total_N, rng.binomial(total_N, 0.7)):
            by_image = ratio_interval(reached_N, total_N, np.arange(20), confidence=0.95)
            hits_L = np.concatenate([np.arange(total) < reached for total, reached in zip(total_N, reached_N, strict=True)])
            by_lesion = mean_interval(hits_L, np.repeat(np.arange(20), total_N), confidence=0.95)
            assert (by_image.value, by_image.low) == (pytest.approx(by_lesion.value), pytest.approx(by_lesion.low))
            assert by_image.high == pytest.approx(by_lesion.high)


def test_the_share_of_lesions_reached_is_held_where_an_image_has_several() -> None:
    """20 images of two to four lesions, half alike: 0.9 is held in 0.93 of cohorts or more; as if apart, in 0.90."""
    rng, held = np.random.default_rng(1), []
    for _ in range(400):
        total_N = rng.integers(2, 5, size=20)
        reached_N = rng.binomial(total_N, rng.beta(0.9, 0.1, size=20))
        found = ratio_interval(reached_N, total_N, np.arange(20), confidence=0.95)
        assert found.low is not None and found.high is not None
        held.append(found.low <= 0.9 <= found.high)
    assert np.mean(held) >= 0.93


def test_a_predictive_value_is_that_of_its_share() -> None:
    """Sensitivity 0.9, specificity 0.8: at one in ten 0.09 of 0.27 recalled; nothing recalled has none."""
    right, wrong = Part(value=0.9, low=0.8, high=0.95), Part(value=0.2, low=0.15, high=0.27)
    found = predictive_value(right, wrong, 0.1)
    assert found is not None and found.value == pytest.approx(1 / 3) and found.low < 1 / 3 < found.high
    sure = predictive_value(right, Part(value=0.2, low=0.2, high=0.2), 0.1)
    assert sure is not None and found.low < sure.low < 1 / 3 < sure.high < found.high
    # With false alarms known, the ends are those of the sensitivity's.
    assert (sure.low, sure.high) == pytest.approx((0.08 / 0.26, 0.095 / 0.275))
    nothing = Part(value=0.0, low=0.0, high=0.1)
    assert predictive_value(nothing, nothing, 0.1) is None
    mirrored = predictive_value(wrong, right, 0.9)
    assert mirrored is not None and (mirrored.low, mirrored.high) == pytest.approx((1.0 - found.high, 1.0 - found.low))


def test_a_weighted_sum_adds_independent_reaches() -> None:
    """3 and 4 make 5: a tenth of 0.3 and nine tenths of 0.4 / 9."""
    found = weighted_sum(Part(value=0.5, low=0.2, high=0.8), Part(value=0.5, low=0.5 - 0.4 / 9, high=0.5 + 0.4 / 9), 0.1)
    assert (found.low, found.high) == pytest.approx((0.45, 0.55))


def test_two_decisions_differ_by_their_disagreements() -> None:
    """8 of 40 only by A, 2 only by B: 0.15; at its ends the best likelihood lies by what a chi-squared value allows below."""
    a_N, b_N = np.repeat([1, 0, 1, 0], [8, 2, 20, 10]), np.repeat([0, 1, 1, 0], [8, 2, 20, 10])
    found = paired_proportions(a_N, b_N, np.arange(40), confidence=0.95)

    def best(difference: float) -> float:
        def unlikeliness(only_b: float) -> float:
            shares = np.array([only_b + difference, only_b, 1.0 - difference - 2.0 * only_b])
            return -float(np.array([8.25, 2.25, 30.0]) @ np.log(shares))

        bounds = (max(0.0, -difference) + 1e-9, (1.0 - difference) / 2.0 - 1e-9)
        return -float(minimize_scalar(unlikeliness, bounds=bounds, method="bounded", options={"xatol": 1e-10}).fun)

    assert found.value == pytest.approx(0.15) and found.low is not None and found.high is not None
    for end in (found.low, found.high):
        assert 2.0 * (best(6.0 / 40.5) - best(end)) == pytest.approx(chi2.ppf(0.95, 1), abs=1e-6)
    same = paired_proportions(a_N, a_N, np.arange(40) // 2, confidence=0.95)
    assert same.low is not None and same.high is not None and same.low < 0.0 < same.high
    few = paired_proportions(a_N[:4], b_N[:4], np.arange(4), confidence=0.95)
    assert few.value == 1.0 and few.low is None and paired_proportions([], [], [], confidence=0.95).value is None
