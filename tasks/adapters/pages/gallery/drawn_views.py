"""Draws stored views as the network sees them: a panel each, and the saliency with the way back to the source image."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmic_model.devices import choose_device
from gmic_model.networks.network import FindingsNetwork
from gmic_model.networks.registry import config_of
from gmic_model.pictures.panel import figure4_panel
from gmic_model.pixels.frames import corners_to_source, mask_to_window, to_source_frame
from gmic_model.preprocess import network_input
from schemas.config.network import NetworkConfig
from schemas.config.run import RunConfig
from schemas.exam import FINDINGS, Laterality, ViewPosition
from schemas.reports.pages import ExplainedImage
from tasks.adapters.scoring.prediction import PART_IMAGES, PART_S, ScoreParts, panel_path
from tasks.adapters.scoring.scored_views import ScoredView, Scoring, ViewsReadOnce, predicted_at_once, score_rows
from tasks.adapters.store.manifest import LINES_AT_ONCE, lines_of
from tasks.adapters.store.views import StoredViews
from tasks.adapters.workspace import write_atomically

_KNOWN_LABEL = {0: False, 1: True}


def draw_view(
    view: ScoredView, line: Mapping[str, Any], views: ViewsReadOnce, model: NetworkConfig, folder: Path
) -> ExplainedImage:
    """Draws one panel and saves the saliency with the geometry that leads back to the source image."""
    prepared = views(view.row)
    scores = {finding.value: float(score) for finding, score in zip(FINDINGS, view.score_C, strict=True)}
    labels = {finding.value: int(line[finding.value]) for finding in FINDINGS}
    panel_HW3 = figure4_panel(
        image_HW=network_input(prepared),
        saliency_CIJ=view.saliency_CIJ,
        corner_K2=view.corner_K2,
        attention_K=view.attention_K,
        patch_size=model.patch_px,
        lesion_mask_HW=mask_to_window(views.lesion_mask(view.row), prepared.geometry) if line["has_lesion_mask"] else None,
        laterality=Laterality(line["laterality"]),
        view_position=ViewPosition(line["view_position"]),
        scores=dict(zip(FINDINGS, scores.values(), strict=True)),
        labels={finding: _KNOWN_LABEL.get(int(line[finding.value])) for finding in FINDINGS},
    )
    picture_path = panel_path(folder, line["image_id"], line["laterality"], line["view_position"])
    saliency_path = picture_path.with_suffix(".npz")
    encoded, png = cv2.imencode(".png", panel_HW3[:, :, ::-1])
    if not encoded:
        raise OSError(f"cannot encode {picture_path}")
    write_atomically(picture_path, png.tobytes())
    geometry = prepared.geometry
    arrays = io.BytesIO()
    np.savez_compressed(
        arrays,
        saliency_CIJ=view.saliency_CIJ,
        saliency_source_CHW=to_source_frame(view.saliency_CIJ, geometry, geometry.source_shape_px).astype(np.float16),
        finding_C=[finding.value for finding in FINDINGS],
        corner_K2=view.corner_K2,
        patch_source_K4=corners_to_source(view.corner_K2, model.patch_px, geometry),
        attention_K=view.attention_K,
        source_shape_px=geometry.source_shape_px,
        crop_box_px=geometry.crop_box_px,
        is_flipped=geometry.is_flipped,
        quarter_turns=geometry.quarter_turns,
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
        panel_path=picture_path,
        saliency_path=saliency_path,
        scores=scores,
        labels=labels,
    )


Scored = tuple[Mapping[str, Any], NDArray[np.float64]]
"""An image's line of the manifest, and its score of each finding."""


def score_and_draw(
    config: RunConfig,
    network: FindingsNetwork,
    views: StoredViews,
    new: pd.DataFrame,
    folder: Path,
    done: Callable[[int], None],
    said: Callable[[Sequence[Scored]], None],
) -> None:
    """Image by image, so that one picture is in memory at a time, and the scores of some; the rest is on the disk.

    ``said`` is told of scores before anything of them is drawn or written; ``done`` after each image how many there are.

    Args:
        config: The run; it says whether panels are drawn.
        network: The weights.
        views: Where the pixels are.
        new: Lines of the manifest, of images to score.
        folder: Where panels and scores go.
        done: The progress.
        said: The log.
    """
    kept, parts, held, written_s = ViewsReadOnce(views), ScoreParts(folder), list[Scored](), time.monotonic()

    def write() -> None:
        if held and not config.predicted_panels:
            said(held)
        if held:
            parts.add(held)
            held.clear()

    device, how = choose_device(config.train), Scoring.of(config)
    at_once = predicted_at_once(config, device)
    for start in range(0, len(new), LINES_AT_ONCE):
        by_row = {int(line["row"]): line for line in lines_of(new.iloc[start : start + LINES_AT_ONCE])}
        rows = score_rows(network, kept, list(by_row), batch_images=at_once, device=device, scoring=how)
        for count, view in enumerate(rows, start + 1):
            held.append((by_row[view.row], view.score_C))
            if config.predicted_panels:
                said(held[-1:])
                draw_view(view, by_row[view.row], kept, config_of(network), folder)
            kept.let_go(view.row)
            if len(held) == PART_IMAGES or time.monotonic() > written_s + PART_S:
                write()
                written_s = time.monotonic()
            done(count)
    write()
