"""The network of pre-training on categories (paper section 3.1): it gives a localisation network its first weights."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from gmic_model.backbones.resnet import IMAGE_FEATURES, ResNet22
from gmic_model.model import initialise_head
from schemas.config.training import PretrainTarget
from schemas.exam import UNKNOWN


class Categories(NamedTuple):
    """What can be learnt from a column of the manifest.

    Attributes:
        column: Its name.
        group_of: What of it is trained as which group, from 0; any other value is not known to pre-training.
    """

    column: str
    group_of: Mapping[Any, int]

    @property
    def groups(self) -> int:
        """How many there are."""
        return len(set(self.group_of.values()))

    def group(self, value: Any) -> int:
        """The group that a value is trained as, 255 = none."""
        return self.group_of.get(value, UNKNOWN)


CATEGORIES: Final[Mapping[PretrainTarget, Categories]] = MappingProxyType(
    {
        # Of a screening exam: incomplete, negative, benign.
        PretrainTarget.BIRADS: Categories("birads", MappingProxyType({0: 0, 1: 1, 2: 2})),
        # Incomplete says nothing of suspicion, and a proven cancer (6) was highly suspicious (5) before.
        PretrainTarget.ASSESSMENT: Categories("birads", MappingProxyType({1: 0, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4})),
        PretrainTarget.DENSITY: Categories("density", MappingProxyType({"a": 0, "b": 1, "c": 2, "d": 3})),
    }
)
"""The targets of pre-training that are categories."""


class BIRADSClassifier(nn.Module):
    """ResNet-22, global average pooling, one of the groups of ``CATEGORIES``. Train it with ``loss.birads_loss``.

    Args:
        groups: How many there are; three of the paper's.
        checkpoint_activations: As in ``GMIC``.
    """

    def __init__(self, *, groups: int = 3, checkpoint_activations: bool = False) -> None:
        super().__init__()
        self.backbone = ResNet22(checkpoint_activations=checkpoint_activations)
        self.classifier = nn.Linear(IMAGE_FEATURES, groups)
        initialise_head(self.classifier)

    def forward(self, image_N1HW: Tensor) -> Tensor:
        """Returns logit_NG; softmax is left to the loss."""
        features_NDIJ: Tensor = self.backbone(image_N1HW)
        with torch.autocast(image_N1HW.device.type, enabled=False):
            logit_NG: Tensor = self.classifier(features_NDIJ.mean(dim=(2, 3)).to(self.classifier.weight.dtype))
            return logit_NG
