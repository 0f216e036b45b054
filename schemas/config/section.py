"""What every config is made of: frozen, strict, with a digest. The configs: ``config.py``, ``training.py``."""

from __future__ import annotations

import hashlib
import json

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Frozen; a misspelt key is an error, and so is a number that is not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def sha256(self) -> str:
        """Digest of the canonical JSON: equal configs have equal digests, whatever the YAML looked like."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()
