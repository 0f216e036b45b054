"""Foreign weights to ours: the released GMIC checkpoints and torchvision's ResNet-18. Names and shapes only, no files.

Reading and writing checkpoint files is ``tasks/adapters/models/checkpoints.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set

import torch
from torch import Tensor

from gmic_model.backbones.resnet import ResNet18
from gmic_model.model import GMIC, GMICConfig
from schemas.errors import CheckpointError

KNOWN_EXTRA_KEYS = frozenset({"shared_rep_filter.weight"})
"""Left in the released checkpoints by an earlier form of the network; nothing reads it."""

_PATCH_NETWORK = "mil.patch_network."

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
    return _renamed(state, ours_by_nyu, expected, stem=f"{_PATCH_NETWORK}stem.weight", droppable=KNOWN_EXTRA_KEYS)


def nyu_name(name: str) -> str:
    """The released name of one of our tensors."""
    if name.startswith(_PATCH_NETWORK):
        return "dn_resnet." + torchvision_name(name.removeprefix(_PATCH_NETWORK))
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
    return _renamed(state, ours_by_theirs, expected, stem="stem.weight", droppable={"fc.weight", "fc.bias"})


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
