"""Ingest in this process, without a Prefect server: the tasks' own functions on a real Dask cluster."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas.config.ingest import LocalDask
from schemas.config.run import RunConfig
from schemas.reports.data import IngestReport
from tasks.adapters.cluster import open_cluster
from tasks.adapters.workspace import Workspace, held_lock
from tasks.ingest import comparison_batches, header_batches, ingest_batch, inspect_batch, plan_shards, scan_source
from tasks.publish import publish_exams

IngestHere = Callable[[RunConfig], IngestReport]


@pytest.fixture(scope="session")
def scheduler() -> Iterator[str]:
    """A cluster of one worker."""
    with open_cluster(LocalDask(n_workers=1, memory_limit="1GiB")) as address:
        yield address


@pytest.fixture(scope="session")
def ingest_here(scheduler: str) -> IngestHere:
    """``ingest_here(config)``: the steps of ``flows.ingest``, in their order."""

    def ingest(config: RunConfig) -> IngestReport:
        with held_lock(Workspace(config.workspace_dir).store_dir, purpose="test"):
            scan = scan_source.fn(config)
            for batches_of in (header_batches, comparison_batches):
                for files in batches_of(config, scan):
                    inspect_batch.fn(config, scheduler, files)
            for shards in plan_shards.fn(config, scan):
                ingest_batch.fn(config, scheduler, shards)
            return publish_exams.fn(config, scan)

    return ingest


@pytest.fixture
def two_exams(tmp_path: Path, cohort_dir: Path) -> Path:
    """A cohort folder with the first two exams, their labels and masks; file names still spell names."""
    folder = tmp_path / "cohort"
    exams = sorted(path for path in (cohort_dir / "dicom").iterdir() if path.is_dir())
    shutil.copytree(cohort_dir, folder, ignore=shutil.ignore_patterns(*(exam.name for exam in exams[2:]), "CANARY-*"))
    return folder
