"""The page of the data checks."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from schemas.layout import Severity
from schemas.reports.data import CheckResult, ValidationReport
from tasks.adapters.pages.checks_page import write_checks_page


def check(suite: str, name: str, *, is_met: bool, severity: Severity = Severity.BLOCK, error: str | None = None) -> CheckResult:
    """A check of one column."""
    return CheckResult(
        suite=suite, check=name, column="benign", severity=severity, is_met=is_met,
        unexpected_count=0 if is_met else 3, unexpected_percent=0.0 if is_met else 12.5, error=error,
    )  # fmt: skip


def written(tmp_path: Path) -> str:
    """The page of two suites, with a met, a warning, a blocking and a broken check."""
    path = tmp_path / "checks.html"
    checks = (
        check("exams", "E01: four views", is_met=True),
        check("exams", "E04: one age", is_met=False, severity=Severity.WARN),
        check("labels", "R61: is known", is_met=True),
        check("labels", "R60: views agree", is_met=False, error="<script>alert(1)</script>"),
    )
    report = ValidationReport(data_version="a1" * 32, images=1480, checks=checks, page_path=path)
    write_checks_page(report, output_path=path, created=datetime(2026, 11, 23, 9, 30, tzinfo=UTC))
    return path.read_text()


def test_it_counts_and_shows_failures_first(tmp_path: Path) -> None:
    """Two met of four; in each suite what is not met stands above what is."""
    page = written(tmp_path)
    assert "4 checks: 2 met, 1 warned, 1 blocked." in page and "1,480 images" in page
    assert (
        page.index("E04: one age")
        < page.index("E01: four views")
        < page.index("R60: views agree")
        < page.index("R61: is known")
    )
    assert "3 (12.5%)" in page and "stops the run" in page


def test_it_runs_and_loads_nothing(tmp_path: Path) -> None:
    """What a check says of foreign values is text."""
    page = written(tmp_path)
    assert "<script>" not in page and "&lt;script&gt;" in page and "default-src 'none'" in page
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", page)


def test_it_is_accessible(tmp_path: Path, accessibility_faults: Callable[[Path], list[str]]) -> None:
    """axe-core finds nothing serious."""
    written(tmp_path)
    assert accessibility_faults(tmp_path / "checks.html") == []
