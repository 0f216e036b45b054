"""Files to tasks and rows to shards: how ingest's work is divided, and how its results get into the ledger."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from gmic_model.preprocess import preprocess_version
from schemas.config.run import RunConfig
from schemas.errors import MammoError, NoExamsFound, SourceUnavailable, StoreError, error_name
from schemas.exam import DeferredFile, QuarantinedFile
from schemas.layout import VIEWS_PER_EXAM
from tasks.adapters.buckets.exam_object import CHANGED
from tasks.adapters.cluster import Failed
from tasks.adapters.datasets.catalogue import profile_named
from tasks.adapters.gate.gate_settings import gate_settings
from tasks.adapters.gate.source_file import SourceFile
from tasks.adapters.inbox.ledger import Ledger
from tasks.adapters.inbox.lines import AcceptedFile
from tasks.adapters.inbox.shard_writer import HeaderJob, InspectedFile, PlannedImage, ShardJob, ShardResult
from tasks.adapters.inbox.shared_ledger import maker_of_ledger
from tasks.adapters.inbox.source_folder import (
    complete_files,
    mask_files,
    named_files,
    require_apart,
    told_subjects,
    with_other_mask,
)
from tasks.adapters.inbox.sources.exam_source import listing_of
from tasks.adapters.inbox.sources.source_bucket import require_bucket
from tasks.adapters.inbox.store_ledger import StoreLedger, adopted
from tasks.adapters.inbox.withdrawals.withdrawal import names_of_record
from tasks.adapters.labels.named_inputs import read_inputs, require_inputs, warn_of_masks
from tasks.adapters.pseudonyms import Pseudonyms, carry_store_id, open_key
from tasks.adapters.store.exam_store import ExamStore, create_store, reserve_rows, reserved_rows
from tasks.adapters.store.parts import is_new
from tasks.adapters.store.store_settings import mark_terms
from tasks.adapters.workspace import Workspace, delete_leftovers

logger = logging.getLogger(__name__)

_FILES_PER_HEADER_JOB = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What the source folder holds. Stays in memory: paths may spell names.

    Attributes:
        file_ids: Every file there.
        unsettled: Files to read: new, changed, not finished by an earlier run, or with another lesion mask than before.
        still_copied: Files that somebody is writing; left for the next run.
        unreadable: Folders and files that could not be looked at, by error (``source_folder.Listing``).
        left_out: Files that ``ingest.subjects_csv`` leaves out or does not name: masks, crops, tables.
        retold: Of those that were in the store, files of which the subjects file says something else now.
    """

    file_ids: frozenset[str]
    unsettled: tuple[SourceFile, ...]
    still_copied: int = 0
    unreadable: Mapping[str, int] = field(default_factory=dict)
    left_out: int = 0
    retold: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FileBatch:
    """Files of one inspect task.

    Attributes:
        is_comparison: Their headers are known: this is about their bytes.
    """

    index: int
    files: tuple[SourceFile, ...]
    is_comparison: bool = False

    @property
    def name(self) -> str:
        """Of its task run and its progress."""
        return f"{'compare' if self.is_comparison else 'inspect'}-batch-{self.index}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardBatch:
    """Shards of one ingest task."""

    index: int
    jobs: tuple[ShardJob, ...]


