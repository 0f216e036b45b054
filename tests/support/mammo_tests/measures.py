"""A report of which every group of numbers is there, each number told from the others."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from schemas.reports import evaluation
from schemas.reports.evaluation import (
    AurocDifference,
    BoxLocalization,
    CalibrationReport,
    FindingMetrics,
    LesionsSeen,
    LocalizationIntervals,
    ModelMetrics,
    ModelSpread,
    RecalibrationFit,
    TemperatureFit,
)
from schemas.reports.report import Interval, Report


def measured_titles() -> Iterator[str]:
    """What the measured fields of every report of the evaluation are called."""
    for kind in vars(evaluation).values():
        if inspect.isclass(kind) and issubclass(kind, Report):
            fields = kind.model_fields.values()
            yield from (str(field.title) for field in fields if field.title is not None)


def interval(value: float) -> Interval:
    """The value, a hundredth to either side."""
    return Interval(value=value, low=value - 0.01, high=value + 0.01)


def every_measure(**changes: Any) -> FindingMetrics:
    """A report whose every group of numbers is there."""
    calibration = CalibrationReport(
        binning="", bins=(), brier=interval(0.11), brier_of_prevalence=0.12, expected_calibration_error=interval(0.13),
        mean_score=0.14, prevalence=0.15, intercept=interval(0.16), slope=interval(0.17),
        observed_to_expected=interval(0.18), brier_skill=0.19,
    )  # fmt: skip
    spread = ModelSpread(mean=interval(0.21), standard_deviation=0.022)
    difference = AurocDifference(difference=-0.031, low=-0.05, high=0.01, p_value=0.0321)
    model = ModelMetrics(
        name="seed 0", sha256="", auroc=interval(0.41), auprc=interval(0.42), localization_f1=0.43,
        localization_precision=0.44, localization_recall=0.45, minus_ensemble=difference,
    )  # fmt: skip
    where = LocalizationIntervals(
        f1=interval(0.51), precision=interval(0.52), recall=interval(0.53), pointing=interval(0.54),
        lesions_reached=interval(0.55), patients=56,
    )  # fmt: skip
    boxes = BoxLocalization(
        images=61,
        mass_inside=interval(0.62),
        area_inside=0.063,
        pointing=interval(0.64),
        lesions=65,
        lesions_reached=66,
        patients=57,
    )
    seen = LesionsSeen(lesions=67, cut=68, lost=69, mean_seen=0.91, least_seen=0.02)
    given: dict[str, Any] = {
        "lesions_seen": seen,
        "breasts": 1071, "positive_breasts": 72, "auroc": interval(0.73), "auprc": interval(0.74), "localization_images": 75,
        "localization_f1": 0.076, "localization_precision": 0.077, "localization_recall": 0.078, "pointing_fraction": 0.079,
        "lesions": 80, "lesions_reached": 81, "calibration": calibration, "calibration_scaled": calibration,
        "temperature": TemperatureFit(
            temperature=1.91, breasts=92, positive_breasts=93, log_loss_before=0.94, log_loss_after=0.95
        ),
        "recalibration": RecalibrationFit(
            intercept=-1.5, slope=0.6, breasts=62, positive_breasts=63, patients=64, positive_patients=65, prevalence=0.66,
            log_loss_before=0.97, log_loss_after=0.96,
        ),
        "patients": 521, "positive_patients": 71, "subgroup_threshold": 0.096,
        "exams": 97, "positive_exams": 98, "exam_auroc": interval(0.99),
        "exam_auprc": interval(0.88), "models": (model,), "auroc_of_models": spread, "auprc_of_models": spread,
        "localization_intervals": where, "boxes": boxes,
    }  # fmt: skip
    return FindingMetrics.model_validate(given | changes)
