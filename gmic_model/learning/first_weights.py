"""First weights from files: what of a file's tensors a network takes, and what of the network stays fresh."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torch import Tensor

from gmic_model.learning.learner import Learner, copied
from gmic_model.weights import LOCALIZATION_BACKBONE, PATCH_NETWORK
from schemas.config.recipe import StartPart
from schemas.errors import CheckpointError

_IN_FILES = {StartPart.NETWORK: "", StartPart.LOCALIZATION: LOCALIZATION_BACKBONE, StartPart.PATCHES: PATCH_NETWORK}


class Taken(NamedTuple):
    """What became of a file's tensors.

    Attributes:
        taken: Names in the network of what is the file's now.
        left: Names in the file of what it has no place for, or was not asked to take.
    """

    taken: tuple[str, ...]
    left: tuple[str, ...]


def take_weights(learner: Learner, part: StartPart, weights: Mapping[str, Tensor], places: Mapping[str, str]) -> Taken:
    """Puts one part's weights into the network, or, if one of them does not fit, none.

    Of a whole network, modules that only one of the two has are left or stay fresh; a part is taken whole.

    Args:
        learner: Its network, and the running mean that begins with it.
        part: What the weights are for.
        weights: As ``gmic_model.weights.our_weights`` names them.
        places: How a part's names begin in files, and in the network.

    Raises:
        CheckpointError: File or network has no such part, a part is not whole, or a tensor has another shape.
    """
    asked = {_placed(name, places): value for name, value in weights.items() if name.startswith(_IN_FILES[part])}
    network = learner.network.state_dict()
    has_part = part is StartPart.NETWORK or _IN_FILES[part] in places
    here = {name for name in network if has_part and name.startswith(_placed(_IN_FILES[part], places))}
    given = {name: value for name, value in asked.items() if name in here}
    if not given:
        raise CheckpointError(
            f"The weights begin nothing of the {part.value}",
            expected=f"tensors of the {part.value} in the file, and a network that has such a part",
            got=f"{len(asked)} in the file, {len(here)} in the network",
            remedy=f"leave out start.{part.value}, or name a file that holds it: `mammo weights show FILE` says what is inside",
        )
    _refuse(
        "of another shape",
        (
            f"{name} {tuple(value.shape)} instead of {tuple(network[name].shape)}"
            for name, value in given.items()
            if value.shape != network[name].shape
        ),
    )
    begun = {_module(name) for name in given}
    _refuse("missing", (name for name in here - given.keys() if part is not StartPart.NETWORK or _module(name) in begun))
    learner.network.load_state_dict(network | given)
    if learner.averaged is not None:
        learner.averaged = copied(learner.network.state_dict())
    left = (name for name in weights if _placed(name, places) not in given)
    return Taken(tuple(sorted(given)), tuple(sorted(left)))


def fresh_names(learner: Learner, taken: Iterable[Taken]) -> tuple[str, ...]:
    """Tensors of the network that nobody gave."""
    return tuple(sorted(learner.network.state_dict().keys() - {name for one in taken for name in one.taken}))


def _placed(name: str, places: Mapping[str, str]) -> str:
    for in_files, here in places.items():
        if name.startswith(in_files):
            return here + name.removeprefix(in_files)
    return name


def _module(name: str) -> str:
    """The module of Figure 1 that a tensor is of, as ``mil.attention``."""
    return ".".join(name.split(".")[:2])


def _refuse(what: str, names: Iterable[str]) -> None:
    found = sorted(names)
    if found:
        raise CheckpointError(
            f"The weights to begin with do not fit the network: {len(found)} tensors are {what}",
            expected="the tensors of the part, whole and of its shapes",
            got=", ".join(found[:3]) + (" and others" if len(found) > 3 else ""),
            remedy="change the model section to the file's form, or let the file begin only the parts that it fits "
            "(start.localization, start.patches)",
        )
