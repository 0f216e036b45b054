"""Explain: for chosen test exams the paper's Figure 4 panels, saliency as arrays, and the gallery's pages."""

from __future__ import annotations

import hashlib
import logging

from schemas.config.run import RunConfig, Stage
from schemas.errors import StoreError
from schemas.exam import Split
from schemas.reports.data import SplitReport
from schemas.reports.evaluation import EvaluationReport
from schemas.reports.pages import ExplainReport
from schemas.reports.training import TrainReport
from tasks.adapters.models.model_files import drawn_members
from tasks.adapters.provenance import file_sha256, now
from tasks.adapters.scoring.metrics_table import SHORT, mapped_sha256
from tasks.adapters.workspace import Workspace
from tasks.artifacts import progress, show_link
from tasks.stage import GPU_TAG, stage

logger = logging.getLogger(__name__)


@stage(
    Stage.EXPLAIN,
    version=2,
    sections=("explain", "evaluate"),
    reads=lambda config, splits, trained, evaluated: (
        drawn_members(evaluated, trained)[0].sha256,
        evaluated.provenance.data_version,  # of the labels that the pages say; others may have been published since
        _digest(evaluated),
    ),
    tags=(GPU_TAG,),
)
def explain_exams(
    config: RunConfig, splits: SplitReport, trained: TrainReport | None, evaluated: EvaluationReport
) -> ExplainReport:
    """Draws panels, arrays and gallery pages of some test exams, the worst errors first.

    Of the weights that were evaluated: of several the maps' mean, and the patches of those whose localisation was measured.

    Args:
        config: The run.
        splits: Of its store.
        trained: Asked only for the weights of a former release's evaluation that names none.
        evaluated: Whose scores and weights.

    Raises:
        CheckpointError: The weights were altered.
        StoreError: The store is missing or damaged, or the evaluation is of another division of the patients.
    """
    _refuse_other_splits(splits, evaluated)
    members = drawn_members(evaluated, trained)
    # A finished stage does without what draws.
    from tasks.adapters.pages.gallery.drawn_exams import draw_exams, gallery_note
    from tasks.adapters.pages.gallery.gallery_exams import ExamNotes, choose_exams, find_failures
    from tasks.adapters.pages.gallery.gallery_page import GalleryExams
    from tasks.adapters.scoring.score_tables import read_image_scores
    from tasks.adapters.store.manifest import DIGESTS, lines_of, manifest_with_splits, read_manifest
    from tasks.adapters.store.objects.bucket_store import store_of_run
    from tasks.adapters.store.views import seen_fractions, stored_views

    store = store_of_run(config)
    manifest = manifest_with_splits(splits, read_manifest(store, without=DIGESTS))
    manifest = manifest.assign(breast_seen_fraction=seen_fractions(manifest, config.preprocess.window_px))
    scores = read_image_scores(evaluated)
    test = manifest[(manifest["split"] == Split.TEST.value) & manifest["image_id"].isin(scores["image_id"])]
    failures = find_failures(scores, evaluated.by_finding, config.explain.failures)
    chosen = choose_exams(test, failures, config.explain.exams)
    folder = Workspace(config.workspace_dir).stage_dir(Stage.EXPLAIN.value)
    gallery = GalleryExams(
        folder=folder / "gallery",
        exam_ids=tuple(chosen["exam_id"].unique()),
        created=now(),
        note=gallery_note(config, members, evaluated),
    )
    gallery.clear()
    views = stored_views(store, manifest, config.preprocess.window_px, reader=config.train.store_reader)
    notes = ExamNotes(scores=scores, by_finding=evaluated.by_finding)
    with progress("explain", len(chosen), "images") as tracker:
        images = draw_exams(config, members, views, lines_of(chosen), notes, gallery, tracker.advance_to)
    index_path = gallery.write_index(test_exams=test["exam_id"].nunique())
    show_link("panels", folder, f"{len(images)} panels, weights {members[0].sha256[:SHORT]}")
    show_link("gallery", index_path, f"{len(gallery.exam_ids)} exams as radiologists hang them")
    shown = tuple(failure for failure in failures if failure.exam_id in gallery.exam_ids)
    return ExplainReport(
        output_dir=folder,
        images=images,
        failures=shown,
        gallery_path=index_path,
        model_sha256=members[0].sha256,
        mapped_sha256=mapped_sha256(members),
        scored_sha256=evaluated.model_sha256,
    )


def _refuse_other_splits(splits: SplitReport, evaluated: EvaluationReport) -> None:
    """An exam that was test then may be training now, and its page would say a score of then."""
    judged_on = evaluated.provenance.splits_sha256
    if judged_on and judged_on != file_sha256(splits.splits_path):
        raise StoreError(
            "The evaluation is of another division of the patients",
            expected="the present splits",
            got=f"splits {judged_on[:12]}...",
            remedy="run `mammo evaluate CONFIG.yaml` first",
        )


def _digest(evaluated: EvaluationReport) -> str:
    """Of what the pages say: numbers, not when they were made; and of the splits that they are of, where these are known."""
    said = [metrics.said() for _, metrics in sorted(evaluated.by_finding.items())]
    said.append(evaluated.provenance.splits_sha256)
    if len(evaluated.models) > 1:  # one model is named by what is drawn
        said += [evaluated.model_sha256, "mean of maps"]
    return hashlib.sha256("".join(said).encode()).hexdigest()
