"""What marks a view's lesions, mask or boxes, and the means over images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gmic_model.metrics.lesions.localization import ContinuousF1, LesionCount
from schemas.exam import Finding, LesionBeyond, LesionBox, ViewGeometry, ViewPosition
from schemas.reports.evaluation import FindingMetrics
from schemas.reports.report import Interval
from tasks.adapters.scoring.localized_views import (
    LocalizedView,
    annotated_rows,
    annotations_of,
    localize,
    mean_f1,
    with_localization,
)
from tasks.adapters.scoring.scored_views import ScoredView
from tasks.adapters.store.exam_store import ExamStore
from tasks.adapters.store.views import StoredViews

UNDEFINED = Interval(value=None, low=None, high=None)


def _views(*, is_flipped: bool) -> StoredViews:
    """One view: a source of 40 x 30, its crop rows 4 to 36 and columns 2 to 26, in a window of just that size."""
    geometry = ViewGeometry(
        source_shape_px=(40, 30), crop_box_px=(4, 36, 2, 26), is_flipped=is_flipped, scale=1.0,
        best_center_px=(16, 12), window_px=(32, 24), view_position=ViewPosition.CC,
    )  # fmt: skip
    return StoredViews(ExamStore(Path("none"), 1, (32, 24)), {0: (geometry, (32, 24), 0.5)})


def _line(boxes: str | None, *, malignant: int = 1) -> dict[str, object]:
    return {"row": 0, "has_lesion_mask": False, "lesion_boxes": boxes, "benign": 0, "malignant": malignant}


@pytest.mark.parametrize("is_flipped", [False, True])
def test_saliency_on_a_box_is_its_mass_inside(is_flipped: bool) -> None:
    """A box in the source: the four cells over it hold all saliency, or none where the flip is forgotten."""
    views = _views(is_flipped=is_flipped)
    box = LesionBox(finding=Finding.MALIGNANT, top_px=12, bottom_px=20, left_px=6, right_px=14)
    (marked,) = annotations_of(_line(box.text), views)
    rows, columns = np.nonzero(marked.mask_HW)
    assert marked.is_boxed and (rows.min(), rows.max()) == (8, 15)
    assert (columns.min(), columns.max()) == ((12, 19) if is_flipped else (4, 11))
    saliency_CIJ = np.zeros((2, 8, 6), np.float32)
    saliency_CIJ[1, 2:4, (3 if is_flipped else 1) : (5 if is_flipped else 3)] = 0.5
    view = ScoredView(
        row=0, score_C=np.zeros(2), saliency_CIJ=saliency_CIJ, corner_K2=np.array([[8, 0]]), attention_K=np.ones(1, np.float32)
    )
    (found,) = localize(view, [marked], (8, 8))
    assert found.metrics.precision == 1.0 and found.is_pointing and found.area == pytest.approx(64 / (32 * 24))


def test_what_the_window_cuts_off_a_box_counts_as_missed() -> None:
    """A box half inside the crop has recall 0.5 at saliency 1 everywhere; one outside has 0, and is counted, not left out."""
    boxes = [
        LesionBox(finding=Finding.MALIGNANT, top_px=32, bottom_px=40, left_px=6, right_px=14),
        LesionBox(finding=Finding.BENIGN, top_px=10, bottom_px=14, left_px=27, right_px=30),
    ]
    views = _views(is_flipped=False)
    marked = annotations_of(_line("; ".join(box.text for box in boxes)), views)
    view = ScoredView(
        row=0, score_C=np.zeros(2), saliency_CIJ=np.ones((2, 8, 6), np.float32), corner_K2=np.array([[0, 0]]),
        attention_K=np.ones(1, np.float32),
    )  # fmt: skip
    lost, half = localize(view, marked, (8, 8))
    assert (half.metrics.recall, half.seen_P, half.lesions) == (0.5, (0.5,), (0, 1))
    assert (lost.metrics, lost.seen_P, lost.lesions) == (ContinuousF1(0.0, 0.0, 0.0), (0.0,), (0, 1))
    images = pd.DataFrame({"row": [0], "patient_id": ["P"]})
    measured = with_localization(_empty(), Finding.BENIGN, [lost, half], images, 0.95).lesions_seen
    assert measured is not None and (measured.lesions, measured.lost, measured.mean_seen) == (1, 1, 0.0)


def test_a_mask_wholly_outside_the_crop_is_localised_too(tmp_path: Path) -> None:
    """The store holds nothing of it, its manifest line does: the image counts with recall 0."""
    views = replace(_views(is_flipped=False), beyond={0: (LesionBeyond(finding=Finding.MALIGNANT, beyond_px=9, at_px=None),)})
    line = {**_line(None), "lesions_beyond": "malignant 9"}
    assert set(annotated_rows(pd.DataFrame([line]))) == {0}
    (marked,) = annotations_of(line, views)
    assert (marked.finding, marked.is_boxed, marked.lesions.size_P.tolist()) == (Finding.MALIGNANT, False, [9])
    assert not marked.mask_HW.any() and marked.lesions.seen_fraction_P.tolist() == [0.0]


def test_a_box_without_a_finding_is_of_the_breasts_findings() -> None:
    """Of a malignant breast it marks a malignant lesion; of a breast with no finding it marks nothing."""
    text = "any 12 20 6 14"
    assert [one.finding for one in annotations_of(_line(text), _views(is_flipped=False))] == [Finding.MALIGNANT]
    assert annotations_of(_line(text, malignant=0), _views(is_flipped=False)) == []


def test_rows_with_a_mask_or_boxes_are_annotated() -> None:
    """The others are not looked at; a store that knows no boxes is no error."""
    lines = [_line("any 1 2 3 4"), {**_line(None), "row": 1}, {**_line(None), "row": 2, "has_lesion_mask": True}]
    assert set(annotated_rows(pd.DataFrame(lines))) == {0, 2}
    assert set(annotated_rows(pd.DataFrame(lines).drop(columns="lesion_boxes"))) == {2}


def _localized(row: int, f1: float, *, is_boxed: bool = False) -> LocalizedView:
    return LocalizedView(
        row=row, finding=Finding.MALIGNANT, is_boxed=is_boxed, metrics=ContinuousF1(f1, f1 / 2, 1.0), is_pointing=f1 > 0.4,
        lesions=LesionCount(1, 2), area=0.1,
    )  # fmt: skip


def _empty() -> FindingMetrics:
    return FindingMetrics(
        breasts=0, positive_breasts=0, auroc=UNDEFINED, auprc=UNDEFINED, localization_images=0,
        localization_f1=None, localization_precision=None, localization_recall=None,
    )  # fmt: skip


def test_masks_and_boxes_are_averaged_apart() -> None:
    """F1 0.2, 0.4, 0.6 of masks mean 0.4; the box's share 0.4 stands alone; images of other splits do not count."""
    empty = _empty()
    localized = [
        _localized(0, 0.2),
        _localized(1, 0.4),
        _localized(2, 0.6),
        _localized(3, 0.8, is_boxed=True),
        _localized(9, 1.0),
    ]
    images = pd.DataFrame({"row": [0, 1, 2, 3], "patient_id": ["P", "P", "Q", "R"]})
    metrics = with_localization(empty, Finding.MALIGNANT, localized, images, 0.95)
    assert (metrics.localization_images, metrics.localization_f1) == (3, pytest.approx(0.4))
    assert (metrics.lesions, metrics.lesions_reached) == (6, 3)
    assert metrics.localization_intervals is not None and metrics.localization_intervals.f1.value == pytest.approx(0.4)
    assert metrics.localization_intervals.f1.low is None  # two patients
    assert metrics.boxes is not None and metrics.boxes.mass_inside.value == pytest.approx(0.4)
    assert metrics.boxes.mass_inside.low is None and metrics.boxes.area_inside == pytest.approx(0.1)
    other = with_localization(empty, Finding.BENIGN, localized, images, 0.95)
    assert other.localization_images == 0 and other.localization_intervals is None and other.boxes is None


