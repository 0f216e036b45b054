"""``store.json``: what a store was made with, the id that every part of it carries, and what the terms of its data forbid."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pydantic import Field, PositiveInt, ValidationError

from schemas.config.ingest import PreprocessConfig
from schemas.config.section import Config
from schemas.errors import StoreError, error_name
from schemas.layout import STORE_VERSION
from tasks.adapters.workspace import StoreFolder, write_atomically

if TYPE_CHECKING:
    from tasks.adapters.store.objects.published_objects import PublishedObjects


class StoreSettings(Config):
    """The content of ``store.json``."""

    store_version: str = Field(STORE_VERSION, description="Version of the layout")
    preprocess: PreprocessConfig
    preprocess_version: str
    rows_per_shard: PositiveInt = Field(description="Images of one shard, one writer's whole work")
    pseudonym_key_id: str = Field(description="Names the key of the pseudonyms")
    store_id: str = Field("", description="Carried by arrays, ledger and manifest too; empty in a store of a former release")
    url: str = Field("", description="Where the shards lie, if not beside this file: s3://bucket/prefix")
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
        StoreError: Its bucket holds another store, or one that another workspace has changed.
    """
    claim_address(files, settings)
    write_atomically(files.settings_path, _as_text(settings))


def claim_address(files: StoreFolder, settings: StoreSettings) -> None:
    """Puts ``store.json`` into the bucket, where the store is in one: before anything else of a new store is there.

    Raises:
        StoreError: Its bucket holds another store, or one that another workspace has changed.
        PeerUnavailable: The object store cannot be asked.
    """
    if settings.url:
        objects_of(files, settings.url).put(files.settings_path, _as_text(settings))


def bucket_url(files: StoreFolder) -> str:
    """Where the shards of a store lie, if not in its folder; "" also where there is no store yet.

    Raises:
        StoreError: It has another layout, or its ``store.json`` is damaged.
    """
    return read_settings(files).url if files.settings_path.exists() else ""


def objects_of(files: StoreFolder, url: str) -> PublishedObjects:
    """What is small of a store in a bucket.

    Raises:
        ConfigError: The client of object stores is not installed, or the address is none.
    """
    from tasks.adapters.store.objects.published_objects import PublishedObjects  # late: the client is an extra

    return PublishedObjects(files, url)


def _as_text(settings: StoreSettings) -> bytes:
    unmarked = {name for name in ("terms", "url") if not getattr(settings, name)}  # so the release before can read it
    return json.dumps(settings.model_dump(mode="json", exclude=unmarked), indent=1).encode()


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
