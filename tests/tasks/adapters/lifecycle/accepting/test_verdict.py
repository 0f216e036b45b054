"""The rules of an acceptance, each met, not met and not decided, and the verdict that they make."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mammo_tests.measures import every_measure
from mammo_tests.site_cohort import site_cohort, site_images
from schemas.config.evaluation import AcceptanceConfig, AcceptanceRule
from schemas.reports.evaluation import CalibrationReport, FindingMetrics, JudgedPatients, LockedMetrics, OperatingPoint
from schemas.reports.life.acceptance import ImageShift, RuleResult, Verdict
from schemas.reports.report import Interval
from tasks.adapters.lifecycle.accepting.device_recall import device_recalls
from tasks.adapters.lifecycle.accepting.verdict import Evidence, rule_results, verdict_of

KNOWN = JudgedPatients(is_checked=True)


def evidence(config: AcceptanceConfig, *, recalled: float = 0.1, exams: int = 1000, **changes: Any) -> Evidence:
    """A cohort of which so many lie at or above the threshold 0.9, and nothing else to say."""
    score_E = np.where(np.arange(exams) < recalled * exams, 0.95, 0.1)
    birads = changes.pop("birads", 255)
    cohort = site_cohort(site_images(exams, birads=birads), score_E, threshold=changes.pop("threshold", 0.9), config=config)
    given: dict[str, Any] = {
        "locked_missing": "", "patients": KNOWN, "metrics": None, "groups": tuple(cohort.groups(config)),
        "devices": device_recalls(cohort, config), "images": (), "image_note": "",
    }  # fmt: skip
    return Evidence(cohort=cohort, **given | changes)


def answers(found: Evidence, config: AcceptanceConfig) -> dict[AcceptanceRule, RuleResult]:
    """By rule."""
    return {one.rule: one for one in rule_results(found, config)}


@pytest.mark.parametrize(
    ("recalled", "exams", "is_met", "says"),
    [
        (0.1, 1000, True, "10.0%"),
        (0.2, 1000, False, "wanted 7.0 to 13.0%"),
        (0.12, 1000, None, "more exams would decide it"),
    ],
)
def test_a_recall_rate_is_held_against_what_is_wanted(recalled: float, exams: int, is_met: bool | None, says: str) -> None:
    """As wanted, twice that, and near the limit: met, not met, and not decided with the number that is missing."""
    config = AcceptanceConfig(recall_rate=0.1)
    found = answers(evidence(config, recalled=recalled, exams=exams), config)[AcceptanceRule.RECALL]
    assert found.is_met is is_met and says in found.reason


def test_readers_say_how_many_are_wanted_where_the_config_does_not() -> None:
    """Readers recalled the same exams, or others as many, or far fewer: paired, in points. Of few exams nobody says it."""
    config = AcceptanceConfig()
    same, fewer = np.where(np.arange(1000) < 100, 4, 1), np.where(np.arange(1000) < 20, 4, 1)
    alike = answers(evidence(config, birads=same), config)[AcceptanceRule.RECALL]
    assert alike.is_met is True and "+0.0 points" in alike.reason
    more = answers(evidence(config, birads=fewer), config)[AcceptanceRule.RECALL]
    assert more.is_met is False and "+8.0 points" in more.reason
    few = np.where(np.arange(1000) < 150, 1, 255)
    untold = answers(evidence(config, birads=few), config)[AcceptanceRule.RECALL]
    assert untold.is_met is None and "accept.recall_rate" in untold.reason


def test_what_a_model_and_a_cohort_lack_is_said() -> None:
    """No locked threshold refuses; one above every score too. Too few exams, a device without exams: not decided, by name."""
    config = AcceptanceConfig(recall_rate=0.1, devices=("acme one", "Other Two"))
    unlocked = rule_results(evidence(config, threshold=None, locked_missing="nothing lies beside the weights"), config)
    assert verdict_of(unlocked) is Verdict.REFUSED and "nothing lies beside" in unlocked[0].reason
    assert answers(evidence(config, threshold=float("inf")), config)[AcceptanceRule.LOCKED].is_met is False
    found = answers(evidence(config, exams=150), config)
    assert found[AcceptanceRule.EXAMS].is_met is None and "50 are missing" in found[AcceptanceRule.EXAMS].reason
    assert found[AcceptanceRule.DEVICES].is_met is None and "No exam of Other Two" in found[AcceptanceRule.DEVICES].reason
    assert verdict_of(found.values()) is Verdict.NOT_ENOUGH


def test_labels_are_asked_for_where_the_config_asks() -> None:
    """Sensitivity and specificity at the locked threshold against minima; without labels they are not decided."""
    config = AcceptanceConfig(recall_rate=0.1, minimum_sensitivity=0.7, minimum_specificity=0.95)
    rates = {"recall_rate": 0.1, "positive_predictive_value": 0.1, "negative_predictive_value": 0.9}
    point = OperatingPoint(
        criterion="threshold", target=0.9, basis="", threshold=0.9, true_positives=80, false_positives=100,
        true_negatives=900, false_negatives=20, patients=1000, positive_patients=100,
        sensitivity=Interval(value=0.8, low=0.71, high=0.87), specificity=Interval(value=0.9, low=0.88, high=0.92),
        **{name: Interval(value=value, low=None, high=None) for name, value in rates.items()},
    )  # fmt: skip
    metrics = every_measure(
        locked=LockedMetrics(intercept=0.0, slope=1.0, points=(point,), calibration_locked=calibration(1.1))
    )
    found = answers(evidence(config, metrics=metrics), config)
    assert found[AcceptanceRule.SENSITIVITY].is_met is True and "100 breasts" in found[AcceptanceRule.SENSITIVITY].reason
    assert found[AcceptanceRule.SPECIFICITY].is_met is False and found[AcceptanceRule.CALIBRATION].is_met is True
    far = every_measure(locked=LockedMetrics(intercept=0.0, slope=1.0, points=(point,), calibration_locked=calibration(3.0)))
    assert answers(evidence(config, metrics=far), config)[AcceptanceRule.CALIBRATION].is_met is False
    nobody = point.model_copy(update={"threshold": None, "sensitivity": Interval(value=0.0, low=0.0, high=0.03)})
    locked = LockedMetrics(intercept=0.0, slope=1.0, points=(nobody,), calibration_locked=None)
    above = evidence(config, threshold=float("inf"), metrics=every_measure(locked=locked))
    assert answers(above, config)[AcceptanceRule.SENSITIVITY].is_met is False  # measured, above every score of its own site
    none = answers(evidence(config), config)
    assert none[AcceptanceRule.SENSITIVITY].is_met is None and none[AcceptanceRule.CALIBRATION].is_met is None
    asked = {AcceptanceRule.SENSITIVITY, AcceptanceRule.SPECIFICITY}
    assert not asked & answers(evidence(AcceptanceConfig()), AcceptanceConfig()).keys()


def test_remarks_decide_nothing_unless_the_config_says_so() -> None:
    """Images unlike the training's: accepted with a remark; refused where the config takes it from the remarks."""
    config = AcceptanceConfig(recall_rate=0.1)
    shifted = ImageShift(column="pixel_mean", excess=0.4, is_shifted=True, here="", there="")
    alike = shifted.model_copy(update={"column": "tissue_fraction", "excess": -0.1, "is_shifted": False})
    full = replace(evidence(config), metrics=with_calibration(1.0))
    assert verdict_of(rule_results(replace(full, images=(alike,)), config)) is Verdict.ACCEPTED
    remarked = replace(full, images=(shifted, alike))
    assert "pixel_mean" in answers(remarked, config)[AcceptanceRule.IMAGES].reason
    assert verdict_of(rule_results(remarked, config)) is Verdict.WITH_REMARKS
    strict = config.model_copy(update={"remarks": ()})
    assert verdict_of(rule_results(remarked, strict)) is Verdict.REFUSED
    silent = answers(replace(full, image_note="The model does not say."), config)[AcceptanceRule.IMAGES]
    assert silent.is_met is None and silent.reason == "The model does not say."


def calibration(ratio: float) -> CalibrationReport:
    """One whose findings observed are so many times those expected."""
    drawn = every_measure().calibration
    assert drawn is not None
    return drawn.model_copy(update={"observed_to_expected": Interval(value=ratio, low=0.9 * ratio, high=1.1 * ratio)})


def with_calibration(ratio: float) -> FindingMetrics:
    """Metrics of a finding with it."""
    return every_measure(locked=LockedMetrics(intercept=0.0, slope=1.0, points=(), calibration_locked=calibration(ratio)))
