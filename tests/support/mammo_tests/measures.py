"""A report of which every group of numbers is there, each number told from the others."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from schemas.reports import evaluation, reviewed
from schemas.reports.clinic import DecisionCurve, NetBenefit, ProgrammeReport, RestatedPoint
from schemas.reports.evaluation import (
    AurocDifference,
    BoxLocalization,
    CalibrationReport,
    FindingMetrics,
    LesionsSeen,
    LocalizationIntervals,
    LockedMetrics,
    ModelMetrics,
    ModelSpread,
    RecalibrationFit,
    TemperatureFit,
)
from schemas.reports.report import Interval, Report
from schemas.reports.reviewed import (
    BeforeAndAfter,
    FreeResponse,
    FrocPoint,
    GroupDifference,
    LesionLevel,
    OriginalRead,
    ReadLevel,
    ReadPoint,
)


def measured_titles() -> Iterator[str]:
    """What the measured fields of every report of the evaluation are called."""
    for kind in {**vars(evaluation), **vars(reviewed)}.values():
        if inspect.isclass(kind) and issubclass(kind, Report):
            fields = kind.model_fields.values()
            yield from (str(field.title) for field in fields if field.title is not None)


def interval(value: float) -> Interval:
    """The value, a hundredth to either side."""
    return Interval(value=value, low=value - 0.01, high=value + 0.01)


def reviewed_measures() -> dict[str, Any]:
    """The original read, lesion by lesion, and two groups: by the field of a finding's metrics."""
    point = ReadPoint(
        name="specificity of the read", threshold=0.4, sensitivity=interval(0.811), specificity=interval(0.812),
        sensitivity_difference=interval(0.013), sensitivity_decision="not inferior",
        specificity_difference=interval(-0.114), specificity_decision="inferior",
    )  # fmt: skip
    level = ReadLevel(
        name="breast", units=3001, positive_units=302, patients=1503, positive_patients=254, recalled_units=305,
        read_sensitivity=interval(0.856), read_specificity=interval(0.857), points=(point,),
    )  # fmt: skip
    found = [
        FreeResponse(
            name=name, lesions=58 - place, unmarked=9, patients=31, units_without=610, patients_without=211,
            points=tuple(
                FrocPoint(
                    false_marks_allowed=allowed, false_marks=allowed, threshold=0.3, sensitivity=interval(0.3 + allowed / 8.0)
                )
                for allowed in (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
            ),
            jafroc=interval(0.71 + place / 10),
        )
        for place, name in enumerate(("each image by itself", "joined over views"))
    ]  # fmt: skip
    return {
        "before_and_after": BeforeAndAfter(
            sha256="b4" * 32, source="epoch-0031", scored_utc="2026-03-01T08:00:00Z", compared=1069, positive_compared=71,
            compared_patients=535, positive_compared_patients=70, auroc_before=interval(0.681), auroc_after=interval(0.732),
            auroc_gain=interval(0.051), gain_p_value=0.0456,
        ),
        "original_read": OriginalRead(
            recalled=(0, 4, 5), margin=0.05, without_read=11, off_scale=12, labelled_by_read=13, levels=(level,)
        ),
        "lesion_level": LesionLevel(
            images_without=610, false_marks_at_most=4.61, joined_lesions=21, single_lesions=7, counted=tuple(found)
        ),
        "group_differences": (
            GroupDifference(
                attribute="vendor", group="HOLOGIC", other="all others", measure="AUROC", difference=interval(-0.043),
                p_value=0.0123, p_adjusted=0.0246,
            ),
            GroupDifference(
                attribute="vendor", group="GE", other="all others", measure="sensitivity", difference=interval(0.021),
                p_value=0.4321, p_adjusted=0.4321,
            ),
        ),
    }  # fmt: skip


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
        lesions_reached=interval(0.55), patients=56, chance_f1=0.057, chance_pointing=0.058,
    )  # fmt: skip
    boxes = BoxLocalization(
        images=61,
        mass_inside=interval(0.62),
        area_inside=0.063,
        pointing=interval(0.64),
        lesions=65,
        lesions_reached=66,
        patients=57,
        chance_pointing=0.059,
    )
    seen = LesionsSeen(lesions=67, cut=68, lost=69, mean_seen=0.91, least_seen=0.02)
    rates = ("recall_rate", "detection_rate", "ppv1", "npv_12", "npv_24", "sensitivity_12", "sensitivity_24", "specificity_12")
    rates += ("of_screen_detected", "of_interval_cancers", "read_recall_rate", "read_detection_rate", "read_ppv1")
    programme = ProgrammeReport(
        threshold=0.3, threshold_basis="fixed", recalled_birads=(0, 4, 5), exams=501, exam_patients=502, exams_24=503,
        cancers_12=504, cancers_24=505, screen_detected=506, interval_cancers=507, without_read=508, undated=509,
        **{name: interval(0.3 + place / 1000) for place, name in enumerate(rates)},
    )  # fmt: skip
    restated = RestatedPoint(
        basis="fixed", threshold=0.3, prevalence=0.0123, recall_rate=interval(0.611), positive_predictive_value=interval(0.612),
        negative_predictive_value=interval(0.613), found_per_1000=interval(61.4), missed_per_1000=interval(61.5),
        shifted_intercept=-6.16,
    )  # fmt: skip
    points = tuple(
        NetBenefit(threshold=risk, network=interval(0.0171), recall_all=-0.0172, recalled=0.173) for risk in (0.01, 0.02, 0.05)
    )
    curve = DecisionCurve(prevalence=0.0321, is_stated=True, basis="recalibrated", points=points)
    given: dict[str, Any] = {
        "programme": programme, "restated": (restated,), "decision_curves": (curve,),
        "lesions_seen": seen, "locked": LockedMetrics(intercept=-1.23, slope=0.45),
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
        "localization_intervals": where, "boxes": boxes, **reviewed_measures(),
    }  # fmt: skip
    return FindingMetrics.model_validate(given | changes)
