"""Split: patients into train, tuning and test."""

from __future__ import annotations

from prefect import flow

from schemas.config.run import RunConfig
from schemas.reports.data import SplitReport
from tasks.artifacts import run_name
from tasks.split import split_patients
from tasks.stage import load_ingested


@flow(name="split", flow_run_name=run_name)
def split(config: RunConfig) -> SplitReport:
    """Patients into train, tuning and test."""
    ingested = load_ingested(config)
    return split_patients(config, ingested)
