"""What reports are made of: the frozen record, an estimate with its interval, a measured field, where a result comes from."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Report(BaseModel):
    """Frozen; equal results give equal reports."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(Report):
    """An estimate with its bootstrap interval; None = not defined on this data (one class only)."""

    value: float | None
    low: float | None
    high: float | None


def measured(title: str, meaning: str, *, digits: int = 3, default: Any = ...) -> Any:
    """A field that the report page draws by itself, because it exists.

    Args:
        title: What the page calls it.
        meaning: A sentence on what it says, printed beside it.
        digits: Decimals shown.
        default: Of reports that were written before the field existed.
    """
    return Field(default, title=title, description=meaning, json_schema_extra={"digits": digits})


class Provenance(Report):
    """Where a result comes from."""

    code_version: str
    config_sha256: str
    data_version: str = Field(description="sha256 over the published images, labels and splits it was made from")
    preprocess_version: str
    seed: int
    created_utc: str
