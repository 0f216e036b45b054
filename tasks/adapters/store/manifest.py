"""The manifest seen through the splits: which lines, exams and findings belong to training, tuning and test."""

from __future__ import annotations

import pandas as pd

from schemas.errors import StoreError
from schemas.exam import FINDINGS, UNKNOWN_LABEL, ExamRecord, Finding, Laterality
from schemas.reports.pages import SplitReport


def exam_records(manifest: pd.DataFrame) -> list[ExamRecord]:
    """One record per exam from the manifest's lines."""
    records = []
    for (exam_id, patient_id), views in manifest.groupby(["exam_id", "patient_id"], sort=True):
        findings: dict[Laterality, frozenset[Finding] | None] = {}
        for laterality, breast in views.groupby("laterality"):
            findings[Laterality(str(laterality))] = _findings(breast.iloc[0])
        records.append(ExamRecord(exam_id=str(exam_id), patient_id=str(patient_id), findings=findings))
    return records


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


def _findings(line: pd.Series) -> frozenset[Finding] | None:
    present = frozenset(finding for finding in FINDINGS if line[finding.value] == 1)
    is_known = all(line[finding.value] != UNKNOWN_LABEL for finding in FINDINGS)
    return present if present or is_known else None
