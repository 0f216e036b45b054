"""Ingest: DICOM files to the exam store, in a few hundred visible tasks. The ledger decides what is left to do.

Not cached by Prefect: a rerun asks the ledger, which knows every file and row, and touches only what is unsettled.
"""

from __future__ import annotations

import logging
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from gmic_model.preprocess import PREPROCESS_VERSION
from schemas.config import IngestConfig, RunConfig, Stage
from schemas.errors import NoExamsFound, TooManyFailures
from schemas.exam import UNKNOWN_LABEL, Laterality, QuarantinedFile
from schemas.layout import VIEWS_PER_EXAM
from schemas.reports import IngestReport
from tasks.adapters.cluster import Failed, run_all
from tasks.adapters.exam_store import ExamStore, create_store, data_version, publish, reserve_rows
from tasks.adapters.gate import advise_profile
from tasks.adapters.labels import LabelJoin, join_labels, read_labels
from tasks.adapters.ledger import AcceptedFile, Ledger
from tasks.adapters.pseudonyms import Pseudonyms, open_key
from tasks.adapters.shard_writer import (
    HeaderJob,
    InspectedFile,
    PlannedImage,
    ShardJob,
    ShardResult,
    SourceFile,
    inspect_files,
    write_exam_shard,
)
from tasks.adapters.workspace import Workspace
from tasks.artifacts import progress, show_table
from tasks.stages import save_report

logger = logging.getLogger(__name__)

_FILES_PER_HEADER_JOB = 64
_LEFT_ALONE = (".part", ".tmp")  # still being written by somebody


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What the source folder holds. Stays in memory: paths may spell names."""

    files_found: int
    unsettled: tuple[SourceFile, ...]
    written_before: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FileBatch:
    """Files of one inspect task."""

    index: int
    files: tuple[SourceFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardBatch:
    """Shards of one ingest task."""

    index: int
    jobs: tuple[ShardJob, ...]


@task(name="scan-source", cache_policy=NO_CACHE, persist_result=False)
def scan_source(config: RunConfig) -> Scan:
    """Lists the files that the ledger has not settled.

    Raises:
        NoExamsFound: The folder is missing or holds no file.
        StoreError: The workspace's store was made with other settings.
    """
    store, pseudonyms = _open(config)
    source_dir = config.ingest.source_dir
    files = [_source_file(path, source_dir, pseudonyms) for path in _walk(source_dir)]
    if not files:
        raise NoExamsFound(
            f"No exams found in {source_dir}",
            expected="a folder of DICOM files, subfolders included",
            got="no file" if source_dir.is_dir() else "no such folder",
            remedy="set ingest.source_dir to the folder that holds the exams",
        )
    with Ledger(store.ledger_path) as ledger:
        unsettled = tuple(file for file in files if not ledger.is_known(file.file_id, file.fingerprint))
        written = len(ledger.manifest_lines())
    logger.info("found %d files, %d of them new or changed", len(files), len(unsettled))
    return Scan(files_found=len(files), unsettled=unsettled, written_before=written)


def header_batches(config: RunConfig, scan: Scan) -> tuple[FileBatch, ...]:
    """Divides the unsettled files into the flow's inspect tasks."""
    size = config.ingest.exams_per_shard * VIEWS_PER_EXAM * config.ingest.shards_per_batch
    starts = range(0, len(scan.unsettled), size)
    return tuple(FileBatch(index=i, files=scan.unsettled[start : start + size]) for i, start in enumerate(starts))


@task(name="inspect-batch", task_run_name="inspect-batch-{batch.index}", cache_policy=NO_CACHE, persist_result=False)
def inspect_batch(config: RunConfig, scheduler: str, batch: FileBatch) -> int:
    """Reads headers through the gate and enters their fate in the ledger; returns the number accepted."""
    store, _ = _open(config)
    jobs = [
        HeaderJob(
            files=batch.files[start : start + _FILES_PER_HEADER_JOB],
            source_dir=config.ingest.source_dir,
            profile=config.ingest.profile,
            key_path=Workspace(config.workspace_dir).key_path,
        )
        for start in range(0, len(batch.files), _FILES_PER_HEADER_JOB)
    ]
    accepted = 0
    with Ledger(store.ledger_path) as ledger, progress(f"inspect-{batch.index}", len(batch.files), "files") as tracker:
        done = 0
        for result in run_all(scheduler, inspect_files, jobs):
            if isinstance(result, Failed):
                files = result.item.files
                ledger.add_quarantined([(_killed(file, result.error), file.fingerprint) for file in files])
                done += len(files)
            else:
                accepted += _enter_headers(ledger, result)
                done += len(result)
            tracker.advance_to(done)
    return accepted


