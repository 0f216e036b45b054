"""Explain: the paper's Figure 4 panel for chosen test images, and their saliency as arrays."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from prefect import task

from gmic_model.fit import choose_device
from gmic_model.panel import figure4_panel
from gmic_model.preprocess import network_input
from gmic_model.saliency import mask_to_window
from schemas.config import GMICConfig, RunConfig, Stage
from schemas.exam import FINDINGS, Laterality, Split, ViewPosition
from schemas.reports import ExplainedImage, ExplainReport, SplitReport, TrainReport
from tasks.adapters.exam_store import StoredViews, lines_of, open_store, read_manifest, stored_views
from tasks.adapters.workspace import Workspace, write_atomically
from tasks.artifacts import progress, show_link
from tasks.scoring import ScoredView, load_trained, score_rows
from tasks.split import manifest_with_splits
from tasks.stages import save_report, stage_key

logger = logging.getLogger(__name__)


@task(
    name="explain",
    persist_result=True,
    cache_key_fn=stage_key(
        Stage.EXPLAIN, 1, ("explain",), lambda given: (given["trained"].checkpoint_sha256, given["splits"].data_version)
    ),
)
def explain(config: RunConfig, splits: SplitReport, trained: TrainReport) -> ExplainReport:
    """Draws the panels of some test exams, those with findings first.

    Raises:
        CheckpointError: The weights were altered.
        StoreError: The store is missing or damaged.
    """
    store = open_store(Workspace(config.workspace_dir).store_dir)
    manifest = manifest_with_splits(splits, read_manifest(store))
    chosen = choose_exams(manifest[manifest["split"] == Split.TEST.value], config.explain.exams)
    network = load_trained(trained)
    views = stored_views(store, manifest, config.preprocess.window_px)
    folder = Workspace(config.workspace_dir).stage_dir(Stage.EXPLAIN.value)
    lines = {int(line["row"]): line for line in lines_of(chosen)}
    images = []
    with progress("explain", len(lines), "images") as tracker:
        for view in score_rows(
            network, views, list(lines), batch_images=config.evaluate.batch_images, device=choose_device(config.train)
        ):
            images.append(draw_view(view, lines[view.row], views, network.config, folder))
            tracker.advance_to(len(images))
    show_link("panels", folder, f"{len(images)} panels")
    return save_report(config, Stage.EXPLAIN, ExplainReport(output_dir=folder, images=tuple(images)))


_KNOWN_LABEL = {0: False, 1: True}


def choose_exams(test: pd.DataFrame, exams: int) -> pd.DataFrame:
    """The lines of some exams: malignant first, then benign, then the rest, each by id."""
    rank = test.assign(rank=-(2 * (test["malignant"] == 1) + (test["benign"] == 1)).astype(int))
    worst = rank.groupby("exam_id")["rank"].min().reset_index().sort_values(["rank", "exam_id"])
    order = {exam_id: place for place, exam_id in enumerate(worst["exam_id"].head(exams))}
    kept = test[test["exam_id"].isin(order)]
    hung = kept.assign(place=kept["exam_id"].map(order)).sort_values(
        ["place", "view_position", "laterality"], ascending=[True, True, False]
    )
    return hung.drop(columns="place")


def draw_view(view: ScoredView, line: Mapping[str, Any], views: StoredViews, model: GMICConfig, folder: Path) -> ExplainedImage:
    """Draws one panel and saves the saliency with the geometry that leads back to the source image."""
    prepared = views(view.row)
    scores = {finding.value: float(score) for finding, score in zip(FINDINGS, view.score_C, strict=True)}
    labels = {finding.value: int(line[finding.value]) for finding in FINDINGS}
    panel_HW3 = figure4_panel(
        image_HW=network_input(prepared),
        saliency_CIJ=view.saliency_CIJ,
        corner_K2=view.corner_K2,
        attention_K=view.attention_K,
        patch_size=model.patch_size,
        lesion_mask_HW=mask_to_window(views.lesion_mask(view.row), prepared.geometry) if line["has_lesion_mask"] else None,
        laterality=Laterality(line["laterality"]),
        view_position=ViewPosition(line["view_position"]),
        scores=dict(zip(FINDINGS, scores.values(), strict=True)),
        labels={finding: _KNOWN_LABEL.get(int(line[finding.value])) for finding in FINDINGS},
    )
    name = f"{line['image_id']}-{line['laterality']}-{line['view_position']}"
    panel_path, saliency_path = folder / f"{name}.png", folder / f"{name}.npz"
    encoded, png = cv2.imencode(".png", panel_HW3[:, :, ::-1])
    if not encoded:
        raise OSError(f"cannot encode {panel_path}")
    write_atomically(panel_path, png.tobytes())
    geometry = prepared.geometry
    arrays = io.BytesIO()
    np.savez_compressed(
        arrays,
        saliency_CIJ=view.saliency_CIJ,
        corner_K2=view.corner_K2,
        attention_K=view.attention_K,
        source_shape_px=geometry.source_shape_px,
        crop_box_px=geometry.crop_box_px,
        is_flipped=geometry.is_flipped,
        scale=geometry.scale,
        best_center_px=geometry.best_center_px,
        window_px=geometry.window_px,
        view_position=geometry.view_position.value,
    )
    write_atomically(saliency_path, arrays.getvalue())
    return ExplainedImage(
        image_id=line["image_id"],
        exam_id=line["exam_id"],
        laterality=line["laterality"],
        view_position=line["view_position"],
        panel_path=panel_path,
        saliency_path=saliency_path,
        scores=scores,
        labels=labels,
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
