"""Reports: they come back from JSON as they were, and cannot be changed or extended."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field, ValidationError

import schemas.reports
from mammo_tests.kinds import all_of_kind
from schemas.reports.data import CheckResult, SplitCount, SplitReport, ValidationReport
from schemas.reports.report import ADDED_TO_REPORT, Interval, Report, measured
from schemas.reports.training import EpochRecord


def _check(name: str, severity: str, *, is_met: bool) -> CheckResult:
    return CheckResult(
        suite="manifest",
        check=name,
        column="row",
        severity=severity,
        is_met=is_met,
        unexpected_count=0 if is_met else 3,
        unexpected_percent=0.0,
    )


@pytest.mark.parametrize("kind", all_of_kind(Report, schemas.reports), ids=lambda kind: kind.__name__)
def test_a_report_takes_no_unknown_field(kind: type[Report]) -> None:
    """A field somebody forgot to declare is an error where it is made, not lost on the way."""
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        kind.model_validate({"surprise": 1})


@pytest.mark.parametrize("kind", all_of_kind(Report, schemas.reports), ids=lambda kind: kind.__name__)
def test_a_report_holds_no_arrays_or_frames(kind: type[Report]) -> None:
    """Only JSON crosses a task border: its schema can be written."""
    assert kind.model_json_schema(mode="serialization")["type"] == "object"


def test_a_report_survives_json_and_is_frozen() -> None:
    """Paths, nested counts and None come back; equal results give equal reports."""
    count = SplitCount(patients=3, exams=4, images=16, benign_breasts=1, malignant_breasts=0)
    report = SplitReport.model_validate({"splits_path": "w/splits.parquet", "data_version": "d", "counts": {"train": count}})
    assert SplitReport.model_validate_json(report.model_dump_json()) == report
    with pytest.raises(ValidationError, match="frozen"):
        report.data_version = "e"  # type: ignore[misc]
    undefined = Interval(value=None, low=None, high=None)
    assert Interval.model_validate_json(undefined.model_dump_json()) == undefined


def test_what_a_report_said_is_the_same_where_a_field_was_added_later() -> None:
    """At its default an added field is not said, at any depth, so keys made of former reports hold; another value is said."""

    class Inner(Report):
        value: int
        added: str = Field("", json_schema_extra=ADDED_TO_REPORT)

    class Outer(Report):
        inner: tuple[Inner, ...]
        by_name: dict[str, Inner]
        added: int = measured("Added", "Later", default=0, is_added=True)

    former = Outer(inner=(Inner(value=1),), by_name={"a": Inner(value=2)})
    assert former.said() == '{"inner":[{"value":1}],"by_name":{"a":{"value":2}}}'
    assert '"added":"x"' in former.model_copy(update={"inner": (Inner(value=1, added="x"),)}).said()


def test_failed_checks_divide_into_blocking_and_warnings() -> None:
    """A met check is neither, whatever its severity."""
    checks = (
        _check("a", "critical", is_met=True),
        _check("b", "critical", is_met=False),
        _check("c", "warning", is_met=False),
        _check("d", "warning", is_met=True),
    )
    report = ValidationReport(data_version="d", images=1, checks=checks, page_path=Path("checks.html"))
    assert [check.check for check in report.blocking] == ["b"]
    assert [check.check for check in report.warnings] == ["c"]


def test_an_undefined_auroc_stays_undefined() -> None:
    """None is not 0.5 and not 0 after JSON."""
    record = EpochRecord(
        epoch=0, train_loss=1.5, tuning_malignant_auroc=None, tuning_benign_auroc=0.5, images_per_s=2.0, is_best=True
    )
    assert EpochRecord.model_validate_json(record.model_dump_json()).tuning_malignant_auroc is None
