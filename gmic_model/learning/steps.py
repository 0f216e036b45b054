"""One optimiser step: which exams it takes, part by part, and how it moves the weights (paper section 2.4, equation 1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
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


class _SeenPart(NamedTuple):
    """What is kept of a part until its step is looked at: its images are not."""

    loss: Tensor
    share: float
    rows: list[int]


class Step:
    """One optimiser step, which a GPU may still be at.

    Args:
        images: Views in the step, all processes together.
        seen: Its parts.
        numbers: The parts' losses and the norm of the gradient, on the device.
    """

    def __init__(self, images: int, seen: Sequence[_SeenPart], numbers: Tensor) -> None:
        self.images = images
        self._parts = [(part.share, part.rows) for part in seen]
        self._numbers, self._arrived = numbers, None
        if numbers.is_cuda:
            self._numbers = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            self._numbers.copy_(numbers, non_blocking=True)
            self._arrived = torch.cuda.current_stream(numbers.device).record_event()

    @cached_property
    def loss(self) -> float:
        """Mean over the step's images, times what this process has of them over the mean of the processes.

        The mean over processes is the step's loss. Waits until the device has come so far.

        Raises:
            TrainingError: The loss or the gradient is NaN or infinite.
        """
        if self._arrived is not None:
            self._arrived.synchronize()
        *losses, norm = self._numbers.tolist()
        for loss, (_, rows) in zip(losses, self._parts, strict=True):
            _require_finite("loss", loss, rows)
        _require_finite("gradient", norm, [row for _, rows in self._parts for row in rows])
        return float(sum(loss * share for loss, (share, _) in zip(losses, self._parts, strict=True)))

    def settled(self) -> Step:
        """This step, once the device is done with it and its numbers are finite; raises as ``loss`` does."""
        _ = self.loss
        return self


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

    A GPU is waited for once a step and late by one: while the host looks at the losses and the gradient of a step, the next one
    is under way. Where one of them is not finite, neither that step nor a later one moves a weight.

    Args:
        learner: What is moved; its optimiser is a fused one, which a device tells not to move.
        parts: The steps' exams.
        config: How they are moved.
        factors: What each step multiplies the learning rates by.

    Raises:
        TrainingError: The loss or a gradient of the step before is NaN or infinite; names the store rows of its batch. The
            weights are those before that step; the running statistics of batch normalisation have seen the batch: go on from a
            checkpoint. Or there is no room for a part.
    """
    learner.handling.set_training(learner.network)
    factor_of_step = iter(factors)
    seen, steps = list[_SeenPart](), list[Step]()
    is_broken = torch.zeros((), device=learner.device)
    for part in parts:
        rows = part.batch.row_N.tolist()
        with enough_memory(len(rows), _LESS_MEMORY), computing(learner.device, config.precision):
            seen.append(_SeenPart(_part_loss(learner, part, config), part.share, rows))
            if not part.closes_step:
                continue
            steps.append(Step(part.step_images, seen, _move_weights(learner, config, seen, next(factor_of_step), is_broken)))
        if len(steps) > 1:
            steps.pop(0).settled()
        yield steps[-1]
        seen = []
    for last in steps:
        last.settled()


# ---------------------------------------------------------------------------------------------------------------------


def _part_loss(learner: Learner, part: Part, config: FitConfig) -> Tensor:
    """The part's mean loss, left on the device; its gradients are added to those of the parts before it."""
    with _gradients_exchanged(learner.shared, is_wanted=part.closes_step):
        with autocast(learner.device, config.precision):
            loss = learner.objective(learner.shared, part.batch)
        (loss * part.share).backward()  # type: ignore[no-untyped-call]  # torch ships it untyped
    return loss.detach()


def _move_weights(learner: Learner, config: FitConfig, seen: Sequence[_SeenPart], factor: float, is_broken: Tensor) -> Tensor:
    """Moves the weights by the parts' gradients, if none so far is broken; the parts' losses and the gradient's norm."""
    learner.handling.drop_frozen_gradients()
    gradients = [weight.grad for weight in learner.network.parameters() if weight.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    numbers = torch.stack([*(part.loss for part in seen), norm])
    is_broken.copy_(torch.maximum(is_broken, numbers.isfinite().all().logical_not()))
    if config.clip_gradient_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(learner.network.parameters(), config.clip_gradient_norm, norm)
    if config.warmup_steps:
        factor *= min(1.0, (learner.steps_done + 1) / config.warmup_steps)
    for group in learner.optimizer.param_groups:
        group["lr"] = group.setdefault(BASE_RATE, group["lr"]) * factor
    learner.optimizer.found_inf = is_broken  # type: ignore[attr-defined]  # as torch's GradScaler tells it, on the device
    learner.optimizer.step()
    learner.optimizer.zero_grad(set_to_none=True)
    learner.steps_done += 1
    if learner.averaged is not None and config.ema_decay is not None:
        _follow(learner.averaged, learner.network, 1.0 - config.ema_decay)
    return numbers


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
