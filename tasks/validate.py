"""Validate: Great Expectations over the manifest. Blocking failures stop the run; warnings go into the report."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from schemas.config.run import RunConfig, Stage
from schemas.errors import ValidationFailed
from schemas.reports.data import IngestReport, ValidationReport
from tasks.adapters.checks import expectations
from tasks.adapters.pages.checks_page import write_checks_page
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import read_manifest
from tasks.adapters.workspace import Workspace
from tasks.artifacts import show_link, show_table
from tasks.stage import save_report, stage

logger = logging.getLogger(__name__)


@stage(Stage.VALIDATE, version=2, sections=(), reads=lambda config, ingested: (ingested.data_version,))
def check_manifest(config: RunConfig, ingested: IngestReport) -> ValidationReport:
    """Checks every published image's line.

    Raises:
        ValidationFailed: A blocking check failed; the report with all checks is written first.
    """
    manifest = read_manifest(open_store(ingested.store_dir))
    checks = expectations.check_manifest(manifest)
    page_path = Workspace(config.workspace_dir).stage_dir("validate") / "checks.html"
    report = ValidationReport(data_version=ingested.data_version, images=len(manifest), checks=checks, page_path=page_path)
    write_checks_page(report, output_path=page_path, created=datetime.now(UTC))
    failures_first = sorted(checks, key=lambda check: (check.is_met, check.severity))
    show_table(
        "data-checks",
        [check.model_dump() for check in failures_first],
        f"{sum(check.is_met for check in checks)} of {len(checks)} checks met on {len(manifest)} images",
    )
    show_link("data-checks-page", page_path, "All data checks, suite by suite")
    for check in report.warnings:
        logger.warning("data check not met: %s %s on %d images", check.check, check.column, check.unexpected_count)
    if report.blocking:
        save_report(config, Stage.VALIDATE, report)  # a stage that fails leaves none by itself
        raise ValidationFailed(
            f"{len(report.blocking)} blocking data checks failed",
            expected="every critical check met",
            got="; ".join(f"{check.check}({check.column}): {check.unexpected_count}" for check in report.blocking),
            remedy=f"see {page_path} and docs/reference/data-checks.md; correct the source or its labels, then run again",
        )
    logger.info("%d of %d data checks met, %d warnings", sum(c.is_met for c in checks), len(checks), len(report.warnings))
    return report
