"""How well scores rank, from breast and exam tables: of one score, and of several models beside their mean. No Prefect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gmic_model.metrics.areas import area_interval, auroc_difference
from gmic_model.metrics.delong import delong_test
from gmic_model.metrics.ranking import Metric, auprc, auroc
from schemas.config.evaluation import EvaluateConfig
from schemas.exam import FINDINGS
from schemas.reports.evaluation import AurocDifference, FindingMetrics, ModelMetrics, ModelSpread
from schemas.reports.report import Interval
from schemas.reports.reviewed import BeforeAndAfter
from tasks.adapters.scoring.score_tables import BREAST, labelled


def with_ranking(breasts: pd.DataFrame, exams: pd.DataFrame, confidence: float) -> FindingMetrics:
    """Counts, AUROC and AUPRC of breasts and of exams.

    Args:
        breasts: Test breasts with a known label: patient_id, score, label.
        exams: Test exams with a known label, the same columns.
        confidence: Level of the intervals.
    """
    return FindingMetrics(
        breasts=len(breasts),
        positive_breasts=int(breasts["label"].sum()),
        patients=breasts["patient_id"].nunique(),
        positive_patients=breasts.loc[breasts["label"] == 1, "patient_id"].nunique(),
        auroc=ranking(Metric.AUROC, breasts, confidence),
        auprc=ranking(Metric.AUPRC, breasts, confidence),
        localization_images=0,
        localization_f1=None,
        localization_precision=None,
        localization_recall=None,
        exams=len(exams),
        positive_exams=int(exams["label"].sum()),
        exam_auroc=ranking(Metric.AUROC, exams, confidence),
        exam_auprc=ranking(Metric.AUPRC, exams, confidence),
    )


def with_models(
    metrics: FindingMetrics,
    breasts: pd.DataFrame,
    of_models: Mapping[str, pd.DataFrame],
    localized: Sequence[FindingMetrics],
    confidence: float,
) -> FindingMetrics:
    """The metrics of the mean score with those of each model, their mean and spread.

    Args:
        metrics: Of the mean score.
        breasts: Of the mean score.
        of_models: The same breasts in the same order, by model's name.
        localized: Each model's localisation, in the same order.
        confidence: Level of the intervals.
    """
    models = tuple(
        ModelMetrics(
            name=name,
            sha256=str(table["model_sha256"].iloc[0]) if len(table) else "",
            auroc=ranking(Metric.AUROC, table, confidence),
            auprc=ranking(Metric.AUPRC, table, confidence),
            localization_f1=own.localization_f1,
            localization_precision=own.localization_precision,
            localization_recall=own.localization_recall,
            minus_ensemble=paired_difference(table, breasts, confidence),
        )
        for (name, table), own in zip(of_models.items(), localized, strict=True)
    )
    tables = list(of_models.values())
    return metrics.model_copy(
        update={
            "models": models,
            "auroc_of_models": spread(Metric.AUROC, tables, confidence),
            "auprc_of_models": spread(Metric.AUPRC, tables, confidence),
        }
    )


def ranking(metric: Metric, table: pd.DataFrame, confidence: float) -> Interval:
    """A metric with its patient-clustered interval."""
    return area_interval(
        metric,
        table["score"].to_numpy(np.float64),
        table["label"].to_numpy(np.int64),
        table["patient_id"].to_numpy(str),
        confidence=confidence,
    )


def spread(metric: Metric, tables: Sequence[pd.DataFrame], confidence: float) -> ModelSpread:
    """Mean over models, with an interval over patients that holds these models fixed, and their standard deviation."""
    score_SB = np.stack([table["score"].to_numpy(np.float64) for table in tables])
    label_B, patient_B = tables[0]["label"].to_numpy(np.int64), tables[0]["patient_id"].to_numpy(str)
    measure = {Metric.AUROC: auroc, Metric.AUPRC: auprc}[metric]
    values = [value for value in (measure(score_B, label_B) for score_B in score_SB) if value is not None]
    if not values:
        return ModelSpread(mean=Interval(value=None, low=None, high=None), standard_deviation=None)
    return ModelSpread(
        mean=area_interval(metric, score_SB, label_B, patient_B, confidence=confidence),
        standard_deviation=float(np.std(values, ddof=1)) if len(values) > 1 else None,
    )


def minus_before(breasts: pd.DataFrame, before: pd.DataFrame, confidence: float) -> dict[str, AurocDifference | None]:
    """By finding: AUROC less that of an earlier evaluation, over the breasts that both scored, at the labels of now.

    Args:
        breasts: Of one score, as ``score_tables`` makes them.
        before: Likewise, of the earlier evaluation.
        confidence: Of the intervals.
    """
    both = [name for name in BREAST if name in breasts and name in before]
    found: dict[str, AurocDifference | None] = {}
    for finding in FINDINGS:
        now = labelled(breasts, finding, BREAST)
        then = before[[*both, f"{finding.value}_score"]].drop_duplicates(both)
        paired = now.merge(then, on=both)
        found[finding.value] = paired_difference(paired, paired.assign(score=paired[f"{finding.value}_score"]), confidence)
    return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoredBefore:
    """What the weights scored that a training began with.

    Attributes:
        sha256: Of these weights.
        source: Name of their checkpoint.
        scored_utc: When.
        breasts: As ``score_tables`` makes them.
    """

    sha256: str
    source: str
    scored_utc: str
    breasts: pd.DataFrame


def with_before(
    by_finding: dict[str, FindingMetrics], breasts: pd.DataFrame, before: ScoredBefore | None, config: EvaluateConfig
) -> dict[str, FindingMetrics]:
    """The metrics with what the training brought, of the breasts that both scored, at the labels of now.

    Args:
        by_finding: Of the trained weights.
        breasts: What they scored, as ``score_tables`` makes them.
        before: What those scored that the training began with; None = that is not known, and nothing is added.
        config: Says the level of the intervals.
    """
    if before is None:
        return by_finding
    found, confidence = dict(by_finding), config.confidence
    for finding in FINDINGS:
        then = before.breasts[[*BREAST, f"{finding.value}_score"]].drop_duplicates(list(BREAST))
        paired = labelled(breasts, finding, BREAST).merge(then, on=list(BREAST))
        if paired.empty:
            continue
        scored_before = paired.assign(score=paired[f"{finding.value}_score"])
        after_B, before_B = (table["score"].to_numpy(np.float64) for table in (paired, scored_before))
        label_B, patient_B = paired["label"].to_numpy(np.int64), paired["patient_id"].to_numpy(str)
        gain = auroc_difference(after_B, before_B, label_B, patient_B, confidence=confidence)
        # Too few patients for an interval are too few for a test.
        tested = None if gain.low is None else delong_test(after_B, before_B, label_B, patient_B=patient_B)
        said = BeforeAndAfter(
            sha256=before.sha256,
            source=before.source,
            scored_utc=before.scored_utc,
            compared=len(paired),
            positive_compared=int(label_B.sum()),
            compared_patients=paired["patient_id"].nunique(),
            positive_compared_patients=paired.loc[paired["label"] == 1, "patient_id"].nunique(),
            auroc_before=ranking(Metric.AUROC, scored_before, confidence),
            auroc_after=ranking(Metric.AUROC, paired, confidence),
            auroc_gain=gain,
            gain_p_value=None if tested is None else tested.p_value,
        )
        found[finding.value] = found[finding.value].model_copy(update={"before_and_after": said})
    return found


def paired_difference(first: pd.DataFrame, second: pd.DataFrame, confidence: float) -> AurocDifference | None:
    """AUROC of the first score less that of the second on the same breasts; None where it has no interval."""
    if first.empty:
        return None
    scores = first["score"].to_numpy(np.float64), second["score"].to_numpy(np.float64)
    label_B, patient_B = first["label"].to_numpy(np.int64), first["patient_id"].to_numpy(str)
    found = auroc_difference(*scores, label_B, patient_B, confidence=confidence)
    tested = delong_test(*scores, label_B, patient_B=patient_B)
    if found.value is None or found.low is None or found.high is None or tested is None:
        return None
    return AurocDifference(difference=found.value, low=found.low, high=found.high, p_value=tested.p_value)
