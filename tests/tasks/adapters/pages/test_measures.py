"""A metric is on the page because it exists: the tables are made from the reports' own fields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from schemas.reports.evaluation import (
    AurocDifference,
    BoxLocalization,
    CalibrationReport,
    FindingMetrics,
    LocalizationIntervals,
    ModelMetrics,
    ModelSpread,
    TemperatureFit,
)
from schemas.reports.report import Interval, Report
from tasks.adapters.pages.measures import measured_tables

KINDS: tuple[type[Report], ...] = (
    FindingMetrics, CalibrationReport, TemperatureFit, LocalizationIntervals, BoxLocalization, ModelMetrics, ModelSpread,
    AurocDifference,
)  # fmt: skip


def _interval(value: float) -> Interval:
    return Interval(value=value, low=value - 0.01, high=value + 0.01)


def _metrics(**changes: Any) -> FindingMetrics:
    """A report whose every group of numbers is there."""
    calibration = CalibrationReport(
        binning="", bins=(), brier=_interval(0.11), brier_of_prevalence=0.12, expected_calibration_error=_interval(0.13),
        mean_score=0.14, prevalence=0.15,
    )  # fmt: skip
    spread = ModelSpread(mean=_interval(0.21), standard_deviation=0.022)
    difference = AurocDifference(difference=-0.031, low=-0.05, high=0.01, p_value=0.0321)
    model = ModelMetrics(
        name="seed 0", sha256="", auroc=_interval(0.41), auprc=_interval(0.42), localization_f1=0.43,
        localization_precision=0.44, localization_recall=0.45, minus_ensemble=difference,
    )  # fmt: skip
    where = LocalizationIntervals(
        f1=_interval(0.51), precision=_interval(0.52), recall=_interval(0.53), pointing=_interval(0.54),
        lesions_reached=_interval(0.55),
    )  # fmt: skip
    boxes = BoxLocalization(
        images=61, mass_inside=_interval(0.62), area_inside=0.063, pointing=_interval(0.64), lesions=65, lesions_reached=66
    )
    given: dict[str, Any] = {
        "breasts": 1071, "positive_breasts": 72, "auroc": _interval(0.73), "auprc": _interval(0.74), "localization_images": 75,
        "localization_f1": 0.076, "localization_precision": 0.077, "localization_recall": 0.078, "pointing_fraction": 0.079,
        "lesions": 80, "lesions_reached": 81, "calibration": calibration, "calibration_scaled": calibration,
        "temperature": TemperatureFit(
            temperature=1.91, breasts=92, positive_breasts=93, log_loss_before=0.94, log_loss_after=0.95
        ),
        "subgroup_threshold": 0.096, "exams": 97, "positive_exams": 98, "exam_auroc": _interval(0.99),
        "exam_auprc": _interval(0.88), "models": (model,), "auroc_of_models": spread, "auprc_of_models": spread,
        "localization_intervals": where, "boxes": boxes,
    }  # fmt: skip
    return FindingMetrics.model_validate(given | changes)


def _measured_titles() -> Iterator[str]:
    for kind in KINDS:
        yield from (str(field.title) for field in kind.model_fields.values() if isinstance(field.json_schema_extra, dict))


def test_every_measured_field_has_its_row_with_its_value() -> None:
    """No field of any report of the evaluation is left out, whatever group it is in."""
    tables = list(measured_tables({"Malignant": _metrics()}, title="Breasts"))
    rows = {row.title: row.texts for table in tables for row in table.rows}
    assert set(_measured_titles()) == rows.keys()
    assert rows["Breasts"] == ("1,071",) and rows["AUROC of exams"] == ("0.990 (0.980–1.000)",)
    assert rows["p"] == ("0.0321",) and rows["Saliency inside boxes"] == ("0.620 (0.610–0.630)",)
    assert rows["Log loss after"] == ("0.950",) and rows["Difference of AUROC"] == ("-0.031",)


def test_findings_stand_side_by_side_and_models_by_name() -> None:
    """One column for each finding; the models of a finding in a table of their own."""
    tables = {table.title: table for table in measured_tables({"Malignant": _metrics(), "Benign": _metrics()}, title="Breasts")}
    assert tables["Breasts"].columns == ("Malignant", "Benign")
    assert tables["Models, Malignant"].columns == tables["Minus ensemble, Malignant"].columns == ("seed 0",)
    assert "AUROC of models" in tables


def test_what_is_not_there_has_no_table_and_what_is_not_defined_says_so() -> None:
    """Without boxes there is no table of boxes; an AUROC of one class is named as not defined."""
    undefined = Interval(value=None, low=None, high=None)
    tables = {
        table.title: table for table in measured_tables({"Benign": _metrics(boxes=None, auroc=undefined)}, title="Breasts")
    }
    assert "Boxes" not in tables
    assert next(row.texts for row in tables["Breasts"].rows if row.title == "AUROC") == ("not defined",)
