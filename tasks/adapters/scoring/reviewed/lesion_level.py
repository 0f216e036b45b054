"""Lesion by lesion: marks of each test image, which lesions they are on, and which lesions of CC and MLO are one. No Prefect.

The arithmetic is in ``gmic_model.metrics.lesions``. Lesions of a breast's images are one where the boxes file gives them one
name, or where every marked image of the breast shows exactly one: no more is known, and no more is joined.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmic_model.metrics.lesions.froc import FalseMarks, RatedLesions, froc_points, jafroc
from gmic_model.metrics.lesions.lesion_marks import UNMARKED, ImageMarks, rated_marks
from schemas.exam import FINDINGS, Finding
from schemas.reports.reviewed import FreeResponse, LesionLevel
from tasks.adapters.scoring.localized_views import Annotation
from tasks.adapters.scoring.scored_views import ScoredView

_Breast = tuple[str, str]
"""Exam and side."""
BY_IMAGE, JOINED = "each image by itself", "joined over views"
"""Which lesions are counted."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MarkedView:
    """One model's marks on one view for one finding.

    Attributes:
        name_P: What each lesion of the view is called, None = not said; empty where no lesion is marked.
    """

    row: int
    finding: Finding
    marks: ImageMarks
    name_P: tuple[str | None, ...] = ()


def marked_view(view: ScoredView, annotations: Sequence[Annotation]) -> Iterator[MarkedView]:
    """The marks of each finding; nothing for a network that has no map."""
    annotation_of = {marked.finding: marked for marked in annotations}
    for place, finding in enumerate(FINDINGS if view.saliency_CIJ.size else ()):
        marked = annotation_of.get(finding)
        if marked is None:
            yield MarkedView(row=view.row, finding=finding, marks=rated_marks(view.saliency_CIJ[place]))
            continue
        lesions = len(marked.lesions.size_P)
        yield MarkedView(
            row=view.row,
            finding=finding,
            marks=rated_marks(view.saliency_CIJ[place], marked.lesions.label_HW, lesions),
            name_P=marked.name_P or (None,) * lesions,
        )


def lesion_level(finding: Finding, marked: Sequence[MarkedView], images: pd.DataFrame, confidence: float) -> LesionLevel | None:
    """FROC and JAFROC of one finding; None if no image is marked.

    Args:
        finding: The finding.
        marked: Views of one model, of the test split and maybe others.
        images: The test split's manifest lines: row, exam_id, patient_id, laterality, and the finding's label.
        confidence: Of the intervals.
    """
    whose = images[["exam_id", "laterality", "patient_id"]].astype(str).itertuples(index=False, name=None)
    line_of = {row: _Whose(*line) for row, line in zip(images["row"].tolist(), whose, strict=True)}
    own = [view for view in marked if view.finding is finding and view.row in line_of]
    with_lesions = [view for view in own if view.name_P]
    if not with_lesions:
        return None
    absent = _exams_without(finding, images)
    clean = [view for view in own if not view.name_P and line_of[view.row].exam_id in absent]
    false = FalseMarks.of(
        [view.marks.false_M for view in clean], np.array([line_of[view.row].patient_id for view in clean], dtype=np.str_)
    )
    breast_N = np.array([f"{line_of[view.row].exam_id} {line_of[view.row].laterality}" for view in clean], dtype=np.str_)
    by_breast: dict[_Breast, list[MarkedView]] = defaultdict(list)
    for view in with_lesions:
        by_breast[line_of[view.row].exam_id, line_of[view.row].laterality].append(view)
    patient_of = {key: line_of[views[0].row].patient_id for key, views in by_breast.items()}
    apart = {key: [float(one) for view in views for one in view.marks.lesion_P] for key, views in by_breast.items()}
    joined = {key: _joined(views) for key, views in by_breast.items()}
    return LesionLevel(
        images_without=len(clean),
        false_marks_at_most=false.per_image,
        joined_lesions=sum(seen > 1 for lesions in joined.values() for _, seen in lesions),
        single_lesions=sum(seen == 1 for lesions in joined.values() for _, seen in lesions),
        counted=(
            _counted(BY_IMAGE, apart, patient_of, false, np.arange(len(clean)).astype(np.str_), confidence),
            _counted(
                JOINED,
                {key: [rating for rating, _ in lesions] for key, lesions in joined.items()},
                patient_of,
                false,
                breast_N,
                confidence,
            ),
        ),
    )


# ---------------------------------------------------------------------------------------------------------------------


class _Whose(NamedTuple):
    """Whose an image is."""

    exam_id: str
    laterality: str
    patient_id: str


def _exams_without(finding: Finding, images: pd.DataFrame) -> frozenset[str]:
    """Exams of which every breast is known not to have the finding."""
    strongest = images.groupby("exam_id")[finding.value].max()  # not known is 255: above both
    return frozenset(str(exam_id) for exam_id in strongest[strongest == 0].index)


def _joined(views: Sequence[MarkedView]) -> list[tuple[float, int]]:
    """The best rating of each lesion of a breast, and in how many images it is marked."""
    named: dict[str, list[float]] = defaultdict(list)
    unnamed = []
    for view in views:
        for name, rating in zip(view.name_P, view.marks.lesion_P.tolist(), strict=True):
            if name is None:
                unnamed.append(rating)
            else:
                named[name].append(rating)
    found = [(max(ratings), len(ratings)) for ratings in named.values()]
    if not named and all(len(view.name_P) == 1 for view in views):
        return [(max(unnamed), len(unnamed))]
    return found + [(rating, 1) for rating in unnamed]


def _counted(
    name: str,
    ratings_of: Mapping[_Breast, Sequence[float]],
    patient_of: Mapping[_Breast, str],
    false: FalseMarks,
    unit_N: NDArray[np.str_],
    confidence: float,
) -> FreeResponse:
    rated = [(rating, patient_of[key]) for key, ratings in ratings_of.items() for rating in ratings]
    lesions = RatedLesions(
        rating_L=np.array([rating for rating, _ in rated], dtype=np.float32),
        patient_L=np.array([patient for _, patient in rated], dtype=np.str_),
    )
    highest_U, patient_U = false.highest(unit_N)
    return FreeResponse(
        name=name,
        lesions=len(rated),
        unmarked=int((lesions.rating_L <= UNMARKED).sum()),
        patients=len(np.unique(lesions.patient_L)),
        units_without=len(highest_U),
        patients_without=len(np.unique(patient_U)),
        points=froc_points(lesions, false, confidence=confidence),
        jafroc=jafroc(lesions, highest_U, patient_U, confidence=confidence),
    )
