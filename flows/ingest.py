"""Ingest: scan -> inspect headers -> plan rows -> fill shards -> publish."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from prefect import flow
from prefect.futures import PrefectFuture, wait
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.utilities.annotations import quote

from schemas.config.run import RunConfig
from schemas.reports.data import IngestReport
from tasks.adapters.cluster import open_cluster
from tasks.adapters.workspace import Workspace, held_lock
from tasks.artifacts import run_name
from tasks.ingest import comparison_batches, header_batches, ingest_batch, inspect_batch, plan_shards, scan_source
from tasks.publish import publish_exams

Records = TypeVar("Records")
TWO_BATCHES = cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=2))
"""The next batch fills the tail of the one before; Dask does the work."""


@flow(name="ingest", flow_run_name=run_name, task_runner=TWO_BATCHES)
def ingest(config: RunConfig) -> IngestReport:
    """DICOM files of ``ingest.source_dir`` into the workspace's exam store."""
    return ingest_steps(config)


def ingest_steps(config: RunConfig) -> IngestReport:
    """The flow's body, shared with the pipeline."""
    store_dir = Workspace(config.workspace_dir).store_dir
    with held_lock(store_dir, purpose="ingest", wait_s=config.ingest.lock_wait_s):
        scan = scan_source(config)
        if scan.unsettled:
            with open_cluster(config.ingest.dask) as scheduler:
                for batches_of in (header_batches, comparison_batches):
                    batches = batches_of(config, scan)
                    _all_results([inspect_batch.submit(config, scheduler, _unsearched(batch)) for batch in batches])
                plan = plan_shards(config, _unsearched(scan))
                _all_results([ingest_batch.submit(config, scheduler, _unsearched(batch)) for batch in plan])
        return publish_exams(config, _unsearched(scan))


def _all_results(batches: list[PrefectFuture[int]]) -> None:
    """Raises what a batch raised, after every other one has ended: leaving the flow would cancel those that wait."""
    wait(batches)
    for batch in batches:
        batch.result()


def _unsearched(records: Records) -> Records:
    """As a task parameter that Prefect passes on as it is: it would look for futures in each of a million file records."""
    return cast("Records", quote(records))
