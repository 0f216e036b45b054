"""Reports of verbs that are no stage of the pipeline: ``phantom`` and ``scrub``."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from schemas.reports.pages import Report


class PhantomReport(Report):
    """What ``phantom`` wrote."""

    output_dir: Path
    patients: int
    exams: int
    images: int
    malignant_breasts: int
    benign_breasts: int


class ScrubReport(Report):
    """What ``scrub`` read and found."""

    store_dir: Path
    images_read: int
    damaged_image_ids: tuple[str, ...]
    damaged_file_ids: tuple[str, ...]
    is_ledger_sound: bool = Field(description="SQLite's own integrity check")
    is_manifest_sound: bool = Field(description="The manifest names the images and rows that the ledger does")
    images_repaired: int = Field(0, description="Damaged images ingested again from their files")
    images_lost: int = Field(0, description="Damaged images whose files are gone or refused now; not published any more")
    damage_path: Path
