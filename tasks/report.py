"""Report: everything a run found, on one self-contained page."""

from __future__ import annotations

import numpy as np
import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from schemas.config import RunConfig, Stage
from schemas.exam import Finding
from schemas.reports import (
    EvaluationReport,
    ExplainReport,
    IngestReport,
    PipelineReport,
    SplitReport,
    TrainReport,
    ValidationReport,
)
from tasks.adapters.report import render_report
from tasks.adapters.report_charts import FindingScores
from tasks.adapters.workspace import Workspace
from tasks.artifacts import show_link
from tasks.evaluate import breast_table
from tasks.stages import save_report
from tasks.train import now


@task(name="report", cache_policy=NO_CACHE, persist_result=False)
def write_report(
    config: RunConfig,
    ingested: IngestReport,
    validated: ValidationReport,
    splits: SplitReport,
    trained: TrainReport,
    evaluated: EvaluationReport,
    explained: ExplainReport,
) -> PipelineReport:
    """Renders the page; a second's work, so it is always made anew."""
    path = Workspace(config.workspace_dir).stage_dir(Stage.REPORT.value) / "report.html"
    report = PipelineReport(
        ingest=ingested,
        validation=validated,
        split=splits,
        train=trained,
        evaluation=evaluated,
        explanation=explained,
        report_path=path,
    )
    scores = pd.read_parquet(evaluated.scores_path)
    breasts = [_finding_scores(scores, finding) for finding in Finding]
    render_report(report, config=config, scores=breasts, output_path=path, created=now())
    show_link("report", path, "The run's report")
    return save_report(config, Stage.REPORT, report)


def _finding_scores(scores: pd.DataFrame, finding: Finding) -> FindingScores:
    breasts = breast_table(scores, finding)
    return FindingScores(
        finding=finding, score_B=breasts["score"].to_numpy(np.float64), label_B=breasts["label"].to_numpy(np.int64)
    )
