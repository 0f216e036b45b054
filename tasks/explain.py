"""Explain: for chosen test exams the paper's Figure 4 panels, saliency as arrays, and the gallery's pages."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gmic_model.learning.learner import choose_device
from gmic_model.networks.network import FindingsNetwork
from gmic_model.networks.registry import config_of
from gmic_model.pictures.hanging import hang_view
from schemas.config.network import NetworkConfig
from schemas.config.run import RunConfig, Stage
from schemas.exam import FINDINGS, Laterality, Split, ViewPosition
from schemas.reports.data import SplitReport
from schemas.reports.evaluation import EvaluationReport
from schemas.reports.pages import ExplainedImage, ExplainReport
from schemas.reports.training import TrainReport
from tasks.adapters.models.networks import load_trained
from tasks.adapters.pages.gallery.gallery_exams import ExamNotes, choose_exams, find_failures
from tasks.adapters.pages.gallery.gallery_page import GalleryExams, GalleryNote, GalleryView
from tasks.adapters.pages.panels import draw_view
from tasks.adapters.provenance import now
from tasks.adapters.scoring.scored_views import ScoredView, ViewsReadOnce, score_rows
from tasks.adapters.store.exam_store import open_store, store_preprocessing
from tasks.adapters.store.manifest import lines_of, manifest_with_splits, read_manifest
from tasks.adapters.store.views import stored_views
from tasks.adapters.workspace import Workspace, exam_store_dir
from tasks.artifacts import progress, show_link
from tasks.stage import GPU_TAG, stage

logger = logging.getLogger(__name__)


@stage(
    Stage.EXPLAIN,
    version=2,
    sections=("explain", "evaluate"),
    reads=lambda config, splits, trained, evaluated: (trained.checkpoint_sha256, splits.data_version, _digest(evaluated)),
    tags=(GPU_TAG,),
)
def explain_exams(config: RunConfig, splits: SplitReport, trained: TrainReport, evaluated: EvaluationReport) -> ExplainReport:
    """Draws panels, arrays and gallery pages of some test exams, the worst errors first.

    Raises:
        CheckpointError: The weights were altered.
        StoreError: The store is missing or damaged.
    """
    store = open_store(exam_store_dir(config))
    manifest = manifest_with_splits(splits, read_manifest(store))
    test = manifest[manifest["split"] == Split.TEST.value]
    scores = pd.read_parquet(evaluated.scores_path)
    failures = find_failures(scores, evaluated.by_finding, config.explain.failures)
    chosen = choose_exams(test, failures, config.explain.exams)
    folder = Workspace(config.workspace_dir).stage_dir(Stage.EXPLAIN.value)
    notes = ExamNotes(scores=scores, by_finding=evaluated.by_finding)
    gallery = GalleryExams(
        folder=folder / "gallery",
        exam_ids=tuple(chosen["exam_id"].unique()),
        created=now(),
        note=_gallery_note(config, trained, evaluated),
    )
    gallery.clear()
    images = _draw_exams(
        config,
        load_trained(trained, preprocessing=store_preprocessing(store)),
        ViewsReadOnce(stored_views(store, manifest, config.preprocess.window_px)),
        chosen,
        notes,
        gallery,
    )
    index_path = gallery.write_index(test_exams=test["exam_id"].nunique())
    show_link("panels", folder, f"{len(images)} panels")
    show_link("gallery", index_path, f"{len(gallery.exam_ids)} exams as radiologists hang them")
    shown = tuple(failure for failure in failures if failure.exam_id in gallery.exam_ids)
    return ExplainReport(output_dir=folder, images=images, failures=shown, gallery_path=index_path)


def _digest(evaluated: EvaluationReport) -> str:
    """Of what the pages say: numbers, not when they were made."""
    said = [metrics.model_dump_json() for _, metrics in sorted(evaluated.by_finding.items())]
    return hashlib.sha256("".join(said).encode()).hexdigest()


def _gallery_note(config: RunConfig, trained: TrainReport, evaluated: EvaluationReport) -> GalleryNote:
    has_threshold = any(metrics.subgroup_threshold is not None for metrics in evaluated.by_finding.values())
    return GalleryNote(
        model=f"Weights {trained.checkpoint_sha256[:12]}, data {evaluated.provenance.data_version[:12]}, "
        f"code {evaluated.provenance.code_version}.",
        confidence=f"{config.evaluate.confidence:.0%}",
        specificity=f"{config.evaluate.subgroup_specificity:.2f}" if has_threshold else "not defined",
    )


def _draw_exams(
    config: RunConfig,
    network: FindingsNetwork,
    views: ViewsReadOnce,
    chosen: pd.DataFrame,
    notes: ExamNotes,
    gallery: GalleryExams,
) -> tuple[ExplainedImage, ...]:
    """Exam by exam, so that one exam's pictures are in memory at a time."""
    lines = {int(line["row"]): line for line in lines_of(chosen)}
    views_of = chosen.groupby("exam_id").size().to_dict()
    images: list[ExplainedImage] = []
    hung: list[GalleryView] = []
    with progress("explain", len(lines), "images") as tracker:
        for view in score_rows(
            network, views, list(lines), batch_images=config.evaluate.batch_images, device=choose_device(config.train)
        ):
            line = lines[view.row]
            images.append(draw_view(view, line, views, config_of(network), gallery.folder.parent))
            hung.append(_gallery_view(view, line, views, config_of(network), config.explain.picture_rows_px, images[-1]))
            views.let_go(view.row)
            if len(hung) == views_of[line["exam_id"]]:
                of_exam = [one for one in lines.values() if one["exam_id"] == line["exam_id"]]
                gallery.write_exam(notes.exam(line["exam_id"], hung, missing_views(of_exam)))
                hung.clear()
            tracker.advance_to(len(images))
    return tuple(images)


def _gallery_view(
    view: ScoredView, line: Mapping[str, Any], views: ViewsReadOnce, model: NetworkConfig, rows_px: int, image: ExplainedImage
) -> GalleryView:
    laterality = Laterality(line["laterality"])
    spacing_mm = float(line["pixel_spacing_mm"])
    return GalleryView(
        image_id=line["image_id"],
        laterality=laterality,
        view_position=ViewPosition(line["view_position"]),
        panel_name=image.panel_path.name,
        hung=hang_view(
            views(view.row),
            saliency_CIJ=view.saliency_CIJ,
            corner_K2=view.corner_K2,
            patch_size=model.patch_px,
            laterality=laterality,
            pixel_spacing_mm=spacing_mm if np.isfinite(spacing_mm) else None,
            rows_px=rows_px,
            lesion_mask_HW=views.lesion_mask(view.row) if line["has_lesion_mask"] else None,
        ),
        scores=dict(zip(FINDINGS, view.score_C.tolist(), strict=True)),
        attention_K=view.attention_K,
    )


def missing_views(lines: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """A sentence for each exam that lacks standard views."""
    standard = {(side.value, view.value) for side in Laterality for view in ViewPosition}
    present: dict[str, set[tuple[str, str]]] = {}
    for line in lines:
        present.setdefault(str(line["exam_id"]), set()).add((str(line["laterality"]), str(line["view_position"])))
    sentences = []
    for exam_id, found in sorted(present.items()):
        absent = sorted(f"{side}-{view}" for side, view in standard - found)
        if absent:
            sentences.append(
                f"Exam {exam_id} has {len(found)} of 4 standard views: {', '.join(absent)} missing; "
                "a breast's score is the mean of the views that are there."
            )
    return tuple(sentences)
