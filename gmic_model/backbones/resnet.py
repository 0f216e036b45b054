"""The two convolutional networks of GMIC: ResNet-22 for the whole image, ResNet-18 for one patch.

Only layers and their initialisation belong here; what is done with the features is in ``model.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F  # noqa: N812  torch's own spelling
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gmic_model.backbones.batch_norm import BatchNorm, recomputation
from gmic_model.backbones.memory_layout import as_channels_last, in_training_layout

IMAGE_FEATURES = 256
"""Channels of ``ResNet22`` features."""

PATCH_FEATURES = 512
"""Length of a ``ResNet18`` feature vector."""

RESIDUAL_START = 0.1
"""Factor on the last convolution of a fresh image block. At first a cell sees what lies under it, through the 1x1 shortcuts;
with full 3x3 branches in five stages the map may learn to fire a cell or two beside the finding, as no loss forbids it."""

_IMAGE_WIDTHS = (16, 32, 64, 128, 256)
_PATCH_WIDTHS = (64, 128, 256, 512)


class ResNet22(nn.Module):
    """f_d of section 2.1: narrow, pre-activated, total stride 64, so that it can run at full resolution.

    No normalisation follows the stem and the pooling has no padding, which sets the odd intermediate sizes
    (735 x 479 at 2944 x 1920) and with them the saliency grid: 46 x 30.

    Args:
        channels_last: See ``layout``.
        checkpoint_activations: See ``run_block``.
    """

    def __init__(self, *, channels_last: bool = True, checkpoint_activations: bool = False) -> None:
        super().__init__()
        self.channels_last = channels_last
        self.checkpoint_activations = checkpoint_activations
        self.stem = nn.Conv2d(1, _IMAGE_WIDTHS[0], kernel_size=7, stride=2, padding=3, bias=False)
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    PreActivationBlock(_IMAGE_WIDTHS[max(stage - 1, 0)], width, stride=1 if stage == 0 else 2, project=True),
                    PreActivationBlock(width, width, stride=1, project=False),
                )
                for stage, width in enumerate(_IMAGE_WIDTHS)
            )
        )
        self.final_norm = BatchNorm(IMAGE_FEATURES)
        initialise_convolutions(self)
        for module in self.modules():
            if isinstance(module, PreActivationBlock):
                module.conv2.weight.data.mul_(RESIDUAL_START)

    def forward(self, image_N1HW: Tensor) -> Tensor:
        """Returns features_NDIJ, D = 256; 46 x 30 cells for the paper's 2944 x 1920 pixels."""
        features_NDIJ = run_block(self._stem, image_N1HW, recompute=self.checkpoint_activations)
        for stage in self.stages:
            for block in stage:  # type: ignore[attr-defined]
                features_NDIJ = run_block(block, features_NDIJ, recompute=self.checkpoint_activations)
        return F.relu(self.final_norm(features_NDIJ), inplace=True)

    def _stem(self, image_N1HW: Tensor) -> Tensor:
        if not self.channels_last:
            return self.pool(self.stem(image_N1HW))  # type: ignore[no-any-return]
        return in_training_layout(self.pool(self.stem(as_channels_last(image_N1HW))), is_training=self.training)


