"""What a training of GMIC must know: which weights its loss leaves alone, and how many patches its map holds."""

from __future__ import annotations

import pytest

from gmic_model.networks.gmic import require_patches
from gmic_model.networks.registry import network_loss
from schemas.config.network import GMICConfig
from schemas.config.training import LossForm, TrainConfig
from schemas.errors import ConfigError

SIZE = (192, 128)


def test_a_fusion_branch_that_is_not_trained_is_said() -> None:
    """The paper's loss has no ``y_fusion``: several processes must know that its weights get no gradient."""
    config = GMICConfig.released(image_size=SIZE, patch_size=64, K=4)
    assert network_loss(config, TrainConfig(loss_form=LossForm.PAPER)).has_idle_weights
    assert not network_loss(config, TrainConfig()).has_idle_weights


def test_more_patches_than_the_map_holds_are_refused() -> None:
    """A map of 3 x 2 cells (192 / 64, 128 / 64) under patches of one cell each holds 6, and not a seventh."""
    require_patches(GMICConfig(image_size=SIZE, patch_size=64, K=6))
    with pytest.raises(ConfigError, match=r"at most 6: the saliency map has 3 x 2 cells, a patch 1 x 1"):
        require_patches(GMICConfig(image_size=SIZE, patch_size=64, K=7))
