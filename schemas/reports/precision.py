"""What ``mammo reproduce precision`` reports: how many patients an interval of a given width takes."""

from __future__ import annotations

from schemas.reports.report import Report


class PlannedInterval(Report):
    """The interval that a study of so many patients may expect if the value is as foreseen."""

    measure: str
    value: float
    low: float
    high: float
    positive_patients: int
    patients: int
    positive_breasts: int
    breasts: int
    wanted_width: float | None = None
    """None = the number of patients was given, and the width found."""


class PrecisionReport(Report):
    """Planned intervals, and what was supposed."""

    rows: tuple[PlannedInterval, ...]
    confidence: float
    prevalence: float
    breasts_per_patient: int
    likeness: float
    """How alike two breasts of a patient are taken to be (an intraclass correlation)."""
