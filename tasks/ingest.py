"""Ingest: DICOM files to the exam store, in a few hundred visible tasks. The ledger decides what is left to do.

Not cached by Prefect: a rerun asks the ledger, which knows every file and row, and touches only what is unsettled.
"""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from schemas.config.run import RunConfig, Stage
from schemas.errors import ConfigError
from tasks.adapters.cluster import Failed, run_all
from tasks.adapters.inbox.batches import (
    FileBatch,
    Scan,
    ShardBatch,
    enter_headers,
    enter_shard,
    halves_of_header_job,
    halves_of_shard_job,
    header_jobs,
    is_our_trouble,
    not_inspected,
    not_written,
    open_exams,
    refuse_killers,
    scan_folder,
    shard_batches,
)
from tasks.adapters.inbox.shard_writer import ShardJob, inspect_files, write_exam_shard
from tasks.adapters.inbox.store_ledger import StoreLedger
from tasks.artifacts import progress
from tasks.retries import RETRY_DELAYS_S, failed_transiently


@task(name="scan-source", cache_policy=NO_CACHE, persist_result=False)
def scan_source(config: RunConfig) -> Scan:
    """Lists the files that the ledger has not settled.

    Raises:
        NoExamsFound: The folder is missing or holds no file.
        ConfigError: There is no such profile, or ingest is to be forced.
        StoreError: The workspace's store was made with other settings.
    """
    if Stage.INGEST in config.force:
        raise ConfigError(
            "Ingest cannot be forced: its ledger decides file by file what is left to do",
            remedy="to read every file again, delete exam_store in the workspace",
        )
    return scan_folder(config)


@task(name="inspect-batch", task_run_name="{batch.name}", cache_policy=NO_CACHE, persist_result=False)
def inspect_batch(config: RunConfig, scheduler: str, batch: FileBatch) -> int:
    """Reads headers through the gate and enters their fate in the ledger; returns the number accepted.

    Raises:
        StoreError: Something of ours failed. The files stay unsettled.
    """
    store, _ = open_exams(config)
    accepted = 0
    with StoreLedger(store) as ledger, progress(batch.name, len(batch.files), "files") as tracker:
        done = 0
        jobs = header_jobs(config, ledger, batch)
        for result in run_all(scheduler, inspect_files, jobs, halves=halves_of_header_job):
            if isinstance(result, Failed) and is_our_trouble(result.cause):
                raise not_inspected(result) from result.cause
            if isinstance(result, Failed):
                refuse_killers(ledger, config, result.item.files, result.error)
                done += len(result.item.files)
            else:
                accepted += enter_headers(ledger, config, result)
                done += len(result)
            tracker.advance_to(done)
    return accepted


@task(name="plan-shards", cache_policy=NO_CACHE, persist_result=False)
def plan_shards(config: RunConfig, scan: Scan) -> tuple[ShardBatch, ...]:
    """Gives every accepted image its row, grows the store, and divides the unwritten shards into tasks."""
    return shard_batches(config, scan)


@task(
    name="ingest-batch",
    task_run_name="ingest-batch-{batch.index}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=list(RETRY_DELAYS_S),
    retry_condition_fn=failed_transiently,
)
def ingest_batch(config: RunConfig, scheduler: str, batch: ShardBatch) -> int:
    """Fills the batch's shards; a shard is in the ledger as soon as it is on disk. Returns the images written.

    Raises:
        StoreError: Shards could not be written. Their images stay unsettled, for the retry and for the next run.
    """
    store, _ = open_exams(config)
    written = 0
    images = sum(len(job.images) for job in batch.jobs)
    with StoreLedger(store) as ledger, progress(f"ingest-{batch.index}", images, "images") as tracker:
        unwritten = ledger.unwritten_rows()  # a retried batch leaves out the shards it finished
        jobs = [job for job in batch.jobs if any(image.file.file_id in unwritten for image in job.images)]
        done = images - sum(len(job.images) for job in jobs)
        unwritable: list[Failed[ShardJob]] = []
        for result in run_all(scheduler, write_exam_shard, jobs, halves=halves_of_shard_job):
            if not isinstance(result, Failed):
                written += enter_shard(ledger, config, result)
                done += len(result.written) + len(result.refused)
            elif is_our_trouble(result.cause):
                unwritable.append(result)
            else:
                refuse_killers(ledger, config, [image.file for image in result.item.images], result.error)
                done += len(result.item.images)
            tracker.advance_to(done)
    if unwritable:
        raise not_written(unwritable, len(jobs)) from unwritable[0].cause
    return written


# ---------------------------------------------------------------------------------------------------------------------
