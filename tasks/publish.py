"""Publish: what ingest wrote becomes visible, with its labels, and the run learns whether too much was refused."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from schemas.config.ingest import IngestConfig
from schemas.config.run import RunConfig, Stage
from schemas.errors import NoExamsFound, TooManyFailures
from schemas.exam import UNKNOWN_LABEL, Laterality, LesionBox, QuarantinedFile
from schemas.layout import VIEWS_PER_EXAM
from schemas.reports.data import IngestReport
from tasks.adapters.gate.advice import advise_profile
from tasks.adapters.inbox.batches import Scan, open_exams
from tasks.adapters.inbox.claims import publishable, write_leakage_list
from tasks.adapters.inbox.ledger import Ledger
from tasks.adapters.inbox.quarantine import find_sources
from tasks.adapters.labels.joining import LabelJoin, join_labels
from tasks.adapters.labels.labels_file import read_labels
from tasks.adapters.labels.lesion_boxes import box_texts, read_boxes
from tasks.adapters.pages.contact_sheet import write_contact_sheet
from tasks.adapters.pseudonyms import Pseudonyms
from tasks.adapters.store.exam_store import ExamStore
from tasks.adapters.store.manifest import data_version, publish, published_rows
from tasks.adapters.workspace import Workspace
from tasks.artifacts import add_to_run_name, show_table
from tasks.stage import save_report

logger = logging.getLogger(__name__)

_PICTURES = 100
"""Drawn at the end of an ingest; `mammo quarantine sheet` draws more."""


@task(name="publish-exams", cache_policy=NO_CACHE, persist_result=False)
def publish_exams(config: RunConfig, scan: Scan) -> IngestReport:
    """Joins labels and replaces the manifest: from here on readers see the new exams.

    Raises:
        NoExamsFound: Every file was refused; the list of them is written.
        TooManyFailures: More files were refused than ``ingest.max_failed_fraction`` allows; the list of them is written.
        LabelError: The labels cannot be read, or none joins to an exam.
    """
    store, pseudonyms = open_exams(config)
    with Ledger(store.ledger_path) as ledger:
        found = publishable(ledger.manifest_lines())
        refused = [*(file for file in ledger.quarantined() if file.file_id in scan.file_ids), *found.refused]
    write_leakage_list(store.folder / "leakage.csv", found.twins)
    joined = _join(config.ingest, found.lines, pseudonyms)
    boxes = {} if config.ingest.boxes_csv is None else read_boxes(config.ingest.boxes_csv, pseudonyms)
    published_before = published_rows(store)
    lines = [{**line, **_label_columns(line, joined), **_box_column(line, boxes)} for line in found.lines]
    manifest = publish(store, lines, refused)
    if boxes:
        logger.info("%d of %d images with lesion boxes are published", manifest["lesion_boxes"].notna().sum(), len(boxes))
    report = _report(store, scan, manifest, refused, joined, published_before).model_copy(
        update={
            "images_copied": found.copies,
            "images_contested": found.contested,
            "images_without_source": sum(line["file_id"] not in scan.file_ids for line in found.lines),
            "contact_sheet_path": _draw_contact_sheet(config, refused, pseudonyms),
        }
    )
    save_report(config, Stage.INGEST, report)
    _show_gate_results(report)
    _alert(report)
    add_to_run_name(f"{report.images_published}-images-{report.images_new}-new-{report.files_quarantined}-refused")
    _refuse_run(config.ingest, report, len(refused), store)
    return report


# ---------------------------------------------------------------------------------------------------------------------


def _refuse_run(config: IngestConfig, report: IngestReport, refused: int, store: ExamStore) -> None:
    reasons = ", ".join(f"{code}: {count}" for code, count in report.quarantined_by_reason.items())
    remedy = report.advice or f"see {store.quarantine_path} and docs/reference/gate-rules.md"
    if not report.images_published:
        raise NoExamsFound(
            f"No exam in {config.source_dir} can be used: all {refused} files were refused",
            expected=f"mammograms that the profile {config.profile} allows",
            got=reasons,
            remedy=remedy,
        )
    if refused > config.max_failed_fraction * report.files_found:
        raise TooManyFailures(
            f"{refused} of {report.files_found} files were refused",
            expected=f"at most {config.max_failed_fraction:.0%}",
            got=reasons,
            remedy=remedy,
        )


def _join(config: IngestConfig, lines: Sequence[Mapping[str, object]], pseudonyms: Pseudonyms) -> LabelJoin:
    breasts = {(str(line["exam_id"]), Laterality(str(line["laterality"]))) for line in lines}
    if config.labels_csv is None or not lines:
        return LabelJoin(matched={}, orphans=0, unlabelled=len(breasts))
    exams_by_day: defaultdict[tuple[str, date], set[str]] = defaultdict(set)
    exams_by_accession: defaultdict[str, set[str]] = defaultdict(set)
    for line in lines:
        if line["exam_date"] is not None:
            exams_by_day[str(line["patient_id"]), date.fromisoformat(str(line["exam_date"]))].add(str(line["exam_id"]))
        if line["accession_id"] is not None:
            exams_by_accession[str(line["accession_id"])].add(str(line["exam_id"]))
    labels = read_labels(
        config.labels_csv,
        pseudonyms,
        exams_by_day={day: tuple(sorted(exams)) for day, exams in exams_by_day.items()},
        exams_by_accession={accession: tuple(sorted(exams)) for accession, exams in exams_by_accession.items()},
    )
    return join_labels(labels, breasts, patient_by_exam={str(line["exam_id"]): str(line["patient_id"]) for line in lines})


def _label_columns(line: Mapping[str, object], joined: LabelJoin) -> dict[str, object]:
    label = joined.matched.get((str(line["exam_id"]), Laterality(str(line["laterality"]))))
    if label is None:
        unknown: dict[str, object] = dict.fromkeys(("benign", "malignant", "birads"), UNKNOWN_LABEL)
        return {**unknown, **dict.fromkeys(("label_source", "density", "finding_type"))}
    return {
        "benign": UNKNOWN_LABEL if label.benign is None else int(label.benign),
        "malignant": UNKNOWN_LABEL if label.malignant is None else int(label.malignant),
        "birads": UNKNOWN_LABEL if label.birads is None else label.birads,
        "label_source": label.label_source,
        "density": label.density,
        "finding_type": label.finding_type,
    }


def _box_column(line: Mapping[str, Any], boxes: Mapping[str, tuple[LesionBox, ...]]) -> dict[str, object]:
    shape_px = (int(line["source_rows_px"]), int(line["source_columns_px"]))
    return {"lesion_boxes": box_texts(boxes, str(line["image_id"]), shape_px)}


def _report(
    store: ExamStore,
    scan: Scan,
    manifest: pd.DataFrame,
    refused: Sequence[QuarantinedFile],
    joined: LabelJoin,
    published_before: Mapping[str, int],
) -> IngestReport:
    by_reason = Counter(code for file in refused for code in file.reason_codes)
    warnings = Counter(code for codes in manifest["gate_warnings"] for code in codes.split())
    views = manifest.assign(view=manifest["laterality"] + manifest["view_position"]).groupby("exam_id")["view"].nunique()
    return IngestReport(
        store_dir=store.folder,
        data_version=data_version(manifest),
        files_found=len(scan.file_ids),
        images_published=len(manifest),
        images_new=len(set(manifest["image_id"]).difference(published_before)),
        images_withdrawn=len(set(published_before).difference(manifest["image_id"])),
        files_still_copied=scan.still_copied,
        exams=len(views),
        exams_incomplete=int((views < VIEWS_PER_EXAM).sum()),
        files_quarantined=len(refused),
        quarantined_by_reason=dict(by_reason.most_common()),
        warnings_by_rule=dict(warnings.most_common()),
        labelled_breasts=len(joined.matched),
        orphan_labels=joined.orphans,
        unlabelled_breasts=joined.unlabelled,
        advice=advise_profile([code for file in refused for code in file.reason_codes]) if manifest.empty else None,
    )


def _draw_contact_sheet(config: RunConfig, refused: Sequence[QuarantinedFile], pseudonyms: Pseudonyms) -> Path | None:
    path = Workspace(config.workspace_dir).stage_dir("quarantine") / "contact_sheet.html"
    if not refused:
        path.unlink(missing_ok=True)
        return None
    return write_contact_sheet(
        refused,
        find_sources(config.ingest.source_dir, [file.file_id for file in refused], pseudonyms),
        output_path=path,
        created=datetime.now(UTC),
        limits=config.ingest.gate_limits,
        pictures=_PICTURES,
    )


def _alert(report: IngestReport) -> None:
    """What somebody must look at, although the run goes on."""
    if report.images_contested:
        logger.error(
            "ALERT I06: %d SOPInstanceUIDs came with different images, patients or exams; none of them is used. "
            "See `mammo quarantine list --reason I06`",
            report.images_contested,
        )
    if report.images_withdrawn:
        logger.warning("%d images that were published are not any more", report.images_withdrawn)
    if report.images_without_source:
        logger.info(
            "%d published images have no file in the source folder any more; they are kept", report.images_without_source
        )


def _show_gate_results(report: IngestReport) -> None:
    rows = [{"outcome": "published", "rule": "", "images": report.images_published}]
    rows += [{"outcome": "refused", "rule": rule, "images": count} for rule, count in report.quarantined_by_reason.items()]
    rows += (
        [{"outcome": "ALERT: contested", "rule": "I06", "images": report.images_contested}] if report.images_contested else []
    )
    rows += [{"outcome": "warned", "rule": rule, "images": count} for rule, count in report.warnings_by_rule.items()]
    show_table("gate-results", rows, f"Gate results of {report.files_found} files")
    logger.info(
        "published %d images of %d exams (%d new), refused %d files",
        report.images_published,
        report.exams,
        report.images_new,
        report.files_quarantined,
    )
