"""Ingest: (fetch from a PACS ->) scan -> inspect headers -> plan rows -> fill shards -> publish."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, cast

from prefect import Task
from prefect.futures import PrefectFuture, wait
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.utilities.annotations import quote

from schemas.config.run import RunConfig
from schemas.reports.data import IngestReport
from tasks.adapters.cluster import open_cluster
from tasks.adapters.inbox.batches import Scan, comparison_batches, header_batches
from tasks.adapters.inbox.source_folder import require_apart
from tasks.adapters.pages.withdrawn import finish_withdrawals
from tasks.adapters.store.objects.bucket_store import held_store
from tasks.adapters.workspace import Workspace
from tasks.artifacts import config_flow
from tasks.fetch import fetch_exams
from tasks.ingest import ingest_batch, inspect_batch, plan_shards, scan_source
from tasks.publish import publish_exams

TWO_BATCHES = cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=2))
"""The next batch fills the tail of the one before; Dask does the work."""


@config_flow(name="ingest", task_runner=TWO_BATCHES)
def ingest(config: RunConfig) -> IngestReport:
    """DICOM files of ``ingest.source_dir`` into the workspace's exam store."""
    return ingest_steps(config)


def ingest_steps(config: RunConfig, submit: Submit | None = None) -> IngestReport:
    """The flow's body, shared with the pipeline.

    Args:
        config: The run.
        submit: How tasks are started; by default as Prefect's.

    Raises:
        ConfigError: The workspace lies in the source folder; nothing is made of it.
    """
    require_apart(config.workspace_dir, config.ingest.source_dir)
    submit = submit or PrefectSubmit()
    if config.ingest.fetched_from is not None:
        submit.one(fetch_exams, config)
    with held_store(config, purpose="ingest"):
        finish_withdrawals(Workspace(config.workspace_dir))
        scan: Scan = submit.one(scan_source, config)
        if scan.unsettled:
            with open_cluster(config.ingest.dask, files=len(scan.unsettled)) as scheduler:
                for batches_of in (header_batches, comparison_batches):
                    submit.each(inspect_batch, config, scheduler, batches_of(config, scan))
                submit.each(ingest_batch, config, scheduler, submit.one(plan_shards, config, scheduler, scan))
        report: IngestReport = submit.one(publish_exams, config, scan)
        return report


class Submit(Protocol):
    """How the steps of ingest are started: by Prefect, or as plain functions one after the other."""

    def one(self, step: Task[..., Any], config: RunConfig, *records: Any) -> Any:
        """What the step returns."""

    def each(self, step: Task[..., int], config: RunConfig, scheduler: str, batches: Iterable[Any]) -> None:
        """Runs the step on every batch, and raises what one of them raised when all have ended."""


class PrefectSubmit:
    """Steps as Prefect's tasks, batches beside each other as the flow's task runner allows."""

    def one(self, step: Task[..., Any], config: RunConfig, *records: Any) -> Any:
        """See ``Submit``."""
        return step(config, *map(_unsearched, records))

    def each(self, step: Task[..., int], config: RunConfig, scheduler: str, batches: Iterable[Any]) -> None:
        """See ``Submit``. It raises after every batch has ended: leaving the flow would cancel those that wait."""
        futures = [step.submit(config, scheduler, _unsearched(batch)) for batch in batches]
        wait(futures)
        for future in futures:
            future.result()


def _unsearched(records: Any) -> Any:
    """As a task parameter that Prefect passes on as it is: it would look for futures in each of a million file records."""
    return quote(records)
