"""The network's section: which network it is (``kind``) and its numbers, named as the paper names them.

A new network is a class here and an entry in ``NetworkConfig``; ``gmic_model/networks/registry.py`` says how it is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, PositiveInt, Tag, model_validator

from schemas.config.section import ADDED_LATER, Config, SizePx


class TableRow(StrEnum):
    """The rows of Table 1: GMIC's variants and the baseline."""

    GMIC = "gmic"
    LOC = "gmic-loc"
    MIL = "gmic-mil"
    NOATTN = "gmic-noattn"
    RANDOM = "gmic-random"
    LOC_RANDOM = "gmic-loc-random"
    RESNET22 = "resnet-22"


class GMICVariant(StrEnum):
    """Which prediction of GMIC is ``y``, and how patches are chosen and weighed; each is a row of Table 1."""

    GMIC = "gmic"  # (y_mil + y_loc) / 2, or the fusion branch
    LOC = "gmic-loc"  # y_loc
    MIL = "gmic-mil"  # y_mil
    NOATTN = "gmic-noattn"  # y_mil with equal attention
    RANDOM = "gmic-random"  # y_mil of random patches
    LOC_RANDOM = "gmic-loc-random"  # (y_loc + y_random) / 2


class NetworkSection(Config):
    """What every network's config says."""

    image_size: SizePx = Field((2944, 1920), description="Network input, rows and columns: preprocess.window_px, if left out")
    findings: PositiveInt = Field(2, description="Number of findings C: benign, malignant")
    normalization: Literal["batch", "group"] = Field(
        "batch",
        json_schema_extra=ADDED_LATER,
        description="batch: batch normalisation, as in the paper. group: by groups of channels of each image (Wu and He 2018), "
        "which knows no batch: for steps of 4 to 16 images. Pre-training has batch normalisation always",
    )

    @property
    def title(self) -> str:
        """What people call the network."""
        return str(getattr(self, "kind", type(self).__name__))

    @property
    def patch_px(self) -> tuple[int, int]:
        """Rows and columns of its patches; (0, 0) if it has none."""
        return (0, 0)


class GMICConfig(NetworkSection):
    """The network of the paper's Figure 1. Defaults are the paper's; ``released()`` gives the published checkpoints' form."""

    # Left out of what is written: digests of configs and files of earlier versions, which know no kind, stay as they are.
    kind: Literal["gmic"] = Field("gmic", exclude=True, description="Which network: GMIC, unless another is named")
    patch_size: SizePx = Field((256, 256), description="ROI patch, rows and columns in pixels")
    K: PositiveInt = Field(6, description="ROI patches per image (Algorithm 1)")
    top_t: float = Field(0.03, gt=0.0, le=1.0, description="Fraction of saliency cells pooled into y_loc (paper: t)")
    local_dim: PositiveInt | None = Field(128, description="Patch feature length L; null = the ResNet-18's own 512 (released)")
    local_activation: Literal["none", "relu"] = Field(
        "none", description="After the projection to local_dim (paper: not stated)"
    )
    attention_dim: PositiveInt = Field(128, description="Hidden width of the gated attention")
    fusion: bool = Field(False, description="Released form: y comes from a fusion branch on global and patch features")
    variant: GMICVariant = Field(GMICVariant.GMIC, description="Row of Table 1")
    channels_last: bool = Field(True, description="Memory layout of activations, where it is faster: the same numbers")

    @classmethod
    def released(cls, *, top_t: float = 0.02, **changes: Any) -> GMICConfig:
        """The form of the published checkpoints: 512-d patch features and the fusion branch."""
        return cls(**{"local_dim": None, "fusion": True, "top_t": top_t, **changes})

    @property
    def title(self) -> str:
        """The row of Table 1."""
        return self.variant.value

    @property
    def patch_px(self) -> tuple[int, int]:
        """Rows and columns of its patches."""
        return self.patch_size


class ResNet22Config(NetworkSection):
    """The baseline of Table 1: GMIC's localisation network alone, with global average pooling. It has no patches."""

    kind: Literal["resnet-22"] = Field(description="The baseline of Table 1")
    channels_last: bool = Field(True, description="Memory layout of activations, where it is faster: the same numbers")

    @model_validator(mode="before")
    @classmethod
    def _was_a_variant(cls, given: Any) -> Any:
        """Before there were kinds the baseline was ``variant: resnet-22`` among GMIC's fields, most of which it did not use."""
        if not _names_the_baseline_as_variant(given):
            return given
        return {"kind": "resnet-22", **{name: value for name, value in given.items() if name in cls.model_fields}}


def _kind(given: object) -> str:
    """A config without ``kind`` is GMIC: files from before there were kinds stay valid."""
    if _names_the_baseline_as_variant(given):
        return "resnet-22"
    return str(given.get("kind", "gmic") if isinstance(given, Mapping) else getattr(given, "kind", "gmic"))


def _names_the_baseline_as_variant(given: object) -> bool:
    return isinstance(given, Mapping) and "kind" not in given and given.get("variant") == TableRow.RESNET22


NetworkConfig = Annotated[
    Annotated[GMICConfig, Tag("gmic")] | Annotated[ResNet22Config, Tag("resnet-22")],
    Discriminator(_kind),
]
"""Every network that a config can ask for."""


def network_of_row(base: NetworkConfig, row: TableRow) -> NetworkConfig:
    """The network that stands for a row of Table 1, otherwise like ``base``.

    Raises:
        ValueError: ``base`` is another network than the row's.
    """
    if row is TableRow.RESNET22:
        if isinstance(base, GMICConfig | ResNet22Config):
            numbers = base.model_dump(include={"image_size", "findings", "normalization", "channels_last"})
            return ResNet22Config(kind="resnet-22", **numbers)
    elif isinstance(base, GMICConfig):
        return base.model_copy(update={"variant": GMICVariant(row.value)})
    raise ValueError(f"a network of kind {base.title} does not stand for the row {row.value}")
