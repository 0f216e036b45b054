"""One optimiser step: which exams it takes, part by part, and how it moves the weights (paper section 2.4, equation 1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import repeat
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gmic_model.devices import Device, autocast, computing, enough_memory
from gmic_model.learning.exam_loader import Batch, ExamViews, loaded
from gmic_model.learning.handling import BASE_RATE
from gmic_model.learning.learner import Learner
from gmic_model.learning.processes import ALONE, Processes
from gmic_model.learning.step_plan import PlannedStep
from schemas.config.training import FitConfig
from schemas.errors import TrainingError

_LESS_MEMORY = "lower train.part_images or train.batch_exams, raise train.accumulation, or set train.checkpoint_activations"


class Part(NamedTuple):
    """What one forward pass holds: some exams of one step.

    Attributes:
        batch: Exams of this process.
        share: Weight of the batch's mean loss, such that the mean over processes of the sum over parts is the step's mean.
        step_images: Images of the whole step, all processes together.
        closes_step: True for the last part: after it the weights move.
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


def step_parts(
    views: ExamViews, plan: Sequence[PlannedStep], config: FitConfig, device: Device, *, processes: Processes = ALONE
) -> Iterator[Part]:
    """This process's parts of the planned steps, each exam with all its views."""
    own_parts = [parts for step in plan for parts in step.parts_by_process[processes.rank]]
    batches = loaded(views, own_parts, device, threads=config.loader_workers, ahead=config.prefetch_batches)
    for step in plan:
        images = sum(len(views.rows_of_exam[exam]) for exam in step.exams)
        parts = step.parts_by_process[processes.rank]
        for index in range(len(parts)):
            batch = next(batches)
            yield Part(batch, len(batch.row_N) * processes.size / images, images, index == len(parts) - 1)


def train_steps(
    learner: Learner, parts: Iterable[Part], config: FitConfig, factors: Iterable[float] = repeat(1.0)
) -> Iterator[Step]:
    """Works through the parts, on the learner's device, and moves the weights at the end of each step (paper 2.4, eq. 1).

    The device is waited for once a step, before the weights move: for its losses and the norm of its gradient together.

    Args:
        learner: What is moved.
        parts: The steps' exams.
        config: How they are moved.
        factors: What each step multiplies the learning rates by.

    Raises:
        TrainingError: The loss or a gradient is NaN or infinite; names the store rows of the batch. The weights are those
            before the step; the running statistics of batch normalisation have seen the batch: go on from a checkpoint. Or
            there is no room for a part.
    """
    learner.handling.set_training(learner.network)
    factor_of_step = iter(factors)
    seen = list[_SeenPart]()
    for part in parts:
        rows = part.batch.row_N.tolist()
        with enough_memory(len(rows), _LESS_MEMORY), computing(learner.device, config.precision):
            seen.append(_SeenPart(_part_loss(learner, part, config), part.share, rows))
            if not part.closes_step:
                continue
            loss = _move_weights(learner, config, seen, next(factor_of_step))
        yield Step(loss=loss, images=part.step_images)
        seen = []


# ---------------------------------------------------------------------------------------------------------------------


class _SeenPart(NamedTuple):
    """What is kept of a part until its step ends: its images are not."""

    loss: Tensor
    share: float
    rows: list[int]


def _part_loss(learner: Learner, part: Part, config: FitConfig) -> Tensor:
    """The part's mean loss, left on the device; its gradients are added to those of the parts before it."""
    with _gradients_exchanged(learner.shared, is_wanted=part.closes_step):
        with autocast(learner.device, config.precision):
            loss = learner.objective(learner.shared, part.batch)
        (loss * part.share).backward()  # type: ignore[no-untyped-call]  # torch ships it untyped
    return loss.detach()


def _move_weights(learner: Learner, config: FitConfig, seen: Sequence[_SeenPart], factor: float) -> float:
    """Moves the weights by the parts' gradients; the step's loss."""
    learner.handling.drop_frozen_gradients()
    gradients = [weight.grad for weight in learner.network.parameters() if weight.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    *losses, norm_value = torch.stack([*(part.loss for part in seen), norm]).tolist()  # here a step waits for the device
    for loss, part in zip(losses, seen, strict=True):
        _require_finite("loss", loss, part.rows)
    _require_finite("gradient", norm_value, [row for part in seen for row in part.rows])
    if config.clip_gradient_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(learner.network.parameters(), config.clip_gradient_norm, norm)
    if config.warmup_steps:
        factor *= min(1.0, (learner.steps_done + 1) / config.warmup_steps)
    for group in learner.optimizer.param_groups:
        group["lr"] = group.setdefault(BASE_RATE, group["lr"]) * factor
    learner.optimizer.step()
    learner.optimizer.zero_grad(set_to_none=True)
    learner.steps_done += 1
    if learner.averaged is not None and config.ema_decay is not None:
        _follow(learner.averaged, learner.network, 1.0 - config.ema_decay)
    return float(sum(loss * part.share for loss, part in zip(losses, seen, strict=True)))


@torch.no_grad()
def _follow(averaged: dict[str, Tensor], network: nn.Module, rate: float) -> None:
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            averaged[name].lerp_(value, rate)
        else:
            averaged[name].copy_(value)


@contextmanager
def _gradients_exchanged(shared: nn.Module, *, is_wanted: bool) -> Iterator[None]:
    """Gradients are exchanged in the last part of a step only."""
    with shared.no_sync() if isinstance(shared, DistributedDataParallel) and not is_wanted else nullcontext():
        yield


def _require_finite(what: str, value: float, rows: Sequence[int]) -> None:
    if not np.isfinite(value):
        raise TrainingError(
            f"The {what} is not a finite number",
            got=f"{value} on store rows {list(rows)}",
            remedy="lower train.learning_rate, or look at those images; the last good checkpoint is kept",
        )