@task(name="plan-shards", cache_policy=NO_CACHE, persist_result=False)
def plan_shards(config: RunConfig, scan: Scan) -> tuple[ShardBatch, ...]:
    """Gives every accepted image its row, grows the store, and divides the unwritten shards into tasks."""
    store, pseudonyms = _open(config)
    with Ledger(store.ledger_path) as ledger:
        ledger.plan_rows(store.rows_per_shard)
        reserve_rows(store, ledger.row_count())
        unwritten = ledger.unwritten_rows()
    masks = _masks_by_image(config.ingest, pseudonyms)
    images_by_shard: dict[int, list[PlannedImage]] = {}
    for file in scan.unsettled:
        if file.file_id in unwritten:
            row, image_id = unwritten[file.file_id]
            planned = PlannedImage(file=file, row=row, mask_path=masks.get(image_id))
            images_by_shard.setdefault(row // store.rows_per_shard, []).append(planned)
    jobs = [
        ShardJob(
            store=store,
            shard=shard,
            images=tuple(sorted(images, key=lambda image: image.row)),
            source_dir=config.ingest.source_dir,
            profile=config.ingest.profile,
            key_path=Workspace(config.workspace_dir).key_path,
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
    retries=1,
    retry_delay_seconds=5,
)
def ingest_batch(config: RunConfig, scheduler: str, batch: ShardBatch) -> int:
    """Fills the batch's shards; a shard is in the ledger as soon as it is on disk. Returns the images written."""
    store, _ = _open(config)
    written = 0
    images = sum(len(job.images) for job in batch.jobs)
    with Ledger(store.ledger_path) as ledger, progress(f"ingest-{batch.index}", images, "images") as tracker:
        unwritten = ledger.unwritten_rows()  # a retried batch leaves out the shards it finished
        jobs = [job for job in batch.jobs if any(image.file.file_id in unwritten for image in job.images)]
        done = images - sum(len(job.images) for job in jobs)
        for result in run_all(scheduler, write_exam_shard, jobs):
            if isinstance(result, Failed):
                ledger.add_quarantined(
                    [(_killed(image.file, result.error), image.file.fingerprint) for image in result.item.images]
                )
                done += len(result.item.images)
            else:
                written += _enter_shard(ledger, result)
                done += len(result.lines) + len(result.refused)
            tracker.advance_to(done)
    return written


@task(name="publish-exams", cache_policy=NO_CACHE, persist_result=False)
def publish_exams(config: RunConfig, scan: Scan) -> IngestReport:
    """Joins labels and replaces the manifest: from here on readers see the new exams.

    Raises:
        TooManyFailures: More files were refused than ``ingest.max_failed_fraction`` allows; the list of them is written.
        LabelError: The labels cannot be read, or none joins to an exam.
    """
    store, pseudonyms = _open(config)
    with Ledger(store.ledger_path) as ledger:
        lines = ledger.manifest_lines()
        refused = ledger.quarantined()
        files = ledger.count_files()
    joined = _join(config.ingest, lines, pseudonyms)
    manifest = publish(store, [{**line, **_label_columns(line, joined)} for line in lines], refused)
    report = _report(store, scan, manifest, refused, joined)
    save_report(config, Stage.INGEST, report)
    _show_gate_results(report)
    if len(refused) > config.ingest.max_failed_fraction * files or not lines:
        raise TooManyFailures(
            f"{len(refused)} of {files} files were refused",
            expected=f"at most {config.ingest.max_failed_fraction:.0%}, and at least one image",
            got=", ".join(f"{code}: {count}" for code, count in report.quarantined_by_reason.items()) or "no image",
            remedy=report.advice or f"see {store.quarantine_path} and docs/gate-rules.md",
        )
    return report


# ---------------------------------------------------------------------------------------------------------------------


def _open(config: RunConfig) -> tuple[ExamStore, Pseudonyms]:
    workspace = Workspace(config.workspace_dir)
    pseudonyms = open_key(workspace.key_path)
    store = create_store(
        workspace.store_dir,
        preprocess=config.preprocess,
        preprocess_version=PREPROCESS_VERSION,
        rows_per_shard=config.ingest.exams_per_shard * VIEWS_PER_EXAM,
        key_id=pseudonyms.key_id,
    )
    return store, pseudonyms


def _walk(source_dir: Path) -> Iterator[Path]:
    for path in sorted(source_dir.rglob("*")):
        if path.name.startswith(".") or path.name.endswith(_LEFT_ALONE) or path.name == "DICOMDIR":
            continue
        if not stat.S_ISDIR(path.lstat().st_mode):  # lstat: a link is a file to refuse, not a folder to follow
            yield path


def _source_file(path: Path, source_dir: Path, pseudonyms: Pseudonyms) -> SourceFile:
    status = path.lstat()
    return SourceFile(
        file_id=pseudonyms.file_id(path.relative_to(source_dir).as_posix()),
        path=path,
        fingerprint=f"{status.st_size}-{status.st_mtime_ns}",
    )


def _masks_by_image(config: IngestConfig, pseudonyms: Pseudonyms) -> dict[str, Path]:
    if config.masks_dir is None:
        return {}
    return {pseudonyms.image_id(path.stem): path for path in config.masks_dir.glob("*.png")}


def _killed(file: SourceFile, error: str) -> QuarantinedFile:
    return QuarantinedFile(file_id=file.file_id, source_sha256="", reason_codes=("F10",), message=f"Not read: {error}")


def _enter_headers(ledger: Ledger, inspected: Sequence[InspectedFile]) -> int:
    refused = [(item.refused, item.file.fingerprint) for item in inspected if item.refused is not None]
    accepted = [
        AcceptedFile(
            file_id=item.file.file_id,
            fingerprint=item.file.fingerprint,
            image_id=item.record.image_id,
            exam_id=item.record.exam_id,
            source_sha256=item.record.source_sha256,
        )
        for item in inspected
        if item.record is not None
    ]
    ledger.add_quarantined(refused)
    contradictions = ledger.add_accepted(accepted)
    ledger.add_quarantined((_contradiction(file), file.fingerprint) for file in contradictions)
    return len(accepted) - len(contradictions)


def _contradiction(file: AcceptedFile) -> QuarantinedFile:
    return QuarantinedFile(
        file_id=file.file_id,
        source_sha256=file.source_sha256,
        reason_codes=("I06",),
        message="Another file with the same SOPInstanceUID and other content is in the store. "
        "Expected: one content per SOPInstanceUID. Remedy: find out which of the two is right and remove the other.",
    )


def _enter_shard(ledger: Ledger, result: ShardResult) -> int:
    ledger.add_quarantined(result.refused)
    ledger.add_written(result.lines)
    return len(result.lines)


def _join(config: IngestConfig, lines: Sequence[dict[str, object]], pseudonyms: Pseudonyms) -> LabelJoin:
    breasts = {(str(line["exam_id"]), Laterality(str(line["laterality"]))) for line in lines}
    if config.labels_csv is None or not lines:
        return LabelJoin(matched={}, orphans=0, unlabelled=len(breasts))
    exams_by_day: dict[tuple[str, date], set[str]] = {}
    for line in lines:
        if line["exam_date"] is not None:
            day = (str(line["patient_id"]), date.fromisoformat(str(line["exam_date"])))
            exams_by_day.setdefault(day, set()).add(str(line["exam_id"]))
    labels = read_labels(
        config.labels_csv, pseudonyms, exams_by_day={day: tuple(sorted(exams)) for day, exams in exams_by_day.items()}
    )
    return join_labels(labels, breasts, patient_by_exam={str(line["exam_id"]): str(line["patient_id"]) for line in lines})


def _label_columns(line: dict[str, object], joined: LabelJoin) -> dict[str, object]:
    label = joined.matched.get((str(line["exam_id"]), Laterality(str(line["laterality"]))))
    if label is None:
        return {"benign": UNKNOWN_LABEL, "malignant": UNKNOWN_LABEL, "birads": UNKNOWN_LABEL, "label_source": None}
    return {
        "benign": UNKNOWN_LABEL if label.benign is None else int(label.benign),
        "malignant": UNKNOWN_LABEL if label.malignant is None else int(label.malignant),
        "birads": UNKNOWN_LABEL if label.birads is None else label.birads,
        "label_source": label.label_source,
    }


def _report(
    store: ExamStore, scan: Scan, manifest: pd.DataFrame, refused: Sequence[QuarantinedFile], joined: LabelJoin
) -> IngestReport:
    by_reason = Counter(code for file in refused for code in file.reason_codes)
    warnings = Counter(code for codes in manifest["gate_warnings"] for code in codes.split())
    views = manifest.assign(view=manifest["laterality"] + manifest["view_position"]).groupby("exam_id")["view"].nunique()
    return IngestReport(
        store_dir=store.folder,
        data_version=data_version(manifest),
        files_found=scan.files_found,
        images_published=len(manifest),
        images_new=len(manifest) - scan.written_before,
        exams=len(views),
        exams_incomplete=int((views < VIEWS_PER_EXAM).sum()),
        quarantined_by_reason=dict(by_reason.most_common()),
        warnings_by_rule=dict(warnings.most_common()),
        labelled_breasts=len(joined.matched),
        orphan_labels=joined.orphans,
        unlabelled_breasts=joined.unlabelled,
        advice=advise_profile([code for file in refused for code in file.reason_codes]) if manifest.empty else None,
    )


def _show_gate_results(report: IngestReport) -> None:
    rows = [{"outcome": "published", "rule": "", "images": report.images_published}]
    rows += [{"outcome": "refused", "rule": rule, "images": count} for rule, count in report.quarantined_by_reason.items()]
    rows += [{"outcome": "warned", "rule": rule, "images": count} for rule, count in report.warnings_by_rule.items()]
    show_table("gate-results", rows, f"Gate results of {report.files_found} files")
    logger.info(
        "published %d images of %d exams (%d new), refused %d files",
        report.images_published,
        report.exams,
        report.images_new,
        sum(report.quarantined_by_reason.values()),
    )
