"""The baseline of Table 1: the ResNet-22 with global average pooling, without patches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gmic_model.model import GMICOutput, LocalizationModule, gray_image
from schemas.config.network import ResNet22Config


class ResNet22Classifier(nn.Module):
    """GMIC's localisation network alone; the mean of its map's logits is the prediction's logit.

    Args:
        config: Form of the network.
        checkpoint_activations: As in ``GMIC``.
    """

    def __init__(self, config: ResNet22Config, *, checkpoint_activations: bool = False) -> None:
        super().__init__()
        self.config = config
        self.localization = LocalizationModule(
            findings=config.findings,
            channels_last=config.channels_last,
            bias=True,
            checkpoint_activations=checkpoint_activations,
        )

    def forward(self, image_N1HW: Tensor) -> GMICOutput:
        """Predicts the findings of each image.

        ``y_loc``, ``y_mil`` and ``y`` are its one prediction, K = 0, and ``saliency_NCIJ`` is its class activation map: the
        sigmoid of the cells whose mean is the logit.

        Raises:
            ConfigError: As ``GMIC.forward``.
        """
        _, logit_NCIJ = self.localization(gray_image(image_N1HW))
        saliency_NCIJ = torch.sigmoid(logit_NCIJ)
        y_NC = torch.sigmoid(logit_NCIJ.mean(dim=(2, 3)))
        images = logit_NCIJ.shape[0]
        corner_NK2 = torch.empty((images, 0, 2), dtype=torch.int64, device=logit_NCIJ.device)
        return GMICOutput(y_NC, y_NC, y_NC, None, saliency_NCIJ, corner_NK2, logit_NCIJ.new_empty((images, 0)))
