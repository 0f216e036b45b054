"""What is published: stored images with the labels and boxes that join to them, and the report that says how many."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from schemas.config.ingest import IngestConfig
from schemas.errors import NoExamsFound, SourceUnavailable, TooManyFailures, TooManyWithdrawn
from schemas.exam import DeferredFile, LesionBox, QuarantinedFile
from schemas.layout import VIEWS_PER_EXAM
from schemas.reports.data import IngestReport
from tasks.adapters.allocator import uncollected
from tasks.adapters.gate.advice import advise_profile
from tasks.adapters.gate.rules.table import is_of_another_kind
from tasks.adapters.inbox.batches import Scan
from tasks.adapters.inbox.claims import Publishable, publishable, with_issuer_of_exam
from tasks.adapters.inbox.publishing.joined_columns import manifest_columns
from tasks.adapters.inbox.publishing.published import Keys, Tally, published_parts, whole_lines
from tasks.adapters.inbox.store_ledger import StoreLedger
from tasks.adapters.inbox.withdrawals.removal import take_out
from tasks.adapters.inbox.withdrawals.withdrawal import names_of_line
from tasks.adapters.labels.joining import LabelJoin, join_labels
from tasks.adapters.labels.labels import Labels
from tasks.adapters.labels.labels_file import read_labels
from tasks.adapters.pseudonyms import Pseudonyms
from tasks.adapters.store.exam_store import ExamStore
from tasks.adapters.store.manifest import publish_columns
from tasks.adapters.store.same_patient import (
    note_former_patients,
    same_patients,
    without_issuer_before,
    write_same_patients,
)
from tasks.adapters.store.store_settings import read_settings
from tasks.adapters.store.tables.line_texts import data_version

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of all files, by the ledger.

    Attributes:
        found: Of the claims that rules compare, what may be published, and what not; all others are.
        left_out: Files whose claim is not published.
        refused: Files of this scan that are in quarantine, and those of images that are not published.
        deferred: Files that could not be read at the moment.
        explained: Images of which a person took a file away, and those whose stored pixels are damaged: that they go is no
            accident.
        withdrawn: Files of this scan that show something that was withdrawn.
        is_any_withdrawn: True if anything ever was.
    """

    found: Publishable
    left_out: frozenset[str]
    refused: tuple[QuarantinedFile, ...]
    deferred: tuple[DeferredFile, ...]
    explained: frozenset[str]
    withdrawn: int
    is_any_withdrawn: bool


def complete_patients(store: ExamStore, pseudonyms: Pseudonyms) -> None:
    """Enters in the ledger the issuers that files lack and other files of their exam name; call before ``outcome``.

    Raises:
        StoreError: The ledger cannot be read or written.
    """
    with StoreLedger(store) as ledger, whole_lines(store):
        if changed := with_issuer_of_exam(ledger.lines_to_compare(), pseudonyms):
            ledger.restate(changed)
            logger.info(
                "%d files lack the issuer of their PatientID: the one that others of their exam name is taken", len(changed)
            )


def outcome(store: ExamStore, scan: Scan) -> Outcome:
    """Asks the ledger; what turns out to be withdrawn only now that its pixels are known is taken out of the store first.

    Raises:
        StoreError: The ledger cannot be read.
    """
    with StoreLedger(store) as ledger, whole_lines(store):
        names = ledger.withdrawn_names()
        if names and not all(names_of_line(line).isdisjoint(names) for line in ledger.each_line()):
            take_out(store, ledger, names)
        found = publishable(compared := ledger.lines_to_compare())
        return Outcome(
            found=found,
            left_out=frozenset(line.file_id for line in compared).difference(line.file_id for line in found.lines),
            refused=(*(file for file in ledger.quarantined() if file.file_id in scan.file_ids), *found.refused),
            deferred=tuple(ledger.deferred()),
            explained=ledger.taken_away().union(line.image_id for line in ledger.damaged_lines()),
            withdrawn=len(ledger.withdrawn_files() & scan.file_ids),
            is_any_withdrawn=bool(names),
        )


@uncollected()
def labels_of(
    config: IngestConfig, what: Outcome, keys: Keys, pseudonyms: Pseudonyms, group_columns: Sequence[str] = ()
) -> LabelJoin:
    """The labels of the breasts that the published images show.

    Args:
        config: Where they are.
        what: What became of all files.
        keys: Of the published images.
        pseudonyms: Of the identifiers in the file.
        group_columns: Further columns of the file, whose values make groups.

    Raises:
        LabelError: The labels cannot be read, or none joins to an exam.
    """
    if config.labels_csv is None or not keys.images:
        return join_labels(Labels(), keys.breasts())
    labels = read_labels(
        config.labels_csv,
        pseudonyms,
        exams_by_day=keys.exams_by_day,
        exams_by_accession=keys.exams_by_accession,
        group_columns=group_columns,
        patient_by_exam={exam_id: patient_id for exam_id, (patient_id, _) in keys.patient_of.items()},
    )
    return join_labels(labels, keys.breasts(), patients_by_exam=keys.patient_of, may_all_be_orphans=what.is_any_withdrawn)


