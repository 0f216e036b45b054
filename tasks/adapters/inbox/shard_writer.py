"""What a Dask worker does: read headers through the gate, and fill one shard from DICOM files. No Prefect, no ledger.

Foreign files are opened in the gate's child process only. A bad file is a quarantined record, never an error of its shard,
whatever it does to the child, and one that cannot be read at the moment is a deferred record; only trouble with our own store,
disk or installation raises.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import cv2

from gmic_model.pixels.window import is_cut_by_window
from schemas.config.ingest import PreprocessConfig
from schemas.errors import DicomError, FileDeferred, GateRejection
from schemas.exam import DeferredFile, ImageRecord, QuarantinedFile
from schemas.layout import MANIFEST_COLUMNS, OPTIONAL_COLUMNS, Source
from schemas.refusal import Refusal
from tasks.adapters.buckets.exam_object import AWAY
from tasks.adapters.gate.child import child_of_this_thread
from tasks.adapters.gate.gate_settings import GateSettings
from tasks.adapters.gate.messages import InspectHeader, PreparedImage, PrepareImage
from tasks.adapters.gate.source_file import SourceFile
from tasks.adapters.inbox.lines import LedgerLine
from tasks.adapters.inbox.source_folder import LINK_TO_NOWHERE
from tasks.adapters.store.exam_store import ExamStore, StoredImage, crop_digest, write_shard

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderJob:
    """Files whose headers one worker reads.

    Attributes:
        with_digest: The files' bytes are to be compared with others': their digests are needed now. Else an image's digest is
            taken when it is written, so that a file is read once.
    """

    files: tuple[SourceFile, ...]
    gate: GateSettings
    with_digest: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedFile:
    """One header's fate: a record, the reasons against it, or why it could not be read."""

    file: SourceFile
    record: ImageRecord | None = None
    refused: QuarantinedFile | None = None
    deferred: DeferredFile | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedImage:
    """A file and the store row it owns."""

    file: SourceFile
    row: int
    mask_path: Path | None = field(repr=False)  # named by the SOP Instance UID
    mask_fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardJob:
    """One shard, one writer."""

    store: ExamStore
    shard: int
    images: tuple[PlannedImage, ...]
    gate: GateSettings
    preprocess: PreprocessConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardResult:
    """What a shard's writer reports: lines of written images (labels join later), refused files with fingerprints, others."""

    shard: int
    written: tuple[LedgerLine, ...]
    refused: tuple[tuple[QuarantinedFile, str], ...]
    deferred: tuple[DeferredFile, ...] = ()


def inspect_files(job: HeaderJob) -> tuple[InspectedFile, ...]:
    """Reads the headers of some files through the gate."""
    child = child_of_this_thread(job.gate.limits)
    inspected, away = [], _Away()
    for file in job.files:
        try:
            away.require_back(file)
            named = job.gate.named(file.path)
            request = InspectHeader(path=file.path, gate=job.gate, with_digest=job.with_digest, named=named, stored=file.stored)
            record = child.inspect(request)
            inspected.append(InspectedFile(file=file, record=record))
        except DicomError as error:
            inspected.append(InspectedFile(file=file, refused=refusal(file, error)))
        except FileDeferred as error:
            away.learn(error)
            inspected.append(InspectedFile(file=file, deferred=DeferredFile(file_id=file.file_id, reason=error.reason)))
    return tuple(inspected)


class _Away:
    """An object store that does not answer is asked for one object of a job, with all patience, and not for each."""

    def __init__(self) -> None:
        self._is_away = False

    def learn(self, error: FileDeferred) -> None:
        self._is_away |= error.reason == AWAY

    def require_back(self, file: SourceFile) -> None:
        if self._is_away and file.stored is not None:
            raise FileDeferred.because(AWAY)


def faults_of_masks(job: ShardJob) -> Counter[str]:
    """Looks at the masks of a shard's images, and counts why some cannot be used, in words; nothing is decoded but they.

    What is wrong with an image itself is told when it is read.
    """
    child, faults = child_of_this_thread(job.gate.limits), Counter[str]()
    for image in job.images:
        if image.mask_path is None:
            continue
        if image.mask_fingerprint == LINK_TO_NOWHERE:
            faults[LINK_TO_NOWHERE] += 1
            continue
        with suppress(DicomError, FileDeferred):
            named = job.gate.named(image.file.path)
            request = InspectHeader(
                path=image.file.path,
                gate=job.gate,
                with_digest=False,
                mask_path=image.mask_path,
                named=named,
                stored=image.file.stored,
            )
            faults[child.mask_fault(request)] += 1
    del faults[""]
    return faults


def write_exam_shard(job: ShardJob) -> ShardResult:
    """Decodes, gates, crops and stores the images of one shard.

    Raises:
        OSError: The store's disk is full or gone; finished shards are safe and a rerun continues.
    """
    written: list[LedgerLine] = []
    refused: list[tuple[QuarantinedFile, str]] = []
    deferred: list[DeferredFile] = []
    write_shard(job.store, job.shard, _stored_images(job, written, refused, deferred))
    return ShardResult(shard=job.shard, written=tuple(written), refused=tuple(refused), deferred=tuple(deferred))


