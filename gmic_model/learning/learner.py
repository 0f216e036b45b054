"""A network and what moves it: how it begins, what a checkpoint must bring back, and its predictions.

The step itself is ``steps.py``. Files, clock and progress belong to ``tasks/adapters/training``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gmic_model.backbones.memory_layout import placed
from gmic_model.devices import Device, autocast, choose_device, computing, enough_memory
from gmic_model.learning.exam_loader import Batch
from gmic_model.learning.handling import Handling, handling, made_optimizer, remeasure_statistics
from gmic_model.learning.processes import ALONE, Processes, shared_network
from gmic_model.loss import smoothed
from gmic_model.model import GMICOutput
from gmic_model.networks.registry import build_network, network_loss, part_places
from schemas.config.network import NetworkConfig
from schemas.config.training import FitConfig, Precision, TrainConfig

Objective = Callable[[nn.Module, Batch], Tensor]
"""From the network and a batch on its device to the mean loss over the batch's images."""


@dataclass(slots=True, kw_only=True)
class Learner:
    """A network and what moves it: everything that a checkpoint must bring back, with the random states.

    Attributes:
        network: The config's network, or that of pre-training.
        shared: The network as its processes train it together; the network itself if there is one process.
        averaged: Running mean of the weights (``ema_decay``), by name; None = off.
        steps_done: Optimiser steps since the start of training.
        handling: Which parts stand still, and how they are normalised.
    """

    network: nn.Module
    shared: nn.Module
    optimizer: torch.optim.Optimizer
    objective: Objective
    device: Device
    averaged: dict[str, Tensor] | None = None
    steps_done: int = 0
    handling: Handling = field(default_factory=Handling)

    def weights(self) -> dict[str, Tensor]:
        """What is evaluated and kept: the running mean where there is one."""
        return self.network.state_dict() if self.averaged is None else self.averaged


def new_learner(model: NetworkConfig, config: TrainConfig, *, processes: Processes = ALONE) -> Learner:
    """Fresh weights from ``config.seed`` and Adam (paper section 3.1) on the configured device."""
    device = choose_device(config, rank=processes.rank)
    torch.manual_seed(config.seed)
    loss = network_loss(model, config)

    def objective(network: nn.Module, batch: Batch) -> Tensor:
        return loss.of(network(batch.image_N1HW), smoothed(batch.label_NC, config.labels.smoothing))

    network = build_network(model, checkpoint_activations=config.checkpoint_activations)
    handled = handling(network, part_places(model), config.parts, config)
    return assembled_learner(
        network, objective, config, processes, device, has_idle_weights=loss.has_idle_weights, handled=handled
    )


def random_state(device: Device) -> dict[str, Tensor]:
    """The states of the global generators, as a checkpoint keeps them."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def seed_prediction(seed: int) -> None:
    """Fixes the global CPU generator: from here on the random rows of Table 1 draw the same patches for the same images."""
    torch.manual_seed(seed)


def set_random_state(states: dict[str, Tensor], device: Device) -> None:
    """Puts kept states back."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


@contextmanager
def averaged_weights(learner: Learner) -> Iterator[None]:
    """Inside, the network has the running mean of its weights, if one is kept."""
    if learner.averaged is None:
        yield
        return
    trained = copied(learner.network.state_dict())
    learner.network.load_state_dict(learner.averaged)
    try:
        yield
    finally:
        learner.network.load_state_dict(trained)


def remeasure(learner: Learner, batches: Iterable[Batch]) -> None:
    """Measures the running statistics of batch normalisation anew, for the weights that are evaluated and kept.

    A part that keeps its statistics in the present epoch keeps them here too.
    """
    with averaged_weights(learner):
        kept = learner.handling.kept_layers(learner.network)
        remeasure_statistics(learner.network, (batch.image_N1HW for batch in batches), kept)
        if learner.averaged is not None:
            learner.averaged |= copied(dict(learner.network.named_buffers()))


def memory_mib(device: Device) -> float | None:
    """Most GPU memory that tensors have taken, in MiB; None on a CPU. Counts from the last call."""
    if device.type != "cuda":
        return None
    most = torch.cuda.max_memory_allocated(device) / 2**20
    torch.cuda.reset_peak_memory_stats(device)
    return most


def predict_batches(
    model: nn.Module, batches: Iterable[Batch], *, precision: Precision = "fp32"
) -> Iterator[tuple[Batch, GMICOutput]]:
    """Runs the network in evaluation mode on batches on its device; outputs are on the CPU.

    Raises:
        TrainingError: There is no room for a batch.
    """
    model.eval()
    for batch in batches:
        output = scored_batch(model, batch, precision)
        yield (
            batch,
            GMICOutput(
                y_mil_NC=_on_cpu(output.y_mil_NC),
                y_loc_NC=_on_cpu(output.y_loc_NC),
                y_NC=_on_cpu(output.y_NC),
                y_fusion_NC=None if output.y_fusion_NC is None else _on_cpu(output.y_fusion_NC),
                saliency_NCIJ=_on_cpu(output.saliency_NCIJ),
                corner_NK2=output.corner_NK2.cpu(),
                attention_NK=_on_cpu(output.attention_NK),
            ),
        )


def scored_batch(model: nn.Module, batch: Batch, precision: Precision) -> Any:
    """What a network in evaluation mode says of a batch, on its device.

    Raises:
        TrainingError: There is no room for it.
    """
    device = batch.image_N1HW.device
    with (
        enough_memory(len(batch.row_N), "lower evaluate.batch_images"),
        torch.inference_mode(),
        computing(device, precision),
        autocast(device, precision),
    ):
        return model(batch.image_N1HW)


def assembled_learner(
    network: nn.Module,
    objective: Objective,
    config: FitConfig,
    processes: Processes,
    device: Device,
    *,
    has_idle_weights: bool,
    handled: Handling,
) -> Learner:
    """A network with its optimiser, on its device, shared by the processes; ``has_idle_weights`` as in ``shared_network``."""
    network = placed(network, device)
    if config.compile:
        network.compile()
    shared = network
    if processes.size > 1:
        shared = shared_network(network, device, sync_batch_norm=config.sync_batch_norm, has_idle_weights=has_idle_weights)
    return Learner(
        network=network,
        shared=shared,
        optimizer=made_optimizer(network, handled.parts, config),
        objective=objective,
        device=device,
        averaged=None if config.ema_decay is None else copied(network.state_dict()),
        handling=handled,
    )


def copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights that do not follow the network's."""
    return {name: value.detach().clone() for name, value in state.items()}


def _on_cpu(value: Tensor) -> Tensor:
    return (value if value.dtype == torch.float64 else value.float()).cpu()  # an ensemble's mean is double
