"""A gallery's exams, drawn: the panel and the hung view of each image, and the page of each exam when its views are there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gmic_model.devices import choose_device
from gmic_model.networks.mean_network import as_one
from gmic_model.networks.registry import config_of
from gmic_model.pictures.hanging import hang_view
from schemas.config.network import NetworkConfig
from schemas.config.run import RunConfig
from schemas.exam import FINDINGS, Laterality, ViewPosition
from schemas.reports.evaluation import EvaluationReport
from schemas.reports.pages import ExplainedImage
from schemas.reports.training import EnsembleMember
from tasks.adapters.models.networks import load_member
from tasks.adapters.pages.gallery.drawn_views import draw_view
from tasks.adapters.pages.gallery.gallery_exams import ExamNotes
from tasks.adapters.pages.gallery.gallery_page import GalleryExams, GalleryNote, GalleryView
from tasks.adapters.scoring.metrics_table import SHORT, drawn_sentence, mapped_sha256
from tasks.adapters.scoring.scored_views import ScoredView, Scoring, ViewsReadOnce, score_rows
from tasks.adapters.store.exam_store import store_preprocessing
from tasks.adapters.store.views import StoredViews, cut_views, missing_views


def gallery_note(config: RunConfig, members: Sequence[EnsembleMember], evaluated: EvaluationReport) -> GalleryNote:
    """What all pages of one gallery say."""
    told = [metrics for metrics in evaluated.by_finding.values() if metrics.subgroup_threshold is not None]
    split = "the tuning split" if any(metrics.subgroup_threshold_basis for metrics in told) else "the test breasts"
    said = drawn_sentence(evaluated, members[0].sha256, mapped_sha256(members))
    return GalleryNote(
        model=f"{said} Data {evaluated.provenance.data_version[:SHORT]}, code {evaluated.provenance.code_version}.",
        confidence=f"{config.evaluate.confidence:.0%}",
        specificity=f"{config.evaluate.subgroup_specificity:.2f} on {split}" if told else None,
    )


def draw_exams(
    config: RunConfig,
    members: Sequence[EnsembleMember],
    views: StoredViews,
    lines: Sequence[Mapping[str, Any]],
    notes: ExamNotes,
    gallery: GalleryExams,
    drawn: Callable[[int], None],
) -> tuple[ExplainedImage, ...]:
    """Exam by exam, so that one exam's pictures are in memory at a time; ``drawn`` is told after each image how many are done.

    Args:
        config: The run.
        members: The weights whose maps are drawn, of several their mean; the patches are those of the first.
        views: Where the pixels are.
        lines: Manifest lines of the exams that are shown; an exam's lines follow one another.
        notes: What is known of each exam, with the scores that stand on all its pictures.
        gallery: Where the pages go; the panels go to the folder above.
        drawn: The progress.

    Raises:
        CheckpointError: The weights were altered.
        StoreError: The store is missing or damaged.
    """
    preprocessing = store_preprocessing(views.store)
    network = as_one([load_member(one, read_as=config.evaluate.read_as, preprocessing=preprocessing) for one in members])
    kept = ViewsReadOnce(views)
    by_row = {int(line["row"]): line for line in lines}
    images: list[ExplainedImage] = []
    hung: list[GalleryView] = []
    size, device = config.evaluate.batch_images, choose_device(config.train)
    for view in score_rows(network, kept, list(by_row), batch_images=size, device=device, scoring=Scoring.of(config)):
        line = by_row[view.row]
        view = replace(view, score_C=notes.score_C(line["image_id"]))  # of several weights their mean, as everywhere else
        of_exam = [one for one in lines if one["exam_id"] == line["exam_id"]]
        images.append(draw_view(view, line, kept, config_of(network), gallery.folder.parent))
        hung.append(_hung(view, line, kept, config_of(network), config.explain.picture_rows_px, images[-1]))
        if len(hung) == len(of_exam):
            gallery.write_exam(notes.exam(line["exam_id"], hung, (*missing_views(of_exam), *cut_views(of_exam))))
            hung.clear()
        drawn(len(images))
    return tuple(images)


def _hung(
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
        breast_seen=None if np.isnan(line["breast_seen_fraction"]) else float(line["breast_seen_fraction"]),
    )
