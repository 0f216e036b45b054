"""Phantom: a labelled synthetic screening cohort as DICOM files."""

from __future__ import annotations

from schemas.config.run import RunConfig
from schemas.reports.data import PhantomReport
from tasks.artifacts import config_flow
from tasks.phantom import write_phantom


@config_flow(name="phantom")
def phantom(config: RunConfig) -> PhantomReport:
    """Writes the cohort of the config's ``phantom`` section."""
    return write_phantom(config)
