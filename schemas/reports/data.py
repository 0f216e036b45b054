"""Reports of verbs that are no stage of the pipeline: ``phantom`` and ``scrub``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schemas.layout import SEEN_ENOUGH, Severity
from schemas.reports.report import ADDED_TO_REPORT, Report, ReportPath, measured


class PhantomReport(Report):
    """What ``phantom`` wrote."""

    output_dir: ReportPath
    patients: int
    exams: int
    images: int
    malignant_breasts: int
    benign_breasts: int


class ScrubReport(Report):
    """What ``scrub`` read and found."""

    store_dir: ReportPath
    images_read: int
    damaged_image_ids: tuple[str, ...]
    damaged_file_ids: tuple[str, ...]
    is_ledger_sound: bool = Field(description="SQLite's own integrity check")
    is_manifest_sound: bool = Field(description="The manifest names the images and rows that the ledger does")
    images_repaired: int = Field(0, description="Damaged images ingested again from their files, or readable again")
    images_lost: int = Field(
        0, description="Damaged images whose files are gone or refused now; not published until a file or the bytes are back"
    )
    awaited_image_ids: tuple[str, ...] = Field((), description="Found damaged by an earlier repair, and not whole again")
    whole_again_file_ids: tuple[str, ...] = Field((), description="Found damaged by an earlier repair, and readable now")
    damage_path: ReportPath

    @property
    def is_incomplete(self) -> bool:
        """True if an earlier repair left images unpublished, whether or not they can be read by now."""
        return bool(self.awaited_image_ids or self.whole_again_file_ids)


class SeenBreasts(Report):
    """How much of the breasts the network's window holds."""

    images: int = measured("Images", "Published images")
    images_cut: int = measured("Images cut", "Their window does not hold the whole breast: the rest is never seen")
    images_cut_much: int = measured("Images cut much", f"Their window holds less than {SEEN_ENOUGH:.0%} of the breast")
    mean_seen: float | None = measured("Breast seen, mean", "Mean share of the breast inside the window, of all these images")
    least_seen: float | None = measured("Breast seen, least", "Share of the breast inside the window, of the image cut most")
    images_unknown: int = measured("Not recorded", "Cut by an older version, which did not say how much: ingest them anew")
    least_scale: float | None = measured(
        "Smallest scale", "Stored pixels per source pixel, of the image that was scaled down most; 1 = none was"
    )


class IngestReport(Report):
    """What ``ingest`` found, published and refused."""

    store_dir: ReportPath
    data_version: str
    files_found: int
    images_published: int
    images_new: int = Field(description="Published by this run; the rest was there already")
    exams: int
    exams_incomplete: int = Field(description="Exams without all four standard views")
    files_quarantined: int = Field(0, description="Files refused; one may break several rules")
    quarantined_by_reason: dict[str, int]
    warnings_by_rule: dict[str, int]
    labelled_breasts: int
    orphan_labels: int = Field(description="Label rows that join to no exam")
    unlabelled_breasts: int
    orphan_contradictions: int = Field(0, description="Breasts or exams among the orphans that are labelled in two ways")
    patients_of_one_id: int = Field(
        0, description="Patients who share their PatientID with another under another issuer, or none: split as one"
    )
    masks_found: int = Field(0, description="Files in masks_dir")
    masks_unusable: int = Field(0, description="Masks that are no PNG, of another size or with values above 3, or misnamed")
    masks_unmatched: int = Field(0, description="Masks of no published image")
    boxes_unmatched: int = Field(0, description="Images of boxes_csv that are not published")
    boxes_clipped: int = Field(
        0, json_schema_extra=ADDED_TO_REPORT, description="Boxes that leave their image at an edge: the part inside is used"
    )
    advice: str | None = Field(None, description="Which profile fits when everything was refused for one reason")
    files_still_copied: int = Field(0, description="Files that somebody was writing; left for the next run")
    files_not_ours: int = Field(0, description="Refused files that are whole objects of another kind: no failure")
    terms: str = Field("", description="Terms of the data that forbid passing on data or weights")
    files_left_out: int = Field(0, description="Files that subjects_csv leaves out or does not name: not opened, no failure")
    subjects_changed: int = Field(
        0,
        json_schema_extra=ADDED_TO_REPORT,
        description="Stored files of which subjects_csv says something else than when they came in: read again, or taken out",
    )
    not_fetched: str = Field(
        "",
        json_schema_extra=ADDED_TO_REPORT,
        description="What of ingest.source did not come, or why it could not be asked; the next run asks again",
    )
    files_withdrawn: int = Field(0, description="Files of images, exams or patients that were withdrawn: never used")
    files_deferred: int = Field(0, description="Files that could not be read at the moment; the next run reads them")
    deferred_by_reason: dict[str, int] = Field({}, description="What kept them from being read, such as EIO")
    paths_unreadable: dict[str, int] = Field({}, description="Folders and files that could not be listed, by error")
    images_copied: int = Field(0, description="Images that came again in another file with the same pixels; one is used")
    images_contested: int = Field(0, description="SOPInstanceUIDs whose files contradict each other: none is used")
    images_withdrawn: int = Field(0, description="Published before this run and not any more")
    images_without_source: int = Field(0, description="Published, their file gone from the source folder: kept")
    seen: SeenBreasts | None = Field(None, description="What the network's window holds of the published breasts")
    contact_sheet_path: ReportPath | None = Field(None, description="Every refused file with its reasons and a small picture")


class CheckResult(Report):
    """One expectation's result; counts only, never data values."""

    suite: str
    check: str
    column: str
    severity: str
    is_met: bool
    unexpected_count: int
    unexpected_percent: float
    error: str | None = None


class ValidationReport(Report):
    """What ``validate`` checked."""

    data_version: str
    images: int
    checks: tuple[CheckResult, ...]
    page_path: ReportPath

    @property
    def blocking(self) -> tuple[CheckResult, ...]:
        """Failed checks that stop the run."""
        return tuple(check for check in self.checks if not check.is_met and check.severity == Severity.BLOCK)

    @property
    def warnings(self) -> tuple[CheckResult, ...]:
        """Failed checks that do not stop the run."""
        return tuple(check for check in self.checks if not check.is_met and check.severity != Severity.BLOCK)


class SplitCount(Report):
    """Size of one split."""

    patients: int
    exams: int
    images: int
    benign_breasts: int
    malignant_breasts: int


class SplitReport(Report):
    """How patients were divided."""

    splits_path: ReportPath
    data_version: str
    counts: dict[str, SplitCount]
    settings_sha256: str = Field("", description="Digest of the split section: earlier splits are kept only under the same")
    patients_kept: int = Field(0, description="Patients whose split was given by an earlier run")
    divided_by: Literal["seed", "file", "external", "folds"] = Field(
        "seed", description="What divides: the section's seed, split.file, folds, or nothing (external: all test)"
    )
    fold: int | None = Field(None, description="Which of the folds tests; None = no folds")
    file_sha256: str = Field("", description="Digest of split.file")
    patients_left_out: int = Field(0, description="Patients whom split.file keeps out of every split")
    file_patients_unknown: int = Field(0, description="Patients of split.file who have no image in the store")
