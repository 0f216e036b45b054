"""What a training begins with, part by part, and what it adds beyond the paper: all of it off by default."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from schemas.config.section import ADDED_LATER, Config, Fraction


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

    def without(self, part: StartPart) -> StartConfig:
        """The same for a network that has no such part: without its file, and without the digits of that."""
        digests = {other: digits for other, digits in self.digests.items() if other is not part}
        return self.model_copy(update={part.value: None, "digests": digests})


class PartConfig(Config):
    """How one part of the network is moved."""

    learning_rate: float | None = Field(None, gt=0, description="Learning rate of this part; null = the training's")
    frozen_epochs: NonNegativeInt = Field(0, description="First epochs in which its weights stay as they began")


class PartsConfig(Config):
    """Fine-tuning: the two backbones apart from the rest of the network."""

    localization: PartConfig = Field(PartConfig(), description="The localisation backbone f_d (ResNet-22)")
    patches: PartConfig = Field(PartConfig(), description="The patch network f_t (ResNet-18); not of a network without patches")
    frozen_statistics: Literal["adapt", "keep"] = Field(
        "adapt",
        description="Batch normalisation of a part while it is frozen. adapt: running statistics follow the new images; keep: "
        "those it began with are used and kept",
    )


class AugmentConfig(Config):
    """Random changes of training images beyond the window's jitter, drawn from (seed, epoch, row) on the training device."""

    flip_cc: Fraction = Field(0.0, description="Share of CC views turned upside down; an MLO view would not be one any more")
    rotation_deg: float = Field(0.0, ge=0, le=45, description="Rotation to either side, at most")
    scaling: float = Field(0.0, ge=0, lt=0.5, description="Larger or smaller by at most this share")
    gamma: float = Field(0.0, ge=0, lt=1, description="Exponent of brightness between 1 / (1 + gamma) and 1 + gamma")
    contrast: float = Field(0.0, ge=0, lt=1, description="Contrast more or less by at most this share, after standardisation")
    noise: float = Field(0.0, ge=0, le=1, description="Spread of Gaussian noise in the breast, at most; 1 = the image's own")
    mixup: float = Field(
        0.0,
        ge=0,
        le=4,
        description="alpha of Beta(alpha, alpha): each image is mixed with another of its position, CC or MLO; 0 = off",
    )
    drop_views: Fraction = Field(0.0, description="Share of views left out of an epoch; an exam keeps one at least")
    drop_breasts: Fraction = Field(0.0, description="Share of exams of which one breast is left out of an epoch")


class RecipeConfig(Config):
    """How weights are moved, beyond the paper's Adam at one rate."""

    weight_decay: float = Field(0.0, ge=0, description="AdamW's decay of weights that are matrices or kernels; 0 = Adam")
    schedule: Literal["constant", "cosine", "plateau"] = Field(
        "constant",
        description="Learning rate over the epochs: cosine falls to lowest_rate; plateau falls where tuning stands still",
    )
    lowest_rate: Fraction = Field(0.01, description="Share of the learning rate at which a schedule ends")
    plateau_epochs: PositiveInt = Field(5, description="Epochs without a better one before plateau lowers the rate")
    plateau_factor: float = Field(0.3, gt=0, lt=1, description="What plateau multiplies the rate by")
    stop_after_epochs: PositiveInt | None = Field(
        None, description="End the training after so many epochs without a better one on tuning; null = train all epochs"
    )
    best_of_epochs: PositiveInt = Field(
        1,
        description="The best epoch is that of the highest mean tuning AUROC of so many epochs up to it, which with few tuning "
        "positives is less luck; 1 = each epoch's own, as in the paper. Training alone; pre-training takes the lowest loss",
    )
    best_by: Literal["auroc", "loss"] = Field(
        "auroc",
        json_schema_extra=ADDED_LATER,
        description="What chooses the best epoch on tuning: the highest malignant AUROC, as in the paper, or the lowest "
        "cross-entropy, in which every breast of both findings counts and not the order of a few. Training alone",
    )
    batch_norm: Literal["batch", "running", "remeasured"] = Field(
        "batch",
        description="batch: statistics of each step's images, as in the paper. running: those it began with, never changed. "
        "remeasured: batch, and before each tuning the running ones are measured anew over training images",
    )
    remeasured_exams: PositiveInt = Field(64, description="Training exams that remeasured looks at, at most")


class LabelsConfig(Config):
    """How a label counts in the loss."""

    smoothing: float = Field(0.0, ge=0, lt=1, description="Labels are trained as smoothing / 2 and 1 - smoothing / 2")
    benign_weight: float = Field(
        1.0, gt=0, description="Weight of a benign finding that is present, against one that is absent"
    )
    malignant_weight: float = Field(1.0, gt=0, description="Weight of a malignant finding that is present")
