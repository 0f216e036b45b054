"""Phantom: a labelled synthetic screening cohort as DICOM files."""

from __future__ import annotations

from prefect import flow

from schemas.config.run import RunConfig
from schemas.reports.data import PhantomReport
from tasks.artifacts import run_name
from tasks.phantom import write_phantom


@flow(name="phantom", flow_run_name=run_name)
def phantom(config: RunConfig) -> PhantomReport:
    """Writes the cohort of the config's ``phantom`` section."""
    return write_phantom(config)
