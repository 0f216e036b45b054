"""What becomes of the synthetic exam."""

from __future__ import annotations

from pydantic import Field

from schemas.reports.report import Report, ReportPath


class HealthReport(Report):
    """The newest synthetic exam that came out."""

    created_utc: str = Field(description="When it had come out")
    seconds: float = Field(description="From its files to its page")
    made_by: str = Field(description="Weights, preprocessing and release: with equal ones the scores are equal")
    scores: dict[str, dict[str, float]] = Field(description="'<laterality>-<view>' -> finding -> score")
    page_path: ReportPath