def grid_cells(image_px: int) -> int:
    """Cells of ``ResNet22``'s features along a side of an image: the stem halves, the pooling has no padding, stages halve."""
    cells = (-(-image_px // 2) - 3) // 2 + 1
    for _ in _IMAGE_WIDTHS[1:]:
        cells = -(-cells // 2)
    return cells


class PreActivationBlock(nn.Module):
    """Normalise, activate, convolve, twice. The shortcut's 1x1 convolution reads the *activated* input."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, project: bool) -> None:
        super().__init__()
        self.norm1 = BatchNorm(in_channels)
        self.conv1 = convolution3x3(in_channels, out_channels, stride=stride)
        self.norm2 = BatchNorm(out_channels)
        self.conv2 = convolution3x3(out_channels, out_channels, stride=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False) if project else None

    def forward(self, features_NDIJ: Tensor) -> Tensor:
        """No activation follows the sum."""
        active_NDIJ = F.relu(self.norm1(features_NDIJ), inplace=True)
        shortcut_NDIJ = features_NDIJ if self.shortcut is None else self.shortcut(active_NDIJ)
        residual_NDIJ: Tensor = self.conv2(F.relu(self.norm2(self.conv1(active_NDIJ)), inplace=True))
        return residual_NDIJ.add_(shortcut_NDIJ)


class ResNet18(nn.Module):
    """f_t of section 2.3: torchvision's ResNet-18 without its classifier, with a stem for one gray channel.

    The original stem sees three equal channels; a stem whose weight is summed over them gives the same result for a third of
    the work (``weights.py`` sums on import).

    Args:
        channels_last: See ``layout``.
        checkpoint_activations: See ``run_block``.
    """

    def __init__(self, *, channels_last: bool = True, checkpoint_activations: bool = False) -> None:
        super().__init__()
        self.channels_last = channels_last
        self.checkpoint_activations = checkpoint_activations
        self.stem = nn.Conv2d(1, _PATCH_WIDTHS[0], kernel_size=7, stride=2, padding=3, bias=False)
        self.stem_norm = BatchNorm(_PATCH_WIDTHS[0])
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    PostActivationBlock(_PATCH_WIDTHS[max(stage - 1, 0)], width, stride=1 if stage == 0 else 2),
                    PostActivationBlock(width, width, stride=1),
                )
                for stage, width in enumerate(_PATCH_WIDTHS)
            )
        )
        initialise_convolutions(self)

    def forward(self, patch_N1PQ: Tensor) -> Tensor:
        """Returns features_ND, D = 512: the spatial mean of the last stage."""
        features_NDPQ = run_block(self._stem, patch_N1PQ, recompute=self.checkpoint_activations)
        for stage in self.stages:
            for block in stage:  # type: ignore[attr-defined]
                features_NDPQ = run_block(block, features_NDPQ, recompute=self.checkpoint_activations)
        return features_NDPQ.mean(dim=(2, 3))

    def _stem(self, patch_N1PQ: Tensor) -> Tensor:
        if self.channels_last:
            features_NDPQ = in_training_layout(self.stem(as_channels_last(patch_N1PQ)), is_training=self.training)
        else:
            features_NDPQ = self.stem(patch_N1PQ)
        pooled_NDPQ: Tensor = self.pool(F.relu(self.stem_norm(features_NDPQ), inplace=True))
        return pooled_NDPQ


class PostActivationBlock(nn.Module):
    """Convolve, normalise, activate, twice; the shortcut is projected only where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = convolution3x3(in_channels, out_channels, stride=stride)
        self.norm1 = BatchNorm(out_channels)
        self.conv2 = convolution3x3(out_channels, out_channels, stride=1)
        self.norm2 = BatchNorm(out_channels)
        self.shortcut = (
            nn.Sequential(
                nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False),
                BatchNorm(out_channels),
            )
            if stride != 1 or in_channels != out_channels
            else None
        )

    def forward(self, features_NDPQ: Tensor) -> Tensor:
        """The activation follows the sum."""
        shortcut_NDPQ = features_NDPQ if self.shortcut is None else self.shortcut(features_NDPQ)
        residual_NDPQ = F.relu(self.norm1(self.conv1(features_NDPQ)), inplace=True)
        return F.relu(self.norm2(self.conv2(residual_NDPQ)).add_(shortcut_NDPQ), inplace=True)


def convolution3x3(in_channels: int, out_channels: int, *, stride: int) -> nn.Conv2d:
    """Padding keeps the size at stride 1; a BatchNorm follows or has gone before, so there is no bias."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)


def run_block(block: Callable[[Tensor], Tensor], input_NDHW: Tensor, *, recompute: bool) -> Tensor:
    """Runs a block, keeping for the backward pass either all that it computed or only its input.

    Recomputing (activation checkpointing, Chen et al. 2016) costs a second forward pass and gives the same gradients and the
    same running statistics, bit for bit on a CPU. Without gradients nothing is kept either way.
    """
    if not (recompute and torch.is_grad_enabled()):
        return block(input_NDHW)
    if torch.compiler.is_compiling():  # it moves the running statistics out of what it recomputes, and knows no contexts
        features_NDHW: Tensor = checkpoint(block, input_NDHW, use_reentrant=False, preserve_rng_state=False)
    else:
        features_NDHW = checkpoint(
            block, input_NDHW, use_reentrant=False, preserve_rng_state=False, context_fn=_recompute_contexts
        )
    return features_NDHW


def initialise_convolutions(network: nn.Module) -> None:
    """Kaiming normal by fan-out for every convolution, 1 and 0 for every BatchNorm.

    The paper starts f_d from BI-RADS labels and f_t from ImageNet and gives no rule for a start from nothing. He et al. 2015
    keeps the gradient's variance through ReLU layers, which is what a start from nothing on little data needs.

    On the meta device there is nothing to draw, and torch would bring its compiler in to do it: a second of every start.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            if not module.weight.is_meta:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def _recompute_contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), recomputation()