def scan_folder(config: RunConfig) -> Scan:
    """Lists the files of the source, a folder or a bucket, that the ledger has not settled.

    Raises:
        NoExamsFound: The source is missing or holds no file.
        SourceUnavailable: The source, or all that is in it, cannot be looked at now.
        PeerRefused: The bucket does not let us in.
        ConfigError: There is no such profile, or the workspace lies in the source folder.
        StoreError: The workspace's store was made with other settings.
        LabelError: Labels, boxes or masks that the config names are not there, or cannot be read.
    """
    profile_named(config.ingest.profile)
    ingest = config.ingest
    require_apart(config.workspace_dir, ingest.source_dir)
    require_bucket(ingest.bucket_url) if ingest.bucket_url else require_folder(ingest.source_dir)
    store, pseudonyms = open_exams(config)
    listing = listing_of(ingest, pseudonyms)
    files = named_files(listing.files, gate_settings(config))
    if not files and listing.unreadable:
        raise _unavailable("The source folder cannot be looked through", listing.unreadable)
    if not files:
        raise _no_exams(ingest.place, got="no file that subjects_csv names" if listing.files else "no file")
    require_inputs(ingest)
    told = told_subjects(files, gate_settings(config), pseudonyms)
    with StoreLedger(store) as ledger:
        ledger.key_digests(pseudonyms)
        ledger.forget_deferrals()
        retold = ledger.enter_subjects(told, {file.file_id for file in listing.files})
        ledger.renew(with_other_mask(config.ingest.masks_dir, ledger.mask_fingerprints(), files, pseudonyms))
        ledger.hand_over({file.file_id for file in files})
        known = ((file.file_id, file.fingerprint) for file in files)
        settled = ledger.settled(known, gate_settings(config).refuses_under)
    unsettled = [file for file in files if file.file_id not in settled]
    if unsettled:
        read_inputs(config.ingest, pseudonyms, config.evaluate.subgroup_columns)
    complete = complete_files(unsettled, settle_s=ingest.settle_s)
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
        unreadable=listing.unreadable,
        left_out=len(listing.files) - len(files),
        retold=retold,
    )


def require_folder(source_dir: Path) -> None:
    """Says at once that there is nothing to ingest.

    Raises:
        NoExamsFound: There is no such folder.
        SourceUnavailable: It cannot be opened.
    """
    failure = ""
    try:
        os.scandir(source_dir).close()
    except FileNotFoundError:
        raise _no_exams(source_dir, got="no such folder") from None
    except NotADirectoryError:
        raise _no_exams(source_dir, got="a file") from None
    except OSError as error:
        failure = error_name(error)
    if failure:
        raise _unavailable("The source folder cannot be opened", {failure: 1})


def require_readable(config: RunConfig, deferred: Sequence[DeferredFile], files: int) -> None:
    """Says when so many of a batch's files cannot be read that the share must be gone, so that the batch is tried again.

    Raises:
        SourceUnavailable: More than ``ingest.max_deferred_fraction`` of them.
    """
    if len(deferred) > config.ingest.max_deferred_fraction * files:
        reasons = Counter(file.reason for file in deferred)
        raise _unavailable(f"{len(deferred)} of {files} files cannot be read at the moment", reasons)


def _unavailable(what: str, reasons: Mapping[str, int]) -> SourceUnavailable:
    return SourceUnavailable(
        what,
        got=", ".join(f"{reason}: {count}" for reason, count in reasons.items()),
        remedy="see that the share is there and may be read, or, where workers were killed, that they have memory and this "
        "program; then run again: nothing of them is settled, nothing is withdrawn",
    )


def _no_exams(place: object, *, got: str) -> NoExamsFound:
    return NoExamsFound(
        f"No exams found in {place}",
        expected="DICOM files, subfolders included",
        got=got,
        remedy="set ingest.source_dir to the folder, or ingest.source to the bucket, that holds the exams",
    )


def header_batches(config: RunConfig, scan: Scan) -> tuple[FileBatch, ...]:
    """Divides the unsettled files into the flow's inspect tasks."""
    return _file_batches(config, scan.unsettled)


def comparison_batches(config: RunConfig, scan: Scan) -> tuple[FileBatch, ...]:
    """Divides the files that claim an image together with others; call it when every header is in the ledger.

    Only their digests tell a copy from a contradiction. Every other file is read once, when its image is written.
    """
    store, _ = open_exams(config)
    with StoreLedger(store) as ledger:
        rivals = ledger.undigested_rivals()
    return _file_batches(config, [file for file in scan.unsettled if file.file_id in rivals], is_comparison=True)


