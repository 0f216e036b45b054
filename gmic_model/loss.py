"""What is minimised: equation 1 of the paper, the journal's extension, and the loss of pre-training on categories.

Everything is computed in fp32 whatever autocast says: a logarithm or a power below 1 of a bf16 probability is noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812  torch's own spelling
from torch import Tensor

from gmic_model.model import GMICOutput
from schemas.config.network import GMICConfig
from schemas.config.training import LossForm
from schemas.errors import TrainingError
from schemas.exam import UNKNOWN

_SALIENCY_FLOOR = 1e-12
"""Smallest saliency whose power has a gradient: below exponent 1 the slope is unbounded at 0 (at 0.2 it is 8e8 here)."""


def gmic_loss(
    output: GMICOutput,
    label_NC: Tensor,
    *,
    saliency_weight: float,
    saliency_exponent: float,
    form: LossForm = LossForm.PAPER,
    positive_weights: Sequence[float] = (),
) -> Tensor:
    """Equation 1: sum over findings of BCE(y_loc) + BCE(y_mil) + lambda L_reg(A), mean over the batch.

    The batch mean divides by the number of images, with or without known labels, so an image's weight in a batch does not
    depend on what is known of the others. L_reg needs no label and always counts.

    Args:
        output: What ``GMIC.forward`` returned.
        label_NC: 1 = present, 0 = absent, 255 or NaN = unknown, any dtype. Unknown labels take no part in any BCE.
        saliency_weight: lambda, weight of the regulariser; the paper searches 10^[-5, -2.8].
        saliency_exponent: beta, L_reg = sum_ij |A_ij|^beta; the paper searches e^[-1.6, 1.6].
        form: PAPER, or JOURNAL to add BCE(y_fusion).
        positive_weights: Of each finding, the weight of a present one against an absent one; empty = 1.

    Returns:
        Scalar, fp32. NaN if a prediction is NaN, so that a diverged network is seen and not hidden.

    Raises:
        TrainingError: label_NC has another shape than the predictions, or JOURNAL was asked of a network without fusion.
    """
    _require_equal_shapes(output, label_NC)
    with torch.autocast(output.y_NC.device.type, enabled=False):
        loss_NC = masked_bce(output.y_loc_NC, label_NC, positive_weights)
        loss_NC = loss_NC + masked_bce(output.y_mil_NC, label_NC, positive_weights)
        loss_NC = loss_NC + saliency_weight * saliency_penalty(output.saliency_NCIJ, exponent=saliency_exponent)
        if form is LossForm.JOURNAL:
            if output.y_fusion_NC is None:
                raise TrainingError(
                    "the journal loss needs the fusion branch",
                    got="fusion: false",
                    remedy="set model.fusion or loss_form: paper",
                )
            loss_NC = loss_NC + masked_bce(output.y_fusion_NC, label_NC, positive_weights)
        return loss_NC.sum(dim=1).mean()


def bce_loss(output: GMICOutput, label_NC: Tensor, *, positive_weights: Sequence[float] = ()) -> Tensor:
    """Sum over findings of BCE(y), mean over the batch: for a network with one prediction. Arguments as in ``gmic_loss``.

    Raises:
        TrainingError: label_NC has another shape than the predictions.
    """
    _require_equal_shapes(output, label_NC)
    with torch.autocast(output.y_NC.device.type, enabled=False):
        return masked_bce(output.y_NC, label_NC, positive_weights).sum(dim=1).mean()


def loss_form(config: GMICConfig, asked: LossForm | None = None) -> LossForm:
    """The form that trains every part of the network: asked for, or JOURNAL where there is a fusion branch."""
    return asked or (LossForm.JOURNAL if config.fusion else LossForm.PAPER)


def smoothed(label_NC: Tensor, smoothing: float) -> Tensor:
    """Labels as they are trained: present is 1 - smoothing / 2, absent smoothing / 2, and what is not known stays 255."""
    if not smoothing:
        return label_NC
    return torch.where(label_NC == UNKNOWN, UNKNOWN, label_NC * (1.0 - smoothing) + smoothing / 2.0)


def masked_bce(y_NC: Tensor, label_NC: Tensor, positive_weights: Sequence[float] = ()) -> Tensor:
    """Binary cross-entropy per image and finding, logarithms kept above -100; 0 where the label is 255 or NaN.

    A label between 0 and 1 is a finding that is there in part: its weight is as much between 1 and the positive weight.
    A NaN prediction gives NaN: ``binary_cross_entropy`` itself would stop a CUDA context with an assertion.
    """
    label_NC = label_NC.to(device=y_NC.device, dtype=torch.float32)
    known_NC = (label_NC != UNKNOWN) & ~label_NC.isnan()
    target_NC = torch.where(known_NC, label_NC, 0.0)
    y_NC = y_NC.float()
    loss_NC = F.binary_cross_entropy(y_NC.nan_to_num(nan=0.5), target_NC, reduction="none")
    loss_NC = torch.where(y_NC.isnan(), y_NC, loss_NC)
    if any(weight != 1.0 for weight in positive_weights):
        loss_NC = loss_NC * (1.0 + target_NC * (target_NC.new_tensor(positive_weights) - 1.0))
    return torch.where(known_NC, loss_NC, 0.0)


def saliency_penalty(saliency_NCIJ: Tensor, *, exponent: float) -> Tensor:
    """L_reg of equation 1 per image and finding: sum over cells of A^beta. Cells below 1e-12 have no gradient."""
    return saliency_NCIJ.float().clamp(min=_SALIENCY_FLOOR).pow(exponent).sum(dim=(2, 3))  # (N, C)


def birads_loss(logit_NG: Tensor, birads_N: Tensor) -> Tensor:
    """Cross-entropy of pre-training on categories, mean over the images with a known category.

    Args:
        logit_NG: What ``BIRADSClassifier.forward`` returned.
        birads_N: The category's group as an integer; 255 = unknown.

    Returns:
        Scalar, fp32; 0 when no category of the batch is known.
    """
    known_N = birads_N != UNKNOWN
    loss_N = F.cross_entropy(logit_NG.float(), torch.where(known_N, birads_N, 0).long(), reduction="none")
    return torch.where(known_N, loss_N, 0.0).sum() / known_N.sum().clamp(min=1)


def _require_equal_shapes(output: GMICOutput, label_NC: Tensor) -> None:
    if label_NC.shape != output.y_NC.shape:
        raise TrainingError(
            "labels and predictions differ in shape", expected=tuple(output.y_NC.shape), got=tuple(label_NC.shape)
        )
