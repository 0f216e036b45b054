"""Split: patients into train, tuning and test."""

from __future__ import annotations

from schemas.config.run import RunConfig
from schemas.reports.data import SplitReport
from tasks.artifacts import config_flow
from tasks.split import split_patients
from tasks.stage import load_ingested


@config_flow(name="split")
def split(config: RunConfig) -> SplitReport:
    """Patients into train, tuning and test."""
    ingested = load_ingested(config)
    return split_patients(config, ingested)
