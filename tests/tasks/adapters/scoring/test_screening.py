"""What is chosen on which split, and which columns make groups."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from schemas.config.evaluation import EvaluateConfig
from schemas.reports.evaluation import FindingMetrics
from schemas.reports.report import Interval
from tasks.adapters.scoring.screening import with_screening_metrics

UNDEFINED = Interval(value=None, low=None, high=None)
CONFIG = EvaluateConfig(bootstrap_resamples=30, readers_specificity=0.87)


def _breasts(seed: int, exams: int = 60, prevalence: float = 0.3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    label_B = (rng.random(2 * exams) < prevalence).astype(np.int64)
    return pd.DataFrame(
        {
            "patient_id": np.repeat([f"P{exam}" for exam in range(exams)], 2),
            "exam_id": np.repeat([f"E{exam}" for exam in range(exams)], 2),
            "laterality": ["L", "R"] * exams,
            "score": 1 / (1 + np.exp(-rng.normal(1.5 * label_B - 1))),
            "label": label_B,
        }
    )


def _images(breasts: pd.DataFrame) -> pd.DataFrame:
    """Two views a breast, but one exam's right breast has three; one vendor unknown."""
    extra = breasts[(breasts["exam_id"] == "E0") & (breasts["laterality"] == "R")]
    images = pd.concat([breasts, breasts, extra], ignore_index=True).drop(columns=["score", "label"])
    images["manufacturer"] = images["exam_id"].map(lambda exam: None if exam in {"E1", "E2"} else "HOLOGIC").astype("string")
    images["acquisition"] = "ffdm"
    images["patient_age_years"] = images["exam_id"].str[1:].astype(float) + 30.0
    images.loc[images["exam_id"] == "E3", "patient_age_years"] = np.nan
    return images


def _metrics() -> FindingMetrics:
    return FindingMetrics(
        breasts=0, positive_breasts=0, auroc=UNDEFINED, auprc=UNDEFINED, localization_images=0,
        localization_f1=None, localization_precision=None, localization_recall=None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def measured() -> FindingMetrics:
    """A test split and another tuning split, measured."""
    test = _breasts(1)
    return with_screening_metrics(_metrics(), test, _breasts(2), _images(test), CONFIG)


def test_thresholds_of_use_come_from_the_tuning_split(measured: FindingMetrics) -> None:
    """The threshold that keeps specificity 0.90 of the tuning breasts is applied to the test breasts as it is."""
    tuning, test = _breasts(2), _breasts(1)
    negatives = np.sort(tuning.loc[tuning["label"] == 0, "score"])
    point = next(one for one in measured.operating_points if one.basis == "specificity 0.90 on the tuning split")
    assert point.threshold is not None and (negatives >= point.threshold).mean() <= 0.1
    is_positive = test["label"] == 1
    assert point.sensitivity.value == pytest.approx((test.loc[is_positive, "score"] >= point.threshold).mean())
    assert [one.criterion for one in measured.operating_points] == ["specificity"] * 4 + ["sensitivity"] * 2 + ["threshold"] * 3
    assert measured.operating_points[3].basis == "specificity 0.87, the readers' as the config names it"


def test_recalibration_is_fitted_on_the_tuning_split(measured: FindingMetrics) -> None:
    """Its counts are the tuning breasts'; test calibration is given before and after."""
    assert measured.temperature is None and measured.recalibration is not None and measured.recalibration.slope is not None
    assert measured.recalibration.positive_breasts == int(_breasts(2)["label"].sum())
    assert measured.calibration is not None and measured.calibration_scaled is not None
    assert measured.calibration.brier != measured.calibration_scaled.brier


def test_groups_follow_the_manifest(measured: FindingMetrics) -> None:
    """Counts by group add up to all breasts for every attribute; what the store lacks is named."""
    assert measured.subgroups_not_recorded == ("device model", "density", "label source", "finding type")
    lines = {(line.attribute, line.group): line.breasts for line in measured.subgroups}
    assert lines["vendor", "HOLOGIC"] == 116 and lines["vendor", "not known"] == 4
    assert lines["views of the breast", "3 images"] == 1 and lines["views of the breast", "2 images"] == 119
    assert lines["age", "not known"] == 2 and lines["age", "under 40"] == 18
    for attribute in ("vendor", "acquisition", "age", "views of the breast"):
        assert sum(count for (name, _), count in lines.items() if name == attribute) == 120


def test_groups_and_errors_are_told_at_a_threshold_of_the_tuning_split(measured: FindingMetrics) -> None:
    """It is the tuning split's operating point, not the one that was picked on the very breasts it then judges."""
    of_tuning = next(one for one in measured.operating_points if one.basis == "specificity 0.90 on the tuning split")
    assert measured.subgroup_threshold == of_tuning.threshold != measured.operating_points[1].threshold
    assert measured.subgroup_threshold_basis == of_tuning.basis
    (acquisition,) = (line for line in measured.subgroups if line.attribute == "acquisition")
    assert acquisition.sensitivity.value == of_tuning.sensitivity.value


def test_no_readers_stand_beside_exams_that_they_did_not_read(measured: FindingMetrics) -> None:
    """The public reader study's mean specificity is not an operating point of other data unless a config names one."""
    test = _breasts(1)
    unnamed = with_screening_metrics(_metrics(), test, _breasts(2), _images(test), EvaluateConfig(bootstrap_resamples=30))
    assert len(unnamed.operating_points) == len(measured.operating_points) - 1
    assert not any("readers" in point.basis for point in unnamed.operating_points)


def test_finding_types_stand_against_the_same_negatives() -> None:
    """A breast without the finding has no type: the masses are compared with all breasts without, so are the calcifications."""
    test = _breasts(1)
    kinds = np.where(test["label"] == 1, np.where(test.index % 3 == 0, "mass", "calcification"), None)
    images = _images(test).merge(test.assign(finding_type=kinds)[["exam_id", "laterality", "finding_type"]])
    images["density"] = "b"
    measured = with_screening_metrics(_metrics(), test, _breasts(2), images, CONFIG)
    lines = {line.group: line for line in measured.subgroups if line.attribute == "finding type"}
    negatives = int((test["label"] == 0).sum())
    assert set(lines) == {"mass", "calcification"} and measured.subgroups_not_recorded == ("device model", "label source")
    for kind, line in lines.items():
        assert line.breasts - line.positive_breasts == negatives and line.positive_breasts == int((kinds == kind).sum())
    assert lines["calcification"].auroc.value is not None


def test_no_tuning_breast_and_one_class_are_undefined_not_errors() -> None:
    """An empty tuning split has no recalibration; a test split without the finding has no operating point."""
    test = _breasts(1, prevalence=0.0)
    measured = with_screening_metrics(_metrics(), test, test.iloc[:0], _images(test), CONFIG)
    assert measured.operating_points == () and measured.subgroup_threshold is None
    assert measured.recalibration is not None and measured.recalibration.reason == "one class only"
    assert measured.calibration is not None and measured.calibration_scaled is None
    assert all(line.too_few for line in measured.subgroups)
