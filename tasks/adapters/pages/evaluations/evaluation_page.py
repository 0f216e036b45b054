"""The page of an evaluation by itself: what ``mammo evaluate`` leaves where no run from folder to report was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gmic_model.metrics.curve_bands import pr_band, roc_band
from schemas.config.run import RunConfig
from schemas.reports.data import SplitReport
from schemas.reports.evaluation import EvaluationReport
from schemas.reports.training import TrainReport
from tasks.adapters.models.scorings import scorings_sentence
from tasks.adapters.pages.charts.calibration import calibration_chart, slider
from tasks.adapters.pages.charts.curves import FindingScores, pr_chart, roc_chart
from tasks.adapters.pages.charts.decision_curves import decision_chart
from tasks.adapters.pages.charts.free_response import froc_charts
from tasks.adapters.pages.measures import measured_tables
from tasks.adapters.pages.render import PAGE_FINDINGS, page_findings, write_page
from tasks.adapters.pages.reporting.reporting_page import render_beside_evaluation
from tasks.adapters.provenance import now
from tasks.adapters.scoring.metrics_table import patients_sentence, weights_sentence
from tasks.adapters.scoring.score_tables import BREAST, labelled, read_breast_scores

SCRIPT = "report.js"
PAGE = "evaluation.html"


def with_pages(
    config: RunConfig, splits: SplitReport, trained: TrainReport | None, evaluated: EvaluationReport
) -> EvaluationReport:
    """Writes the page and, beside it, that of reporting guidelines; the same evaluation, which names both.

    Raises:
        OSError: The tables cannot be read, or a page cannot be written.
    """
    page = write_evaluation_page(config, evaluated)
    reporting = render_beside_evaluation(config, splits, trained, evaluated, page)
    return evaluated.model_copy(update={"page_path": page, "reporting_path": reporting})


def write_evaluation_page(config: RunConfig, evaluated: EvaluationReport) -> Path:
    """Renders the page beside the evaluation's tables and returns where it lies.

    Raises:
        OSError: The tables cannot be read, or the page cannot be written.
    """
    path = evaluated.scores_path.with_name(PAGE)
    findings = page_findings(evaluated.by_finding)
    write_page(
        path,
        "evaluation.html.jinja",
        script=SCRIPT,
        evaluated=evaluated,
        config=config,
        created=now(),
        findings=findings,
        weights_said=weights_sentence(evaluated),
        patients_said=patients_sentence(evaluated.patients),
        scorings_said=scorings_sentence(evaluated.scorings),
        measures=tuple(
            measured_tables(
                {finding.capitalize(): evaluated.by_finding[finding] for finding in findings},
                title="Breasts, exams and images",
            )
        ),
        **charts_of(evaluated, finding_scores(config, evaluated)),
    )
    return path


def charts_of(evaluated: EvaluationReport, scores: list[FindingScores]) -> dict[str, Any]:
    """What a page draws of an evaluation, by the name that the templates give it."""
    ordered = sorted(scores, key=lambda scored: PAGE_FINDINGS.index(scored.finding))
    drawn = [calibration_chart(name, evaluated.by_finding[name]) for name in page_findings(evaluated.by_finding)]
    return {
        "test_charts": (roc_chart(ordered), pr_chart(ordered)) if ordered else (),
        "sliders": [moved for moved in map(slider, ordered) if moved is not None],
        "calibration_charts": [chart for chart in drawn if chart is not None],
        "froc_charts": froc_charts(evaluated),
        "decision_charts": [
            chart
            for name in page_findings(evaluated.by_finding)
            for curve in evaluated.by_finding[name].decision_curves
            if (chart := decision_chart(name, curve)) is not None
        ],
    }


def finding_scores(config: RunConfig, evaluated: EvaluationReport) -> list[FindingScores]:
    """Breast-level test scores and labels of each finding, with the bands of their curves.

    Raises:
        OSError: The evaluation's tables are gone.
    """
    table = read_breast_scores(evaluated)
    confidence = config.evaluate.confidence
    found = []
    for finding in PAGE_FINDINGS:
        breasts = labelled(table, finding, BREAST)
        score_B, label_B = breasts["score"].to_numpy(np.float64), breasts["label"].to_numpy(np.int64)
        patient_B = breasts["patient_id"].to_numpy(str)
        found.append(
            FindingScores(
                finding=finding,
                score_B=score_B,
                label_B=label_B,
                roc_band=roc_band(score_B, label_B, patient_B, confidence=confidence),
                pr_band=pr_band(score_B, label_B, patient_B, confidence=confidence),
            )
        )
    return found
