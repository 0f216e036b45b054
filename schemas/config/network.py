"""The network's section: GMIC's numbers, named as the paper names them."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field, PositiveInt

from schemas.config.section import Config, SizePx


class GMICVariant(StrEnum):
    """The rows of Table 1: which prediction is ``y`` and how patches are chosen and weighed."""

    GMIC = "gmic"  # (y_mil + y_loc) / 2, or the fusion branch
    LOC = "gmic-loc"  # y_loc
    MIL = "gmic-mil"  # y_mil
    NOATTN = "gmic-noattn"  # y_mil with equal attention
    RANDOM = "gmic-random"  # y_mil of random patches
    LOC_RANDOM = "gmic-loc-random"  # (y_loc + y_random) / 2
    RESNET22 = "resnet-22"  # the baseline: global average pooling of the ResNet-22


class GMICConfig(Config):
    """The network of the paper's Figure 1. Defaults are the paper's; ``released()`` gives the published checkpoints' form."""

    image_size: SizePx = Field((2944, 1920), description="Network input, rows and columns in pixels")
    patch_size: SizePx = Field((256, 256), description="ROI patch, rows and columns in pixels")
    K: PositiveInt = Field(6, description="ROI patches per image (Algorithm 1)")
    top_t: float = Field(0.03, gt=0.0, le=1.0, description="Fraction of saliency cells pooled into y_loc (paper: t)")
    local_dim: PositiveInt | None = Field(128, description="Patch feature length L; null = the ResNet-18's own 512 (released)")
    local_activation: Literal["none", "relu"] = Field(
        "none", description="After the projection to local_dim (paper: not stated)"
    )
    attention_dim: PositiveInt = Field(128, description="Hidden width of the gated attention")
    fusion: bool = Field(False, description="Released form: y comes from a fusion branch on global and patch features")
    findings: PositiveInt = Field(2, description="Number of findings C: benign, malignant")
    variant: GMICVariant = Field(GMICVariant.GMIC, description="Row of Table 1")
    channels_last: bool = Field(True, description="Memory layout of activations, where it is faster: the same numbers")

    @classmethod
    def released(cls, *, top_t: float = 0.02, **changes: Any) -> GMICConfig:
        """The form of the published checkpoints: 512-d patch features and the fusion branch."""
        return cls(**{"local_dim": None, "fusion": True, "top_t": top_t, **changes})
