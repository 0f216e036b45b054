"""How well scores rank, from breast and exam tables: of one score, and of several models beside their mean. No Prefect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from gmic_model.metrics.bootstrap import Bootstrap, percentile_ends
from gmic_model.metrics.delong import delong_test
from gmic_model.metrics.ranking import Metric, auprc, auroc, bootstrap_interval, bootstrap_values
from schemas.reports.evaluation import AurocDifference, FindingMetrics, ModelMetrics, ModelSpread
from schemas.reports.report import Interval


def with_ranking(breasts: pd.DataFrame, exams: pd.DataFrame, bootstrap: Bootstrap) -> FindingMetrics:
    """Counts, AUROC and AUPRC of breasts and of exams.

    Args:
        breasts: Test breasts with a known label: patient_id, score, label.
        exams: Test exams with a known label, the same columns.
        bootstrap: How intervals are drawn.
    """
    return FindingMetrics(
        breasts=len(breasts),
        positive_breasts=int(breasts["label"].sum()),
        auroc=ranking(Metric.AUROC, breasts, bootstrap),
        auprc=ranking(Metric.AUPRC, breasts, bootstrap),
        localization_images=0,
        localization_f1=None,
        localization_precision=None,
        localization_recall=None,
        exams=len(exams),
        positive_exams=int(exams["label"].sum()),
        exam_auroc=ranking(Metric.AUROC, exams, bootstrap),
        exam_auprc=ranking(Metric.AUPRC, exams, bootstrap),
    )


def with_models(
    metrics: FindingMetrics,
    breasts: pd.DataFrame,
    of_models: Mapping[str, pd.DataFrame],
    localized: Sequence[FindingMetrics],
    bootstrap: Bootstrap,
) -> FindingMetrics:
    """The metrics of the mean score with those of each model, their mean and spread.

    Args:
        metrics: Of the mean score.
        breasts: Of the mean score.
        of_models: The same breasts in the same order, by model's name.
        localized: Each model's localisation, in the same order.
        bootstrap: How intervals are drawn.
    """
    models = tuple(
        ModelMetrics(
            name=name,
            sha256=str(table["model_sha256"].iloc[0]) if len(table) else "",
            auroc=ranking(Metric.AUROC, table, bootstrap),
            auprc=ranking(Metric.AUPRC, table, bootstrap),
            localization_f1=own.localization_f1,
            localization_precision=own.localization_precision,
            localization_recall=own.localization_recall,
            minus_ensemble=paired_difference(table, breasts, bootstrap),
        )
        for (name, table), own in zip(of_models.items(), localized, strict=True)
    )
    tables = list(of_models.values())
    return metrics.model_copy(
        update={
            "models": models,
            "auroc_of_models": spread(Metric.AUROC, tables, bootstrap),
            "auprc_of_models": spread(Metric.AUPRC, tables, bootstrap),
        }
    )


def ranking(metric: Metric, table: pd.DataFrame, bootstrap: Bootstrap) -> Interval:
    """A metric with its patient-clustered interval."""
    return bootstrap_interval(
        metric,
        table["score"].to_numpy(np.float64),
        table["label"].to_numpy(np.int64),
        table["patient_id"].to_numpy(str),
        resamples=bootstrap.resamples,
        confidence=bootstrap.confidence,
        seed=bootstrap.seed,
    )


def spread(metric: Metric, tables: Sequence[pd.DataFrame], bootstrap: Bootstrap) -> ModelSpread:
    """Mean over models, with an interval over patients that holds these models fixed, and their standard deviation."""
    score_SB = np.stack([table["score"].to_numpy(np.float64) for table in tables])
    label_B, patient_B = tables[0]["label"].to_numpy(np.int64), tables[0]["patient_id"].to_numpy(str)
    measure = {Metric.AUROC: auroc, Metric.AUPRC: auprc}[metric]
    values = [value for value in (measure(score_B, label_B) for score_B in score_SB) if value is not None]
    if not values:
        return ModelSpread(mean=Interval(value=None, low=None, high=None), standard_deviation=None)
    value_SR = bootstrap_values(metric, score_SB, label_B, patient_B, resamples=bootstrap.resamples, seed=bootstrap.seed)
    low, high = (None, None) if value_SR is None else percentile_ends(value_SR.mean(axis=0), confidence=bootstrap.confidence)
    return ModelSpread(
        mean=Interval(value=float(np.mean(values)), low=low, high=high),
        standard_deviation=float(np.std(values, ddof=1)) if len(values) > 1 else None,
    )


def paired_difference(first: pd.DataFrame, second: pd.DataFrame, bootstrap: Bootstrap) -> AurocDifference | None:
    """AUROC of the first score less that of the second on the same breasts; None where it is not defined."""
    if first.empty:
        return None
    found = delong_test(
        first["score"].to_numpy(np.float64),
        second["score"].to_numpy(np.float64),
        first["label"].to_numpy(np.int64),
        patient_B=first["patient_id"].to_numpy(str),
        confidence=bootstrap.confidence,
    )
    if found is None:
        return None
    return AurocDifference(difference=found.difference, low=found.low, high=found.high, p_value=found.p_value)
