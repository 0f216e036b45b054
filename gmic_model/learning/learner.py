"""The training step and its mirror, prediction: tensors in, numbers out. Files, clock and progress belong to the tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gmic_model.backbones.resnet import ResNet22
from gmic_model.learning.batches import Batch, ExamViews, loaded
from gmic_model.learning.processes import ALONE, Team, shared_network
from gmic_model.learning.step_plan import PlannedStep
from gmic_model.loss import gmic_loss, loss_form
from gmic_model.model import GMIC, GMICOutput
from gmic_model.roi import window_cells
from schemas.config.network import GMICConfig, GMICVariant
from schemas.config.training import FitConfig, LossForm, TrainConfig
from schemas.errors import ConfigError, TrainingError

Device = torch.device

Objective = Callable[[nn.Module, Batch], Tensor]
"""From the network and a batch on its device to the mean loss over the batch's images."""


@dataclass(slots=True, kw_only=True)
class Learner:
    """A network and what moves it: everything that a checkpoint must bring back, with the random states.

    Attributes:
        network: GMIC, or the network of pre-training.
        shared: The network as its processes train it together; the network itself if there is one process.
        averaged: Running mean of the weights (``ema_decay``), by name; None = off.
        steps_done: Optimiser steps since the start of training.
    """

    network: nn.Module
    shared: nn.Module
    optimizer: torch.optim.Optimizer
    objective: Objective
    device: Device
    averaged: dict[str, Tensor] | None = None
    steps_done: int = 0

    def weights(self) -> dict[str, Tensor]:
        """What is evaluated and kept: the running mean where there is one."""
        return self.network.state_dict() if self.averaged is None else self.averaged


class Part(NamedTuple):
    """What a process does between two meetings.

    Attributes:
        batch: Exams of this process.
        share: Weight of the batch's mean loss, such that the mean over processes of the sum over parts is the step's mean.
        step_images: Images of the whole step, all processes together.
        closes_step: True for the last part: now the weights move.
    """

    batch: Batch
    share: float
    step_images: int
    closes_step: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One optimiser step.

    Attributes:
        loss: Mean over the step's images, times what this process has of them over the mean of the processes: the mean over
            processes is the step's loss.
        images: Views in the step, all processes together.
    """

    loss: float
    images: int


def choose_device(config: FitConfig, *, rank: int = 0) -> Device:
    """The device the config asks for; ``auto`` takes a GPU where there is one. Sets torch's CPU threads too.

    Raises:
        ConfigError: There are fewer GPUs than training processes.
    """
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    kind = config.device if config.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    if kind == "cpu":
        return Device("cpu")
    if config.processes > max(torch.cuda.device_count(), 1):
        raise ConfigError(
            "There are fewer GPUs than training processes",
            expected=f"at least {config.processes} visible GPUs",
            got=torch.cuda.device_count(),
            remedy="lower train.processes, widen CUDA_VISIBLE_DEVICES, or set train.device: cpu",
        )
    return Device("cuda", rank)


def new_learner(model: GMICConfig, config: TrainConfig, *, team: Team = ALONE) -> Learner:
    """Fresh weights from ``config.seed`` and Adam (paper section 3.1) on the configured device."""
    device = choose_device(config, rank=team.rank)
    torch.manual_seed(config.seed)
    form = loss_form(model, config.loss_form)

    def objective(network: nn.Module, batch: Batch) -> Tensor:
        return gmic_loss(
            network(batch.image_N1HW),
            batch.label_NC,
            saliency_weight=config.saliency_weight,
            saliency_exponent=config.saliency_exponent,
            form=form,
        )

    has_idle_weights = model.fusion and form is LossForm.PAPER
    network = GMIC(model, checkpoint_activations=config.checkpoint_activations)
    return assembled_learner(network, objective, config, team, device, has_idle_weights=has_idle_weights)


def require_patches(model: GMICConfig) -> None:
    """Refuses a form whose saliency map does not hold K patches: the ones left over would all be the upper left corner.

    Raises:
        ConfigError: The image is too small, or patches too large, for K of them.
    """
    if model.variant is GMICVariant.RESNET22:
        return
    with torch.device("meta"):
        features_NDIJ = ResNet22().eval()(torch.empty(1, 1, *model.image_size))
    grid_size = (features_NDIJ.shape[2], features_NDIJ.shape[3])
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


def step_parts(
    views: ExamViews, plan: Sequence[PlannedStep], config: FitConfig, device: Device, *, team: Team = ALONE
) -> Iterator[Part]:
    """This process's parts of the planned steps, each exam with all its views."""
    own_parts = [parts for step in plan for parts in step.parts_by_process[team.rank]]
    batches = loaded(views, own_parts, device, threads=config.loader_workers, ahead=config.prefetch_batches)
    for step in plan:
        images = sum(len(views.rows_of_exam[exam]) for exam in step.exams)
        parts = step.parts_by_process[team.rank]
        for index in range(len(parts)):
            batch = next(batches)
            yield Part(batch, len(batch.row_N) * team.size / images, images, index == len(parts) - 1)


