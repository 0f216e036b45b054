"""What a finished verb says in a terminal."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from schemas.reports.clinic import CrossValidationReport
from schemas.reports.evaluation import EvaluationReport
from schemas.reports.pages import PipelineReport, PredictReport
from schemas.reports.report import Report
from schemas.reports.training import SearchReport


def summary_text(verb: str, report: Report) -> str:
    """One line for people: what was done and where it lies."""
    content: dict[str, Any] = report.model_dump(mode="json")
    places = [f"{key}: {value}" for key, value in content.items() if key.endswith(("_dir", "_path"))]
    if isinstance(report, EvaluationReport):
        from tasks.adapters.scoring.metrics_table import evaluation_text

        pages = (("Page", report.page_path), ("Reporting guidelines", report.reporting_path))
        return "\n".join([evaluation_text(report), *(f"{name}: {path}" for name, path in pages if path is not None)])
    if isinstance(report, CrossValidationReport):
        from tasks.adapters.pages.evaluations.crossvalidation_page import pooled_markdown

        folds = f"\nThe folds' networks as one model: {report.ensemble_path}" if report.ensemble_path is not None else ""
        return f"{pooled_markdown(report)}\nPage: {report.page_path}{folds}"
    if isinstance(report, SearchReport):
        places.append(f"evaluate them: {report.next_command}")
    return f"{verb} done. " + ", ".join(places)


def prediction_text(report: PredictReport) -> str:
    """Scores per breast, and what is missing."""
    lines = [
        f"{breast}: " + ", ".join(f"{finding} {score:.3f}" for finding, score in scores.items())
        for breast, scores in report.breast_scores.items()
    ]
    if report.images_scored > len(report.images):
        lines.append(f"These are the last of {report.images_scored:,} images; all are in {report.scores_path}")
    return "\n".join([*lines, *report.missing, f"Report: {report.report_path}"])


def demo_text(report: PipelineReport, predicted: PredictReport | None, *, minutes: float) -> str:
    """What the demo prints at its end."""
    from tasks.adapters.scoring.metrics_table import evaluation_text

    lines = ["", evaluation_text(report.evaluation), ""]
    if predicted is not None:
        lines += [
            "Real mammograms through this demo network, which has seen synthetic images only: the scores mean nothing.",
            prediction_text(predicted),
            "",
        ]
    lines += [f"Report: {report.report_path}", f"Took {minutes:.1f} minutes."]
    return "\n".join(lines)


def set_demo_text(report: PipelineReport, config: Path, *, minutes: float) -> str:
    """What the demo of a public data set prints at its end."""
    from tasks.adapters.scoring.metrics_table import evaluation_text

    return "\n".join(
        [
            "",
            evaluation_text(report.evaluation),
            "",
            "A small network after few epochs: its numbers say nothing of the set, only that the way to the report is whole.",
            f"To train for good: mammo pipeline {shlex.quote(str(config))}",
            f"Report: {report.report_path}",
            f"Took {minutes:.1f} minutes.",
        ]
    )
