"""Evaluate: the trained network on the test split."""

from __future__ import annotations

from schemas.config.run import RunConfig, Stage
from schemas.reports.evaluation import EvaluationReport
from schemas.reports.training import TrainReport
from tasks.artifacts import config_flow
from tasks.evaluate import evaluate_network
from tasks.stage import load_division, load_report


@config_flow(name="evaluate")
def evaluate(config: RunConfig) -> EvaluationReport:
    """Breast-level AUROC and AUPRC with intervals, and localisation, of what was trained or of the weights that are named."""
    splits = load_division(config)
    trained = None if config.evaluate.names_weights else load_report(config, Stage.TRAIN, TrainReport)
    return evaluate_network(config, splits, trained)
