"""What PatientOrientation says of how a mammogram lies."""

from __future__ import annotations

import numpy as np
import pytest

from gmic_model.pixels.orientation import UPRIGHT, Turn
from schemas.exam import Laterality
from tasks.adapters.gate.orientation import NOTHING, told_by

L, R = Laterality.LEFT, Laterality.RIGHT
OPPOSITE = str.maketrans("APRLHF", "PALRFH")


def lying(directions: tuple[str, str], quarter_turns: int, is_mirrored: bool) -> tuple[str, str]:
    """What an upright image's attribute becomes if the image is mirrored and then turned clockwise."""
    right, down = directions
    right = right.translate(OPPOSITE) if is_mirrored else right
    for _ in range(quarter_turns):
        right, down = down.translate(OPPOSITE), right
    return right, down


@pytest.mark.parametrize("is_mirrored", [False, True])
@pytest.mark.parametrize("quarter_turns", range(4))
@pytest.mark.parametrize(
    ("laterality", "directions"), [(L, ("A", "R")), (L, ("A", "FR")), (R, ("P", "L")), (R, ("P", "FL")), (L, ("A", "F"))]
)
def test_every_way_to_lie_is_brought_upright(
    laterality: Laterality, directions: tuple[str, str], quarter_turns: int, is_mirrored: bool
) -> None:
    """All eight, of both sides and views: the turn that is told undoes what was done to the image."""
    image_HW = np.arange(12, dtype=np.uint16).reshape(3, 4)
    lying_HW = np.rot90(image_HW[:, ::-1] if is_mirrored else image_HW, -quarter_turns)
    turn = told_by(lying(directions, quarter_turns, is_mirrored), laterality).turn
    assert turn is not None
    np.testing.assert_array_equal(turn(np.ascontiguousarray(lying_HW)), image_HW)


def test_an_upright_image_is_left_alone() -> None:
    """Nothing is to be done, and the very array comes back."""
    image_HW = np.zeros((3, 4), np.uint16)
    assert told_by(("A", "R"), L).turn == UPRIGHT and UPRIGHT(image_HW) is image_HW


@pytest.mark.parametrize(
    "directions", [(), ("CC",), ("MLO",), ("", ""), ("A",), ("A", "P"), ("L", "F"), ("X", "R"), ("LE", "V")]
)
def test_what_no_mammogram_has_says_nothing(directions: tuple[str, ...]) -> None:
    """Absent, the view's name as CBIS-DDSM writes it, two axes that are one, or letters of a quadruped."""
    assert told_by(directions, L) == NOTHING


@pytest.mark.parametrize(("directions", "laterality"), [(("P", "FL"), L), (("A", "FR"), R), (("A", "HR"), L), (("A", "LR"), L)])
def test_letters_of_the_other_side_contradict(directions: tuple[str, str], laterality: Laterality) -> None:
    """An oblique view names the middle of the body with the feet: the right breast's letters are not the left one's."""
    assert told_by(directions, laterality).is_contradiction


def test_a_turn_is_a_number_of_quarters_and_a_mirroring() -> None:
    """A right breast that lies as a left one is mirrored or turned by half; which, the columns' direction tells."""
    assert told_by(("A", "L"), R).turn == Turn(is_mirrored=True)
    assert told_by(("A", "R"), R).turn == Turn(quarter_turns=2)
