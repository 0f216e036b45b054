"""What a training begins with: the weights of files, part by part. What it adds beyond the paper is off by default."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from pydantic import Field, model_validator

from schemas.config.section import Config


class StartPart(StrEnum):
    """What a file of weights may begin; the later ones replace what the first brought."""

    NETWORK = "network"
    LOCALIZATION = "localization"
    PATCHES = "patches"


class StartConfig(Config):
    """Which files the first weights come from; without any, all are drawn at random.

    A file is torchvision's ResNet-18 (``.pth`` or ``.safetensors``), a released GMIC state dict, or weights of ours: a
    checkpoint's folder, BI-RADS pre-training among them, or what ``mammo weights import`` made.
    """

    network: Path | None = Field(None, description="Weights of the whole network, as far as file and network have them")
    localization: Path | None = Field(None, description="Weights of the localisation backbone f_d (ResNet-22)")
    patches: Path | None = Field(None, description="Weights of the patch network f_t (ResNet-18); the paper: ImageNet's")
    digests: dict[StartPart, str] = Field(
        {}, description="First digits that a file's SHA-256 must have (of a checkpoint: its weights'), by part"
    )
    from_scratch: bool = Field(
        False, description="Begin with random weights all the same, without pre-training too; the flag --from-scratch sets it"
    )

    @model_validator(mode="after")
    def _digests_are_of_files(self) -> StartConfig:
        for part, digits in self.digests.items():
            if getattr(self, part.value) is None:
                raise ValueError(f"digests names {part.value}, for which there is no file")
            if len(digits) < 8 or not set(digits) <= set("0123456789abcdef"):
                raise ValueError(f"digests of {part.value} is at least 8 digits of 0-9 and a-f, got {digits!r}")
        return self

    def files(self) -> Iterator[tuple[StartPart, Path]]:
        """The files that are read, in their order; none if everything begins at random."""
        for part in () if self.from_scratch else StartPart:
            path = getattr(self, part.value)
            if path is not None:
                yield part, path
