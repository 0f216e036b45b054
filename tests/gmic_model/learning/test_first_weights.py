"""First weights from files: a part is taken whole or not at all, and what was taken, left and stayed fresh is told."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gmic_model.learning.first_weights import fresh_names, take_weights
from gmic_model.learning.learner import Learner, new_learner
from gmic_model.learning.pretraining import PRETRAINING_PLACES, new_pretraining_learner
from gmic_model.model import GMIC
from gmic_model.networks.birads_classifier import BIRADSClassifier
from gmic_model.networks.registry import part_places
from gmic_model.weights import our_weights
from schemas.config.network import GMICConfig, NetworkConfig, ResNet22Config
from schemas.config.recipe import StartPart
from schemas.config.training import PretrainConfig, TrainConfig
from schemas.errors import CheckpointError

SIZE = (192, 128)
PAPER = GMICConfig(image_size=SIZE, patch_size=64, K=4, top_t=0.2, local_dim=8, attention_dim=8)
BASELINE = ResNet22Config(kind="resnet-22", image_size=SIZE)
CONFIG = TrainConfig(device="cpu", ema_decay=0.9, seed=7)


def state_of(network: nn.Module) -> dict[str, torch.Tensor]:
    """Copies that do not follow it."""
    return {name: value.clone() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("config", [PAPER, BASELINE], ids=lambda config: config.title)
def test_pretraining_s_backbone_is_handed_over(config: NetworkConfig) -> None:
    """The network's backbone is the pre-trained one, in the running mean too; its head is its own, the classifier is left."""
    torch.manual_seed(1)
    pretrained = BIRADSClassifier().eval()
    learner = new_learner(config, CONFIG)
    before = state_of(learner.network)
    taken = take_weights(learner, StartPart.LOCALIZATION, our_weights(pretrained.state_dict()).weights, part_places(config))
    backbone = learner.network.eval().get_submodule("localization.backbone")
    image = torch.randn(1, 1, *SIZE)
    with torch.no_grad():
        assert pretrained(image).shape == (1, 3)
        torch.testing.assert_close(backbone(image), pretrained.backbone(image), rtol=1e-4, atol=1e-4)
    assert learner.averaged is not None
    for name, value in learner.network.state_dict().items():
        assert torch.equal(value, learner.averaged[name])
        assert torch.equal(value, before[name]) or name in taken.taken
    assert len(taken.taken) == len(pretrained.backbone.state_dict()) and taken.left == ()
    assert {*fresh_names(learner, [taken])} == before.keys() - {*taken.taken}


def test_a_backbone_of_ours_begins_pretraining() -> None:
    """Of a whole network the backbone alone has a place there."""
    learner = new_pretraining_learner(PretrainConfig(device="cpu"))
    network = GMIC(PAPER)
    taken = take_weights(learner, StartPart.LOCALIZATION, network.state_dict(), PRETRAINING_PLACES)
    for name, value in network.localization.backbone.state_dict().items():
        assert torch.equal(learner.network.state_dict()[f"backbone.{name}"], value)
    assert fresh_names(learner, [taken]) == ("classifier.bias", "classifier.weight")


def test_of_a_whole_network_modules_that_one_has_alone_are_left_or_stay_fresh() -> None:
    """A released form without its projection, and with a fusion branch: the first is fresh, the second left. Parts follow."""
    released = GMIC(PAPER.model_copy(update={"local_dim": None, "fusion": True, "attention_dim": 8}))
    weights = {
        name: value for name, value in released.state_dict().items() if not name.startswith(("mil.attention", "mil.clas"))
    }
    learner = new_learner(PAPER, CONFIG)
    whole = take_weights(learner, StartPart.NETWORK, weights, part_places(PAPER))
    assert whole.left == ("fusion.classifier.bias", "fusion.classifier.weight")
    own = GMIC(PAPER).state_dict()
    patches = take_weights(learner, StartPart.PATCHES, own, part_places(PAPER))
    assert {name.rpartition(".")[0] for name in fresh_names(learner, [whole, patches])} == {
        "mil.project", "mil.attention.content", "mil.attention.gate", "mil.attention.score", "mil.classifier"
    }  # fmt: skip
    after = learner.network.state_dict()
    assert torch.equal(after["mil.patch_network.stem.weight"], own["mil.patch_network.stem.weight"])
    assert torch.equal(after["localization.saliency.weight"], weights["localization.saliency.weight"])


def refused(learner: Learner, part: StartPart, weights: dict[str, torch.Tensor], config: NetworkConfig, said: str) -> None:
    """It is refused with this, and the network is as it was."""
    before = state_of(learner.network)
    with pytest.raises(CheckpointError, match=said):
        take_weights(learner, part, weights, part_places(config))
    for name, value in learner.network.state_dict().items():
        assert torch.equal(value, before[name])


def test_what_does_not_fit_is_refused_and_nothing_is_taken() -> None:
    """Another shape, a module that lacks a tensor, a part that the file or the network does not have."""
    learner, own = new_learner(PAPER, CONFIG), GMIC(PAPER).state_dict()
    wider = GMIC(PAPER.model_copy(update={"attention_dim": 16})).state_dict()
    refused(learner, StartPart.NETWORK, wider, PAPER, r"3 tensors are of another shape.*mil.attention.content.weight \(16, 8\)")
    lacking = {name: value for name, value in own.items() if name != "mil.patch_network.stem.weight"}
    for part in (StartPart.NETWORK, StartPart.PATCHES):
        refused(learner, part, lacking, PAPER, r"1 tensors are missing.*mil.patch_network.stem.weight")
    pretrained = our_weights(BIRADSClassifier().state_dict()).weights
    refused(learner, StartPart.PATCHES, pretrained, PAPER, "begin nothing of the patches")
    refused(new_learner(BASELINE, CONFIG), StartPart.PATCHES, own, BASELINE, "begin nothing of the patches")
