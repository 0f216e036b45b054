"""Networks by their configs: what each gives, what it is trained with, and those of before there were kinds."""

from __future__ import annotations

import pytest
import torch

from gmic_model.networks.registry import NETWORKS, build_network, config_of, network_loss, part_places, unfilled_network
from schemas.config.network import GMICConfig, NetworkConfig, ResNet22Config
from schemas.config.training import TrainConfig

SIZE = (192, 128)
CONFIGS: list[NetworkConfig] = [
    GMICConfig(image_size=SIZE, patch_size=64, K=4, top_t=0.2),
    ResNet22Config(kind="resnet-22", image_size=SIZE),
    ResNet22Config(kind="resnet-22", image_size=SIZE, findings=3),
]


def test_every_kind_of_config_is_in_the_registry() -> None:
    """A config that is accepted and cannot be built would fail after the ingest, hours later."""
    kinds = {type(config) for config in CONFIGS}
    assert set(NETWORKS) == kinds


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.title)
def test_parts_that_files_may_begin_are_where_the_registry_says(config: NetworkConfig) -> None:
    """Each place is a module of the network: another name would begin nothing."""
    network = build_network(config)
    assert all(list(network.get_submodule(place.removesuffix(".")).parameters()) for place in part_places(config).values())
    assert [len(part_places(known)) for known in CONFIGS[:2]] == [2, 1]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.title}-{config.findings}")
def test_a_network_predicts_and_its_loss_trains_all_of_it(config: NetworkConfig) -> None:
    """Shapes by the contract of ``GMICOutput``; every parameter has a gradient."""
    torch.manual_seed(0)
    network = build_network(config).train()
    assert config_of(network) == config
    output = network(torch.randn(2, 1, *SIZE))
    patches = 4 if isinstance(config, GMICConfig) else 0
    assert output.y_NC.shape == output.y_loc_NC.shape == output.y_mil_NC.shape == (2, config.findings)
    assert output.corner_NK2.shape == (2, patches, 2) and output.attention_NK.shape == (2, patches)
    loss = network_loss(config, TrainConfig())
    loss.of(output, torch.ones(2, config.findings)).backward()  # type: ignore[no-untyped-call]
    assert not loss.has_idle_weights and all(weight.grad is not None for weight in network.parameters())


@pytest.mark.parametrize("normalization", ["batch", "group"])
@pytest.mark.parametrize("config", CONFIGS[:2], ids=lambda config: config.title)
def test_a_network_that_is_filled_from_a_file_is_the_one_that_was_saved(config: NetworkConfig, normalization: str) -> None:
    """The same output to the bit, and every parameter can be trained; no random number is drawn for what is written over."""
    config = config.model_copy(update={"normalization": normalization})
    saved, before = build_network(config).eval(), torch.random.get_rng_state()
    filled = unfilled_network(config).eval()
    assert torch.equal(torch.random.get_rng_state(), before)
    filled.load_state_dict(saved.state_dict())
    image = torch.randn(1, 1, *SIZE)
    with torch.inference_mode():
        assert torch.equal(filled(image).y_NC, saved(image).y_NC)
    assert all(weight.requires_grad for weight in filled.parameters())
