"""Pre-training of the localisation network: on categories (paper section 3.1) or on hidden tissue; how it is begun and read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gmic_model.devices import choose_device
from gmic_model.learning.augmentation import Purpose, generator_of
from gmic_model.learning.exam_loader import Batch
from gmic_model.learning.handling import handling
from gmic_model.learning.learner import Learner, Objective, assembled_learner, scored_batch
from gmic_model.learning.processes import ALONE, Processes
from gmic_model.loss import birads_loss
from gmic_model.networks.birads_classifier import CATEGORIES, BIRADSClassifier
from gmic_model.networks.hidden_tissue import Hidden, HiddenTissue, cells_of, hidden_errors, hide, mean_of_seen
from gmic_model.weights import LOCALIZATION_BACKBONE
from schemas.config.recipe import PartsConfig
from schemas.config.training import Precision, PretrainConfig

PRETRAINING_PLACES: Final = {LOCALIZATION_BACKBONE: "backbone."}
"""``registry.part_places`` of the networks of pre-training."""


def new_pretraining_learner(config: PretrainConfig, *, processes: Processes = ALONE) -> Learner:
    """Fresh weights of the network that learns ``config.target``; a batch's label is the category's group, 255 = not known."""
    device = choose_device(config, rank=processes.rank)
    torch.manual_seed(config.seed)
    network, objective = _to_learn(config)
    handled = handling(network, PRETRAINING_PLACES, PartsConfig(), config)
    return assembled_learner(network, objective, config, processes, device, has_idle_weights=False, handled=handled)


def predict_groups(
    model: nn.Module, batches: Iterable[Batch], *, precision: Precision = "fp32"
) -> Iterator[tuple[Batch, NDArray[np.float64]]]:
    """Probabilities (N, G) of the groups, in evaluation mode, of batches on the network's device."""
    model.eval()
    for batch in batches:
        logit_NG: Tensor = scored_batch(model, batch, precision)
        yield batch, torch.softmax(logit_NG.double(), dim=1).cpu().numpy()


def hidden_batch(batch: Batch, seed: int) -> Hidden:
    """Half of each view's cells hidden, drawn from (seed, epoch, row): whatever batch or process a view comes in."""
    rows, columns = cells_of(batch.image_N1HW)
    is_hidden_NIJ = torch.zeros((len(batch.row_N), rows * columns), dtype=torch.bool)
    for index, row in enumerate(batch.row_N.tolist()):
        drawn = generator_of(seed, batch.epoch, row, Purpose.HIDING).permutation(rows * columns)
        is_hidden_NIJ[index, torch.from_numpy(drawn[: rows * columns // 2])] = True
    return hide(batch.image_N1HW, is_hidden_NIJ.view(-1, rows, columns).to(batch.image_N1HW.device))


def predict_hidden(
    model: nn.Module, batches: Iterable[Batch], *, seed: int, precision: Precision = "fp32"
) -> Iterator[tuple[Batch, NDArray[np.float64]]]:
    """(error, error of who says the mean of what is seen) of each view that has hidden tissue (N, 2), else NaN."""
    model.eval()
    for batch in batches:
        hidden = hidden_batch(batch, seed)
        told_NQIJ = scored_batch(model, batch._replace(image_N1HW=hidden.image_N1HW), precision)
        errors_N2 = torch.stack([hidden_errors(told_NQIJ, hidden), hidden_errors(mean_of_seen(hidden), hidden)], dim=1)
        is_asked_N1 = hidden.is_asked_NIJ.any(dim=2).any(dim=1)[:, None]
        yield batch, torch.where(is_asked_N1, errors_N2.double(), torch.nan).cpu().numpy()


# ---------------------------------------------------------------------------------------------------------------------


def _to_learn(config: PretrainConfig) -> tuple[nn.Module, Objective]:
    categories = CATEGORIES.get(config.target)
    if categories is None:

        def told(network: nn.Module, batch: Batch) -> Tensor:
            hidden = hidden_batch(batch, config.seed)
            return hidden_errors(network(hidden.image_N1HW), hidden).mean()

        return HiddenTissue(checkpoint_activations=config.checkpoint_activations), told

    def named(network: nn.Module, batch: Batch) -> Tensor:
        return birads_loss(network(batch.image_N1HW), batch.label_NC[:, 0])

    return BIRADSClassifier(groups=categories.groups, checkpoint_activations=config.checkpoint_activations), named
