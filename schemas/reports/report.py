"""What measurements are made of: estimates with intervals, models alone and together. Stages' reports are in ``reports``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Report(BaseModel):
    """Frozen; equal results give equal reports."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(Report):
    """An estimate with its bootstrap interval; None = not defined on this data (one class only)."""

    value: float | None
    low: float | None
    high: float | None


class Provenance(Report):
    """Where a result comes from."""

    code_version: str
    config_sha256: str
    data_version: str = Field(description="sha256 over the published images, labels and splits it was made from")
    preprocess_version: str
    seed: int
    created_utc: str
