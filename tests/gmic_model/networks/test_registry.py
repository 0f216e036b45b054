"""Networks by their configs: what each gives, what it is trained with, and those of before there were kinds."""

from __future__ import annotations

import pytest
import torch

from gmic_model.model import GMIC
from gmic_model.networks.birads_classifier import BIRADSClassifier
from gmic_model.networks.registry import NETWORKS, build_network, config_of, give_backbone, network_loss
from schemas.config.network import GMICConfig, NetworkConfig, ResNet22Config
from schemas.config.training import TrainConfig
from schemas.errors import ConfigError

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


@pytest.mark.parametrize("config", CONFIGS[:2], ids=lambda config: config.title)
def test_birads_weights_are_handed_over(config: NetworkConfig) -> None:
    """Three logits; afterwards the network's backbone is the pre-trained one, and its head is its own."""
    torch.manual_seed(1)
    pretrained, network = BIRADSClassifier().eval(), build_network(config).eval()
    backbone = network.get_submodule("localization.backbone")
    head = network.state_dict()["localization.saliency.weight"].clone()
    image = torch.randn(1, 1, *SIZE)
    with torch.no_grad():
        assert pretrained(image).shape == (1, 3)
        assert not torch.equal(backbone(image), pretrained.backbone(image))
        give_backbone(network, config, pretrained.backbone.state_dict())
        torch.testing.assert_close(backbone(image), pretrained.backbone(image), rtol=1e-4, atol=1e-4)
    assert torch.equal(network.state_dict()["localization.saliency.weight"], head)


def test_a_network_without_a_backbone_takes_no_pretraining(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused by name, instead of training without what the config asked for."""
    without = {**NETWORKS, ResNet22Config: NETWORKS[ResNet22Config].__class__(build=GMIC)}
    monkeypatch.setattr("gmic_model.networks.registry.NETWORKS", without)
    with pytest.raises(ConfigError, match="no part that BI-RADS pre-training"):
        give_backbone(torch.nn.Identity(), CONFIGS[1], {})
