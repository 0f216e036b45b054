"""Split: patients into train, tuning and test, then the leakage audit. Patients are divided, never exams or images."""

from __future__ import annotations

import logging

import pandas as pd
from prefect import task

from gmic_model.sampling import split_patients
from schemas.config import RunConfig, Stage
from schemas.errors import StoreError, ValidationFailed
from schemas.exam import FINDINGS, UNKNOWN_LABEL, ExamRecord, Finding, Laterality, Split
from schemas.layout import Severity
from schemas.reports import IngestReport, SplitCount, SplitReport
from tasks.adapters.exam_store import data_version, open_store, read_manifest
from tasks.adapters.expectations import check_splits
from tasks.adapters.workspace import Workspace, write_atomically
from tasks.artifacts import show_table
from tasks.stages import save_report, stage_key

logger = logging.getLogger(__name__)


@task(
    name="split",
    persist_result=True,
    cache_key_fn=stage_key(Stage.SPLIT, 1, ("split",), lambda given: (given["ingested"].data_version,)),
)
def split(config: RunConfig, ingested: IngestReport) -> SplitReport:
    """Divides the patients, stratified by their worst known finding, and audits the result.

    Raises:
        ValidationFailed: A patient, exam or image would be in two splits.
    """
    manifest = read_manifest(open_store(ingested.store_dir))
    fractions = {
        Split.TUNING: config.split.tuning_fraction,
        Split.TEST: config.split.test_fraction,
        Split.TRAIN: 1.0 - config.split.tuning_fraction - config.split.test_fraction,
    }
    by_patient = split_patients(exam_records(manifest), fractions, seed=config.split.seed)
    splits = pd.DataFrame({"patient_id": list(by_patient), "split": [part.value for part in by_patient.values()]})
    failed = [check for check in check_splits(manifest, splits) if not check.is_met and check.severity == Severity.BLOCK]
    if failed:
        raise ValidationFailed(
            "The splits leak",
            expected="every patient, exam and image in one split",
            got="; ".join(f"{check.check}: {check.unexpected_count}" for check in failed),
            remedy="remove the images that stand in several patients' exams (see docs/data-checks.md), then split again",
        )
    path = Workspace(config.workspace_dir).stage_dir("split") / "splits.parquet"
    write_atomically(path, splits.sort_values("patient_id").to_parquet(index=False))
    counts = count_splits(manifest.merge(splits, on="patient_id"))
    show_table("splits", [{"split": part, **count.model_dump()} for part, count in counts.items()], "Patients by split")
    logger.info("split %d patients: %s", len(splits), ", ".join(f"{name} {count.patients}" for name, count in counts.items()))
    report = SplitReport(splits_path=path, data_version=data_version(manifest), counts=counts)
    return save_report(config, Stage.SPLIT, report)


def exam_records(manifest: pd.DataFrame) -> list[ExamRecord]:
    """One record per exam from the manifest's lines."""
    records = []
    for (exam_id, patient_id), views in manifest.groupby(["exam_id", "patient_id"], sort=True):
        findings: dict[Laterality, frozenset[Finding] | None] = {}
        for laterality, breast in views.groupby("laterality"):
            findings[Laterality(str(laterality))] = _findings(breast.iloc[0])
        records.append(ExamRecord(exam_id=str(exam_id), patient_id=str(patient_id), findings=findings))
    return records


def _findings(line: pd.Series) -> frozenset[Finding] | None:
    present = frozenset(finding for finding in FINDINGS if line[finding.value] == 1)
    is_known = all(line[finding.value] != UNKNOWN_LABEL for finding in FINDINGS)
    return present if present or is_known else None


def count_splits(manifest: pd.DataFrame) -> dict[str, SplitCount]:
    """Sizes by split of a manifest with its ``split`` column."""
    counts = {}
    for part in Split:
        lines = manifest[manifest["split"] == part.value]
        breasts = lines.drop_duplicates(["exam_id", "laterality"])
        counts[part.value] = SplitCount(
            patients=lines["patient_id"].nunique(),
            exams=lines["exam_id"].nunique(),
            images=len(lines),
            benign_breasts=int((breasts["benign"] == 1).sum()),
            malignant_breasts=int((breasts["malignant"] == 1).sum()),
        )
    return counts


def manifest_with_splits(report: SplitReport, ingested_store: pd.DataFrame) -> pd.DataFrame:
    """The manifest with a ``split`` column; patients that came after the split have none and are left out.

    Raises:
        StoreError: The splits file is gone.
    """
    try:
        splits = pd.read_parquet(report.splits_path)
    except FileNotFoundError as missing:
        raise StoreError(
            f"There are no splits at {report.splits_path}", expected="splits.parquet", remedy="run `mammo split` again"
        ) from missing
    return ingested_store.merge(splits, on="patient_id", how="inner")
