"""The network of BI-RADS pre-training (paper section 3.1): it gives a localisation network its first weights."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from gmic_model.backbones.resnet import IMAGE_FEATURES, ResNet22
from gmic_model.model import initialise_head
from schemas.exam import UNKNOWN

BIRADS_GROUPS: Final = (0, 1, 2)
"""BI-RADS categories of a screening exam: incomplete, negative, benign. Others are not known to pre-training."""


class BIRADSClassifier(nn.Module):
    """ResNet-22, global average pooling, one group of ``BIRADS_GROUPS``. Train it with ``loss.birads_loss``.

    Args:
        checkpoint_activations: As in ``GMIC``.
    """

    def __init__(self, *, checkpoint_activations: bool = False) -> None:
        super().__init__()
        self.backbone = ResNet22(checkpoint_activations=checkpoint_activations)
        self.classifier = nn.Linear(IMAGE_FEATURES, len(BIRADS_GROUPS))
        initialise_head(self.classifier)

    def forward(self, image_N1HW: Tensor) -> Tensor:
        """Returns logit_NG, G = 3; softmax is left to the loss."""
        features_NDIJ: Tensor = self.backbone(image_N1HW)
        with torch.autocast(image_N1HW.device.type, enabled=False):
            logit_NG: Tensor = self.classifier(features_NDIJ.mean(dim=(2, 3)).to(self.classifier.weight.dtype))
            return logit_NG


def birads_group(category: int) -> int:
    """The group that a BI-RADS category is trained as: itself if it is one of the three, else 255."""
    return category if category in BIRADS_GROUPS else UNKNOWN
