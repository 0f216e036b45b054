"""What a pack holds: every file by its digest, and what the model is."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from schemas.reports.report import Report

PACK_FORM = "mammo-model-pack"
PACK_VERSION = 1


class PackedMember(Report):
    """One file of a pack."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class CheckScores(Report):
    """What one set of weights says of the image that arithmetic makes, where it was packed."""

    scores: tuple[str, ...] = Field(min_length=1, max_length=16, description="Of each finding, as ``float.hex`` writes it")
    machine: str = Field(max_length=200, description="Processor and library: equal bits are expected on its like only")


class PackedWeights(Report):
    """One set of weights, in words that need no weights to be read."""

    sha256: str
    title: str = Field(description="Which network")
    network: dict[str, Any] = Field(description="The config's section model")
    preprocess: dict[str, Any] = Field(description="The config's section preprocess, spacing among it; empty = not said")
    provenance: dict[str, Any] = Field(description="Code, config, training data and splits by their digests")
    tuning_malignant_auroc: float | None
    check: CheckScores


class PackManifest(Report):
    """``pack.json``: every other file of the pack with its digest, and what the pack is."""

    form: str = PACK_FORM
    version: int = PACK_VERSION
    code_version: str = Field(description="Release that packed it")
    sha256: str = Field(description="Of the weights; of several, of their digests in order")
    models: tuple[PackedWeights, ...] = Field(min_length=1, max_length=16)
    kept: tuple[str, ...] = Field(description="What of thresholds and recalibration is in it, in words")
    terms: tuple[str, ...] = Field(description="What the terms of the training data forbid")
    members: dict[str, PackedMember]


class PackSignature(Report):
    """``signature.json``: HMAC-SHA256 of ``pack.json`` under a key file."""

    key_id: str
    hmac_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
