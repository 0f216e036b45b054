"""Figure 4 panels as the pages show them: embedded as JPEG until the page is full, and the breasts that went wrong first."""

from __future__ import annotations

import base64
import io
import os.path
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

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
from schemas.reports.pages import ExplainedImage, ExplainReport, Failure, FailureKind, PredictReport
from tasks.adapters.pages.render import LATERALITY, PAGE_FINDINGS, label_text
from tasks.adapters.scoring.prediction import PART_IMAGES, PART_S, ScoreParts, panel_path
from tasks.adapters.scoring.scored_views import ScoredView, Scoring, ViewsReadOnce, predicted_at_once, score_rows
from tasks.adapters.store.manifest import LINES_AT_ONCE, lines_of
from tasks.adapters.store.views import StoredViews
from tasks.adapters.workspace import write_atomically

PANEL_WIDTH_PX = 1600
PANEL_JPEG_QUALITY = 82
PAGE_IMAGES_BYTES = 10_000_000
"""Bytes of JPEG embedded in one page; base64 adds a third, so a page stays below 15 MB."""
EXAMPLE_EXAMS: Final = 2
"""Exams shown beside those that went wrong; the gallery has all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A panel as the page shows it.

    Attributes:
        data_uri: The embedded image; None = not embedded, ``note`` says why.
        scores: (finding, score, label in words or None).
    """

    exam_id: str
    title: str
    alt: str
    data_uri: str | None
    width_px: int
    height_px: int
    note: str
    scores: tuple[tuple[str, float | None, str | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroup:
    """The worst breasts of one finding and kind, each with its views' panels."""

    finding: str
    kind: FailureKind
    breasts: tuple[tuple[Failure, tuple[Panel, ...]], ...]


def page_findings(found: Iterable[str]) -> list[str]:
    """The findings that are there, in the order of a page; unknown ones last."""
    names = set(found)
    return [*(finding for finding in PAGE_FINDINGS if finding in names), *sorted(names - set(FINDINGS))]


def explained_panels(explained: ExplainReport) -> tuple[list[FailureGroup], list[Panel]]:
    """The failures with their panels, and the panels of the first exams that are not among them."""
    budget = _ImageBudget()
    groups: dict[tuple[str, FailureKind], list[tuple[Failure, tuple[Panel, ...]]]] = {}
    for failure in explained.failures:
        views = [
            image for image in explained.images if (image.exam_id, image.laterality) == (failure.exam_id, failure.laterality)
        ]
        shown = tuple(_explained_panel(budget, image) for image in views)
        groups.setdefault((failure.finding, failure.kind), []).append((failure, shown))
    failed = {failure.exam_id for failure in explained.failures}
    others = list(dict.fromkeys(image.exam_id for image in explained.images if image.exam_id not in failed))[:EXAMPLE_EXAMS]
    examples = [_explained_panel(budget, image) for image in explained.images if image.exam_id in others]
    found = [FailureGroup(finding=finding, kind=kind, breasts=tuple(breasts)) for (finding, kind), breasts in groups.items()]
    return found, examples


def exam_links(explained: ExplainReport, page: Path) -> Mapping[str, str]:
    """From an exam to its gallery page, relative to another page; ``index`` is the list. Empty if there is no gallery."""
    if explained.gallery_path is None:
        return {}
    folder = explained.gallery_path.parent
    pages = {exam_id: f"{exam_id}.html" for exam_id in dict.fromkeys(image.exam_id for image in explained.images)}
    pages["index"] = explained.gallery_path.name
    return {name: quote(Path(os.path.relpath(folder / file, page.parent)).as_posix()) for name, file in pages.items()}


def predicted_panels(report: PredictReport) -> list[Panel]:
    """The panels of a prediction, each with its image's scores where the file name tells which it is."""
    budget = _ImageBudget()
    panels = []
    owners = {image.image_id: image for image in report.images}
    for path in report.panels:
        image = owners.get(path.stem.partition("-")[0])
        if image is None:
            panels.append(budget.panel(path, exam_id="", title=path.stem, scores=()))
            continue
        panels.append(
            budget.panel(
                path,
                exam_id=image.exam_id,
                title=f"{LATERALITY.get(image.laterality, image.laterality)} {image.view_position}",
                scores=tuple((finding, image.scores[finding], None) for finding in page_findings(image.scores)),
            )
        )
    return panels


def _explained_panel(budget: _ImageBudget, image: ExplainedImage) -> Panel:
    return budget.panel(
        image.panel_path,
        exam_id=image.exam_id,
        title=f"{LATERALITY.get(image.laterality, image.laterality)} {image.view_position}",
        scores=tuple(
            (finding, image.scores.get(finding), label_text(image.labels.get(finding)))
            for finding in page_findings({*image.scores, *image.labels})
        ),
    )


@dataclass(slots=True)
class _ImageBudget:
    """Embeds panels until the page is full."""

    used_bytes: int = 0
    is_full: bool = False
    """Once a panel has not fitted, no further one is read: of ten thousand that would take minutes."""
    shown: set[Path] = field(default_factory=set)

    def panel(self, path: Path, *, exam_id: str, title: str, scores: tuple[tuple[str, float | None, str | None], ...]) -> Panel:
        is_left_out = self.is_full and path.is_file()
        jpeg, width_px, height_px = (b"", 0, 0) if path in self.shown or is_left_out else _jpeg(path)
        note = "Shown above." if path in self.shown else "" if jpeg else "The panel's file cannot be read."
        self.is_full = self.is_full or self.used_bytes + len(jpeg) > PAGE_IMAGES_BYTES
        if self.is_full and (jpeg or is_left_out) and path not in self.shown:
            jpeg, note = b"", f"Not embedded, to keep this page small: see {path.name} in the {path.parent.name} folder."
        self.used_bytes += len(jpeg)
        if jpeg:
            self.shown.add(path)
        said = ", ".join(f"{finding} score {score:.2f}" for finding, score, _ in scores if score is not None)
        return Panel(
            exam_id=exam_id,
            title=title,
            alt=f"{title}: input, patch map, saliency maps and patches" + (f"; {said}" if said else ""),
            data_uri=f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}" if jpeg else None,
            width_px=width_px,
            height_px=height_px,
            note=note,
            scores=scores,
        )


def _jpeg(path: Path) -> tuple[bytes, int, int]:
    """The image as JPEG of at most ``PANEL_WIDTH_PX``, its width and height; no bytes if it cannot be read."""
    image_HW3 = cv2.imread(str(path), cv2.IMREAD_COLOR) if path.is_file() else None
    if image_HW3 is None:
        return b"", 0, 0
    rows, columns = image_HW3.shape[:2]
    if columns > PANEL_WIDTH_PX:
        rows, columns = max(1, round(rows * PANEL_WIDTH_PX / columns)), PANEL_WIDTH_PX
        image_HW3 = cv2.resize(image_HW3, (columns, rows), interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", image_HW3, [cv2.IMWRITE_JPEG_QUALITY, PANEL_JPEG_QUALITY])
    return encoded.tobytes(), columns, rows


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