def _file_batches(config: RunConfig, files: Sequence[SourceFile], *, is_comparison: bool = False) -> tuple[FileBatch, ...]:
    size = config.ingest.exams_per_shard * VIEWS_PER_EXAM * config.ingest.shards_per_batch
    return tuple(
        FileBatch(index=index, files=tuple(files[start : start + size]), is_comparison=is_comparison)
        for index, start in enumerate(range(0, len(files), size))
    )


def shard_batches(config: RunConfig, scan: Scan) -> tuple[ShardBatch, ...]:
    """Gives every accepted image its row, grows the store, and divides the unwritten shards into tasks."""
    store, pseudonyms = open_exams(config)
    with StoreLedger(store) as ledger:
        ledger.hand_over(scan.file_ids)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        ledger.plan_rows(store.rows_per_shard, planned_utc=now, reserved=reserved_rows(store))
        reserve_rows(store, ledger.row_count())
        delete_leftovers(Workspace(config.workspace_dir).contact_sheet_path.parent)  # of the contact sheet
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


def mask_jobs(plan: Sequence[ShardBatch]) -> list[ShardJob]:
    """The shards some of whose images have a lesion mask."""
    return [job for batch in plan for job in batch.jobs if any(image.mask_path for image in job.images)]


def tell_of_masks(config: RunConfig, faults: Iterable[Mapping[str, int] | Failed[ShardJob]]) -> None:
    """Says which masks will not be used, by what was found shard by shard; what could not be read is met again later."""
    if config.ingest.masks_dir is None:
        return
    store, pseudonyms = open_exams(config)
    counted = Counter[str]()
    for each in faults:
        counted.update({} if isinstance(each, Failed) else each)
    with StoreLedger(store) as ledger:
        warn_of_masks(config.ingest, pseudonyms, (image_id for _, image_id, _ in ledger.claims()), counted)


def header_jobs(config: RunConfig, ledger: Ledger, batch: FileBatch) -> list[HeaderJob]:
    """With the digests of files that may have come before: they keep their row if their bytes are the same."""
    file_ids = {file.file_id for file in batch.files}
    known = file_ids if batch.is_comparison else ledger.digested(file_ids)
    groups = {is_known: [file for file in batch.files if (file.file_id in known) is is_known] for is_known in (True, False)}
    return [
        HeaderJob(
            files=tuple(files[start : start + _FILES_PER_HEADER_JOB]),
            gate=gate_settings(config),
            with_digest=with_digest,
        )
        for with_digest, files in groups.items()
        for start in range(0, len(files), _FILES_PER_HEADER_JOB)
    ]


def open_exams(config: RunConfig) -> tuple[ExamStore, Pseudonyms]:
    """The workspace's store and the key of its pseudonyms, for the one writer; both are made in a workspace without a store.

    Raises:
        StoreError: The store was made with other settings, or a part of it is missing, damaged, or of another store.
        ConfigError: The key is gone or cannot be opened.
    """
    workspace = Workspace(config.workspace_dir)
    pseudonyms = open_key(workspace.key_path, creates=is_new(workspace))
    store = create_store(
        workspace.store_dir,
        preprocess=config.preprocess,
        preprocess_version=preprocess_version(config.preprocess),
        rows_per_shard=config.ingest.exams_per_shard * VIEWS_PER_EXAM,
        key_id=pseudonyms.key_id,
        url=config.ingest.store,
        make_ledger=maker_of_ledger(config.ingest.ledger),
    )
    store = adopted(store)
    mark_terms(store.files, config.ingest.terms)  # before anything is in it
    carry_store_id(workspace.key_path, store.store_id)  # it carries none yet, or comes from a workspace of the same key
    return store, pseudonyms


def is_our_trouble(cause: BaseException | None) -> bool:
    """A full disk or a child that does not start is not the files' fault: they are not refused."""
    return isinstance(cause, OSError | MammoError | ImportError)


