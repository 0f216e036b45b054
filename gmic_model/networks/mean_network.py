"""Several networks as one: the mean of their scores and of their maps. Where patches are, is the first one's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from gmic_model.model import GMICOutput
from gmic_model.networks.network import FindingsNetwork
from gmic_model.networks.registry import config_of


class MeanNetwork(nn.Module):
    """An ensemble that scores as one network; in double precision, as an evaluation takes the mean of its models' scores."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(networks)
        self.config = config_of(networks[0])

    def forward(self, image_N1HW: Tensor) -> GMICOutput:
        """The first network's output with the mean of all scores, and of all maps, in place of its own."""
        outputs: list[GMICOutput] = [network(image_N1HW) for network in self.members]
        return outputs[0]._replace(
            y_NC=torch.stack([output.y_NC.double() for output in outputs]).mean(dim=0),
            saliency_NCIJ=mean_maps([output.saliency_NCIJ for output in outputs]),
        )


def mean_maps(maps: Sequence[Tensor]) -> Tensor:
    """The mean of maps of one window, (N, C, I, J), on the first one's cells; networks without a map have no voice in it."""
    if not maps[0].numel():
        return maps[0]
    size = maps[0].shape[2:]
    return torch.stack([_on_grid(one.float(), size) for one in maps if one.numel()]).mean(dim=0)


def as_one(networks: Sequence[FindingsNetwork]) -> FindingsNetwork:
    """A single network as it is; several as the mean of them."""
    return networks[0] if len(networks) == 1 else MeanNetwork(networks)


def _on_grid(maps_NCIJ: Tensor, size: torch.Size) -> Tensor:
    is_there = maps_NCIJ.shape[2:] == size
    return maps_NCIJ if is_there else functional.interpolate(maps_NCIJ, size, mode="bilinear", align_corners=False)
