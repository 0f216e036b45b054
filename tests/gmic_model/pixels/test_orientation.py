"""How an image lies, by its pixels."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gmic_model.phantom.drawing import draw_exam, plan_exam
from gmic_model.pixels.orientation import Edge, lie_of, turned_box
from schemas.exam import Laterality

CLOCKWISE = (Edge.LEFT, Edge.TOP, Edge.RIGHT, Edge.BOTTOM)


def breast(height: float, depth: float) -> NDArray[np.bool_]:
    """Half an ellipse on the left edge of 400 x 320 pixels."""
    rows, columns = np.indices((400, 320))
    return np.hypot((rows - 200) / (height * 200), columns / (depth * 320)) < 1


@pytest.mark.parametrize("depth", [0.1, 0.4, 0.7, 0.95, 1.05])
@pytest.mark.parametrize("height", [0.3, 0.6, 1.0, 1.4, 2.0])
@pytest.mark.parametrize("quarter_turns", range(4))
def test_the_chest_wall_is_where_the_breast_is_cut_off(height: float, depth: float, quarter_turns: int) -> None:
    """From a breast of 3 cm to one that fills the image, on all four edges: the right edge is named, or none, never another.

    One that is cut off above and below, too, is not told from an upright one if it lies on its side.
    """
    found = lie_of(np.rot90(breast(height, depth), -quarter_turns)).chest_wall
    assert found in (CLOCKWISE[quarter_turns], None)
    assert found is not None or depth > 1.0 or (height > 1.0 and quarter_turns % 2)


def test_nothing_and_everything_lie_nowhere() -> None:
    """An image without tissue, and one without air."""
    for tissue_HW in (np.zeros((50, 40), np.bool_), np.ones((50, 40), np.bool_)):
        assert lie_of(tissue_HW).chest_wall is None


@pytest.mark.parametrize("seed", range(6))
def test_phantoms_lie_upright(seed: int) -> None:
    """Both sides and views: the chest wall is found, and no muscle below."""
    plan = plan_exam(
        image_size_px=((640, 448), (800, 500))[seed % 2],
        findings={},
        difficulty=0.5,
        patient_rng=np.random.default_rng(seed),
        exam_rng=np.random.default_rng(100 + seed),
    )
    for (laterality, _), drawn in draw_exam(plan).items():
        lie = lie_of(drawn.pixels_HW > 0.15 * drawn.pixels_HW.max())
        assert lie.chest_wall is (Edge.LEFT if laterality is Laterality.LEFT else Edge.RIGHT)
        assert not lie.has_muscle_below


def test_a_box_turns_with_its_image() -> None:
    """What is marked in an image is marked by the turned box in the turned image, and turned back by a negative number."""
    image_HW = np.zeros((5, 9), np.uint8)
    image_HW[1:3, 2:7] = 1
    for quarter_turns in range(-3, 4):
        turned_HW = np.rot90(image_HW, -quarter_turns)
        top, bottom, left, right = turned_box((1, 3, 2, 7), (5, 9), quarter_turns)
        assert turned_HW[top:bottom, left:right].all() and turned_HW.sum() == (bottom - top) * (right - left)