def test_the_model_for_localisation_is_chosen_by_masks_of_the_given_rows() -> None:
    """Boxes and other splits' rows do not count."""
    localized = [_localized(0, 0.2), _localized(1, 0.4), _localized(2, 1.0, is_boxed=True), _localized(3, 1.0)]
    assert mean_f1(localized, Finding.MALIGNANT, {0, 1, 2}) == pytest.approx(0.3)
    assert mean_f1(localized, Finding.BENIGN, {0, 1, 2}) is None


def test_a_lesion_is_called_as_its_box_is() -> None:
    """Two lesions of three boxes, of which two overlap and one of these has a name; where no box has one there is none."""
    edges = ((8, 12, 4, 8), (10, 14, 6, 10), (24, 28, 14, 18))
    boxes = [
        LesionBox(finding=Finding.MALIGNANT, top_px=top, bottom_px=bottom, left_px=left, right_px=right, lesion=lesion)
        for (top, bottom, left, right), lesion in zip(edges, (None, "L2", None), strict=True)
    ]
    (marked,) = annotations_of(_line("; ".join(box.text for box in boxes)), _views(is_flipped=True))
    assert marked.name_P == ("L2", None) and len(marked.lesions.size_P) == 2
    (unnamed,) = annotations_of(_line(boxes[0].text), _views(is_flipped=False))
    assert unnamed.name_P == ()


def test_what_chance_would_have_stands_beside_what_was_measured() -> None:
    """The breast is the upper half of the window, the box a twelfth of it: F1 2 (1/12) / (1 + 1/12) = 2/13; cells 4 of 24."""
    box = LesionBox(finding=Finding.MALIGNANT, top_px=8, bottom_px=12, left_px=4, right_px=12)
    (marked,) = annotations_of(_line(box.text), _views(is_flipped=False))
    breast_HW = np.zeros((32, 24), bool)
    breast_HW[:16] = True
    view = ScoredView(
        row=0, score_C=np.zeros(2), saliency_CIJ=np.ones((2, 8, 6), np.float32), corner_K2=np.array([[0, 0]]),
        attention_K=np.ones(1, np.float32),
    )  # fmt: skip
    (found,) = localize(view, [marked], (8, 8), breast_HW)
    assert found.chance is not None and found.chance.f1 == pytest.approx(2 * (1 / 12) / (1 + 1 / 12))
    rows, columns = np.nonzero(marked.mask_HW)
    cells = len({(row // 4, column // 4) for row, column in zip(rows.tolist(), columns.tolist(), strict=True)})
    assert found.chance.pointing == cells / 24
    boxes = with_localization(_empty(), Finding.MALIGNANT, [found], pd.DataFrame({"row": [0], "patient_id": ["P"]}), 0.95).boxes
    assert boxes is not None and boxes.chance_pointing == cells / 24
