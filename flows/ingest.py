"""Ingest: (fetch from a PACS ->) scan -> inspect headers -> plan rows -> fill shards -> publish."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Protocol, cast

from prefect import Task
from prefect.futures import PrefectFuture, wait
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.utilities.annotations import quote

from schemas.config.run import RunConfig
from schemas.errors import NoExamsFound, PeerRefused, PeerUnavailable
from schemas.reports.data import IngestReport
from tasks.adapters.cluster import open_cluster
from tasks.adapters.inbox.batches import Scan, comparison_batches, header_batches
from tasks.adapters.inbox.shared_ledger import held_ledger
from tasks.adapters.inbox.source_folder import require_apart
from tasks.adapters.pages.withdrawn import finish_withdrawals
from tasks.adapters.workspace import Workspace
from tasks.artifacts import config_flow
from tasks.fetch import fetch_exams
from tasks.ingest import ingest_batch, inspect_batch, plan_shards, scan_source
from tasks.publish import publish_exams

logger = logging.getLogger(__name__)

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
        PeerUnavailable: The source of exams cannot be asked. What is here is published.
        PeerRefused: It does not accept us; likewise.
    """
    report, silent = ingest_what_is_here(config, submit)
    if silent is not None:
        done = f"ingested: {report.images_published:,} images are published, {report.images_new:,} of them new"
        raise told_at_the_end(silent, done) from silent
    return report


def told_at_the_end(silent: PeerUnavailable | PeerRefused, done: str) -> PeerUnavailable | PeerRefused:
    """The failure of a source of exams, with what became of what is here: else nobody would look for it."""
    return type(silent)(f"{str(silent).rstrip('.')}. What is here was {done}")


def ingest_what_is_here(
    config: RunConfig, submit: Submit | None = None
) -> tuple[IngestReport, PeerUnavailable | PeerRefused | None]:
    """Ingest, and why the source of exams could not be asked: for who goes on with what is here, and says so at the end.

    What others push into the inbox has nothing to do with a PACS that is away, and would wait until that answers.

    Raises:
        PeerUnavailable: The source of exams cannot be asked, and nothing is here that can be used.
        PeerRefused: It does not accept us; likewise.
    """
    require_apart(config.workspace_dir, config.ingest.source_dir)
    submit = submit or PrefectSubmit()
    not_fetched, silent = "", None
    if config.ingest.fetched_from is not None:
        try:
            not_fetched = submit.one(fetch_exams, config).left_text
        except (PeerUnavailable, PeerRefused) as failed:
            not_fetched, silent = str(failed), failed
            logger.warning("what is here is ingested without the exams of ingest.source: %s", failed)
    try:
        return _ingested(config, submit, not_fetched), silent
    except NoExamsFound as nothing:
        if silent is None:
            raise
        logger.warning("%s", nothing)  # that files were refused is nothing that the PACS will put right
        raise silent from nothing


def _ingested(config: RunConfig, submit: Submit, not_fetched: str) -> IngestReport:
    with held_ledger(config, purpose="ingest"):
        finish_withdrawals(Workspace(config.workspace_dir))
        scan: Scan = submit.one(scan_source, config)
        if scan.unsettled:
            with open_cluster(config.ingest.dask, files=len(scan.unsettled)) as scheduler:
                for batches_of in (header_batches, comparison_batches):
                    submit.each(inspect_batch, config, scheduler, batches_of(config, scan))
                submit.each(ingest_batch, config, scheduler, submit.one(plan_shards, config, scheduler, scan))
        report: IngestReport = submit.one(publish_exams, config, scan, not_fetched)
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
