"""The page of an acceptance: the verdict with its reasons, a line for each device, the images, and what went wrong."""

from __future__ import annotations

from dataclasses import replace

from gmic_model.metrics.clinic.site_threshold import needed_patients
from schemas.config.run import RunConfig
from schemas.reports.life.acceptance import AcceptanceReport, RuleResult, Verdict
from tasks.adapters.checks.drift_suite import LARGEST_INDEX
from tasks.adapters.lifecycle.accepting.judging import SiteTrial, shown_exams
from tasks.adapters.lifecycle.accepting.judging_exams import Cohort
from tasks.adapters.models.model_files import drawn_members
from tasks.adapters.pages.evaluations.evaluation_page import write_evaluation_page
from tasks.adapters.pages.gallery.drawn_exams import draw_exams, gallery_note
from tasks.adapters.pages.gallery.gallery_exams import ExamNotes, find_failures, lines_in_order
from tasks.adapters.pages.gallery.gallery_page import GalleryExams, GalleryNote
from tasks.adapters.pages.measures import measured_tables
from tasks.adapters.pages.render import write_page
from tasks.adapters.provenance import now
from tasks.adapters.scoring.evaluation import Evaluation
from tasks.adapters.scoring.metrics_table import SHORT
from tasks.adapters.store.manifest import lines_of
from tasks.adapters.store.views import seen_fractions, stored_views

STATES = {True: "met", None: "warns", False: "blocks"}
"""Of a rule: how the page marks it."""
_OTHERS = "those of which readers decided otherwise, then those with the highest scores"
"""Whom the gallery shows when all errors are there."""
_WORDS = {True: "met", None: "not decided", False: "not met"}
_VERDICT_STATES = {
    Verdict.ACCEPTED: "met",
    Verdict.WITH_REMARKS: "warns",
    Verdict.NOT_ENOUGH: "warns",
    Verdict.REFUSED: "blocks",
}


def with_gallery(trial: SiteTrial, evaluation: Evaluation, report: AcceptanceReport, cohort: Cohort) -> AcceptanceReport:
    """Draws the exams that went wrong, or are most worth a look where nothing tells; the report, which names them.

    Raises:
        CheckpointError: The weights were altered.
        StoreError: The store is damaged.
        OSError: A page cannot be written.
    """
    config, evaluated = trial.config, report.evaluation
    by_finding = {} if evaluated is None else evaluated.by_finding
    of_finding = {name: metrics for name, metrics in by_finding.items() if name == report.finding}
    failures = find_failures(evaluation.test, of_finding, config.accept.gallery_exams)
    exam_ids = shown_exams(cohort, [failure.exam_id for failure in failures], config.accept.gallery_exams)
    shown = tuple(failure for failure in failures if failure.exam_id in exam_ids)
    if not exam_ids:
        return report.model_copy(update={"failures": shown})
    manifest = trial.images.test
    manifest = manifest.assign(breast_seen_fraction=seen_fractions(manifest, config.preprocess.window_px))
    members = trial.members if evaluated is None else drawn_members(evaluated, None)
    note = _unlabelled_note(report, config) if evaluated is None else gallery_note(config, members, evaluated)
    gallery = GalleryExams(
        folder=report.page_path.with_name("gallery"),
        exam_ids=tuple(exam_ids),
        created=now(),
        note=replace(note, limit="accept.gallery_exams", others=_OTHERS),
    )
    lines = lines_of(lines_in_order(manifest, exam_ids))
    views = stored_views(trial.images.store, manifest, config.preprocess.window_px, reader=config.train.store_reader)
    draw_exams(config, members, views, lines, ExamNotes(scores=evaluation.test, by_finding=by_finding), gallery, lambda _: None)
    index_path = gallery.write_index(test_exams=report.cohort.exams)
    return report.model_copy(update={"failures": shown, "gallery_path": index_path})


def write_acceptance_page(config: RunConfig, report: AcceptanceReport) -> AcceptanceReport:
    """Renders the page, and beside it that of all that labels allow to measure; the report, which names both.

    Raises:
        OSError: A page cannot be written.
    """
    evaluated = report.evaluation
    if evaluated is not None:
        evaluated = evaluated.model_copy(update={"page_path": write_evaluation_page(config, evaluated)})
    metrics = None if evaluated is None else evaluated.by_finding.get(report.finding)
    # Without a threshold there is no point: None would equal that of a point above every score.
    points = metrics.locked.points if metrics is not None and metrics.locked is not None and report.threshold_basis else ()
    write_page(
        report.page_path,
        "acceptance.html.jinja",
        report=report,
        config=config,
        created=now(),
        metrics=metrics,
        point=next((point for point in points if point.threshold == report.threshold), None),
        evaluation_page=None if evaluated is None or evaluated.page_path is None else evaluated.page_path.name,
        states=STATES,
        words=_WORDS,
        others=_OTHERS,
        largest_shift=LARGEST_INDEX,
        verdict_state=_VERDICT_STATES[report.verdict],
        open_rules=[rule for rule in report.rules if not rule.is_met and not rule.is_remark],
        one_point_patients=None
        if report.target is None
        else needed_patients(report.target, 0.01, confidence=config.evaluate.confidence),
        measures=tuple(measured_tables({"Here": report.cohort}, title="The exams that judged")),
    )
    return report.model_copy(update={"evaluation": evaluated})


def acceptance_text(report: AcceptanceReport) -> str:
    """The verdict, every rule, and each device, for a terminal."""
    lines = [f"Model {report.model_sha256[:SHORT]}: {report.verdict.value.upper()}"]
    lines += [_rule_text(rule) for rule in report.rules]
    for device in report.devices:
        proposed = "no target to propose a threshold for"
        if device.proposed is not None:
            proposed = f"proposed threshold {device.proposed:.4f}"
        elif device.needed_patients:
            proposed = f"{device.needed_patients:,} more patients needed to propose a threshold"
        rate = device.recall_rate.value
        recalled = "no threshold" if rate is None else f"{100 * rate:.1f}% recalled"
        lines.append(f"  {device.name}, software {device.software}: {device.exams:,} exams, {recalled}; {proposed}")
    return "\n".join([*lines, f"Page: {report.page_path}"])


def _unlabelled_note(report: AcceptanceReport, config: RunConfig) -> GalleryNote:
    data, code = report.provenance.data_version[:SHORT], report.provenance.code_version
    return GalleryNote(
        model=f"Weights {report.model_sha256[:SHORT]}. Data {data}, code {code}.",
        confidence=f"{config.evaluate.confidence:.0%}",
        specificity=None,
    )


def _rule_text(rule: RuleResult) -> str:
    remark = " (remark)" if rule.is_remark else ""
    return f"{_WORDS[rule.is_met]:<12} {rule.rule.value}{remark}: {rule.reason}"
