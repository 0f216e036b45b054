"""Phantom: writes the synthetic cohort; files that are there already are kept."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from schemas.config.run import RunConfig
from schemas.errors import ConfigError
from schemas.layout import VIEWS_PER_EXAM
from schemas.reports.data import PhantomReport
from tasks.adapters.datasets.phantom_cohort import plan_cohort, write_cohort
from tasks.artifacts import progress


@task(name="phantom", cache_policy=NO_CACHE, persist_result=False)
def write_phantom(config: RunConfig) -> PhantomReport:
    """DICOM files, labels CSV and lesion masks.

    Raises:
        ConfigError: The config has no ``phantom`` section.
    """
    if config.phantom is None:
        raise ConfigError("The config has no phantom section", remedy="see deployments/configs/demo.yaml for one")
    images = VIEWS_PER_EXAM * len(plan_cohort(config.phantom))
    with progress("phantom", images, "images") as tracker:
        return write_cohort(config.phantom, on_progress=lambda done, _total: tracker.advance_to(done))
