"""The page of a cross-validation: every fold in a row, and all test patients together."""

from __future__ import annotations

from schemas.config.run import RunConfig
from schemas.reports.clinic import CrossValidationReport
from tasks.adapters.pages.measures import measured_tables
from tasks.adapters.pages.render import page_findings, write_page
from tasks.adapters.provenance import now
from tasks.adapters.scoring.metrics_table import interval_text


def write_crossvalidation_page(config: RunConfig, report: CrossValidationReport) -> None:
    """Renders the page; replaced atomically.

    Raises:
        OSError: It cannot be written.
    """
    findings = page_findings(report.by_finding)
    by_finding = {finding.capitalize(): report.by_finding[finding] for finding in findings}
    write_page(
        report.page_path,
        "crossvalidation.html.jinja",
        report=report,
        config=config,
        created=now(),
        findings=findings,
        measures=tuple(measured_tables(by_finding, title="All folds together")),
    )


def pooled_markdown(report: CrossValidationReport) -> str:
    """The pooled numbers as a table for terminals and the Prefect UI."""
    titles = (
        "finding",
        "breasts",
        "patients",
        "AUROC, pooled",
        "AUROC, mean of folds",
        "AUPRC, pooled",
        "sensitivity",
        "specificity",
    )
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for finding in page_findings(report.by_finding):
        metrics = report.by_finding[finding]
        mean = "not defined" if metrics.mean_auroc is None else f"{metrics.mean_auroc:.3f}"
        if metrics.auroc_deviation is not None:
            mean += f" ± {metrics.auroc_deviation:.3f}"
        cells = (
            finding,
            f"{metrics.breasts} ({metrics.positive_breasts} positive)",
            f"{metrics.patients} ({metrics.positive_patients} positive)",
            interval_text(metrics.auroc),
            mean,
            interval_text(metrics.auprc),
            interval_text(metrics.sensitivity),
            interval_text(metrics.specificity),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
