"""Validate: Great Expectations over the manifest. Blocking failures stop the run; warnings go into the report."""

from __future__ import annotations

import logging

from prefect import task

from schemas.config import RunConfig, Stage
from schemas.errors import ValidationFailed
from schemas.reports import IngestReport, ValidationReport
from tasks.adapters.exam_store import open_store, read_manifest
from tasks.adapters.expectations import check_manifest
from tasks.artifacts import show_table
from tasks.stages import save_report, stage_key

logger = logging.getLogger(__name__)


@task(
    name="validate",
    persist_result=True,
    cache_key_fn=stage_key(Stage.VALIDATE, 1, (), lambda given: (given["ingested"].data_version,)),
)
def validate(config: RunConfig, ingested: IngestReport) -> ValidationReport:
    """Checks every published image's line.

    Raises:
        ValidationFailed: A blocking check failed; the report with all checks is written first.
    """
    manifest = read_manifest(open_store(ingested.store_dir))
    checks = check_manifest(manifest)
    report = ValidationReport(data_version=ingested.data_version, images=len(manifest), checks=checks)
    failures_first = sorted(checks, key=lambda check: (check.is_met, check.severity))
    show_table(
        "data-checks",
        [check.model_dump() for check in failures_first],
        f"{sum(check.is_met for check in checks)} of {len(checks)} checks met on {len(manifest)} images",
    )
    for check in report.warnings:
        logger.warning("data check not met: %s %s on %d images", check.check, check.column, check.unexpected_count)
    save_report(config, Stage.VALIDATE, report)
    if report.blocking:
        raise ValidationFailed(
            f"{len(report.blocking)} blocking data checks failed",
            expected="every critical check met",
            got="; ".join(f"{check.check}({check.column}): {check.unexpected_count}" for check in report.blocking),
            remedy="see docs/data-checks.md for each check; correct the source or its labels and run again",
        )
    logger.info("%d of %d data checks met, %d warnings", sum(c.is_met for c in checks), len(checks), len(report.warnings))
    return report
