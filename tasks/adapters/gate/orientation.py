"""What PatientOrientation (0020,0020) says of how a mammogram lies: the turn that brings it upright.

Its two values name where the rows and where the columns of the image run to, each by letters of which the first is the main
one: A anterior, P posterior, R and L the patient's sides, H head, F feet (PS3.3 C.7.6.1.1.1). An upright image of a left breast
has A and R (CC) or A and FR (MLO), one of a right breast P and L, or P and FL: down is to the feet and to the body's middle.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gmic_model.pixels.orientation import Turn
from schemas.exam import Laterality

_LETTERS: Final = frozenset("APRLHF")
_DOWNWARDS: Final[Mapping[Laterality, Mapping[str, int]]] = {
    Laterality.LEFT: {"F": 1, "R": 1, "H": -1, "L": -1},
    Laterality.RIGHT: {"F": 1, "L": 1, "H": -1, "R": -1},
}
_FORWARDS: Final[Mapping[Laterality, Mapping[str, int]]] = {  # where the rows of an upright image run to
    Laterality.LEFT: {"A": 1, "P": -1},
    Laterality.RIGHT: {"A": -1, "P": 1},
}
_ALONG_ROWS: Final = 1
_ALONG_COLUMNS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the attribute says.

    Attributes:
        turn: Brings the image upright; None if the attribute is absent, or not of the kind that a mammogram has.
        is_contradiction: True if its letters cannot be of this side: feet and the outer side, head and the middle.
    """

    turn: Turn | None
    is_contradiction: bool = False


NOTHING: Final = Told(turn=None)


def told_by(patient_orientation: Sequence[str], laterality: Laterality) -> Told:
    """Reads the attribute of an image of that side."""
    directions = [text.upper() for text in patient_orientation]
    if len(directions) != 2 or not all(text and set(text) <= _LETTERS for text in directions):
        return NOTHING
    is_forwards = [text[0] in "AP" for text in directions]
    if sum(is_forwards) != 1:
        return NOTHING
    forwards, downwards = directions if is_forwards[0] else reversed(directions)
    votes = {_DOWNWARDS[laterality][letter] for letter in downwards if letter not in "AP"}
    if len(votes) != 1:
        return Told(turn=None, is_contradiction=True)
    along = _FORWARDS[laterality][forwards[0]] * _ALONG_ROWS
    down = votes.pop() * _ALONG_COLUMNS
    return Told(turn=_turn_from(along, down) if is_forwards[0] else _turn_from(down, along))


def _turn_from(rightwards: int, downwards: int) -> Turn:
    """The turn after which rows run along rows and columns along columns of the upright image; a sign is a direction."""
    for quarter_turns, is_mirrored in itertools.product(range(4), (False, True)):
        right, down = rightwards, downwards
        for _ in range(quarter_turns):
            right, down = -down, right  # clockwise: what ran up runs to the right, what ran to the right runs down
        if (-right if is_mirrored else right, down) == (_ALONG_ROWS, _ALONG_COLUMNS):
            return Turn(quarter_turns=quarter_turns, is_mirrored=is_mirrored)
    raise AssertionError  # one axis along, one down: one of the eight is right
