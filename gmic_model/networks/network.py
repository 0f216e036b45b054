"""What the registry knows of a network, and the loss that fits any network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from gmic_model.loss import bce_loss
from gmic_model.model import GMICOutput
from schemas.config.training import TrainConfig

FindingsNetwork = nn.Module
"""A network over images: it keeps its ``config``, and its ``forward`` returns ``GMICOutput``."""


class NetworkLoss(NamedTuple):
    """What a network is trained with.

    Attributes:
        of: From its output and label_NC to the mean loss over the batch's images.
        has_idle_weights: True if some weights have no part in the loss, and so no gradient.
    """

    of: Callable[[GMICOutput, Tensor], Tensor]
    has_idle_weights: bool = False


def positive_weights(train: TrainConfig, findings: int) -> tuple[float, ...]:
    """Weight of each finding where it is present, in the order of the class axis; findings that are not ours have 1."""
    named = (train.labels.benign_weight, train.labels.malignant_weight)
    return (*named, *(1.0,) * findings)[:findings]


def _bce(model: Any, train: Any) -> NetworkLoss:
    return NetworkLoss(partial(bce_loss, positive_weights=positive_weights(train, model.findings)))


def _anything_goes(_model: Any) -> None:
    """Most configs have nothing that their types do not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One network; ``Any`` stands for its own class of config.

    Attributes:
        build: From the config, and ``checkpoint_activations``, to fresh weights; its ``forward`` returns ``GMICOutput``.
        loss: From the config and the training section to what it is trained with; binary cross-entropy of ``y`` if not given.
        backbone: Name of the ResNet-22 in it that BI-RADS pre-training and files hand weights to; None = it has none.
        patches: Name of the ResNet-18 in it that reads patches; None = it has none.
        require: Raises ConfigError for a config that cannot be trained.
    """

    build: Callable[..., nn.Module]
    loss: Callable[[Any, Any], NetworkLoss] = _bce
    backbone: str | None = None
    patches: str | None = None
    require: Callable[[Any], None] = _anything_goes
