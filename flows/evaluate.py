"""Evaluate: the trained network on the test split."""

from __future__ import annotations

from prefect import flow

from schemas.config import RunConfig, Stage
from schemas.reports import EvaluationReport, SplitReport, TrainReport
from tasks.evaluate import evaluate as evaluate_task
from tasks.stages import load_report, when_needed


@flow(name="evaluate", flow_run_name="evaluate-{config.name}")
def evaluate(config: RunConfig) -> EvaluationReport:
    """Breast-level AUROC and AUPRC with intervals, and localisation."""
    splits = load_report(config, Stage.SPLIT, SplitReport)
    trained = load_report(config, Stage.TRAIN, TrainReport)
    return when_needed(evaluate_task, Stage.EVALUATE, config)(config, splits, trained)
