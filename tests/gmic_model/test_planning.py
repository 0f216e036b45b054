"""Planned widths are those that cohorts of that size have."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtri

from gmic_model.metrics.areas import area_interval
from gmic_model.metrics.proportions import proportion
from gmic_model.planning import Planned, StudyShape, patients_for, planned_interval
from schemas.errors import ConfigError

SHAPE = StudyShape(prevalence=0.2, breasts_per_patient=2, confidence=0.95)


def _alike(rng: np.random.Generator, patients: int) -> np.ndarray:
    """Normal scores of two breasts each, half alike."""
    shared_B = np.repeat(rng.normal(size=patients), 2)
    return np.sqrt(0.5) * (shared_B + rng.normal(size=2 * patients))


def test_a_planned_sensitivity_is_as_wide_as_simulated_ones() -> None:
    """62 patients, one breast each, 0.80: the mean width of 400 cohorts' intervals."""
    plan, rng = planned_interval(Planned.SENSITIVITY, 0.8, 62, SHAPE), np.random.default_rng(0)
    found = [proportion(rng.random(62) < 0.8, np.arange(62), confidence=0.95) for _ in range(400)]
    assert plan.high - plan.low == pytest.approx(np.mean([one.high - one.low for one in found]), rel=0.02)
    assert plan.high - plan.low == pytest.approx(0.2, abs=0.005) and plan.low < 0.8 < plan.high


def test_a_planned_specificity_counts_what_two_breasts_of_a_patient_say() -> None:
    """20 patients with the finding, 80 without: 180 breasts, and the mean width of 200 cohorts where breasts are half alike."""
    plan, rng, found = planned_interval(Planned.SPECIFICITY, 0.7, 20, SHAPE), np.random.default_rng(0), []
    patient_B = np.repeat(np.arange(100), 2)
    is_other_B = (patient_B >= 20) | (np.arange(200) % 2 == 1)
    for _ in range(200):
        # Half of the patients' breasts agree always, the others by chance: an intraclass correlation of one half.
        one_P, two_P, is_same_P = rng.random(100) < 0.7, rng.random(100) < 0.7, rng.random(100) < 0.5
        hit_B = np.stack([one_P, np.where(is_same_P, one_P, two_P)], axis=1).ravel()
        found.append(proportion(hit_B[is_other_B], patient_B[is_other_B], confidence=0.95))
    assert (plan.patients, plan.breasts, plan.positive_breasts) == (100, 200, 20)
    assert plan.high - plan.low == pytest.approx(np.mean([one.high - one.low for one in found]), rel=0.03)


def test_a_planned_auroc_is_as_wide_as_simulated_ones() -> None:
    """30 patients with the finding, 120 without, 0.85: the mean width of 60 cohorts' intervals, and the same plan again."""
    plan, rng, widths = planned_interval(Planned.AUROC, 0.85, 30, SHAPE), np.random.default_rng(0), []
    patient_B = np.repeat(np.arange(150), 2)
    label_B = ((patient_B < 30) & (np.arange(300) % 2 == 0)).astype(np.int64)
    for _ in range(60):
        score_B = _alike(rng, 150) + np.sqrt(2.0) * ndtri(0.85) * label_B
        found = area_interval("auroc", score_B, label_B, patient_B, confidence=0.95)
        assert found.low is not None and found.high is not None
        widths.append(found.high - found.low)
    assert plan.high - plan.low == pytest.approx(np.mean(widths), rel=0.05) and plan.low < 0.85 < plan.high
    assert planned_interval(Planned.AUROC, 0.85, 30, SHAPE) == plan


@pytest.mark.parametrize(("measure", "value"), [(Planned.SENSITIVITY, 0.8), (Planned.SPECIFICITY, 0.9), (Planned.AUROC, 0.9)])
def test_the_fewest_patients_are_found(measure: Planned, value: float) -> None:
    """The width is met, one patient fewer misses it, and what is wanted stands beside it."""
    plan = patients_for(measure, value, 0.12, SHAPE)
    assert plan.high - plan.low <= 0.12 == plan.wanted_width
    fewer = planned_interval(measure, value, plan.positive_patients - 1, SHAPE)
    assert fewer.high - fewer.low > 0.12


def test_a_width_that_no_study_has_is_said() -> None:
    """A millionth is refused, with what to do; a width of nearly 1 takes the five patients below which there is no interval."""
    with pytest.raises(ConfigError, match="No study of 200,000 patients"):
        patients_for(Planned.SENSITIVITY, 0.8, 1e-6, SHAPE)
    assert patients_for(Planned.SENSITIVITY, 0.8, 0.99, SHAPE).positive_patients == 5