def _stored_images(
    job: ShardJob,
    written: list[LedgerLine],
    refused: list[tuple[QuarantinedFile, str]],
    deferred: list[DeferredFile],
) -> Iterator[StoredImage]:
    """Prepares one image after another; enters each in ``written``, ``refused`` or ``deferred``."""
    child, away = child_of_this_thread(job.gate.limits), _Away()
    for image in job.images:
        try:
            away.require_back(image.file)
            ready = child.prepare(_request(job, image))
        except DicomError as error:
            refused.append((refusal(image.file, error), image.file.fingerprint))
            continue
        except FileDeferred as error:
            away.learn(error)
            deferred.append(DeferredFile(file_id=image.file.file_id, reason=error.reason))
            continue
        if image.mask_fingerprint == LINK_TO_NOWHERE:
            ready = replace(ready, is_mask_unusable=True)
        if ready.is_mask_unusable:
            logger.warning("the lesion mask of image %s cannot be used; it goes on without one", ready.record.image_id)
        line = stored_line(image.row, ready)
        written.append(LedgerLine(file_id=image.file.file_id, mask_fingerprint=image.mask_fingerprint, stored=line))
        yield StoredImage(row=image.row, pixels_HW=ready.prepared.pixels_HW, mask_HW=ready.mask_HW)


def refusal(file: SourceFile, error: DicomError) -> QuarantinedFile:
    """A quarantine record from the gate's error."""
    why = error.refusal if isinstance(error, GateRejection) else Refusal(rules=("F14",), what=str(error))
    return QuarantinedFile(file_id=file.file_id, refusal=why)


def _request(job: ShardJob, image: PlannedImage) -> PrepareImage:
    return PrepareImage(
        path=image.file.path,
        gate=job.gate,
        fingerprint=image.file.changes_as,
        stored=image.file.stored,
        preprocess=job.preprocess,
        canvas_px=job.store.canvas_px,
        mask_path=None if image.mask_fingerprint == LINK_TO_NOWHERE else image.mask_path,
        named=job.gate.named(image.file.path),
    )


def stored_line(row: int, ready: PreparedImage) -> dict[str, object]:
    """What the ledger keeps of an image that is stored, by the manifest's column; see ``LedgerLine.stored``."""
    record, prepared = ready.record, ready.prepared
    geometry = prepared.geometry
    top, bottom, left, right = geometry.crop_box_px
    known = asdict(record)
    return {
        **{name: known[name] for name in _COPIED if known[name] is not None or name not in _OPTIONAL},
        "row": row,
        "exam_date": None if record.exam_date is None else record.exam_date.isoformat(),
        "source_rows_px": record.rows_px,
        "source_columns_px": record.columns_px,
        "gate_warnings": " ".join(sorted({*record.gate_warnings, *ready.warnings})),
        "has_lesion_mask": ready.mask_HW is not None,
        "is_mask_unusable": ready.is_mask_unusable,
        "mask_sha256": None if ready.mask_HW is None else crop_digest(ready.mask_HW),
        "pixel_sha256": ready.pixel_sha256,
        "written_sha256": crop_digest(prepared.pixels_HW),
        "crop_top_px": top,
        "crop_bottom_px": bottom,
        "crop_left_px": left,
        "crop_right_px": right,
        "is_flipped": geometry.is_flipped,
        **_optional_columns(ready),
        "scale": geometry.scale,
        "best_center_row_px": geometry.best_center_px[0],
        "best_center_column_px": geometry.best_center_px[1],
        "stored_rows_px": prepared.pixels_HW.shape[0],
        "stored_columns_px": prepared.pixels_HW.shape[1],
        "pixel_min": int(prepared.pixels_HW.min()),
        "pixel_max": int(prepared.pixels_HW.max()),
        "pixel_mean": float(cv2.mean(prepared.pixels_HW)[0]),  # exact, and a fifth of numpy's time
        "background_median": ready.background_median,
        "tissue_fraction": prepared.tissue_fraction,
    }


def _optional_columns(ready: PreparedImage) -> dict[str, object]:
    """What only some images have to say (``schemas.layout.OPTIONAL_COLUMNS``)."""
    geometry = ready.prepared.geometry
    is_larger = is_cut_by_window(ready.prepared.pixels_HW.shape, geometry.window_px)
    return {
        **({"quarter_turns": geometry.quarter_turns} if geometry.quarter_turns else {}),
        **({"breast_seen_fraction": round(ready.prepared.seen_fraction, 4)} if is_larger else {}),
        **({"lesion_seen_fraction": round(ready.lesion_seen_fraction, 4)} if ready.lesion_seen_fraction < 1.0 else {}),
        **({"lesions_beyond": "; ".join(one.text for one in ready.lesions_beyond)} if ready.lesions_beyond else {}),
    }


_COPIED = (
    *(
        column.name
        for column in (*MANIFEST_COLUMNS, *OPTIONAL_COLUMNS)
        if column.source in (Source.HEADER, Source.RECORD) and column.name in ImageRecord.__dataclass_fields__
    ),
    "accession_id",  # not published: labels are joined by it
    "bare_patient_id",  # not published: patients are held against each other by it
)
_OPTIONAL = frozenset(column.name for column in OPTIONAL_COLUMNS)


def halves_of_header_job(job: HeaderJob) -> tuple[HeaderJob, ...]:
    """Divides a job under suspicion, so that the one file at fault is found."""
    middle = len(job.files) // 2
    return tuple(replace(job, files=files) for files in (job.files[:middle], job.files[middle:]) if files)


def halves_of_shard_job(job: ShardJob) -> tuple[ShardJob, ...]:
    """Both write the same shard, so they must run one after the other: ``write_shard`` keeps what the first has written."""
    middle = len(job.images) // 2
    return tuple(replace(job, images=images) for images in (job.images[:middle], job.images[middle:]) if images)
