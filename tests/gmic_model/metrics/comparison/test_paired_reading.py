"""The original read beside the model: hand-computed rates, the margin's decision, and a choice of threshold that is counted."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from gmic_model.metrics.comparison.paired_reading import AT_SENSITIVITY, AT_SPECIFICITY, ON_TUNING, beside_read, decision
from gmic_model.metrics.proportions import paired_proportions
from schemas.reports.report import Interval

POSITIVE, NEGATIVE = np.linspace(0.95, 0.50, 10), np.linspace(0.80, 0.05, 20)
SCORE = np.concatenate([POSITIVE, NEGATIVE])
LABEL = np.repeat([1, 0], [10, 20])
READ = np.concatenate([np.arange(10) < 7, np.arange(20) % 5 == 0])
"""Of 10 with the finding 7 are recalled, of 20 without it 4: sensitivity 0.7, specificity 0.8."""


def test_the_model_stands_where_the_read_does() -> None:
    """With 4 of 20 negatives (0.80 to 0.68) 0.65 upwards finds 7 of 10; 7 of 10 are found from 0.65, with these 4."""
    level = beside_read(SCORE, READ, LABEL, np.arange(30), name="breast", margin=0.05, confidence=0.95, tuned_threshold=0.6)
    assert (level.units, level.positive_units, level.recalled_units, level.patients) == (30, 10, 11, 30)
    assert (level.read_sensitivity.value, level.read_specificity.value) == (0.7, 0.8)
    at_specificity, at_sensitivity, tuned = level.points
    assert [point.name for point in level.points] == [AT_SPECIFICITY, AT_SENSITIVITY, ON_TUNING]
    assert at_specificity.threshold == pytest.approx(0.65) and at_specificity.sensitivity_difference is not None
    assert at_specificity.sensitivity_difference.value == pytest.approx(0.0) and at_specificity.specificity_difference is None
    assert at_sensitivity.specificity_difference is not None and at_sensitivity.sensitivity_difference is None
    assert at_sensitivity.specificity_difference.value == pytest.approx(0.0)
    # 0.6 upwards: 8 of 10 with the finding, and 0.8 to 0.60 of those without: 6 of 20.
    assert tuned.sensitivity_difference is not None and tuned.specificity_difference is not None
    assert tuned.sensitivity_difference.value == pytest.approx(0.8 - 0.7)
    assert tuned.specificity_difference.value == pytest.approx(0.7 - 0.8)


def test_a_choice_of_threshold_widens_and_a_threshold_of_before_does_not() -> None:
    """On the tuned threshold the interval is Bonett and Price's; where it was chosen on these breasts it is wider."""
    level = beside_read(SCORE, READ, LABEL, np.arange(30), name="breast", margin=0.05, confidence=0.95, tuned_threshold=0.65)
    fixed = paired_proportions(POSITIVE >= 0.65, READ[:10], np.arange(10), confidence=0.95)
    chosen, tuned = level.points[0].sensitivity_difference, level.points[2].sensitivity_difference
    assert tuned == fixed and chosen is not None and chosen.low is not None and fixed.low is not None
    assert chosen.low < fixed.low and chosen.high is not None and fixed.high is not None and chosen.high > fixed.high


def test_breasts_of_one_patient_are_not_two_patients() -> None:
    """Every breast twice, under the same patients: the values stay, no interval becomes narrower than a third more."""
    once = beside_read(SCORE, READ, LABEL, np.arange(30), name="breast", margin=0.05, confidence=0.95)
    score_U, read_U, label_U, patient_U = (np.repeat(one, 2) for one in (SCORE, READ, LABEL, np.arange(30)))
    twice = beside_read(score_U, read_U, label_U, patient_U, name="breast", margin=0.05, confidence=0.95)
    for first, second in zip(
        (once.read_sensitivity, once.read_specificity), (twice.read_sensitivity, twice.read_specificity), strict=True
    ):
        assert first.value == second.value and second.low is not None and first.low is not None
        assert second.value is not None and (second.value - second.low) > 0.75 * (second.value - first.low)
    assert (twice.patients, twice.positive_patients) == (30, 10)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.01, 0.2, "higher than the read"),
        (-0.04, 0.2, "not inferior"),
        (-0.05, 0.2, "not shown"),
        (-0.3, -0.01, "not shown"),
        (-0.3, -0.06, "inferior"),
        (None, None, "too few patients to decide"),
    ],
)
def test_the_whole_interval_decides(low: float | None, high: float | None, said: str) -> None:
    """Above the margin: not inferior; a value above it with an end below shows nothing."""
    assert decision(Interval(value=0.0, low=low, high=high), 0.05) == said


def test_few_patients_and_one_class_decide_nothing() -> None:
    """Four patients with the finding: values and no ends; none with it: the read's specificity alone."""
    few = beside_read(SCORE[6:], READ[6:], LABEL[6:], np.arange(24), name="breast", margin=0.05, confidence=0.95)
    assert few.positive_units == 4 and few.points[0].sensitivity_decision == "too few patients to decide"
    assert few.points[1].specificity_difference is not None and few.points[1].specificity_difference.low is None
    none = beside_read(SCORE[10:], READ[10:], LABEL[10:], np.arange(20), name="breast", margin=0.05, confidence=0.95)
    assert none.points == () and none.read_sensitivity.value is None and none.read_specificity.value == 0.8


def test_the_interval_holds_a_known_difference() -> None:
    """Equal normal scores, the read's cut at 1.2: the true difference is 0; of 60 cohorts at least 52 intervals hold it."""
    rng, held = np.random.default_rng(5), 0
    label_U, patient_U = np.repeat([1, 0], [30, 150]), np.arange(180)
    for _ in range(60):
        shared = rng.normal(size=180)
        model_U, read_U = (np.sqrt(0.5) * (shared + rng.normal(size=180)) + 1.7 * label_U for _ in range(2))
        found = beside_read(model_U, read_U > 1.2, label_U, patient_U, name="breast", margin=0.05, confidence=0.95)
        difference = found.points[0].sensitivity_difference
        assert difference is not None and difference.low is not None and difference.high is not None
        held += difference.low <= 0.0 <= difference.high
    assert held >= 52


def test_scores_fall_as_the_examples_say() -> None:
    """The examples above count from lists that fall strictly."""
    assert all(first > second for scores in (POSITIVE, NEGATIVE) for first, second in pairwise(scores))
