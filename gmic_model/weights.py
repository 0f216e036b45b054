"""Foreign weights to ours: the released GMIC checkpoints and torchvision's ResNet-18. Names and shapes only, no files.

Reading and writing checkpoint files is ``tasks/adapters/models/checkpoints.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set
from enum import StrEnum
from typing import NamedTuple

import torch
from torch import Tensor

from gmic_model.backbones.resnet import ResNet18
from gmic_model.model import GMIC, GMICConfig
from schemas.errors import CheckpointError

KNOWN_EXTRA_KEYS = frozenset({"shared_rep_filter.weight"})
"""Left in the released checkpoints by an earlier form of the network; nothing reads it."""

LOCALIZATION_BACKBONE = "localization.backbone."
"""How the names of f_d's tensors begin, in files of weights."""
PATCH_NETWORK = "mil.patch_network."
"""How the names of f_t's tensors begin, in files of weights."""

_OUR_MODULES = ("localization.", "mil.", "fusion.")
_PRETRAINED_BACKBONE = "backbone."
_TORCHVISION_EXTRA = frozenset({"fc.weight", "fc.bias"})
_IMAGENET_CLASSES = 1000


class WeightsForm(StrEnum):
    """What a file of weights may hold."""

    RESNET18 = "torchvision's ResNet-18"
    RELEASED = "a released GMIC"
    PRETRAINED = "pre-training of the localisation network"
    OURS = "weights of ours"


class OurWeights(NamedTuple):
    """A file's weights under our names.

    Attributes:
        form: What the file holds.
        weights: Named as in the whole network, a part's too.
        left: Names in the file of what nothing of ours reads.
        has_seen_patients: False for ImageNet's; None = the file does not say.
    """

    form: WeightsForm
    weights: dict[str, Tensor]
    left: tuple[str, ...]
    has_seen_patients: bool | None


# Ours -> theirs, applied in order.
_NYU_WORDS = (
    (r"^localization\.backbone\.stem\.", "ds_net.first_conv."),
    (r"^localization\.backbone\.stages\.", "ds_net.layer_list."),
    (r"^localization\.backbone\.final_norm\.", "ds_net.final_bn."),
    (r"^localization\.saliency\.", "left_postprocess_net.gn_conv_last."),
    (r"^mil\.attention\.content\.", "mil_attn_V."),
    (r"^mil\.attention\.gate\.", "mil_attn_U."),
    (r"^mil\.attention\.score\.", "mil_attn_w."),
    (r"^mil\.classifier\.", "classifier_linear."),
    (r"^fusion\.classifier\.", "fusion_dnn."),
    (r"\.norm([12])\.", r".bn\1."),
    (r"\.shortcut\.", ".downsample.0."),
)
_TORCHVISION_WORDS = (
    (r"^stem\.", "conv1."),
    (r"^stem_norm\.", "bn1."),
    (r"\.norm([12])\.", r".bn\1."),
    (r"\.shortcut\.", ".downsample."),
)


def our_weights(state: Mapping[str, Tensor]) -> OurWeights:
    """A file's tensors under our names, by what the names in it say that it is.

    Raises:
        CheckpointError: The names are of no form that is known, a key is missing or not known, a tensor has another shape, or
            a number is not finite.
    """
    _refuse("tensors with numbers that are not finite", (name for name, value in state.items() if not value.isfinite().all()))
    if "layer1.0.conv1.weight" in state:
        ours = {PATCH_NETWORK + name: value for name, value in from_torchvision_resnet18(state).items()}
        classes = len(state["fc.bias"]) if "fc.bias" in state else 0
        left = tuple(sorted(state.keys() & _TORCHVISION_EXTRA))
        return OurWeights(WeightsForm.RESNET18, ours, left, False if classes == _IMAGENET_CLASSES else None)
    if "ds_net.first_conv.weight" in state:
        left = tuple(sorted(state.keys() & KNOWN_EXTRA_KEYS))
        return OurWeights(WeightsForm.RELEASED, from_nyu_state_dict(state), left, None)
    if any(name.startswith(_PRETRAINED_BACKBONE) for name in state):
        ours = {f"localization.{name}": value for name, value in state.items() if name.startswith(_PRETRAINED_BACKBONE)}
        return OurWeights(
            WeightsForm.PRETRAINED, ours, tuple(name for name in state if f"localization.{name}" not in ours), None
        )
    if state and all(name.startswith(_OUR_MODULES) for name in state):
        return OurWeights(WeightsForm.OURS, dict(state), (), None)
    raise CheckpointError(
        "the names of the tensors are of no network that is known here",
        expected=", ".join(WeightsForm),
        got=", ".join(list(state)[:3]) or "no tensor",
        remedy="name one of these; weights of another form have to be renamed first",
    )


