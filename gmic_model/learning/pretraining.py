"""BI-RADS pre-training of the localisation network (paper section 3.1): how it is begun and read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gmic_model.devices import choose_device
from gmic_model.learning.exam_loader import Batch
from gmic_model.learning.handling import handling
from gmic_model.learning.learner import Learner, assembled_learner, scored_batch
from gmic_model.learning.processes import ALONE, Processes
from gmic_model.loss import birads_loss
from gmic_model.networks.birads_classifier import BIRADSClassifier
from gmic_model.weights import LOCALIZATION_BACKBONE
from schemas.config.recipe import PartsConfig
from schemas.config.training import Precision, PretrainConfig

PRETRAINING_PLACES: Final = {LOCALIZATION_BACKBONE: "backbone."}
"""``registry.part_places`` of the network of pre-training."""


def new_pretraining_learner(config: PretrainConfig, *, processes: Processes = ALONE) -> Learner:
    """Fresh weights of the BI-RADS network; a batch's label is the category group, 255 = not known."""
    device = choose_device(config, rank=processes.rank)
    torch.manual_seed(config.seed)

    def objective(network: nn.Module, batch: Batch) -> Tensor:
        return birads_loss(network(batch.image_N1HW), batch.label_NC[:, 0])

    network = BIRADSClassifier(checkpoint_activations=config.checkpoint_activations)
    handled = handling(network, PRETRAINING_PLACES, PartsConfig(), config)
    return assembled_learner(network, objective, config, processes, device, has_idle_weights=False, handled=handled)


def predict_groups(
    model: nn.Module, batches: Iterable[Batch], *, precision: Precision = "fp32"
) -> Iterator[tuple[Batch, NDArray[np.float64]]]:
    """Probabilities (N, 3) of the BI-RADS groups, in evaluation mode, of batches on the network's device."""
    model.eval()
    for batch in batches:
        logit_NG: Tensor = scored_batch(model, batch, precision)
        yield batch, torch.softmax(logit_NG.double(), dim=1).cpu().numpy()
