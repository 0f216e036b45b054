"""FROC points counted by hand, the figure of merit by its definition pair by pair."""

from __future__ import annotations

import numpy as np
import pytest

from gmic_model.metrics.lesions.froc import FALSE_MARKS, FalseMarks, RatedLesions, froc_points, jafroc
from gmic_model.metrics.lesions.lesion_marks import UNMARKED


def _false() -> FalseMarks:
    """Eight images without the finding of eight patients: two have two marks, two one, four none."""
    marks = [[0.9, 0.2], [0.7, 0.1], [0.5], [0.3], [], [], [], []]
    return FalseMarks.of([np.array(one, np.float32) for one in marks], [f"N{place}" for place in range(8)])


def _lesions() -> RatedLesions:
    ratings = np.array([0.95, 0.8, 0.6, 0.4, UNMARKED], np.float32)
    return RatedLesions(rating_L=ratings, patient_L=np.array([f"L{place}" for place in range(5)]))


def test_sensitivity_at_false_marks_an_image() -> None:
    """0.125 an image is one mark of eight: above the second, 0.7, lie 2 of 5 lesions; at 0.5, four: above 0.2, 4 of 5."""
    points = {point.false_marks_allowed: point for point in froc_points(_lesions(), _false(), confidence=0.95)}
    assert tuple(points) == FALSE_MARKS
    assert (points[0.125].threshold, points[0.125].sensitivity.value) == (pytest.approx(0.7), pytest.approx(0.4))
    assert (points[0.25].threshold, points[0.25].sensitivity.value) == (pytest.approx(0.5), pytest.approx(0.6))
    assert (points[0.5].threshold, points[0.5].sensitivity.value) == (pytest.approx(0.2), pytest.approx(0.8))
    assert points[0.125].false_marks == 0.125 and points[0.5].false_marks == 0.5
    # All six marks are 0.75 an image: above that there is nothing to allow.
    assert points[4.0].threshold is None and points[4.0].false_marks == 0.75 and points[4.0].sensitivity.value == 0.8
    assert all(point.sensitivity.low is not None for point in points.values())


def test_the_figure_of_merit_is_its_definition() -> None:
    """Chakraborty's psi over every lesion and every image without: 1 above, one half at a tie, also of two without a mark."""
    lesions, false = _lesions(), _false()
    highest_U, patient_U = false.highest(np.arange(8))
    assert highest_U.tolist() == np.array([0.9, 0.7, 0.5, 0.3, 0, 0, 0, 0], np.float32).tolist()
    pairs = [1.0 if y > x else 0.5 if y == x else 0.0 for y in lesions.rating_L for x in highest_U]
    found = jafroc(lesions, highest_U, patient_U, confidence=0.95)
    assert found.value == pytest.approx(np.mean(pairs)) and found.low is not None and found.high is not None


def test_images_of_a_breast_are_one_unit() -> None:
    """Pairs of images: the highest mark of both counts once, under their patient."""
    highest_U, patient_U = _false().highest(np.arange(8) // 2)
    assert highest_U.tolist() == np.array([0.9, 0.5, 0, 0], np.float32).tolist() and patient_U.tolist() == [
        "N0",
        "N2",
        "N4",
        "N6",
    ]


def test_few_patients_have_no_interval_and_nothing_has_no_point() -> None:
    """Four patients with lesions: the value alone; no image without the finding: no curve and no figure of merit."""
    lesions = RatedLesions(rating_L=_lesions().rating_L, patient_L=np.array(["A", "A", "B", "C", "D"]))
    assert froc_points(lesions, _false(), confidence=0.95)[0].sensitivity.low is None
    nothing = FalseMarks.of([], np.zeros(0, np.str_))
    assert froc_points(lesions, nothing, confidence=0.95) == () and nothing.per_image is None
    assert jafroc(lesions, *nothing.highest(np.zeros(0, np.str_)), confidence=0.95).value is None


def test_patients_are_the_unit() -> None:
    """The same lesions and images twice, under the same patients: the interval is not that of twice as many."""
    lesions, false = _lesions(), _false()
    twice = RatedLesions(rating_L=np.repeat(lesions.rating_L, 2), patient_L=np.repeat(lesions.patient_L, 2))
    again = FalseMarks(
        rating_M=np.tile(false.rating_M, 2), image_M=np.concatenate([false.image_M, false.image_M + 8]),
        patient_N=np.tile(false.patient_N, 2),
    )  # fmt: skip
    once_U, once_patient_U = false.highest(np.arange(8))
    twice_U, twice_patient_U = again.highest(np.arange(16))
    once = jafroc(lesions, once_U, once_patient_U, confidence=0.95)
    more = jafroc(twice, twice_U, twice_patient_U, confidence=0.95)
    assert once.value == more.value and once.low is not None and more.low is not None and once.value is not None
    assert once.value - more.low > 0.8 * (once.value - once.low)
