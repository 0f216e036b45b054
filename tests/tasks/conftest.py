"""Ingest in this process, without a Prefect server: the tasks' own functions on a real Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from flows.ingest import ingest_steps
from mammo_tests.plain_tasks import PlainSubmit
from schemas.config.ingest import ExistingDask, LocalDask
from schemas.config.run import RunConfig
from schemas.reports.data import IngestReport
from tasks.adapters.cluster import open_cluster

IngestHere = Callable[[RunConfig], IngestReport]


@pytest.fixture(scope="session")
def scheduler() -> Iterator[str]:
    """A cluster of one worker."""
    with open_cluster(LocalDask(n_workers=1, memory_limit="1GiB")) as address:
        yield address


@pytest.fixture(scope="session")
def ingest_here(scheduler: str) -> IngestHere:
    """``ingest_here(config)``: the steps of ``flows.ingest`` as plain functions, on the session's cluster."""
    dask = ExistingDask(kind="address", address=scheduler)

    def ingest(config: RunConfig) -> IngestReport:
        section = config.ingest.model_copy(update={"dask": dask})
        return ingest_steps(config.model_copy(update={"ingest": section}), submit=PlainSubmit())

    return ingest
