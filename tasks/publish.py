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
    complete_patients,
    gate_rows,
    ingest_report,
    labels_of,
    outcome,
    refuse_run,
    require_few_withdrawals,
    write_persons,
    write_published,
)
from tasks.adapters.inbox.publishing.published import published_parts, read_keys, require_pixels, whole_lines
from tasks.adapters.inbox.sources.exam_source import find_sources
from tasks.adapters.labels.lesion_boxes import read_boxes
from tasks.adapters.labels.named_inputs import InputCounter
from tasks.adapters.pages.contact_sheet import write_contact_sheet
from tasks.adapters.pseudonyms import Pseudonyms
from tasks.adapters.store.manifest import published_patients
from tasks.adapters.workspace import Workspace
from tasks.artifacts import add_to_run_name, show_table
from tasks.stage import save_report

logger = logging.getLogger(__name__)

_PICTURES = 100
"""Drawn at the end of an ingest; `mammo quarantine sheet` draws more."""


@task(name="publish-exams", cache_policy=NO_CACHE, persist_result=False)
def publish_exams(config: RunConfig, scan: Scan, not_fetched: str = "") -> IngestReport:
    """Joins labels and replaces the manifest: from here on readers see the new exams. ``not_fetched`` is for the report.

    Raises:
        NoExamsFound: Every file was refused; the list of them is written.
        SourceUnavailable: Nothing is published, and some files could not be read.
        TooManyWithdrawn: The manifest would lose more images than ``ingest.max_withdrawn_fraction`` allows: it stays as it was.
        TooManyFailures: More files were refused than ``ingest.max_failed_fraction`` allows; the list of them is written.
        StoreError: The ledger is damaged, or pixels of what would be published are not there.
        LabelError: The labels cannot be read, or none joins to an exam.
    """
    store, pseudonyms = open_exams(config)
    complete_patients(store, pseudonyms)
    what = outcome(store, scan)
    boxes = {} if config.ingest.boxes_csv is None else read_boxes(config.ingest.boxes_csv, pseudonyms)
    inputs = InputCounter(config.ingest, pseudonyms, boxes)
    with whole_lines(store):
        parts = published_parts(store, what.left_out)
        keys = read_keys(store, parts, published_patients(store), scan.file_ids, inputs)
    require_few_withdrawals(config.ingest, keys, explained=what.explained)
    require_pixels(store, keys)
    write_leakage_list(store.files.leakage_path, what.found.twins)
    patients_of_one_id = write_persons(store, keys)
    joined = labels_of(config.ingest, what, keys, pseudonyms, config.evaluate.subgroup_columns)
    written = write_published(store, what, joined, boxes)
    if boxes:
        logger.info("%d of %d images with lesion boxes are published", written.tally.with_boxes, len(boxes))
    report = ingest_report(store, scan, what, keys, written, joined, config.ingest.profile).model_copy(
        update={
            "contact_sheet_path": _draw_contact_sheet(config, what.refused, pseudonyms),
            "patients_of_one_id": patients_of_one_id,
            "not_fetched": not_fetched,
            **asdict(inputs.counts),
        }
    )
    save_report(config, Stage.INGEST, report)
    _show_gate_results(report)
    alert(report)
    add_to_run_name(f"{report.images_published}-images-{report.images_new}-new-{report.files_quarantined}-refused")
    refuse_run(config.ingest, report, scan, what.refused, store)
    return report


# ---------------------------------------------------------------------------------------------------------------------


def _draw_contact_sheet(config: RunConfig, refused: Sequence[QuarantinedFile], pseudonyms: Pseudonyms) -> Path | None:
    path = Workspace(config.workspace_dir).contact_sheet_path
    if not refused:
        path.unlink(missing_ok=True)
        return None
    return write_contact_sheet(
        refused,
        find_sources(config.ingest, () if config.ingest.bucket_url else [file.file_id for file in refused], pseudonyms),
        source_dir=config.ingest.source_dir,
        output_path=path,
        created=datetime.now(UTC),
        limits=config.ingest.gate_limits,
        pictures=0 if config.ingest.bucket_url else _PICTURES,  # of a bucket nothing is fetched twice
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
