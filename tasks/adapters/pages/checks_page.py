"""The page of the data checks, also of a run that they stopped. Our own: Great Expectations' pages run what data they show."""

from __future__ import annotations

from datetime import datetime
from operator import attrgetter
from pathlib import Path

from schemas.reports.data import ValidationReport
from tasks.adapters.pages.render import write_page


def write_checks_page(report: ValidationReport, *, output_path: Path, created: datetime) -> None:
    """Writes one self-contained page, suite by suite, checks that are not met first; replaced atomically."""
    suites = dict.fromkeys(check.suite for check in report.checks)
    failures_first = sorted(report.checks, key=attrgetter("is_met", "severity"))
    write_page(
        output_path,
        "checks.html.jinja",
        report=report,
        met=sum(check.is_met for check in report.checks),
        suites=[(suite, [check for check in failures_first if check.suite == suite]) for suite in suites],
        created=created,
    )
