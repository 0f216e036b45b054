"""The pages people read: one self-contained HTML file per run, and one per prediction. ``page_templates`` fills the templates.

A page loads nothing: no font, no picture of another file, and a Content-Security-Policy that forbids it; its only links lead to
the gallery's pages. The report's one script stands in it and is named in the policy by its digest. Every value is escaped.
Folders outside the workspace are not named: a source folder's name can identify a patient.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from schemas.config.run import RunConfig
from schemas.exam import Split
from schemas.layout import SEEN_ENOUGH
from schemas.reports.evaluation import EvaluationReport, FindingMetrics
from schemas.reports.pages import PipelineReport, PredictReport
from schemas.reports.training import EnsembleMember
from tasks.adapters.gate.rules.table import demand
from tasks.adapters.models.model_files import model_names
from tasks.adapters.models.scorings import scorings_sentence
from tasks.adapters.pages.charts.cohort_flow import cohort_steps, flow_chart, split_ends
from tasks.adapters.pages.charts.curves import FindingScores, Whisker, whisker
from tasks.adapters.pages.charts.training_curves import choice_note, kept_for, loss_chart, tuning_chart
from tasks.adapters.pages.evaluations.evaluation_page import SCRIPT, charts_of
from tasks.adapters.pages.measures import MeasuredTable, count_table, measured_tables
from tasks.adapters.pages.panels import exam_links, explained_panels, predicted_panels
from tasks.adapters.pages.render import LATERALITY, page_findings, write_page
from tasks.adapters.scoring.metrics_table import drawn_sentence, former_sentence, patients_sentence, weights_sentence

logger = logging.getLogger(__name__)

FEW_BREASTS = 30
"""Below this many positive breasts the page warns that intervals are wide."""


def render_report(
    report: PipelineReport,
    *,
    config: RunConfig,
    scores: Sequence[FindingScores],
    output_path: Path,
    created: datetime,
) -> Path:
    """Writes the report of a whole run as one HTML file that opens from disk.

    Args:
        report: What the stages reported.
        config: The run's config, shown at the end.
        scores: Breast-level test scores and labels of each finding, for the curves.
        output_path: Where the page goes; replaced atomically.
        created: When the page was made.

    Returns:
        ``output_path``.

    Raises:
        OSError: The page cannot be written.
    """
    report = report.model_copy(update={"evaluation": _naming_its_weights(report)})
    epochs = report.train.epochs
    steps = cohort_steps(report)
    failures, panels = explained_panels(report.explanation)
    page_bytes = write_page(
        output_path,
        "report.html.jinja",
        script=SCRIPT,
        report=report,
        evaluated=report.evaluation,
        config=config,
        created=created,
        findings=page_findings(report.evaluation.by_finding),
        whiskers=_whiskers(report),
        measures=tuple(measured_tables(_by_shown_finding(report), title="Breasts, exams and images")),
        ingest_counts=count_table(report.ingest, title="Every count of the ingest", column="Count"),
        seen_measures=next(_seen_measures(report), None),
        cautions=_cautions(report, config),
        **_attribution(report, config),
        flow=steps,
        flow_drawn=flow_chart(steps, split_ends(report)),
        refused=_by_rule(report.ingest.quarantined_by_reason),
        warned=_by_rule(report.ingest.warnings_by_rule),
        splits=[(split, report.split.counts.get(split)) for split in Split],
        failed_checks=[*report.validation.blocking, *report.validation.warnings],
        met_checks=[check for check in report.validation.checks if check.is_met],
        training_charts=(loss_chart(epochs, report.train.best_epoch), tuning_chart(epochs, report.train.best_epoch)),
        kept_for=kept_for(config.train.recipe),
        choice_said=_choice_said(report),
        **charts_of(report.evaluation, list(scores)),
        failures=failures,
        panels=panels,
        links=exam_links(report.explanation, output_path),
        config_json=_shown_config(config),
    )
    logger.info("report written: %d bytes", page_bytes)
    return output_path


def render_prediction(
    report: PredictReport, *, config: RunConfig, checkpoint_note: str, output_path: Path, created: datetime
) -> Path:
    """Writes the page of one prediction: scores per breast, what is missing, panels.

    Args:
        report: What was scored.
        config: The run's config.
        checkpoint_note: A sentence on the weights: which ones, trained on what, or that they are untrained.
        output_path: Where the page goes; replaced atomically.
        created: When the page was made.

    Raises:
        OSError: The page cannot be written.
    """
    by_exam: dict[str, list[tuple[str, dict[str, float]]]] = {}
    for key, scores in report.breast_scores.items():  # an exam's second breast may have come long after its first
        exam_id, _, laterality = key.rpartition(" ")
        by_exam.setdefault(exam_id, []).append((LATERALITY.get(laterality, laterality), scores))
    write_page(
        output_path,
        "prediction.html.jinja",
        report=report,
        config=config,
        created=created,
        checkpoint_note=checkpoint_note,
        findings=page_findings({finding: None for breasts in by_exam.values() for _, scores in breasts for finding in scores}),
        breasts=by_exam,
        repeats=_breasts_with_repeats(report),
        panels=predicted_panels(report),
        config_json=_shown_config(config),
    )
    return output_path


def _naming_its_weights(report: PipelineReport) -> EvaluationReport:
    """The evaluation with its weights: a former release's may name none, and is then of what was trained."""
    evaluated, trained = report.evaluation, report.train
    if evaluated.models:
        return evaluated
    member = EnsembleMember(path=trained.checkpoint_path, sha256=trained.checkpoint_sha256)
    return evaluated.model_copy(update={"models": (member,), "model_sha256": member.sha256})


