"""GMIC as a training takes it: the loss that the config asks for, and what a config must fulfil."""

from __future__ import annotations

from functools import partial

from gmic_model.backbones.resnet import grid_cells
from gmic_model.loss import gmic_loss, loss_form
from gmic_model.networks.network import NetworkLoss, positive_weights
from gmic_model.roi import window_cells
from schemas.config.network import GMICConfig
from schemas.config.training import LossForm, TrainConfig
from schemas.errors import ConfigError


def configured_gmic_loss(model: GMICConfig, train: TrainConfig) -> NetworkLoss:
    """Equation 1 with the config's numbers; without ``y_fusion`` in it, a fusion branch is not trained."""
    form = loss_form(model, train.loss_form)
    loss = partial(
        gmic_loss,
        saliency_weight=train.saliency_weight,
        saliency_exponent=train.saliency_exponent,
        form=form,
        positive_weights=positive_weights(train, model.findings),
    )
    return NetworkLoss(loss, has_idle_weights=model.fusion and form is LossForm.PAPER)


def require_patches(model: GMICConfig) -> None:
    """Refuses a form whose saliency map does not hold K patches: the ones left over would all be the upper left corner.

    Raises:
        ConfigError: The image is too small, or patches too large, for K of them.
    """
    grid_size = (grid_cells(model.image_size[0]), grid_cells(model.image_size[1]))
    rows, columns = window_cells(patch_size=model.patch_size, image_size=model.image_size, grid_size=grid_size)
    held = -(-grid_size[0] * grid_size[1] // (rows * columns))  # each window takes at most its own cells from the map
    if held < model.K:
        raise ConfigError(
            "There are fewer patches than K",
            expected=f"model.K of at most {held}: the saliency map has {grid_size[0]} x {grid_size[1]} cells, a patch {rows} x "
            f"{columns}",
            got=model.K,
            remedy="lower model.K or model.patch_size, or use larger images",
        )
