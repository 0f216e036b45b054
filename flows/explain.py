"""Explain: Figure 4 panels and gallery pages of test exams."""

from __future__ import annotations

from schemas.config.run import RunConfig, Stage
from schemas.reports.data import SplitReport
from schemas.reports.evaluation import EvaluationReport
from schemas.reports.pages import ExplainReport
from schemas.reports.training import TrainReport
from tasks.artifacts import config_flow
from tasks.explain import explain_exams
from tasks.stage import load_report


@config_flow(name="explain")
def explain(config: RunConfig) -> ExplainReport:
    """Annotated input, patch map, saliency maps, patches with their attention; a page per exam as radiologists hang it."""
    splits = load_report(config, Stage.SPLIT, SplitReport)
    evaluated = load_report(config, Stage.EVALUATE, EvaluationReport)
    trained = None if evaluated.models else load_report(config, Stage.TRAIN, TrainReport)
    return explain_exams(config, splits, trained, evaluated)
