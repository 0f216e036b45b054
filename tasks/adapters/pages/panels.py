"""Figure 4 panels as the pages show them: embedded as JPEG until the page is full, and the breasts that went wrong first."""

from __future__ import annotations

import base64
import os.path
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote

import cv2

from schemas.reports.pages import ExplainedImage, ExplainReport, Failure, FailureKind, PredictReport
from tasks.adapters.pages.render import LATERALITY, label_text, page_findings

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
