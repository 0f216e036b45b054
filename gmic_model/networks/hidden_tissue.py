"""Pre-training without labels: half of an image's cells are hidden, and their tissue is told from the cells that are seen.

As masked autoencoders do it (He et al. 2022, SimMIM of Xie et al. 2022), with the localisation network as encoder.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate, pixel_unshuffle

from gmic_model.backbones.resnet import IMAGE_FEATURES, ResNet22, grid_cells
from gmic_model.model import initialise_head

_DETAIL: Final = 8
"""Points along a cell's side that are told, each a mean of 8 x 8 pixels: the noise of single ones is not asked for."""

_LEAST_TISSUE: Final = 1e-3
"""How much a cell's brightest point stands out of the background, in units of the image's spread, to be asked for."""


class Hidden(NamedTuple):
    """Images with hidden cells.

    Attributes:
        image_N1HW: Standardised; hidden cells are 0, the image's mean.
        point_NQIJ: What each cell holds, Q = 64 points.
        is_asked_NIJ: Hidden, and not background alone.
        is_seen_NIJ: Not hidden, and not background alone.
    """

    image_N1HW: Tensor
    point_NQIJ: Tensor
    is_asked_NIJ: Tensor
    is_seen_NIJ: Tensor


class HiddenTissue(nn.Module):
    """ResNet-22, and from each cell's features the points of the image below it. Train it with ``hidden_errors``.

    Args:
        checkpoint_activations: As in ``GMIC``.
    """

    def __init__(self, *, checkpoint_activations: bool = False) -> None:
        super().__init__()
        self.backbone = ResNet22(checkpoint_activations=checkpoint_activations)
        self.decoder = nn.Conv2d(IMAGE_FEATURES, _DETAIL**2, kernel_size=1)
        initialise_head(self.decoder)

    def forward(self, image_N1HW: Tensor) -> Tensor:
        """Returns point_NQIJ, Q = 64, as ``Hidden`` has them."""
        features_NDIJ: Tensor = self.backbone(image_N1HW)
        with torch.autocast(image_N1HW.device.type, enabled=False):
            point_NQIJ: Tensor = self.decoder(features_NDIJ.to(self.decoder.weight.dtype))
            return point_NQIJ


def cells_of(image_N1HW: Tensor) -> tuple[int, int]:
    """(rows, columns) of cells that images have."""
    return grid_cells(image_N1HW.shape[2]), grid_cells(image_N1HW.shape[3])


def hide(image_N1HW: Tensor, is_hidden_NIJ: Tensor) -> Hidden:
    """Hides cells of images, on their device."""
    rows, columns = cells_of(image_N1HW)
    point_NQIJ = pixel_unshuffle(adaptive_avg_pool2d(image_N1HW, (rows * _DETAIL, columns * _DETAIL)), _DETAIL)
    is_tissue_NIJ = point_NQIJ.amax(dim=1) > image_N1HW.amin(dim=(1, 2, 3))[:, None, None] + _LEAST_TISSUE
    seen_N1HW = interpolate((~is_hidden_NIJ)[:, None].to(image_N1HW.dtype), image_N1HW.shape[2:], mode="nearest")
    return Hidden(image_N1HW * seen_N1HW, point_NQIJ, is_hidden_NIJ & is_tissue_NIJ, ~is_hidden_NIJ & is_tissue_NIJ)


def hidden_errors(point_NQIJ: Tensor, hidden: Hidden) -> Tensor:
    """Mean squared error of what is asked, of each image, fp32; 0 where an image has nothing to ask."""
    error_NIJ = (point_NQIJ.float() - hidden.point_NQIJ.float()).square().mean(dim=1)
    asked_N = hidden.is_asked_NIJ.sum(dim=(1, 2)).clamp(min=1)
    return (error_NIJ * hidden.is_asked_NIJ).sum(dim=(1, 2)) / asked_N


def mean_of_seen(hidden: Hidden) -> Tensor:
    """point_NQIJ of who says the mean of the seen tissue everywhere: what has to be beaten."""
    seen_N1IJ = hidden.is_seen_NIJ[:, None]
    cells_N = hidden.is_seen_NIJ.sum(dim=(1, 2)).clamp(min=1)
    mean_N = (hidden.point_NQIJ.mean(dim=1, keepdim=True) * seen_N1IJ).sum(dim=(1, 2, 3)) / cells_N
    return mean_N[:, None, None, None].expand_as(hidden.point_NQIJ)
