"""What a Dask worker does: read headers through the gate, and fill one shard from DICOM files. No Prefect, no ledger.

A bad file is a quarantined record, never an error of its shard; only trouble with our own store or disk raises.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from gmic_model.preprocess import PreparedView, crop_like, fit_canvas, prepare_view
from schemas.config import PreprocessConfig
from schemas.errors import DicomError, GateRejection
from schemas.exam import ImageRecord, QuarantinedFile
from tasks.adapters.exam_store import ExamStore, write_shard
from tasks.adapters.gate import GatedPixels, accept_pixels, inspect_header, profile_named
from tasks.adapters.pseudonyms import Pseudonyms, open_key

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file of the source folder. ``path`` stays in memory: it may spell a name."""

    file_id: str
    path: Path
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderJob:
    """Files whose headers one worker reads."""

    files: tuple[SourceFile, ...]
    source_dir: Path
    profile: str
    key_path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedFile:
    """One header's fate: a record, or the reasons against it."""

    file: SourceFile
    record: ImageRecord | None
    refused: QuarantinedFile | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedImage:
    """A file and the store row it owns."""

    file: SourceFile
    row: int
    mask_path: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardJob:
    """One shard, one writer."""

    store: ExamStore
    shard: int
    images: tuple[PlannedImage, ...]
    source_dir: Path
    profile: str
    key_path: Path
    preprocess: PreprocessConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardResult:
    """What a shard's writer reports: manifest lines by image id (labels join later), and refused files with fingerprints."""

    shard: int
    lines: dict[str, dict[str, object]]
    refused: tuple[tuple[QuarantinedFile, str], ...]


def inspect_files(job: HeaderJob) -> tuple[InspectedFile, ...]:
    """Reads the headers of some files through the gate."""
    pseudonyms = _pseudonyms(job.key_path)
    profile = profile_named(job.profile)
    inspected = []
    for file in job.files:
        record, refused = None, None
        try:
            record = inspect_header(file.path, source_dir=job.source_dir, profile=profile, pseudonyms=pseudonyms)
        except DicomError as error:
            refused = refusal(file, error)
        inspected.append(InspectedFile(file=file, record=record, refused=refused))
    return tuple(inspected)


def write_exam_shard(job: ShardJob) -> ShardResult:
    """Decodes, gates, crops and stores the images of one shard.

    Raises:
        OSError: The store's disk is full or gone; finished shards are safe and a rerun continues.
    """
    pseudonyms = _pseudonyms(job.key_path)
    profile = profile_named(job.profile)
    lines: dict[str, dict[str, object]] = {}
    refused: list[tuple[QuarantinedFile, str]] = []
    pixels_by_row: dict[int, NDArray[np.uint16]] = {}
    masks_by_row: dict[int, NDArray[np.uint8]] = {}
    for image in job.images:
        try:
            record = inspect_header(image.file.path, source_dir=job.source_dir, profile=profile, pseudonyms=pseudonyms)
            gated = accept_pixels(image.file.path, record, profile=profile)
            prepared = prepare_view(gated.pixels_HW, record.laterality, record.view_position, settings=job.preprocess)
            prepared = fit_canvas(prepared, job.store.canvas_px)
        except DicomError as error:
            refused.append((refusal(image.file, error), image.file.fingerprint))
            continue
        pixels_by_row[image.row] = prepared.pixels_HW
        mask_HW = None if image.mask_path is None else _stored_mask(image.mask_path, prepared)
        if mask_HW is not None:
            masks_by_row[image.row] = mask_HW
        lines[record.image_id] = _manifest_line(image.row, record, gated, prepared, has_mask=mask_HW is not None)
    write_shard(job.store, job.shard, pixels_by_row, masks_by_row)
    return ShardResult(shard=job.shard, lines=lines, refused=tuple(refused))


def refusal(file: SourceFile, error: DicomError) -> QuarantinedFile:
    """A quarantine record from the gate's error."""
    codes = error.reason_codes if isinstance(error, GateRejection) else ("F14",)
    return QuarantinedFile(file_id=file.file_id, source_sha256="", reason_codes=codes, message=str(error))


@lru_cache(maxsize=4)
def _pseudonyms(key_path: Path) -> Pseudonyms:
    return open_key(key_path)


def _stored_mask(mask_path: Path, prepared: PreparedView) -> NDArray[np.uint8] | None:
    """The lesion bits in the stored crop's frame, or None where the mask is empty or of another shape."""
    mask_HW = cast("NDArray[np.uint8] | None", cv2.imread(str(mask_path), cv2.IMREAD_UNCHANGED))
    if mask_HW is None or mask_HW.shape != prepared.geometry.source_shape_px:
        logger.warning("lesion mask of one image is unreadable or not of the image's shape; the image goes on without it")
        return None
    crop_HW = crop_like(mask_HW, prepared.geometry)
    return np.ascontiguousarray(crop_HW, dtype=np.uint8) if crop_HW.any() else None


def _manifest_line(
    row: int, record: ImageRecord, gated: GatedPixels, prepared: PreparedView, *, has_mask: bool
) -> dict[str, object]:
    geometry = prepared.geometry
    top, bottom, left, right = geometry.crop_box_px
    known = asdict(record)
    return {
        **{name: known[name] for name in _COPIED},
        "row": row,
        "exam_date": None if record.exam_date is None else record.exam_date.isoformat(),
        "source_rows_px": record.rows_px,
        "source_columns_px": record.columns_px,
        "gate_warnings": " ".join(sorted({*record.gate_warnings, *gated.warnings})),
        "has_lesion_mask": has_mask,
        "pixel_sha256": gated.pixel_sha256,
        "crop_top_px": top,
        "crop_bottom_px": bottom,
        "crop_left_px": left,
        "crop_right_px": right,
        "is_flipped": geometry.is_flipped,
        "scale": geometry.scale,
        "best_center_row_px": geometry.best_center_px[0],
        "best_center_column_px": geometry.best_center_px[1],
        "stored_rows_px": prepared.pixels_HW.shape[0],
        "stored_columns_px": prepared.pixels_HW.shape[1],
        "pixel_min": int(prepared.pixels_HW.min()),
        "pixel_max": int(prepared.pixels_HW.max()),
        "pixel_mean": float(prepared.pixels_HW.mean()),
        "background_median": gated.background_median,
        "tissue_fraction": prepared.tissue_fraction,
    }


_COPIED = (
    "image_id",
    "exam_id",
    "patient_id",
    "laterality",
    "view_position",
    "acquisition",
    "source_sha256",
    "bits_stored",
    "photometric",
    "transfer_syntax_uid",
    "pixel_spacing_mm",
    "manufacturer",
    "model_name",
    "patient_age_years",
)
