"""Several networks as one: the mean of their scores. What is drawn, and where patches are, is the first one's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gmic_model.model import GMICOutput
from gmic_model.networks.registry import config_of


class MeanNetwork(nn.Module):
    """An ensemble that scores as one network; in double precision, as an evaluation takes the mean of its models' scores."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(networks)
        self.config = config_of(networks[0])

    def forward(self, image_N1HW: Tensor) -> GMICOutput:
        """The first network's output with the mean of all scores in place of its own."""
        outputs: list[GMICOutput] = [network(image_N1HW) for network in self.members]
        return outputs[0]._replace(y_NC=torch.stack([output.y_NC.double() for output in outputs]).mean(dim=0))
