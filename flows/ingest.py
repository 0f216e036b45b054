"""Ingest: scan -> inspect headers -> plan rows -> fill shards -> publish."""

from __future__ import annotations

from typing import Any, cast

from prefect import flow
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from schemas.config import RunConfig
from schemas.reports import IngestReport
from tasks.adapters.cluster import open_cluster
from tasks.adapters.workspace import Workspace, held_lock
from tasks.ingest import header_batches, ingest_batch, inspect_batch, plan_shards, scan_source
from tasks.publish import publish_exams

TWO_BATCHES = cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=2))
"""The next batch fills the tail of the one before; Dask does the work."""


@flow(name="ingest", flow_run_name="ingest-{config.name}", task_runner=TWO_BATCHES)
def ingest(config: RunConfig) -> IngestReport:
    """DICOM files of ``ingest.source_dir`` into the workspace's exam store."""
    return ingest_steps(config)


def ingest_steps(config: RunConfig) -> IngestReport:
    """The flow's body, shared with the pipeline."""
    with held_lock(Workspace(config.workspace_dir).store_dir, purpose="ingest"):
        scan = scan_source(config)
        if scan.unsettled:
            with open_cluster(config.ingest.dask) as scheduler:
                for inspected in [inspect_batch.submit(config, scheduler, batch) for batch in header_batches(config, scan)]:
                    inspected.result()
                for written in [ingest_batch.submit(config, scheduler, batch) for batch in plan_shards(config, scan)]:
                    written.result()
        return publish_exams(config, scan)
