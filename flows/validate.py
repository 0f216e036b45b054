"""Validate: data checks over what ingest published."""

from __future__ import annotations

from schemas.config.run import RunConfig
from schemas.reports.data import ValidationReport
from tasks.artifacts import config_flow
from tasks.stage import load_ingested
from tasks.validate import check_manifest


@config_flow(name="validate")
def validate(config: RunConfig) -> ValidationReport:
    """Data checks over what ingest published; blocking failures fail the run."""
    ingested = load_ingested(config)
    return check_manifest(config, ingested)
