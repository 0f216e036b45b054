"""GMIC, the Globally-Aware Multiple Instance Classifier (Shen et al., MLMI 2019), read as Figure 1 is read.

``GMIC.forward`` is the figure from left to right: localization module (2.1), detection module (2.2, ``roi.py``), multiple
instance module (2.3). ``docs/explanation/the-model.md`` lists what the paper leaves open. Losses are in ``loss.py``,
layers in ``backbones``, foreign weights in ``weights.py``, other networks in ``networks``.

Axes: N images, C findings, H W pixels, I J saliency cells, K patches, P Q patch pixels, D features, L patch features.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  torch's own spelling
from torch import Tensor, nn

from gmic_model.backbones.resnet import IMAGE_FEATURES, PATCH_FEATURES, ResNet18, ResNet22
from gmic_model.roi import find_corners, gather_patches, random_corners
from schemas.config.network import GMICConfig, GMICVariant
from schemas.errors import ConfigError

__all__ = ["GMIC", "GMICConfig", "GMICOutput", "GMICVariant", "pool_top_t"]

_HEAD_STD = 0.01
"""Spread of a fresh prediction head: every probability starts near 0.5 whatever the size of the features."""


class GMICOutput(NamedTuple):
    """All that a forward pass says. Probabilities and maps are fp32 under any autocast; K = 0 of a network without patches."""

    y_mil_NC: Tensor  # from the patches
    y_loc_NC: Tensor  # from the saliency map
    y_NC: Tensor  # the network's prediction
    y_fusion_NC: Tensor | None  # released form only
    saliency_NCIJ: Tensor  # A of section 2.1, in [0, 1]; I = J = 0 of a network without a map
    corner_NK2: Tensor  # int64 pixels, (row, column) of each patch's upper-left corner
    attention_NK: Tensor  # alpha of section 2.3, sums to 1 over K


class GMIC(nn.Module):
    """The network of Figure 1.

    Fresh weights: Kaiming normal for convolutions (``resnet.initialise_convolutions``), normal with standard deviation 0.01
    for the heads that end in a sigmoid, PyTorch's default for the hidden linear layers.

    Args:
        config: Form of the network. ``image_size`` is not enforced: any size of at least 5 x 5 pixels runs.
        checkpoint_activations: Train in less memory for more time: blocks keep their input only and are computed again in the
            backward pass (``resnet.run_block``). Gradients are the same; it is no part of the network's form, nor of files.
    """

    def __init__(self, config: GMICConfig, *, checkpoint_activations: bool = False) -> None:
        super().__init__()
        self.config = config
        self.localization = LocalizationModule(
            findings=config.findings, channels_last=config.channels_last, checkpoint_activations=checkpoint_activations
        )
        self.mil = MultipleInstanceModule(config, checkpoint_activations=checkpoint_activations)
        self.fusion = FusionHead(config) if config.fusion else None

    def forward(self, image_N1HW: Tensor, *, generator: torch.Generator | None = None) -> GMICOutput:
        """Predicts the findings of each image.

        No NaN leaves here while the weights are finite. What degenerate inputs give:

        * NaN or infinite pixels are read as 0, the mean of a standardised image; ingest rejects such images long before.
        * An all-zero or constant image is an image like any other: its map shows the borders, its scores are finite.
        * A saliency map that is constant for one finding does not take part in choosing patches. If all are constant, or K
          is larger than the number of windows the map holds, the corners left over are (0, 0) and their patches are equal.
        * A patch larger than the image has its corner at (0, 0) and holds the image in its bottom-right corner, filled with
          the image's minimum.
        * ``top_t`` so small that no cell remains pools the one largest cell.

        The random variants draw anew in every call, also in eval mode: with ``generator`` (on the image's device), else with
        torch's default generator, so ``torch.manual_seed`` before a pass reproduces it for the same batches in the same order.

        Args:
            image_N1HW: Standardised images, float.
            generator: Draws of the random variants.

        Raises:
            ConfigError: The images do not have one channel, or fp16 was asked for: it loses saliency near 0; bf16 does not.
        """
        image_N1HW = gray_image(image_N1HW)
        features_NDIJ, logit_NCIJ = self.localization(image_N1HW)
        saliency_NCIJ = torch.sigmoid(logit_NCIJ)
        y_loc_NC = pool_top_t(saliency_NCIJ, self.config.top_t)

        corner_NK2 = self._detect(image_N1HW, saliency_NCIJ, generator)
        patch_NK1PQ = gather_patches(image_N1HW, corner_NK2, patch_size=self.config.patch_size)

        attention_NK, z_NL, y_mil_NC = self.mil(patch_NK1PQ)
        y_fusion_NC = None if self.fusion is None else self.fusion(features_NDIJ, z_NL)

        y_NC = _variant_prediction(self.config.variant, y_loc_NC, y_mil_NC, y_fusion_NC)
        return GMICOutput(y_mil_NC, y_loc_NC, y_NC, y_fusion_NC, saliency_NCIJ, corner_NK2, attention_NK)

    def _detect(self, image_N1HW: Tensor, saliency_NCIJ: Tensor, generator: torch.Generator | None) -> Tensor:
        image_size = (image_N1HW.shape[2], image_N1HW.shape[3])
        K, patch_size = self.config.K, self.config.patch_size
        if self.config.variant in (GMICVariant.RANDOM, GMICVariant.LOC_RANDOM):
            return random_corners(
                image_N1HW.shape[0],
                K=K,
                patch_size=patch_size,
                image_size=image_size,
                device=image_N1HW.device,
                generator=generator,
            )
        return find_corners(saliency_NCIJ, K=K, patch_size=patch_size, image_size=image_size)


class LocalizationModule(nn.Module):
    """Section 2.1: where in the image does anything speak for a finding?"""

    def __init__(self, *, findings: int, channels_last: bool, bias: bool = False, checkpoint_activations: bool = False) -> None:
        super().__init__()
        self.backbone = ResNet22(channels_last=channels_last, checkpoint_activations=checkpoint_activations)
        self.saliency = nn.Conv2d(IMAGE_FEATURES, findings, kernel_size=1, bias=bias)
        initialise_head(self.saliency)

    def forward(self, image_N1HW: Tensor) -> tuple[Tensor, Tensor]:
        """Returns features_NDIJ and logit_NCIJ, the saliency map before its sigmoid."""
        features_NDIJ: Tensor = self.backbone(image_N1HW)
        with torch.autocast(image_N1HW.device.type, enabled=False):
            return features_NDIJ, self.saliency(features_NDIJ.to(self.saliency.weight.dtype))


class MultipleInstanceModule(nn.Module):
    """Section 2.3: what do the patches say, and which of them matter?

    The released form (``local_dim`` None) reads the ResNet-18's own 512 features; the paper's L = 128 takes the place of that
    network's classifier, a linear layer with bias.
    """

    def __init__(self, config: GMICConfig, *, checkpoint_activations: bool = False) -> None:
        super().__init__()
        self.patch_network = ResNet18(channels_last=config.channels_last, checkpoint_activations=checkpoint_activations)
        self.project = None if config.local_dim is None else nn.Linear(PATCH_FEATURES, config.local_dim)
        self.activate_projection = config.local_activation == "relu"
        features = patch_feature_length(config)
        is_equal = config.variant is GMICVariant.NOATTN
        self.attention = None if is_equal else GatedAttention(features, config.attention_dim)
        self.classifier = nn.Linear(features, config.findings, bias=False)
        initialise_head(self.classifier)

    def forward(self, patch_NK1PQ: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns attention_NK, z_NL (the patches' features weighed by attention) and y_mil_NC."""
        images, patches = patch_NK1PQ.shape[:2]
        h_MD: Tensor = self.patch_network(patch_NK1PQ.flatten(0, 1))  # M = N * K
        with torch.autocast(patch_NK1PQ.device.type, enabled=False):
            h_MD = h_MD.to(self.classifier.weight.dtype)
            if self.project is not None:
                h_MD = self.project(h_MD)
                h_MD = F.relu(h_MD) if self.activate_projection else h_MD
            h_NKL = h_MD.reshape(images, patches, -1)  # (N, K, L)
            attention_NK = h_NKL.new_full((images, patches), 1 / patches) if self.attention is None else self.attention(h_NKL)
            z_NL = torch.einsum("nk,nkl->nl", attention_NK, h_NKL)
            return attention_NK, z_NL, torch.sigmoid(self.classifier(z_NL))


class GatedAttention(nn.Module):
    """alpha_k of section 2.3: softmax over patches of w(sigmoid(U h_k) * tanh(V h_k)) (Ilse et al. 2018)."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.content = nn.Linear(features, hidden, bias=False)  # V
        self.gate = nn.Linear(features, hidden, bias=False)  # U
        self.score = nn.Linear(hidden, 1, bias=False)  # w

    def forward(self, h_NKL: Tensor) -> Tensor:
        """Returns attention_NK, which sums to 1 over the K patches of an image."""
        score_NK1 = self.score(torch.sigmoid(self.gate(h_NKL)) * torch.tanh(self.content(h_NKL)))
        return torch.softmax(score_NK1[..., 0], dim=1)


class FusionHead(nn.Module):
    """The released form's prediction from the image's features (spatial maximum) and the patches' (attention-weighted)."""

    def __init__(self, config: GMICConfig) -> None:
        super().__init__()
        self.classifier = nn.Linear(IMAGE_FEATURES + patch_feature_length(config), config.findings)
        initialise_head(self.classifier)

    def forward(self, features_NDIJ: Tensor, z_NL: Tensor) -> Tensor:
        """Returns y_fusion_NC."""
        with torch.autocast(z_NL.device.type, enabled=False):
            global_ND = features_NDIJ.amax(dim=(2, 3)).to(z_NL.dtype)
            return torch.sigmoid(self.classifier(torch.cat((global_ND, z_NL), dim=1)))


def pool_top_t(saliency_NCIJ: Tensor, top_t: float) -> Tensor:
    """f_agg of section 2.4: the mean of the top t of each map's cells, at least one cell. Returns y_loc_NC."""
    value_NCM = saliency_NCIJ.flatten(2)  # M = I * J
    pooled = max(round(value_NCM.shape[2] * top_t), 1)
    return value_NCM.topk(pooled, dim=2, sorted=False).values.mean(dim=2)


def patch_feature_length(config: GMICConfig) -> int:
    """L of section 2.3."""
    return PATCH_FEATURES if config.local_dim is None else config.local_dim


def gray_image(image_N1HW: Tensor) -> Tensor:
    """The images as a network reads them: NaN and infinite pixels are 0, the mean of a standardised image.

    Raises:
        ConfigError: The images do not have one channel, or fp16 was asked for.
    """
    _refuse_fp16(image_N1HW)
    if image_N1HW.ndim != 4 or image_N1HW.shape[1] != 1:
        raise ConfigError("the network reads gray images", expected="(N, 1, H, W)", got=tuple(image_N1HW.shape))
    return image_N1HW.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def initialise_head(layer: nn.Conv2d | nn.Linear) -> None:
    """Fresh weights of a layer that ends in a sigmoid: every probability starts near 0.5."""
    if not layer.weight.is_meta:  # torch would bring its compiler in to draw nothing
        nn.init.normal_(layer.weight, std=_HEAD_STD)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _refuse_fp16(image_N1HW: Tensor) -> None:
    device = image_N1HW.device.type
    is_fp16 = image_N1HW.dtype is torch.float16
    if not torch.compiler.is_compiling() and torch.is_autocast_enabled(device):
        is_fp16 = is_fp16 or torch.get_autocast_dtype(device) is torch.float16
    if is_fp16:
        raise ConfigError("the network does not run in fp16", expected="fp32, or bf16 autocast", got="fp16")


def _variant_prediction(variant: GMICVariant, y_loc_NC: Tensor, y_mil_NC: Tensor, y_fusion_NC: Tensor | None) -> Tensor:
    """Which prediction each row of Table 1 reports."""
    if variant is GMICVariant.LOC:
        return y_loc_NC
    if variant in (GMICVariant.MIL, GMICVariant.NOATTN, GMICVariant.RANDOM):
        return y_mil_NC
    if variant is GMICVariant.GMIC and y_fusion_NC is not None:
        return y_fusion_NC
    return (y_mil_NC + y_loc_NC) / 2