def not_inspected(failed: Failed[HeaderJob]) -> StoreError:
    """What to raise where headers cannot be read for a reason of ours."""
    return StoreError(
        "Files cannot be inspected",
        got=failed.error,
        remedy="see that memory and the workspace's disk suffice, or install what lacks, then run again; nothing is lost",
    )


def not_written(failed: Sequence[Failed[ShardJob]], shards: int) -> MammoError:
    """What to raise where shards cannot be written for a reason of ours."""
    is_away = all(isinstance(one.cause, SourceUnavailable) for one in failed)  # an object store that cannot be asked now
    return (SourceUnavailable if is_away else StoreError)(
        f"{len(failed)} of {shards} shards could not be written",
        got=failed[0].error,
        remedy="see that the store's place is there, with room, or install what lacks, and run again; finished shards are kept",
    )


def defer_failed(ledger: Ledger, files: Sequence[SourceFile], reason: str) -> list[DeferredFile]:
    """Enters files whose work failed, mostly of a killed worker: it opens no foreign file, so memory is what lacks."""
    deferred = [DeferredFile(file_id=file.file_id, reason=reason) for file in files]
    ledger.add_deferred(deferred)
    return deferred


def _enter_unread(
    ledger: Ledger,
    config: RunConfig,
    refused: Sequence[tuple[QuarantinedFile, str]],
    deferred: Sequence[DeferredFile],
) -> list[DeferredFile]:
    """Enters refusals and deferrals, and returns these."""
    passing = {file.file_id: why for file, fingerprint in refused if (why := _why_it_passes(ledger, file, fingerprint))}
    all_deferred = [*deferred, *(DeferredFile(file_id=file_id, reason=why) for file_id, why in passing.items())]
    ledger.add_deferred(all_deferred)
    under = gate_settings(config).refuses_under
    ledger.add_quarantined([(file, f"{print_} {under}") for file, print_ in refused if file.file_id not in passing])
    return [one for one in all_deferred if one.reason != _EMPTIED]  # such a one may stay so: it stops no run


def _why_it_passes(ledger: Ledger, file: QuarantinedFile, fingerprint: str) -> str:
    """What says that a refusal is not for good; "" = nothing. A share that goes away can show a file without its content."""
    if file.reason_codes == ("F07",):
        return CHANGED
    return _EMPTIED if fingerprint.startswith("0-") and ledger.digested([file.file_id]) else ""


_EMPTIED = "empty, and held an image"


def enter_headers(ledger: StoreLedger, config: RunConfig, inspected: Sequence[InspectedFile]) -> tuple[int, list[DeferredFile]]:
    """Enters what the headers of some files gave; returns the number accepted, and the files that could not be read."""
    gone = ledger.withdrawn_names()
    accepted, withdrawn = list[AcceptedFile](), list[AcceptedFile]()
    for item in inspected:
        if item.record is not None:
            is_withdrawn = bool(gone) and not gone.isdisjoint(names_of_record(item.record))
            (withdrawn if is_withdrawn else accepted).append((item.file, item.record))
    deferred = _enter_unread(
        ledger,
        config,
        [(item.refused, item.file.fingerprint) for item in inspected if item.refused is not None],
        [item.deferred for item in inspected if item.deferred is not None],
    )
    ledger.add_accepted(accepted)
    ledger.add_withdrawn(withdrawn)
    return len(accepted), deferred


def enter_shard(ledger: Ledger, config: RunConfig, result: ShardResult) -> list[DeferredFile]:
    """Enters a shard that is on disk; returns the files that could not be read."""
    deferred = _enter_unread(ledger, config, result.refused, result.deferred)
    ledger.add_written(result.written)
    return deferred


def unwritten_jobs(ledger: Ledger, batch: ShardBatch) -> list[ShardJob]:
    """The batch's jobs without the images that are written: what a retry has left to do."""
    unwritten = ledger.unwritten_rows()
    jobs = (replace(job, images=tuple(image for image in job.images if image.file.file_id in unwritten)) for job in batch.jobs)
    return [job for job in jobs if job.images]
