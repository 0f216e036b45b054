"""The gallery: a page per exam as radiologists hang it, and a sortable list of them. Each file is complete in itself.

What lies where in a picture is decided in ``gmic_model.pictures.hanging``; here it becomes images, numbers in words, and HTML.
An exam's page holds its pictures as 8-bit WebP and each saliency map as a PNG with one pixel per cell, which the browser
enlarges without smoothing.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from gmic_model.pictures.hanging import Box, HungView, ScaleBar, scale_bar, shares_of_height
from gmic_model.pictures.panel import FINDING_COLORS
from schemas.exam import FINDINGS, NOT_KNOWN, Finding, Laterality, ViewPosition
from schemas.reports.evaluation import CalibrationBin
from tasks.adapters.pages.render import PAGE_FINDINGS, PRESENT, write_page

logger = logging.getLogger(__name__)

WEBP_QUALITY: Final = 90
INDEX: Final = "index.html"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GalleryView:
    """One view with what the network said of it.

    Attributes:
        panel_name: File name of its Figure 4 panel, in the folder above the gallery; so is the .npz beside it.
        scores: Per finding.
        attention_K: In the order of ``hung.patches``.
        breast_seen: Share of the breast that the network's window holds; None = not recorded.
    """

    image_id: str
    laterality: Laterality
    view_position: ViewPosition
    panel_name: str
    hung: HungView
    scores: Mapping[Finding, float]
    attention_K: NDArray[np.floating]
    breast_seen: float | None = 1.0

    @property
    def name(self) -> str:
        """``R CC``."""
        return f"{self.laterality} {self.view_position}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BreastScore:
    """One breast's score of one finding, as evaluation has it.

    Attributes:
        score: Mean of its views' scores.
        view_scores: Those scores.
        label: ``present``, ``absent`` or ``not known``.
        similar: The bin of the reliability curve that the score falls in; None = not measured.
        verdict: ``false negative``, ``false positive``, or nothing to say.
    """

    laterality: Laterality
    finding: Finding
    score: float
    view_scores: tuple[float, ...]
    label: str
    similar: CalibrationBin | None
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GalleryExam:
    """What an exam's page shows."""

    exam_id: str
    views: tuple[GalleryView, ...]
    breasts: tuple[BreastScore, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GalleryNote:
    """What all pages say alike.

    Attributes:
        model: A sentence on weights and data.
        confidence: Confidence level of the intervals, as ``95%``.
        specificity: Whose threshold tells errors, as ``0.90 on the tuning split``; None = there is no threshold.
        limit: The setting of how many exams there are at most.
        others: Which exams come when all errors are there, as the sentence goes on.
    """

    model: str
    confidence: str
    specificity: str | None
    limit: str = "explain.exams"
    others: str = "malignant, then benign exams, then the others"


@dataclass(frozen=True, slots=True, kw_only=True)
class GalleryExams:
    """Where the gallery is and which exams it has, in order: the page before and after each is known from the start."""

    folder: Path
    exam_ids: tuple[str, ...]
    created: datetime
    note: GalleryNote
    entries: list[_Entry] = field(default_factory=list)

    def clear(self) -> None:
        """Deletes the pages of an earlier choice of exams."""
        for page in self.folder.glob("*.html"):
            page.unlink()

    def write_exam(self, exam: GalleryExam) -> Path:
        """Writes the exam's page.

        Raises:
            OSError: The page cannot be written.
        """
        place, films = self.exam_ids.index(exam.exam_id), _films(exam)
        path = self.folder / f"{exam.exam_id}.html"
        page_bytes = write_page(
            path,
            "exam.html.jinja",
            script="exam.js",
            exam=exam,
            films=films,
            widest=max(_width_in_heights(pictures) for _, _, pictures in films),
            most_films=max(len(pictures) for _, _, pictures in films),
            place=place,
            total=len(self.exam_ids),
            previous=self.exam_ids[place - 1] if place else None,
            following=self.exam_ids[place + 1] if place + 1 < len(self.exam_ids) else None,
            findings=PAGE_FINDINGS,
            breasts=sorted(exam.breasts, key=lambda one: (one.laterality != "R", PAGE_FINDINGS.index(one.finding))),
            has_masks=any(view.hung.outlines for view in exam.views),
            created=self.created,
            note=self.note,
        )
        self.entries.append(_Entry.of(exam, place, page_bytes))
        return path

    def write_index(self, *, test_exams: int) -> Path:
        """Writes the list of the exams whose pages are written.

        Args:
            test_exams: All exams of the test split, for the sentence on who is left out.

        Raises:
            OSError: The page cannot be written.
        """
        path = self.folder / INDEX
        write_page(
            path,
            "gallery.html.jinja",
            script="gallery.js",
            entries=self.entries,
            test_exams=test_exams,
            findings=PAGE_FINDINGS,
            megabytes=sum(entry.page_bytes for entry in self.entries) / 1e6,
            largest_megabytes=max((entry.page_bytes for entry in self.entries), default=0) / 1e6,
            created=self.created,
            note=self.note,
        )
        logger.info("gallery of %d exams written", len(self.entries))
        return path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A line of the index."""

    exam_id: str
    place: int
    views: int
    scores: Mapping[Finding, float | None]
    labels: tuple[str, ...]
    verdicts: tuple[str, ...]
    warnings: tuple[str, ...]
    page_bytes: int

    @classmethod
    def of(cls, exam: GalleryExam, place: int, page_bytes: int) -> _Entry:
        scores = {one: [breast.score for breast in exam.breasts if breast.finding == one] for one in FINDINGS}
        present = [f"{one.laterality} {one.finding}" for one in exam.breasts if one.label == PRESENT]
        unknown = any(one.label == NOT_KNOWN for one in exam.breasts)
        return cls(
            exam_id=exam.exam_id,
            place=place,
            views=len(exam.views),
            scores={finding: max(found, default=None) for finding, found in scores.items()},
            labels=tuple(present or ([NOT_KNOWN] if unknown else ["no finding"])),
            verdicts=tuple(f"{one.laterality} {one.finding}: {one.verdict}" for one in exam.breasts if one.verdict),
            warnings=exam.warnings,
            page_bytes=page_bytes,
        )


# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Film:
    """One picture of the page; boxes in its own pixels, the overlay's place in percent.

    Attributes:
        share: Height in percent of the highest picture of the exam.
        overlays: (finding, data URI).
        patches: (box, number from 1, attention).
    """

    name: str
    alt: str
    side: str
    width: int
    height: int
    share: float
    picture: str
    overlays: tuple[tuple[str, str], ...]
    overlay_place: Mapping[str, float]
    patches: tuple[tuple[Box, int, float], ...]
    outlines: tuple[tuple[str, str], ...]
    bar: ScaleBar | None
    scores: Mapping[Finding, float]


def _films(exam: GalleryExam) -> list[tuple[str, str, list[_Film]]]:
    """(view, side, pictures) in reading order: R CC, L CC, R MLO, L MLO; a view that is missing has no picture."""
    shares = shares_of_height({view.image_id: view.hung for view in exam.views})
    return [
        (
            position.value,
            side.value,
            [
                _film(view, 100.0 * shares[view.image_id])
                for view in exam.views
                if view.laterality is side and view.view_position is position
            ],
        )
        for position in ViewPosition
        for side in (Laterality.RIGHT, Laterality.LEFT)
    ]


def _width_in_heights(pictures: Sequence[_Film]) -> float:
    """Of pictures beside each other, as a multiple of the height of the highest picture of the exam."""
    return sum(one.share / 100 * one.width / one.height for one in pictures)


def _film(view: GalleryView, share: float) -> _Film:
    hung = view.hung
    height, width = hung.grey_HW.shape
    said = ", ".join(f"{finding} score {view.scores[finding]:.2f}" for finding in PAGE_FINDINGS if finding in view.scores)
    return _Film(
        name=view.name,
        alt=f"{view.name} mammogram; {said}",
        side=view.laterality.value,
        width=width,
        height=height,
        share=share,
        picture=_data_uri(".webp", hung.grey_HW, [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY]),
        overlays=tuple(
            (finding.value, _overlay(hung.saliency_CIJ[index], FINDING_COLORS[finding]))
            for index, finding in enumerate(FINDINGS[: len(hung.saliency_CIJ)] if hung.saliency_CIJ.size else ())
        ),
        overlay_place={
            "top": 100.0 * hung.window.top / height,
            "left": 100.0 * hung.window.left / width,
            "height": 100.0 * hung.window.height / height,
            "width": 100.0 * hung.window.width / width,
        },
        patches=tuple(
            (box, index + 1, float(attention))
            for index, (box, attention) in enumerate(zip(hung.patches, view.attention_K, strict=True))
        ),
        outlines=tuple(
            (finding.value, " ".join(f"{x:g},{y:g}" for x, y in line))
            for finding, lines in hung.outlines.items()
            for line in lines
        ),
        bar=scale_bar(hung),
        scores=view.scores,
    )


def _overlay(saliency_IJ: NDArray[np.uint8], color: tuple[int, int, int]) -> str:
    """The colour, as opaque as the cell is salient."""
    cells_IJ4 = np.empty((*saliency_IJ.shape, 4), np.uint8)
    cells_IJ4[..., :3] = color[::-1]  # OpenCV's order
    cells_IJ4[..., 3] = saliency_IJ
    return _data_uri(".png", cells_IJ4, [])


def _data_uri(suffix: str, pixels: NDArray[np.uint8], options: Sequence[int]) -> str:
    _, encoded = cv2.imencode(suffix, pixels, list(options))
    return f"data:image/{suffix[1:]};base64,{base64.b64encode(encoded.tobytes()).decode('ascii')}"
