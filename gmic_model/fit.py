"""The training loop and its mirror, prediction: tensors in, numbers out. Files, clock and progress belong to the task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from gmic_model.dataset import Batch, ExamViews, join_exams
from gmic_model.loss import gmic_loss, loss_form
from gmic_model.metrics import auroc, breast_scores
from gmic_model.model import GMIC, GMICOutput
from schemas.config import GMICConfig, TrainConfig
from schemas.errors import TrainingError

Device = torch.device


@dataclass(frozen=True, slots=True, kw_only=True)
class Learner:
    """A network and what moves it: everything that a checkpoint must bring back, with the global random state."""

    network: GMIC
    optimizer: torch.optim.Optimizer
    device: Device


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One optimiser step.

    Attributes:
        loss: Batch loss, eq. 1.
        images: Views in the batch.
    """

    loss: float
    images: int


def choose_device(config: TrainConfig) -> Device:
    """The device the config asks for; ``auto`` takes a GPU where there is one. Sets torch's CPU threads too."""
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    if config.device == "auto":
        return Device("cuda" if torch.cuda.is_available() else "cpu")
    return Device(config.device)


def new_learner(model: GMICConfig, config: TrainConfig) -> Learner:
    """Fresh weights from ``config.seed`` and Adam (paper section 3.1) on the configured device."""
    device = choose_device(config)
    torch.manual_seed(config.seed)
    network = GMIC(model).to(device)
    return Learner(
        network=network, optimizer=torch.optim.Adam(network.parameters(), lr=config.learning_rate, fused=True), device=device
    )


def random_state() -> Tensor:
    """The global CPU generator's state, as a checkpoint keeps it."""
    return torch.get_rng_state()


def set_random_state(state: Tensor) -> None:
    """Puts a kept state back."""
    torch.set_rng_state(state)


def exam_batches(views: ExamViews, sampler: Sampler[int], config: TrainConfig) -> Iterator[Batch]:
    """The sampler's exams, ``batch_exams`` at a time, each with all its views."""
    yield from DataLoader(
        views,
        batch_size=config.batch_exams,
        sampler=sampler,
        collate_fn=join_exams,
        num_workers=config.loader_workers,
        # Prefect and zarr have threads: a forked loader could wait for ever for a lock that one of them held.
        multiprocessing_context="forkserver" if config.loader_workers else None,
    )


def view_batches(views: ExamViews, size: int) -> Iterator[Batch]:
    """Every item once, in order, ``size`` at a time; touches no random state."""
    for start in range(0, len(views), size):
        items: Sequence[Batch] = [views[index] for index in range(start, min(start + size, len(views)))]
        yield join_exams(items)


def train_steps(
    model: GMIC, optimizer: torch.optim.Optimizer, batches: Iterable[Batch], config: TrainConfig, device: torch.device
) -> Iterator[Step]:
    """Runs one epoch, a step at a time (paper section 2.4, eq. 1).

    Raises:
        TrainingError: The loss or a gradient is NaN or infinite; names the store rows of the batch. The weights are those
            before the step; the running statistics of batch normalisation have seen the batch: go on from a checkpoint.
    """
    model.train()
    for batch in batches:
        output = model(batch.image_N1HW.to(device, non_blocking=True))
        loss = gmic_loss(
            output,
            batch.label_NC.to(device, non_blocking=True),
            saliency_weight=config.saliency_weight,
            saliency_exponent=config.saliency_exponent,
            form=loss_form(model.config, config.loss_form),
        )
        loss_value = float(loss.detach())
        _require_finite("loss", loss_value, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch ships it untyped
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        _require_finite("gradient", float(torch.nn.utils.get_total_norm(gradients)), batch)
        optimizer.step()
        yield Step(loss=loss_value, images=len(batch.row_N))


def predict_batches(model: GMIC, batches: Iterable[Batch], device: torch.device) -> Iterator[tuple[Batch, GMICOutput]]:
    """Runs the network in evaluation mode; outputs are on the CPU."""
    model.eval()
    for batch in batches:
        with torch.inference_mode():
            output = model(batch.image_N1HW.to(device, non_blocking=True))
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


def breast_auroc(
    score_NC: NDArray[np.float64], label_NC: NDArray[np.int64], exam_id_N: NDArray[np.str_], laterality_N: NDArray[np.str_]
) -> list[float | None]:
    """Breast-level AUROC per finding: breast score = mean of its views (paper section 3.1); None = one class only."""
    breasts = breast_scores(score_NC, exam_id_N, laterality_N)
    label_BC = label_NC[breasts.first_image_B]  # views of a breast share its label
    return [auroc(breasts.score_BC[:, finding], label_BC[:, finding]) for finding in range(score_NC.shape[1])]


def _require_finite(what: str, value: float, batch: Batch) -> None:
    if not np.isfinite(value):
        raise TrainingError(
            f"The {what} is not a finite number",
            got=f"{value} on store rows {batch.row_N.tolist()}",
            remedy="lower train.learning_rate, or look at those images; the last good checkpoint is kept",
        )


def _on_cpu(value: Tensor) -> Tensor:
    return value.float().cpu()
