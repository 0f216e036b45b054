"""Explain: Figure 4 panels of test exams."""

from __future__ import annotations

from prefect import flow

from schemas.config import RunConfig, Stage
from schemas.reports import ExplainReport, SplitReport, TrainReport
from tasks.explain import explain as explain_task
from tasks.stages import load_report, when_needed


@flow(name="explain", flow_run_name="explain-{config.name}")
def explain(config: RunConfig) -> ExplainReport:
    """Annotated input, saliency maps, patch map and patches with their attention."""
    splits = load_report(config, Stage.SPLIT, SplitReport)
    trained = load_report(config, Stage.TRAIN, TrainReport)
    return when_needed(explain_task, Stage.EXPLAIN, config)(config, splits, trained)
