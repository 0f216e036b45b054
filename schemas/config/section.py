"""What every config is made of: frozen, strict, with a digest. The configs: ``config.py``, ``training.py``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt


class Config(BaseModel):
    """Frozen; a misspelt key is an error, and so is a number that is not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def sha256(self) -> str:
        """Digest of the canonical JSON: equal configs have equal digests, whatever the YAML looked like."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


def _as_pair(value: object) -> object:
    return (value, value) if isinstance(value, int) else value


SizePx = Annotated[tuple[PositiveInt, PositiveInt], BeforeValidator(_as_pair)]
"""(rows, columns); one integer stands for a square."""


def nearest_keys(unknown: str, known: Mapping[str, object]) -> list[str]:
    """The known keys most like a misspelt one, best first."""
    return get_close_matches(unknown, list(known), n=2, cutoff=0.5)
