"""The folds of a cross-validation put together: each alone, and the test patients of all of them as one cohort. No Prefect."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from gmic_model.metrics.operating_points import point_at_threshold
from gmic_model.metrics.ranking import Metric
from schemas.errors import StoreError
from schemas.exam import FINDINGS, Finding
from schemas.reports.clinic import FoldMetrics, PooledMetrics
from schemas.reports.evaluation import EvaluationReport, FindingMetrics, OperatingPoint
from schemas.reports.report import Interval
from tasks.adapters.scoring.model_ranking import ranking
from tasks.adapters.scoring.score_tables import BREAST, labelled, read_breast_scores

_UNDEFINED = Interval(value=None, low=None, high=None)


def pooled_metrics(evaluated: Sequence[EvaluationReport], *, confidence: float) -> dict[str, PooledMetrics]:
    """The metrics of each finding, by its name.

    Args:
        evaluated: Of each fold, in their order.
        confidence: Of the intervals. They are over patients and hold the networks fixed: that the folds share most of their
            training patients, and that other patients would have made other networks, is not in them.

    Raises:
        StoreError: A patient is judged in two folds, or folds are of different data.
    """
    tables = [read_breast_scores(report) for report in evaluated]
    _require_one_cohort(evaluated, tables)
    return {finding.value: _pooled(finding, evaluated, tables, confidence) for finding in FINDINGS}


def _require_one_cohort(evaluated: Sequence[EvaluationReport], tables: Sequence[pd.DataFrame]) -> None:
    patients = [set(table["patient_id"]) for table in tables]
    twice = sum(map(len, patients)) - len(set().union(*patients))
    versions = {report.provenance.data_version for report in evaluated}
    if twice or len(versions) > 1:
        raise StoreError(
            "The folds are not of one division of one cohort",
            expected="every patient in the test split of one fold, all of the same data",
            got=f"{twice} patients in two folds, {len(versions)} versions of the data",
            remedy="run `mammo crossvalidate CONFIG.yaml` again: it makes anew what is of another division",
        )


def _pooled(
    finding: Finding, evaluated: Sequence[EvaluationReport], tables: Sequence[pd.DataFrame], confidence: float
) -> PooledMetrics:
    breasts = [labelled(table, finding, BREAST) for table in tables]
    thresholds = [_threshold(report.by_finding[finding.value]) for report in evaluated]
    folds = tuple(
        _fold(f"fold {place}", report.model_sha256, lines, threshold, confidence)
        for place, (report, lines, threshold) in enumerate(zip(evaluated, breasts, thresholds, strict=True), start=1)
    )
    areas = [fold.auroc.value for fold in folds if fold.auroc.value is not None]
    together = pd.concat(breasts, ignore_index=True)
    recalled = [
        _recalled(lines, threshold) for lines, threshold in zip(breasts, thresholds, strict=True) if threshold is not None
    ]
    point = _point(pd.concat(recalled, ignore_index=True), confidence) if len(recalled) == len(folds) else None
    return PooledMetrics(
        folds=folds,
        patients=together["patient_id"].nunique(),
        positive_patients=together.loc[together["label"] == 1, "patient_id"].nunique(),
        breasts=len(together),
        positive_breasts=int(together["label"].sum()),
        auroc=ranking(Metric.AUROC, together, confidence),
        mean_auroc=float(np.mean(areas)) if len(areas) == len(folds) else None,
        auroc_deviation=float(np.std(areas, ddof=1)) if len(areas) == len(folds) > 1 else None,
        auprc=ranking(Metric.AUPRC, together, confidence),
        sensitivity=_UNDEFINED if point is None else point.sensitivity,
        specificity=_UNDEFINED if point is None else point.specificity,
    )


def _fold(name: str, sha256: str, breasts: pd.DataFrame, threshold: float | None, confidence: float) -> FoldMetrics:
    point = None if threshold is None else _point(_recalled(breasts, threshold), confidence)
    return FoldMetrics(
        name=name,
        model_sha256=sha256,
        patients=breasts["patient_id"].nunique(),
        positive_patients=breasts.loc[breasts["label"] == 1, "patient_id"].nunique(),
        breasts=len(breasts),
        positive_breasts=int(breasts["label"].sum()),
        auroc=ranking(Metric.AUROC, breasts, confidence),
        auprc=ranking(Metric.AUPRC, breasts, confidence),
        threshold=threshold if threshold is not None and np.isfinite(threshold) else None,
        sensitivity=_UNDEFINED if point is None else point.sensitivity,
        specificity=_UNDEFINED if point is None else point.specificity,
    )


def _threshold(metrics: FindingMetrics) -> float | None:
    """That of the fold's tuning split; infinite where it recalls nothing there, None where that split defines none."""
    if metrics.subgroup_threshold is not None:
        return metrics.subgroup_threshold
    return float("inf") if metrics.tuning_thresholds else None


def _recalled(breasts: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Decisions in place of scores, so that breasts of folds with other thresholds stand side by side."""
    return breasts.assign(score=(breasts["score"] >= threshold).astype(np.float64))


def _point(recalled: pd.DataFrame, confidence: float) -> OperatingPoint | None:
    return point_at_threshold(
        recalled["score"].to_numpy(np.float64),
        recalled["label"].to_numpy(np.int64),
        recalled["patient_id"].to_numpy(str),
        0.5,
        confidence=confidence,
    )
