"""Publish: what ingest wrote becomes visible, with its labels, and the run learns whether too much was refused."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from schemas.config.run import RunConfig, Stage
from schemas.exam import QuarantinedFile
from schemas.reports.data import IngestReport
from tasks.adapters.inbox.batches import Scan, open_exams
from tasks.adapters.inbox.claims import write_leakage_list
from tasks.adapters.inbox.publication import (
    alert,
    gate_rows,
    ingest_report,
    labels_of,
    manifest_line,
    outcome,
    refuse_run,
    require_few_withdrawals,
)
from tasks.adapters.inbox.quarantine import find_sources
from tasks.adapters.labels.lesion_boxes import read_boxes
from tasks.adapters.labels.named_inputs import count_inputs
from tasks.adapters.pages.contact_sheet import write_contact_sheet
from tasks.adapters.pseudonyms import Pseudonyms
from tasks.adapters.store.manifest import publish, published_rows
from tasks.adapters.store.same_patient import same_patients, write_same_patients
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
        SourceUnavailable: Nothing is published, and some files could not be read.
        TooManyWithdrawn: The manifest would lose more images than ``ingest.max_withdrawn_fraction`` allows: it stays as it was.
        TooManyFailures: More files were refused than ``ingest.max_failed_fraction`` allows; the list of them is written.
        LabelError: The labels cannot be read, or none joins to an exam.
    """
    store, pseudonyms = open_exams(config)
    what = outcome(store, scan)
    found, refused = what.found, what.refused
    published_before = published_rows(store)
    require_few_withdrawals(config.ingest, found, published_before, explained=what.explained)
    write_leakage_list(store.files.leakage_path, found.twins)
    same = same_patients((line.patient_id, line.bare_patient_id) for line in found.lines)
    write_same_patients(store.files, same)
    joined = labels_of(config.ingest, what, pseudonyms, config.evaluate.subgroup_columns)
    boxes = {} if config.ingest.boxes_csv is None else read_boxes(config.ingest.boxes_csv, pseudonyms)
    manifest = publish(store, (manifest_line(line, joined, boxes) for line in found.lines), refused)
    if boxes:
        logger.info("%d of %d images with lesion boxes are published", manifest["lesion_boxes"].notna().sum(), len(boxes))
    inputs = count_inputs(
        config.ingest,
        pseudonyms,
        boxes=boxes,
        published={line.image_id: line.source_shape_px for line in found.lines},
        with_unusable_mask={line.image_id for line in found.lines if line.is_mask_unusable},
    )
    report = ingest_report(store, scan, what, manifest, joined, published_before, config.ingest.profile).model_copy(
        update={
            "contact_sheet_path": _draw_contact_sheet(config, refused, pseudonyms),
            "patients_of_one_id": len(same),
            **asdict(inputs),
        }
    )
    save_report(config, Stage.INGEST, report)
    _show_gate_results(report)
    alert(report)
    add_to_run_name(f"{report.images_published}-images-{report.images_new}-new-{report.files_quarantined}-refused")
    refuse_run(config.ingest, report, scan, refused, store)
    return report


# ---------------------------------------------------------------------------------------------------------------------


def _draw_contact_sheet(config: RunConfig, refused: Sequence[QuarantinedFile], pseudonyms: Pseudonyms) -> Path | None:
    path = Workspace(config.workspace_dir).contact_sheet_path
    if not refused:
        path.unlink(missing_ok=True)
        return None
    return write_contact_sheet(
        refused,
        find_sources(config.ingest.source_dir, [file.file_id for file in refused], pseudonyms),
        source_dir=config.ingest.source_dir,
        output_path=path,
        created=datetime.now(UTC),
        limits=config.ingest.gate_limits,
        pictures=_PICTURES,
    )


def _show_gate_results(report: IngestReport) -> None:
    show_table("gate-results", gate_rows(report), f"Gate results of {report.files_found} files")
    logger.info(
        "published %d images of %d exams (%d new), refused %d files",
        report.images_published,
        report.exams,
        report.images_new,
        report.files_quarantined,
    )