def from_nyu_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A released checkpoint's weights under our names, for ``GMIC(GMICConfig.released())``.

    The patch network's three-channel stem becomes a one-channel stem: its input was one gray channel, three times.

    Args:
        state: The released state dict. Beside the network's 258 tensors it may hold ``shared_rep_filter.weight``.

    Returns:
        A state dict that loads strictly. Tensors are the given ones, except the stem.

    Raises:
        CheckpointError: A key is missing or not known, or a tensor has another shape; the message names them.
    """
    with torch.device("meta"):
        expected = GMIC(GMICConfig.released()).state_dict()
    ours_by_nyu = {nyu_name(name): name for name in expected}
    return _renamed(state, ours_by_nyu, expected, stem=f"{PATCH_NETWORK}stem.weight", droppable=KNOWN_EXTRA_KEYS)


def nyu_name(name: str) -> str:
    """The released name of one of our tensors."""
    if name.startswith(PATCH_NETWORK):
        return "dn_resnet." + torchvision_name(name.removeprefix(PATCH_NETWORK))
    return _reworded(name, _NYU_WORDS)


def from_torchvision_resnet18(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Torchvision's ImageNet weights for ``model.mil.patch_network``: the paper's start of f_t (section 2.3).

    Args:
        state: State dict of torchvision's ``resnet18``; its classifier ``fc`` is dropped.

    Returns:
        A state dict that loads strictly into ``resnet.ResNet18``.

    Raises:
        CheckpointError: A key is missing or not known, or a tensor has another shape; the message names them.
    """
    with torch.device("meta"):
        expected = ResNet18().state_dict()
    ours_by_theirs = {torchvision_name(name): name for name in expected}
    # Files of before torch counted batches have no counters; nothing reads them.
    counters = {name: torch.zeros((), dtype=torch.int64) for name in ours_by_theirs if name.endswith("num_batches_tracked")}
    return _renamed({**counters, **state}, ours_by_theirs, expected, stem="stem.weight", droppable=_TORCHVISION_EXTRA)


def torchvision_name(name: str) -> str:
    """Torchvision's name of one of the tensors of ``ResNet18``."""
    name = re.sub(r"^stages\.(\d)\.", lambda found: f"layer{int(found[1]) + 1}.", name)
    return _reworded(name, _TORCHVISION_WORDS)


def _reworded(name: str, words: Iterable[tuple[str, str]]) -> str:
    for pattern, replacement in words:
        name = re.sub(pattern, replacement, name)
    return name


def _renamed(
    state: Mapping[str, Tensor],
    ours_by_theirs: Mapping[str, str],
    expected: Mapping[str, Tensor],
    *,
    stem: str,
    droppable: Set[str],
) -> dict[str, Tensor]:
    """The foreign tensors under our names, once every key and shape is accounted for."""
    _refuse("keys that the network does not have", state.keys() - ours_by_theirs.keys() - droppable)
    _refuse("keys of the network are missing", ours_by_theirs.keys() - state.keys())
    ours = {name: state[theirs] for theirs, name in ours_by_theirs.items()}
    misshapen = []
    for theirs, name in ours_by_theirs.items():
        shape = tuple(expected[name].shape)
        shape = (shape[0], 3, *shape[2:]) if name == stem else shape
        if tuple(ours[name].shape) != shape:
            misshapen.append(f"{theirs} {tuple(ours[name].shape)} instead of {shape}")
    _refuse("tensors of another shape", misshapen)
    return {**ours, stem: _gray_stem(ours[stem])}


def _gray_stem(weight: Tensor) -> Tensor:
    """One input channel that does what three equal ones did; summed in fp64."""
    return weight.sum(dim=1, keepdim=True, dtype=torch.float64).to(weight.dtype)


def _refuse(what: str, offenders: Iterable[str]) -> None:
    found = sorted(offenders)
    if found:
        shown = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        raise CheckpointError(f"weights do not fit: {what}", got=shown, remedy="import an unaltered checkpoint of this network")