def write_persons(store: ExamStore, keys: Keys) -> int:
    """Writes who is probably one person, and whose images were another's before; how many patients share their PatientID.

    Raises:
        StoreError: The list of former patients is damaged.
    """
    note_former_patients(store.files, keys.renamed)
    published = same_patients(keys.patients)
    write_same_patients(store.files, same_patients([*keys.patients, *without_issuer_before(store.files, keys.patients)]))
    return len(published)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A manifest that was written: its version, and what its lines come to."""

    data_version: str
    tally: Tally


@uncollected()
def write_published(store: ExamStore, what: Outcome, joined: LabelJoin, boxes: Mapping[str, tuple[LesionBox, ...]]) -> Written:
    """Replaces the manifest and the quarantine list.

    Raises:
        StoreError: The ledger cannot be read.
        OSError: The disk refuses; the earlier manifest stays.
    """
    tally = Tally(read_settings(store.files).preprocess.window_px)
    parts = (manifest_columns(part, joined, boxes) for part in published_parts(store, what.left_out))
    with whole_lines(store):
        return Written(data_version=publish_columns(store, parts, what.refused, tally.see), tally=tally)


def require_few_withdrawals(config: IngestConfig, keys: Keys, *, explained: frozenset[str]) -> None:
    """Says when a manifest would lose so many images that something else than their files must be wrong.

    Args:
        config: How many may go.
        keys: Of what would be published.
        explained: Images that a person took away (``Ledger.taken_away``), and those whose stored pixels are damaged.

    Raises:
        TooManyWithdrawn: More than ``ingest.max_withdrawn_fraction`` of the published images would go.
    """
    withdrawn = keys.gone - explained
    if len(withdrawn) > config.max_withdrawn_fraction * keys.published_before and not config.allow_withdrawals:
        raise TooManyWithdrawn(
            f"{len(withdrawn)} of {keys.published_before} published images would be withdrawn; nothing was published",
            expected=f"at most {config.max_withdrawn_fraction:.0%}",
            remedy="see `mammo quarantine list` for why; if they are to go, run `mammo ingest --allow-withdrawals`",
        )


def manifest_sizes(manifest: pd.DataFrame) -> dict[str, Any]:
    """What a report says of what is published, by its field."""
    views = manifest.assign(view=manifest["laterality"] + manifest["view_position"]).groupby("exam_id")["view"].nunique()
    return _sizes(data_version(manifest), len(manifest), views.tolist())


def _sizes(version: str, images: int, views: Sequence[int]) -> dict[str, Any]:
    return {
        "data_version": version,
        "images_published": images,
        "exams": len(views),
        "exams_incomplete": sum(count < VIEWS_PER_EXAM for count in views),
    }


def ingest_report(
    store: ExamStore, scan: Scan, what: Outcome, keys: Keys, written: Written, joined: LabelJoin, profile: str
) -> IngestReport:
    """What this run found, published and refused under a profile."""
    found, refused, deferred = what.found, what.refused, what.deferred
    by_reason = Counter(code for file in refused for code in file.reason_codes)
    return IngestReport(
        store_dir=store.folder,
        **_sizes(written.data_version, keys.images, [len(views) for views in keys.views_of.values()]),
        files_found=len(scan.file_ids),
        images_new=keys.new,
        images_withdrawn=len(keys.gone),
        images_copied=found.copies,
        images_contested=found.contested,
        images_without_source=keys.without_source,
        files_still_copied=scan.still_copied,
        files_withdrawn=what.withdrawn,
        files_left_out=scan.left_out,
        subjects_changed=scan.retold,
        files_deferred=len(deferred),
        deferred_by_reason=dict(Counter(file.reason for file in deferred).most_common()),
        paths_unreadable=dict(scan.unreadable),
        files_not_ours=sum(is_of_another_kind(file.reason_codes) for file in refused),
        files_quarantined=len(refused),
        quarantined_by_reason=dict(by_reason.most_common()),
        warnings_by_rule=written.tally.warnings_by_rule,
        labelled_breasts=joined.matched,
        orphan_labels=joined.orphans,
        unlabelled_breasts=joined.unlabelled,
        orphan_contradictions=joined.orphan_contradictions,
        terms=" ".join(read_settings(store.files).terms),
        seen=written.tally.seen,
        advice=None
        if keys.images
        else advise_profile((code for file in refused for code in file.reason_codes), in_force=profile),
    )


def refuse_run(
    config: IngestConfig, report: IngestReport, scan: Scan, refused: Sequence[QuarantinedFile], store: ExamStore
) -> None:
    """Ends the run with an error when too much was refused; what was accepted is published all the same.

    Only files that this run read count, and of them only those that could have been mammograms.

    Raises:
        SourceUnavailable: Nothing is published, and some files could not be read.
        NoExamsFound: Every file was refused.
        TooManyFailures: More were refused than ``ingest.max_failed_fraction`` allows.
    """
    reasons = ", ".join(f"{code}: {count}" for code, count in report.quarantined_by_reason.items())
    remedy = report.advice or f"see {store.quarantine_path} and docs/reference/gate-rules.md"
    if not report.images_published and report.files_deferred:
        raise SourceUnavailable(
            f"No exam in {config.place} can be used yet: {report.files_deferred} files cannot be read at the moment",
            got=", ".join(f"{reason}: {count}" for reason, count in report.deferred_by_reason.items()),
            remedy="see that the share is there and may be read, then run again",
        )
    if not report.images_published:
        raise NoExamsFound(
            f"No exam in {config.place} can be used: {_all_of_them(report, len(refused))}",
            expected=f"mammograms that the profile {config.profile} allows",
            got=reasons or None,
            remedy=remedy,
        )
    of_another_kind = {file.file_id for file in refused if is_of_another_kind(file.reason_codes)}
    failed = {file.file_id for file in refused} - of_another_kind
    failed &= {file.file_id for file in scan.unsettled}
    ours = len(scan.file_ids) - len(of_another_kind)
    if len(failed) > config.max_failed_fraction * ours:
        raise TooManyFailures(
            f"{len(failed)} of {ours} files were refused",
            expected=f"at most {config.max_failed_fraction:.0%}",
            got=reasons,
            remedy=remedy,
        )


def _all_of_them(report: IngestReport, refused: int) -> str:
    if not report.files_withdrawn:
        return f"all {refused} files were refused"
    return f"{refused} files were refused, {report.files_withdrawn} are of images that were withdrawn"


def gate_rows(report: IngestReport) -> list[dict[str, object]]:
    """The table of what became of the files, for people."""
    rows: list[dict[str, object]] = [{"outcome": "published", "rule": "", "images": report.images_published}]
    rows += [{"outcome": "refused", "rule": rule, "images": count} for rule, count in report.quarantined_by_reason.items()]
    rows += [{"outcome": "deferred", "rule": why, "images": count} for why, count in report.deferred_by_reason.items()]
    rows += [{"outcome": "warned", "rule": rule, "images": count} for rule, count in report.warnings_by_rule.items()]
    if report.images_contested:
        rows.append({"outcome": "ALERT: contested", "rule": "I06", "images": report.images_contested})
    if report.files_left_out:
        rows.append({"outcome": "left out by subjects_csv", "rule": "", "images": report.files_left_out})
    if report.subjects_changed:
        rows.append({"outcome": "read again: subjects_csv has changed", "rule": "", "images": report.subjects_changed})
    if report.files_withdrawn:
        rows.append({"outcome": "withdrawn", "rule": "", "images": report.files_withdrawn})
    return rows


def alert(report: IngestReport) -> None:
    """What somebody must look at, although the run goes on."""
    if report.images_contested:
        logger.error(
            "ALERT I06: %d SOPInstanceUIDs came with files that contradict each other; none of them is used. "
            "See `mammo quarantine list --reason I06`",
            report.images_contested,
        )
    if report.patients_of_one_id:
        logger.warning(
            "%d patients share their PatientID with another under another IssuerOfPatientID, or none: probably files of the "
            "same women lack the issuer. They are kept apart by name and never divided between splits",
            report.patients_of_one_id,
        )
    if report.masks_unusable or report.masks_unmatched or report.boxes_unmatched:
        logger.warning(
            "Of %d masks %d cannot be used and %d are of no published image; boxes of %d images are of no published image. "
            "See docs/reference/labels.md",
            report.masks_found,
            report.masks_unusable,
            report.masks_unmatched,
            report.boxes_unmatched,
        )
    if report.boxes_clipped:
        logger.warning("%d lesion boxes leave their image: clipped to its edges", report.boxes_clipped)
    if report.files_deferred:
        logger.warning("%d files could not be read and are left for the next run", report.files_deferred)
    if report.paths_unreadable:
        logger.warning("%d folders or files could not be looked at", sum(report.paths_unreadable.values()))
    if report.images_withdrawn:
        logger.warning("%d images that were published are not any more", report.images_withdrawn)
    if report.images_without_source:
        logger.info(
            "%d published images have no file in the source folder any more; they are kept", report.images_without_source
        )
