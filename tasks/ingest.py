"""Ingest: DICOM files to the exam store, in a few hundred visible tasks. The ledger decides what is left to do.

Not cached by Prefect: a rerun asks the ledger, which knows every file and row, and touches only what is unsettled.
"""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from schemas.config.run import RunConfig, Stage
from schemas.errors import ConfigError
from schemas.exam import DeferredFile
from tasks.adapters.cluster import Failed, run_all
from tasks.adapters.inbox import batches, shard_writer
from tasks.adapters.inbox.batches import FileBatch, Scan, ShardBatch
from tasks.adapters.inbox.store_ledger import StoreLedger
from tasks.artifacts import progress
from tasks.retries import TRIED_AGAIN


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
            remedy="to read every file again, delete exam_store and ingest in the workspace",
        )
    return batches.scan_folder(config)


@task(
    name="inspect-batch",
    task_run_name="{batch.name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    **TRIED_AGAIN,
)
def inspect_batch(config: RunConfig, scheduler: str, batch: FileBatch) -> int:
    """Reads headers through the gate and enters their fate in the ledger; returns the number accepted.

    Raises:
        StoreError: Something of ours failed. The files stay unsettled.
        SourceUnavailable: Too many files cannot be read now. They stay unsettled, for the retry and for the next run.
    """
    store, _ = batches.open_exams(config)
    accepted, deferred = 0, list[DeferredFile]()
    with StoreLedger(store) as ledger, progress(batch.name, len(batch.files), "files") as tracker:
        done = 0
        jobs = batches.header_jobs(config, ledger, batch)
        for result in run_all(scheduler, shard_writer.inspect_files, jobs, halves=shard_writer.halves_of_header_job):
            if isinstance(result, Failed):
                if batches.is_our_trouble(result.cause):
                    raise batches.not_inspected(result) from result.cause
                deferred += batches.defer_failed(ledger, result.item.files, result.reason)
                done += len(result.item.files)
            else:
                some_accepted, some_deferred = batches.enter_headers(ledger, config, result)
                accepted, done = accepted + some_accepted, done + len(result)
                deferred += some_deferred
            tracker.advance_to(done)
    batches.require_readable(config, deferred, len(batch.files))
    return accepted


@task(name="plan-shards", cache_policy=NO_CACHE, persist_result=False)
def plan_shards(config: RunConfig, scheduler: str, scan: Scan) -> tuple[ShardBatch, ...]:
    """Gives every accepted image its row, divides the unwritten shards into tasks, and looks at the masks of their images."""
    plan = batches.shard_batches(config, scan)
    jobs = batches.mask_jobs(plan)
    batches.tell_of_masks(
        config, run_all(scheduler, shard_writer.faults_of_masks, jobs, halves=shard_writer.halves_of_shard_job)
    )
    return plan


@task(
    name="ingest-batch",
    task_run_name="ingest-batch-{batch.index}",
    cache_policy=NO_CACHE,
    persist_result=False,
    **TRIED_AGAIN,
)
def ingest_batch(config: RunConfig, scheduler: str, batch: ShardBatch) -> int:
    """Fills the batch's shards; a shard is in the ledger as soon as it is on disk. Returns the images written.

    Raises:
        StoreError: Shards could not be written. Their images stay unsettled, for the retry and for the next run.
        SourceUnavailable: Too many files cannot be read now, or the store's bucket cannot be asked; likewise.
    """
    store, _ = batches.open_exams(config)
    written, deferred = 0, list[DeferredFile]()
    images = sum(len(job.images) for job in batch.jobs)
    with StoreLedger(store) as ledger, progress(f"ingest-{batch.index}", images, "images") as tracker:
        jobs = batches.unwritten_jobs(ledger, batch)  # a retried batch leaves out the images that it has written
        done = images - sum(len(job.images) for job in jobs)
        unwritable: list[Failed[shard_writer.ShardJob]] = []
        for result in run_all(scheduler, shard_writer.write_exam_shard, jobs, halves=shard_writer.halves_of_shard_job):
            if not isinstance(result, Failed):
                deferred += batches.enter_shard(ledger, config, result)
                written += len(result.written)
                done += len(result.written) + len(result.refused) + len(result.deferred)
            elif batches.is_our_trouble(result.cause):
                unwritable.append(result)
            else:
                deferred += batches.defer_failed(ledger, [image.file for image in result.item.images], result.reason)
                done += len(result.item.images)
            tracker.advance_to(done)
    if unwritable:
        raise batches.not_written(unwritable, len(jobs)) from unwritable[0].cause
    batches.require_readable(config, deferred, images)
    return written
