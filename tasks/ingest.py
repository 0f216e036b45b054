"""Ingest: DICOM files to the exam store, in a few hundred visible tasks. The ledger decides what is left to do.

Not cached by Prefect: a rerun asks the ledger, which knows every file and row, and touches only what is unsettled.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from prefect import task
from prefect.cache_policies import NO_CACHE

from schemas.config.run import RunConfig, Stage
from schemas.errors import ConfigError, StoreError
from tasks.adapters.cluster import Failed, run_all
from tasks.adapters.datasets.catalogue import profile_named
from tasks.adapters.gate.settings import gate_settings
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
    killed,
    no_exams,
    open_exams,
    refuse_files,
    refused_fingerprint,
    require_folder,
    with_other_mask,
)
from tasks.adapters.inbox.ledger import Ledger
from tasks.adapters.inbox.shard_writer import (
    PlannedImage,
    ShardJob,
    inspect_files,
    write_exam_shard,
)
from tasks.adapters.inbox.source_folder import complete_files, mask_files, source_files
from tasks.adapters.store.exam_store import reserve_rows
from tasks.adapters.workspace import Workspace, delete_leftovers
from tasks.artifacts import progress
from tasks.retries import RETRY_DELAYS_S, failed_transiently

logger = logging.getLogger(__name__)


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
    source_dir = config.ingest.source_dir
    profile = profile_named(config.ingest.profile).name
    require_folder(source_dir)
    store, pseudonyms = open_exams(config)
    files = source_files(source_dir, pseudonyms)
    if not files:
        raise no_exams(source_dir, got="no file")
    with Ledger(store.ledger_path) as ledger:
        ledger.rewrite(with_other_mask(config.ingest, ledger, files, pseudonyms))
        unsettled = [
            file
            for file in files
            if not ledger.is_known(file.file_id, file.fingerprint)
            and not ledger.is_known(file.file_id, refused_fingerprint(file.fingerprint, profile))
        ]
    complete = complete_files(unsettled, settle_s=config.ingest.settle_s)
    logger.info(
        "found %d files, %d of them new or changed, %d still being copied",
        len(files),
        len(complete),
        len(unsettled) - len(complete),
    )
    return Scan(
        file_ids=frozenset(file.file_id for file in files),
        unsettled=tuple(complete),
        still_copied=len(unsettled) - len(complete),
    )


@task(name="inspect-batch", task_run_name="{batch.name}", cache_policy=NO_CACHE, persist_result=False)
def inspect_batch(config: RunConfig, scheduler: str, batch: FileBatch) -> int:
    """Reads headers through the gate and enters their fate in the ledger; returns the number accepted.

    Raises:
        StoreError: Something of ours failed. The files stay unsettled.
    """
    store, _ = open_exams(config)
    accepted = 0
    with Ledger(store.ledger_path) as ledger, progress(batch.name, len(batch.files), "files") as tracker:
        done = 0
        jobs = header_jobs(config, ledger, batch)
        for result in run_all(scheduler, inspect_files, jobs, halves=halves_of_header_job):
            if isinstance(result, Failed) and is_our_trouble(result.cause):
                raise StoreError(
                    "Files cannot be inspected",
                    got=result.error,
                    remedy="see that memory and the workspace's disk suffice, then run again; nothing is lost",
                ) from result.cause
            if isinstance(result, Failed):
                files = result.item.files
                refuse_files(ledger, config, [(killed(file, result.error), file.fingerprint) for file in files])
                done += len(files)
            else:
                accepted += enter_headers(ledger, config, result)
                done += len(result)
            tracker.advance_to(done)
    return accepted


@task(name="plan-shards", cache_policy=NO_CACHE, persist_result=False)
def plan_shards(config: RunConfig, scan: Scan) -> tuple[ShardBatch, ...]:
    """Gives every accepted image its row, grows the store, and divides the unwritten shards into tasks."""
    store, pseudonyms = open_exams(config)
    with Ledger(store.ledger_path) as ledger:
        ledger.plan_rows(store.rows_per_shard, planned_utc=datetime.now(UTC).isoformat(timespec="seconds"))
        reserve_rows(store, ledger.row_count())
        delete_leftovers(Workspace(config.workspace_dir).stage_dir("quarantine"))  # of the contact sheet
        unwritten = ledger.unwritten_rows()
    masks = {} if config.ingest.masks_dir is None else mask_files(config.ingest.masks_dir, pseudonyms)
    images_by_shard: dict[int, list[PlannedImage]] = {}
    for file in scan.unsettled:
        if file.file_id in unwritten:
            row, image_id = unwritten[file.file_id]
            mask_path, mask_fingerprint = masks.get(image_id, (None, ""))
            planned = PlannedImage(file=file, row=row, mask_path=mask_path, mask_fingerprint=mask_fingerprint)
            images_by_shard.setdefault(row // store.rows_per_shard, []).append(planned)
    jobs = [
        ShardJob(
            store=store,
            shard=shard,
            images=tuple(sorted(images, key=lambda image: image.row)),
            gate=gate_settings(config),
            preprocess=config.preprocess,
        )
        for shard, images in sorted(images_by_shard.items())
    ]
    size = config.ingest.shards_per_batch
    return tuple(
        ShardBatch(index=i, jobs=tuple(jobs[start : start + size])) for i, start in enumerate(range(0, len(jobs), size))
    )


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
    with Ledger(store.ledger_path) as ledger, progress(f"ingest-{batch.index}", images, "images") as tracker:
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
                killed = [(killed(image.file, result.error), image.file.fingerprint) for image in result.item.images]
                refuse_files(ledger, config, killed)
                done += len(killed)
            tracker.advance_to(done)
    if unwritable:
        raise StoreError(
            f"{len(unwritable)} of {len(jobs)} shards could not be written",
            got=unwritable[0].error,
            remedy="see that the store's disk is there and has room, then run again; finished shards are kept",
        ) from unwritable[0].cause
    return written


# ---------------------------------------------------------------------------------------------------------------------
