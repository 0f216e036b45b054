"""The baseline of Table 1: one prediction, which is the mean of its map."""

from __future__ import annotations

import pytest
import torch

from gmic_model.networks.registry import build_network, network_loss
from schemas.config.network import ResNet22Config
from schemas.config.training import TrainConfig

SIZE = (192, 128)
CONFIG = ResNet22Config(kind="resnet-22", image_size=SIZE)


def test_the_baseline_averages_its_activation_map() -> None:
    """ResNet-22: the mean of the map's logits is the prediction's logit, and its loss is one BCE."""
    torch.manual_seed(0)
    network = build_network(CONFIG).eval()
    with torch.no_grad():
        output = network(torch.randn(2, 1, *SIZE))
        loss = network_loss(CONFIG, TrainConfig()).of(output, torch.ones(2, 2))
    torch.testing.assert_close(torch.logit(output.saliency_NCIJ).mean((2, 3)), torch.logit(output.y_NC))
    assert loss.item() == pytest.approx(-output.y_NC.log().sum(1).mean().item(), rel=1e-5)
