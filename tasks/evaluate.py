"""Evaluate: breast-level metrics with intervals and localisation on the test split, of one model or several and their mean."""

from __future__ import annotations

import logging

from schemas.config.run import RunConfig, Stage
from schemas.reports.data import SplitReport
from schemas.reports.evaluation import EvaluationReport
from schemas.reports.training import TrainReport
from tasks.adapters.models.locking import keep_for_others, kept_digest, read_locked
from tasks.adapters.models.model_files import ensemble_sha256, evaluated_members, terms_of
from tasks.adapters.models.scorings import enter_scoring
from tasks.adapters.models.seen_patients import known_by_former_names, refuse_other_splits
from tasks.adapters.provenance import file_sha256, provenance
from tasks.adapters.scoring.metrics_table import INTERVAL_METHOD, evaluation_sentences, metrics_markdown
from tasks.adapters.store.same_patient import read_former_patients, read_same_patients
from tasks.adapters.store.store_settings import read_settings
from tasks.adapters.workspace import StoreFolder, Workspace, exam_store_dir
from tasks.artifacts import progress, show_markdown
from tasks.stage import GPU_TAG, stage

logger = logging.getLogger(__name__)


def _reads(config: RunConfig, splits: SplitReport, trained: TrainReport | None) -> tuple[str, ...]:
    """Patients who turn out to be known to the weights make another evaluation of the same splits: it said "unseen" of them.

    So does what another site fixed, where it comes to lie beside its weights.
    """
    members, files = evaluated_members(config.evaluate, trained), StoreFolder(exam_store_dir(config))
    known: tuple[str, ...] = ()
    if former := read_former_patients(files):
        known = known_by_former_names(members, read_settings(files).pseudonym_key_id, read_same_patients(files), former)
    fixed = kept_digest(members, config.evaluate)
    return ensemble_sha256(members), splits.data_version, file_sha256(splits.splits_path), *known, *fixed


def _read_formerly(config: RunConfig, splits: SplitReport, trained: TrainReport | None) -> tuple[str, ...] | None:
    """Without the splits, as before their digest was read: an evaluation that scored the very patients of these splits.

    Without what another site fixed, as before that was read: one that went by it, or is of the own site.
    """
    from tasks.adapters.scoring.score_tables import is_of_splits  # tables: only where the present key is not found

    workspace, reads = Workspace(config.workspace_dir), _reads(config, splits, trained)
    if fixed := kept_digest(evaluated_members(config.evaluate, trained), config.evaluate):
        locked = workspace.read_report(Stage.EVALUATE.value, EvaluationReport).locked
        return reads[: -len(fixed)] if locked is not None and (locked.is_own_site or locked.kept) else None
    return (*reads[:2], *reads[3:]) if is_of_splits(workspace.stage_dir(Stage.EVALUATE.value), splits) else None


@stage(
    Stage.EVALUATE,
    version=3,
    sections=("evaluate",),
    reads=_reads,
    tags=(GPU_TAG,),
    read_formerly=_read_formerly,
)
def evaluate_network(config: RunConfig, splits: SplitReport, trained: TrainReport | None) -> EvaluationReport:
    """Scores the test split and measures; scores go to parquet and CSV, per image, breast and exam.

    The tuning split is scored too: recalibration, use thresholds and the model for localisation are chosen there. Patients
    whom the weights have seen are refused, or left out if the config says so.

    Args:
        config: The run.
        splits: Of its store.
        trained: What training made; None if ``evaluate`` names the weights.

    Raises:
        StoreError: The test split is empty, or the network was trained on another division of the patients.
        CheckpointError: Weights are missing, were altered, are of another image size or preprocessing, or have seen patients
            whom they would be judged by.
    """
    from tasks.adapters.lifecycle.kept_evaluations import keep_evaluation, start_to_score, with_start
    from tasks.adapters.pages.evaluations.evaluation_page import with_pages
    from tasks.adapters.scoring.evaluation import EvaluatedImages, Evaluation  # torch: a finished stage does without
    from tasks.adapters.scoring.score_tables import breasts_before, breasts_with_repeats

    members, workspace = evaluated_members(config.evaluate, trained), Workspace(config.workspace_dir)
    own = None if config.evaluate.names_weights else trained
    before = breasts_before(config.workspace_dir)  # until the tables are written over
    if own is not None and (started := start_to_score(config, splits, members)) is not None:
        evaluate_network.body(started, splits, None)
    are_of_splits = own is not None and own.splits_sha256 == file_sha256(splits.splits_path)
    images = EvaluatedImages.of(config, splits, members, are_of_splits=are_of_splits)
    if own is not None and not images.patients.is_checked:
        refuse_other_splits(splits, own)
    locked = read_locked(members, config.evaluate, is_own_tuning=images.is_own_tuning)
    scorings = enter_scoring(splits, members, config.evaluate.read_as, images.test["patient_id"].nunique())
    with progress("evaluate", len(images), "images") as tracker:
        evaluation = Evaluation.of(config, members, images, splits.data_version, tracker.advance_to)
    scores_path = evaluation.write_tables(workspace.stage_dir(Stage.EVALUATE.value))
    by_finding = with_start(config, members, evaluation.measured(config.evaluate, locked), evaluation.breasts)
    made = provenance(config, splits, seed=config.evaluate.seed)
    keep_for_others(scores_path.parent, members, config.evaluate, by_finding, provenance=made, standing=images.standing)
    report = EvaluationReport(
        scores_path=scores_path,
        model_sha256=ensemble_sha256(members),
        models=members,
        localization_model=evaluation.localization_model,
        by_finding=by_finding,
        interval_method=INTERVAL_METHOD,
        exams=images.test["exam_id"].nunique(),
        images=len(images.test),
        repeated_view_breasts=breasts_with_repeats(images.test),
        provenance=made,
        patients=images.patients,
        networks=evaluation.networks,
        scorings=scorings,
        locked=locked.settings,
        terms=tuple(dict.fromkeys((*terms_of(members), *read_settings(images.store.files).terms))),
    )
    keep_evaluation(workspace, evaluation.breasts, report, config.evaluate)
    report = with_pages(config, splits, own, report)
    table = metrics_markdown(report.by_finding, evaluation.minus_before(before, config.evaluate))
    show_markdown("metrics", f"{table}\n\n{evaluation_sentences(report)}", "Breast-level metrics, test split")
    return report
