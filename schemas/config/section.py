"""What every config is made of: frozen, strict, with a digest. The configs: ``config.py``, ``training.py``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
)

ADDED_LATER: dict[str, Any] = {"added_later": True}
"""``json_schema_extra`` of a field that a released config did not have: see ``Config.identity_content``."""

FORMER_DEFAULT = "former_default"
"""Key in the ``json_schema_extra`` of a field whose default a release changed; with it stands what it was before."""

_IDENTITY = "identity"


class Config(BaseModel):
    """Frozen; a misspelt key is an error, and so is a number that is not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def sha256(self) -> str:
        """Digest of the canonical JSON: equal configs have equal digests, whatever the YAML looked like."""
        return content_sha256(self.identity_content())

    def identity_content(self, mode: Literal["json", "python"] = "json") -> dict[str, Any]:
        """What digests and keys are made of: fields that were added after a release are left out while they have their default.

        So what was made before there was the field is still recognised, and a run that uses it is told apart. A field whose
        default was changed stands there with the former one, as long as nobody names a value; a named former one is marked.
        """
        return self.model_dump(mode=mode, context=_IDENTITY)

    @model_serializer(mode="wrap")
    def _without_added_defaults(self, dump: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        content: dict[str, Any] = dump(self)
        if info.context != _IDENTITY:
            return content
        fields = type(self).model_fields
        at_default = {
            name
            for name, field in fields.items()
            if field.json_schema_extra is ADDED_LATER and getattr(self, name) == field.get_default(call_default_factory=True)
        }
        for name, field in fields.items():
            if isinstance(field.json_schema_extra, dict) and FORMER_DEFAULT in field.json_schema_extra:
                former = field.json_schema_extra[FORMER_DEFAULT]
                is_default = getattr(self, name) == field.get_default(call_default_factory=True)
                named = {"named": content[name]} if content[name] == former else content[name]
                content[name] = former if is_default else named
        return {name: value for name, value in content.items() if name not in at_default}


def content_sha256(content: Mapping[str, Any]) -> str:
    """Digest of canonical JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


def _as_pair(value: object) -> object:
    return (value, value) if isinstance(value, int) else value


SizePx = Annotated[tuple[PositiveInt, PositiveInt], BeforeValidator(_as_pair)]
"""(rows, columns); one integer stands for a square."""


def nearest_keys(unknown: str, known: Mapping[str, object]) -> list[str]:
    """The known keys most like a misspelt one, best first."""
    return get_close_matches(unknown, list(known), n=2, cutoff=0.5)