def whole_steps(batches: Iterable[Batch]) -> Iterator[Part]:
    """Batches that are a step each."""
    for batch in batches:
        yield Part(batch, 1.0, len(batch.row_N), True)


def train_steps(learner: Learner, parts: Iterable[Part], config: FitConfig) -> Iterator[Step]:
    """Works through the parts, on the learner's device, and moves the weights at the end of each step (paper 2.4, eq. 1).

    Raises:
        TrainingError: The loss or a gradient is NaN or infinite; names the store rows of the batch. The weights are those
            before the step; the running statistics of batch normalisation have seen the batch: go on from a checkpoint.
    """
    learner.network.train()
    step_loss, rows = 0.0, list[int]()
    for part in parts:
        batch = part.batch
        with _meeting(learner.shared, is_wanted=part.closes_step):
            with torch.autocast(learner.device.type, dtype=torch.bfloat16, enabled=config.precision == "bf16"):
                loss = learner.objective(learner.shared, batch)
            loss_value = float(loss.detach())
            _require_finite("loss", loss_value, batch.row_N.tolist())
            (loss * part.share).backward()  # type: ignore[no-untyped-call]  # torch ships it untyped
        step_loss += loss_value * part.share
        rows += batch.row_N.tolist()
        if part.closes_step:
            _move_weights(learner, config, rows)
            yield Step(loss=step_loss, images=part.step_images)
            step_loss, rows = 0.0, []


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


def memory_mib(device: Device) -> float | None:
    """Most GPU memory that tensors have taken, in MiB; None on a CPU. Counts from the last call."""
    if device.type != "cuda":
        return None
    most = torch.cuda.max_memory_allocated(device) / 2**20
    torch.cuda.reset_peak_memory_stats(device)
    return most


def predict_batches(model: nn.Module, batches: Iterable[Batch]) -> Iterator[tuple[Batch, GMICOutput]]:
    """Runs the network in evaluation mode on batches on its device; outputs are on the CPU."""
    model.eval()
    for batch in batches:
        with torch.inference_mode():
            output = model(batch.image_N1HW)
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


def assembled_learner(
    network: nn.Module, objective: Objective, config: FitConfig, team: Team, device: Device, *, has_idle_weights: bool
) -> Learner:
    """A network with its optimiser, on its device, shared by the team; ``has_idle_weights`` as in ``shared_network``."""
    network = network.to(device)
    if config.compile:
        network.compile()
    shared = network
    if team.size > 1:
        shared = shared_network(network, device, sync_batch_norm=config.sync_batch_norm, has_idle_weights=has_idle_weights)
    return Learner(
        network=network,
        shared=shared,
        optimizer=torch.optim.Adam(network.parameters(), lr=config.learning_rate, fused=True),
        objective=objective,
        device=device,
        averaged=None if config.ema_decay is None else copied(network.state_dict()),
    )


def _move_weights(learner: Learner, config: FitConfig, rows: list[int]) -> None:
    gradients = [weight.grad for weight in learner.network.parameters() if weight.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    _require_finite("gradient", float(norm), rows)
    if config.clip_gradient_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(learner.network.parameters(), config.clip_gradient_norm, norm)
    if config.warmup_steps:
        for group in learner.optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1.0, (learner.steps_done + 1) / config.warmup_steps)
    learner.optimizer.step()
    learner.optimizer.zero_grad(set_to_none=True)
    learner.steps_done += 1
    if learner.averaged is not None and config.ema_decay is not None:
        _follow(learner.averaged, learner.network, 1.0 - config.ema_decay)


@torch.no_grad()
def _follow(averaged: dict[str, Tensor], network: nn.Module, rate: float) -> None:
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            averaged[name].lerp_(value, rate)
        else:
            averaged[name].copy_(value)


@contextmanager
def _meeting(shared: nn.Module, *, is_wanted: bool) -> Iterator[None]:
    """Gradients are exchanged in the last part of a step only."""
    with shared.no_sync() if isinstance(shared, DistributedDataParallel) and not is_wanted else nullcontext():
        yield


def copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights that do not follow the network's."""
    return {name: value.detach().clone() for name, value in state.items()}


def _require_finite(what: str, value: float, rows: Sequence[int]) -> None:
    if not np.isfinite(value):
        raise TrainingError(
            f"The {what} is not a finite number",
            got=f"{value} on store rows {list(rows)}",
            remedy="lower train.learning_rate, or look at those images; the last good checkpoint is kept",
        )


def _on_cpu(value: Tensor) -> Tensor:
    return value.float().cpu()
