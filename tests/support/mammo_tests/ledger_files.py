"""Accepted files as the ledger takes them, without a DICOM file behind them, and a store whose ledger takes them."""

from __future__ import annotations

from pathlib import Path

from schemas.config.ingest import PreprocessConfig
from schemas.exam import Acquisition, ImageRecord, Laterality, Photometric, ViewPosition
from tasks.adapters.gate.source_file import SourceFile
from tasks.adapters.inbox.lines import AcceptedFile
from tasks.adapters.inbox.store_ledger import StoreLedger
from tasks.adapters.store.exam_store import ExamStore, create_store


def accepted_file(file_id: str, *, at: str, image_id: str, exam_id: str, source_sha256: str) -> AcceptedFile:
    """A file of a fingerprint, with the image that it holds."""
    record = ImageRecord(
        image_id=image_id, exam_id=exam_id, patient_id="P", laterality=Laterality.LEFT, view_position=ViewPosition.CC,
        acquisition=Acquisition.FFDM, source_sha256=source_sha256, rows_px=60, columns_px=40, bits_stored=12,
        photometric=Photometric.MONOCHROME2, transfer_syntax_uid="1.2.840.10008.1.2.1", pixel_spacing_mm=None,
        manufacturer=None, model_name=None, exam_date=None, patient_age_years=None, gate_warnings=(),
    )  # fmt: skip
    return SourceFile(file_id=file_id, lies_at=Path(file_id), fingerprint=at), record


def store_with_ledger(folder: Path) -> ExamStore:
    """An empty store of small windows, an exam a shard."""
    return create_store(
        folder,
        preprocess=PreprocessConfig(window_px=(64, 48)),
        preprocess_version="1",
        rows_per_shard=4,
        key_id="k",
        make_ledger=StoreLedger.make,
    )
