"""``store.json``: what a store was made with, the id that every part of it carries, and what the terms of its data forbid."""

from __future__ import annotations

import json

from pydantic import Field, PositiveInt, ValidationError

from schemas.config.ingest import PreprocessConfig
from schemas.config.section import Config
from schemas.errors import StoreError, error_name
from schemas.layout import STORE_VERSION
from tasks.adapters.workspace import StoreFolder, write_atomically


class StoreSettings(Config):
    """The content of ``store.json``."""

    store_version: str = Field(STORE_VERSION, description="Version of the layout")
    preprocess: PreprocessConfig
    preprocess_version: str
    rows_per_shard: PositiveInt = Field(description="Images of one shard, one writer's whole work")
    pseudonym_key_id: str = Field(description="Names the key of the pseudonyms")
    store_id: str = Field("", description="Carried by arrays, ledger and manifest too; empty in a store of a former release")
    terms: tuple[str, ...] = Field(
        (), description="What the terms of its data forbid to pass on; never taken back, as a copy of the data stays"
    )

    @property
    def preprocessing(self) -> str:
        """Crop mode, version, VOI transform, common pixel spacing and fitting, as weights must have been trained on."""
        return f"{self.preprocess.crop_mode.value}-{self.preprocess_version}{self.preprocess.fitting}"

    def changed(self, other: StoreSettings) -> list[str]:
        """Names of settings that differ; the id is none, and terms are a mark."""
        settings = type(self).model_fields.keys() - {"store_id", "terms"}
        return sorted(name for name in settings if getattr(self, name) != getattr(other, name))


def read_settings(files: StoreFolder) -> StoreSettings:
    """What a store was made with.

    Raises:
        StoreError: There is no store, it has another layout, or its ``store.json`` is gone or damaged.
    """
    try:
        content = json.loads(files.settings_path.read_bytes())
        version = content["store_version"]
    except FileNotFoundError as missing:
        others = [path.name for path in files.parts if path.exists()]
        if others:
            raise StoreError(
                f"{files.settings_path.name} of {files.root} is gone",
                expected=f"it beside {', '.join(others)}",
                remedy="restore it from a backup (`mammo restore`); nothing was changed",
            ) from missing
        raise StoreError(
            f"There is no exam store at {files.root}",
            expected=f"a folder with {files.settings_path.name}",
            remedy="run `mammo ingest` first",
        ) from missing
    except OSError as trouble:
        raise StoreError(
            f"{files.settings_path} cannot be read",
            got=error_name(trouble),
            remedy="see that its disk is there, and that the user who runs mammo may read it",
        ) from trouble
    except (ValueError, KeyError, TypeError) as damage:
        raise _damaged(files) from damage
    if version != STORE_VERSION:
        raise StoreError(
            "The exam store has another layout",
            expected=f"store version {STORE_VERSION}",
            got=version,
            remedy="ingest again into a new workspace",
        )
    try:
        return StoreSettings.model_validate(content)
    except ValidationError as damage:
        raise _damaged(files) from damage


def write_settings(files: StoreFolder, settings: StoreSettings) -> None:
    """Writes ``store.json``; a store is there when this has returned.

    Raises:
        OSError: The disk is full or gone.
    """
    unmarked = None if settings.terms else {"terms"}  # a store without terms is readable by the release before
    content = settings.model_dump(mode="json", exclude_defaults=False, exclude=unmarked)
    write_atomically(files.settings_path, json.dumps(content, indent=1).encode())


def mark_terms(files: StoreFolder, terms: str) -> None:
    """Marks a store with what the terms of its data forbid: another config takes no mark away.

    Raises:
        StoreError: There is no store, or its ``store.json`` is damaged.
        OSError: The disk is full or gone.
    """
    settings = read_settings(files)
    if terms and terms not in settings.terms:
        write_settings(files, settings.model_copy(update={"terms": (*settings.terms, terms)}))


def _damaged(files: StoreFolder) -> StoreError:
    return StoreError(
        f"{files.settings_path.name} of {files.root} is damaged",
        expected="the settings it was made with",
        remedy="restore it from a backup",
    )