def _attribution(report: PipelineReport, config: RunConfig) -> dict[str, Any]:
    """Whose numbers and pictures the page shows, and whether these weights had seen the patients."""
    evaluated, is_of_training = report.evaluation, _is_of_training(report)
    networks = evaluated.networks or ((config.model,) if is_of_training else ())
    return {
        "patients_said": patients_sentence(evaluated.patients),
        "is_of_training": is_of_training,
        "scorings_said": scorings_sentence(evaluated.scorings),
        "weights_said": weights_sentence(evaluated),
        "drawn_said": drawn_sentence(
            evaluated, report.explanation.model_sha256 or report.train.checkpoint_sha256, report.explanation.mapped_sha256
        ),
        "weights": list(zip(model_names(evaluated.models), (one.sha256 for one in evaluated.models), strict=True)),
        "networks": [network for place, network in enumerate(networks) if network not in networks[:place]],
    }


def _is_of_training(report: PipelineReport) -> bool:
    """True if the evaluated weights are those that the run trained, and no other."""
    return report.evaluation.model_sha256 == report.train.checkpoint_sha256


def _breasts_with_repeats(report: PredictReport) -> int:
    views = Counter((image.exam_id, image.laterality, image.view_position) for image in report.images)
    return len({(exam_id, side) for (exam_id, side, _), count in views.items() if count > 1})


def _seen_measures(report: PipelineReport) -> Iterator[MeasuredTable]:
    seen = report.ingest.seen
    return measured_tables({} if seen is None else {"Published images": seen}, title="Breasts in the network's window")


def _by_shown_finding(report: PipelineReport) -> dict[str, FindingMetrics]:
    """Metrics by the finding's name, in the order of a page."""
    by_finding = report.evaluation.by_finding
    return {finding.capitalize(): by_finding[finding] for finding in page_findings(by_finding)}


def _whiskers(report: PipelineReport) -> dict[str, dict[str, Whisker | None]]:
    return {
        finding: {
            "auroc": whisker(metrics.auroc, 0.5),
            "auprc": whisker(metrics.auprc, metrics.positive_breasts / max(1, metrics.breasts)),
        }
        for finding, metrics in report.evaluation.by_finding.items()
    }


def _choice_said(report: PipelineReport) -> str:
    tuning = report.split.counts.get(Split.TUNING)
    malignant = tuning.malignant_breasts if tuning else 0
    others = 2 * tuning.exams - malignant if tuning else 0  # nearly all exams have both breasts
    return choice_note(report.train.epochs, report.train.best_epoch, malignant=malignant, others=others)


def _cautions(report: PipelineReport, config: RunConfig) -> list[str]:
    """Sentences that a reader must have seen before quoting a number."""
    cautions = []
    if config.phantom is not None:
        cautions.append(
            "The exams are synthetic (phantom): these numbers say whether the software works, nothing about patients."
        )
    if report.ingest.terms:
        cautions.append(report.ingest.terms)
    cautions += [sentence for sentence in report.evaluation.terms if sentence not in report.ingest.terms]
    patients = report.evaluation.patients
    if not patients.is_checked or patients.test_left_out or patients.tuning_left_out:
        cautions.append(patients_sentence(patients))
    if former := former_sentence(report.evaluation):
        cautions.append(former)
    if report.validation.blocking:
        cautions.append(f"{len(report.validation.blocking)} blocking data checks failed: see data checks.")
    trained, evaluated = report.train.provenance, report.evaluation.provenance
    compared = (
        ("data", trained.data_version, evaluated.data_version),
        ("code", trained.code_version, evaluated.code_version),
        ("preprocessing", trained.preprocess_version, evaluated.preprocess_version),
        ("splits", trained.splits_sha256, evaluated.splits_sha256),
    )
    for what, first, second in compared if _is_of_training(report) else ():
        if first != second and first and second:  # a former release did not say the splits
            cautions.append(f"Training and evaluation used different {what} versions: see provenance.")
    if report.ingest.seen is not None and report.ingest.seen.images_cut_much:
        cut = report.ingest.seen
        cautions.append(
            f"In {cut.images_cut_much} of {cut.images} images the network saw less than {SEEN_ENOUGH:.0%} of the breast, "
            f"at the least {cut.least_seen:.0%}: see data quality."
        )
    for finding in page_findings(report.evaluation.by_finding):
        positives = report.evaluation.by_finding[finding].positive_breasts
        if positives == 0:
            cautions.append(f"No test breast has a {finding} finding: its metrics are not defined.")
        elif positives < FEW_BREASTS:
            cautions.append(
                f"Only {positives} test {'breast has' if positives == 1 else 'breasts have'} a {finding} finding: "
                "small differences between runs mean little."
            )
    return cautions


def _by_rule(counts: Mapping[str, int]) -> list[tuple[str, str, int]]:
    """(rule, what it demands, count), most frequent first."""
    return [(rule, demand(rule), count) for rule, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def _shown_config(config: RunConfig) -> str:
    """The config as JSON with folders relative to the workspace; others are not named."""
    return json.dumps(_shown(config.model_dump(mode="python"), config.workspace_dir), indent=2, ensure_ascii=False, default=str)


def _shown(value: Any, workspace_dir: Path) -> Any:
    if isinstance(value, dict):
        return {key: _shown(item, workspace_dir) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(item, workspace_dir) for item in value]
    if isinstance(value, Path):
        is_inside = value.is_relative_to(workspace_dir)
        return str(Path("<workspace>") / value.relative_to(workspace_dir)) if is_inside else "<outside the workspace>"
    return value
