"""Normalisation by groups: an image's scores are its own, and nothing has to be measured."""

from __future__ import annotations

import pytest
import torch

from gmic_model.backbones.group_norm import groups_of
from gmic_model.networks.registry import build_network
from schemas.config.network import GMICConfig, NetworkConfig, ResNet22Config

SIZE = (128, 96)
CONFIGS: list[NetworkConfig] = [
    GMICConfig(image_size=SIZE, patch_size=(32, 32), K=2, local_dim=8, top_t=0.3, normalization="group"),
    ResNet22Config(kind="resnet-22", image_size=SIZE, normalization="group"),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.title)
def test_an_image_scores_the_same_whatever_is_beside_it(config: NetworkConfig) -> None:
    """In training and in use, alone and in a batch; with batch normalisation each of these is another number."""
    torch.manual_seed(0)
    network, image_N1HW = build_network(config), torch.randn(3, 1, *SIZE)
    with torch.no_grad():
        alone, together, used = (
            run(image_NCHW).y_NC[0]
            for run, image_NCHW in (
                (network.train(), image_N1HW[:1]), (network, image_N1HW * torch.tensor([1.0, 5.0, 0.1])[:, None, None, None]),
                (network.eval(), image_N1HW),
            )
        )  # fmt: skip
    assert torch.allclose(alone, together, atol=1e-5) and torch.allclose(alone, used, atol=1e-5)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.title)
def test_its_weights_are_those_of_batch_normalisation_without_statistics(config: NetworkConfig) -> None:
    """The same names, shapes and first values, so either network may begin with the other's weights; nothing runs."""
    states = []
    for normalization in ("group", "batch"):
        torch.manual_seed(0)
        states.append(build_network(config.model_copy(update={"normalization": normalization})).state_dict())
    ends = ("running_mean", "running_var", "num_batches_tracked")
    kept = {name: value for name, value in states[1].items() if not name.endswith(ends)}
    assert states[0].keys() == kept.keys() and len(kept) < len(states[1])
    assert all(torch.equal(value, kept[name]) for name, value in states[0].items())


def test_groups_hold_two_channels_at_least() -> None:
    """The narrow layers of the localisation network have fewer than the 32 groups of the source, and all divide."""
    assert [groups_of(channels) for channels in (16, 32, 64, 128, 256, 512)] == [8, 16, 32, 32, 32, 32]
