"""Publish: what ingest wrote becomes visible, with its labels, and the run learns whether too much was refused."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from schemas.config import IngestConfig, RunConfig, Stage
from schemas.errors import NoExamsFound, TooManyFailures
from schemas.exam import UNKNOWN_LABEL, Laterality, QuarantinedFile
from schemas.layout import VIEWS_PER_EXAM
from schemas.reports import IngestReport
from tasks.adapters.exam_store import ExamStore, data_version, publish
from tasks.adapters.gate import advise_profile
from tasks.adapters.labels import LabelJoin, join_labels, read_labels
from tasks.adapters.ledger import Ledger
from tasks.adapters.pixel_twins import one_of_each, refusals, write_leakage_list
from tasks.adapters.pseudonyms import Pseudonyms
from tasks.artifacts import show_table
from tasks.ingest import Scan, open_exams
from tasks.stages import save_report

logger = logging.getLogger(__name__)


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
        lines, twins = one_of_each(ledger.manifest_lines())
        refused = [file for file in ledger.quarantined() if file.file_id in scan.file_ids]
        refused += refusals(twins, ledger.file_id_by_image())
    write_leakage_list(store.folder / "leakage.csv", twins)
    joined = _join(config.ingest, lines, pseudonyms)
    manifest = publish(store, [{**line, **_label_columns(line, joined)} for line in lines], refused)
    report = _report(store, scan, manifest, refused, joined)
    save_report(config, Stage.INGEST, report)
    _show_gate_results(report)
    _refuse_run(config.ingest, report, len(refused), store)
    return report


# ---------------------------------------------------------------------------------------------------------------------


def _refuse_run(config: IngestConfig, report: IngestReport, refused: int, store: ExamStore) -> None:
    reasons = ", ".join(f"{code}: {count}" for code, count in report.quarantined_by_reason.items())
    remedy = report.advice or f"see {store.quarantine_path} and docs/gate-rules.md"
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
    exams_by_day: dict[tuple[str, date], set[str]] = {}
    for line in lines:
        if line["exam_date"] is not None:
            day = (str(line["patient_id"]), date.fromisoformat(str(line["exam_date"])))
            exams_by_day.setdefault(day, set()).add(str(line["exam_id"]))
    labels = read_labels(
        config.labels_csv, pseudonyms, exams_by_day={day: tuple(sorted(exams)) for day, exams in exams_by_day.items()}
    )
    return join_labels(labels, breasts, patient_by_exam={str(line["exam_id"]): str(line["patient_id"]) for line in lines})


def _label_columns(line: Mapping[str, object], joined: LabelJoin) -> dict[str, object]:
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
        files_found=len(scan.file_ids),
        images_published=len(manifest),
        images_new=len(manifest) - scan.written_before,
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
        report.files_quarantined,
    )
