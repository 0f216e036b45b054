"""The training loop and its mirror, prediction: tensors in, numbers out. Files, clock and progress belong to the task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gmic_model.dataset import Batch
from gmic_model.loss import gmic_loss, loss_form
from gmic_model.metrics import auroc, breast_scores
from gmic_model.model import GMIC, GMICOutput
from schemas.config import TrainConfig
from schemas.errors import TrainingError


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One optimiser step.

    Attributes:
        loss: Batch loss, eq. 1.
        images: Views in the batch.
    """

    loss: float
    images: int


def train_steps(
    model: GMIC, optimizer: torch.optim.Optimizer, batches: Iterable[Batch], config: TrainConfig, device: torch.device
) -> Iterator[Step]:
    """Runs one epoch, a step at a time (paper section 2.4, eq. 1).

    Raises:
        TrainingError: The loss is NaN or infinite; names the store rows of the batch. The weights are those before the step.
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
        if not np.isfinite(loss_value):
            raise TrainingError(
                "The loss is not a finite number",
                got=f"{loss_value} on store rows {batch.row_N.tolist()}",
                remedy="lower train.learning_rate, or look at those images; the last good checkpoint is kept",
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch ships it untyped
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


def _on_cpu(value: Tensor) -> Tensor:
    return value.float().cpu()
