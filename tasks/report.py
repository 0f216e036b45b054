"""Report: everything a run found, on one self-contained page and as PDF."""

from __future__ import annotations

import logging
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from schemas.config.run import RunConfig, Stage
from schemas.errors import MammoError
from schemas.reports.data import IngestReport, SplitReport, ValidationReport
from schemas.reports.evaluation import EvaluationReport
from schemas.reports.pages import ExplainReport, PipelineReport
from schemas.reports.training import TrainReport
from tasks.adapters.pages.evaluations.evaluation_page import finding_scores
from tasks.adapters.pages.pdf_printer import find_browser, print_pdf
from tasks.adapters.pages.report_page import render_report
from tasks.adapters.pages.reporting.reporting_page import render_reporting
from tasks.adapters.provenance import now
from tasks.adapters.workspace import Workspace
from tasks.artifacts import show_link
from tasks.stage import save_report

logger = logging.getLogger(__name__)


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
    created = now()
    reporting = render_reporting(
        report, config=config, report_page=path.name, output_path=path.with_name("reporting.html"), created=created
    )
    report = report.model_copy(update={"reporting_path": reporting})
    render_report(report, config=config, scores=finding_scores(config, evaluated), output_path=path, created=created)
    show_link("report", path, "The run's report")
    show_link("reporting", reporting, "What the run says to reporting guidelines")
    report = report.model_copy(update={"pdf_path": pdf_of(path) if config.report.pdf else None})
    return save_report(config, Stage.REPORT, report)


def pdf_of(page: Path) -> Path | None:
    """The page as PDF beside it; without a browser, or with one that fails, a warning: the page itself is complete."""
    browser = find_browser()
    if browser is None:
        logger.warning(
            "no report.pdf: there is no Chromium or Chrome on this machine; install one and run `mammo pipeline` again, "
            "or print report.html from any browser"
        )
        return None
    try:
        return print_pdf(page, page.with_suffix(".pdf"), browser)
    except MammoError as failed:
        logger.warning("no report.pdf: %s", failed)
        return None
