"""Which images are false marks counted on, and which lesions of CC and MLO are one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gmic_model.metrics.lesions.lesion_marks import ImageMarks
from gmic_model.seen_lesions import Lesions
from schemas.exam import UNKNOWN, Finding
from tasks.adapters.scoring.localized_views import Annotation
from tasks.adapters.scoring.reviewed.lesion_level import BY_IMAGE, JOINED, MarkedView, lesion_level, marked_view
from tasks.adapters.scoring.scored_views import ScoredView


def _marked(row: int, false: list[float], lesions: dict[str | None, float] | None = None) -> MarkedView:
    lesions = lesions or {}
    marks = ImageMarks(false_M=np.array(false, np.float32), lesion_P=np.array([*lesions.values()], np.float32))
    return MarkedView(row=row, finding=Finding.MALIGNANT, marks=marks, name_P=tuple(lesions))


def _images(malignant: list[int], exams: list[str], sides: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "row": range(len(exams)), "exam_id": exams, "patient_id": [f"P{exam[1:]}" for exam in exams],
            "laterality": list(sides), "malignant": malignant,
        }
    )  # fmt: skip


def test_false_marks_are_those_of_exams_without_the_finding() -> None:
    """The other breast of an exam with it, an exam of an unknown breast, and an image of another split do not count."""
    images = _images([1, 0, 0, 0, 0, UNKNOWN], ["E0", "E0", "E1", "E1", "E2", "E2"], "RLRLRL")
    marked = [
        _marked(0, [0.9], {None: 0.8}), _marked(1, [0.99]), _marked(2, [0.5, 0.1]), _marked(3, []), _marked(4, [0.7]),
        _marked(5, [0.7]), _marked(77, [0.7]),
    ]  # fmt: skip
    found = lesion_level(Finding.MALIGNANT, marked, images, 0.95)
    assert found is not None and (found.images_without, found.false_marks_at_most) == (2, 1.0)
    by_image, joined = found.counted
    assert (by_image.units_without, joined.units_without) == (2, 2)  # two breasts of one image each
    assert by_image.jafroc.value == 1.0  # 0.8 is above 0.5 and above no mark
    assert lesion_level(Finding.BENIGN, marked, images.assign(benign=0), 0.95) is None


def test_one_lesion_in_each_view_is_one_lesion() -> None:
    """CC 0.2 and MLO 0.8 of one breast: found at 0.8. Two in one view say not which is which, and stay apart."""
    images = _images([1, 1, 1, 1, 0, 0], ["E0", "E0", "E1", "E1", "E2", "E2"], "RRLLRR")
    marked = [
        _marked(0, [], {None: 0.2}), _marked(1, [], {None: 0.8}),
        _marked(2, [], {"x": 0.3}), _marked(3, [], {"x": 0.6, "y": 0.1}),
        _marked(4, [0.5]), _marked(5, [0.4]),
    ]  # fmt: skip
    found = lesion_level(Finding.MALIGNANT, marked, images, 0.95)
    assert found is not None and (found.joined_lesions, found.single_lesions) == (2, 1)
    by_image, joined = found.counted
    assert (by_image.name, by_image.lesions, joined.name, joined.lesions) == (BY_IMAGE, 5, JOINED, 3)
    # One breast of two images: its highest mark is 0.5, above which lie 0.8 and 0.6 of 0.8, 0.6, 0.1.
    assert joined.units_without == 1 and joined.jafroc.value == pytest.approx(2 / 3)


def test_lesions_that_nobody_joins_stay_apart() -> None:
    """Two in the CC and one in the MLO, without names: three."""
    images = _images([1, 1, 0], ["E0", "E0", "E1"], "RRR")
    two = MarkedView(
        row=0,
        finding=Finding.MALIGNANT,
        marks=ImageMarks(false_M=np.zeros(0, np.float32), lesion_P=np.array([0.2, 0.3], np.float32)),
        name_P=(None, None),
    )
    found = lesion_level(Finding.MALIGNANT, [two, _marked(1, [], {None: 0.9}), _marked(2, [0.1])], images, 0.95)
    assert found is not None and (found.joined_lesions, found.single_lesions, found.counted[1].lesions) == (0, 3, 3)


def test_a_view_is_marked_for_each_finding() -> None:
    """Malignant has a lesion with a name, benign has none: its marks are false. A network without maps marks nothing."""
    saliency_CIJ = np.zeros((2, 2, 2), np.float32)
    saliency_CIJ[:, 0, 0] = 0.4, 0.7
    label_HW = np.zeros((4, 4), np.uint16)
    label_HW[0, 0] = 1
    lesions = Lesions(label_HW=label_HW, size_P=np.array([1, 5]))
    annotation = Annotation(finding=Finding.MALIGNANT, lesions=lesions, is_boxed=True, name_P=("1", None))
    view = ScoredView(
        row=3, score_C=np.zeros(2), saliency_CIJ=saliency_CIJ, corner_K2=np.zeros((1, 2), np.int64),
        attention_K=np.ones(1, np.float32),
    )  # fmt: skip
    benign, malignant = marked_view(view, [annotation])
    assert benign.name_P == () and benign.marks.false_M.tolist() == np.array([0.4], np.float32).tolist()
    assert malignant.name_P == ("1", None) and malignant.marks.lesion_P.tolist() == np.array([0.7, 0.0], np.float32).tolist()
    without = ScoredView(
        row=3, score_C=np.zeros(2), saliency_CIJ=np.zeros((2, 0, 0), np.float32), corner_K2=np.zeros((0, 2), np.int64),
        attention_K=np.zeros(0, np.float32),
    )  # fmt: skip
    assert list(marked_view(without, [annotation])) == []
