"""The database of a workspace's first server: copied, for to make one takes Prefect about as long as all else of its start.

Prefect makes its tables by a hundred migrations. What they end in, before anything has run, is the same for every workspace:
the tables, and Prefect's own block types. It is kept once per user and version of Prefect in the cache folder. Without that
folder, or with a database of the user's own choice, Prefect does it as always.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from schemas.errors import StoreError
from tasks.adapters.databases.sqlite_file import copy_database
from tasks.adapters.workspace import SERVER_DATABASE, aside_of

_CHOSEN_BY_USER = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")


def place_new_database(home: Path, environment: Mapping[str, str]) -> bool:
    """Puts the kept empty database into a home that has none; True if it is a home for which one should be kept."""
    path, kept = home / SERVER_DATABASE, kept_database(environment)
    if path.exists() or _is_chosen_by_user(environment):
        return False
    if not kept.exists():
        return True
    aside = aside_of(path)
    aside.unlink(missing_ok=True)
    try:
        copy_database(kept, aside)
    except StoreError:  # it is damaged: Prefect makes one, which takes its place; or the disk is full
        aside.unlink(missing_ok=True)
        return True
    aside.chmod(0o600)
    aside.replace(path)
    return False


def has_database(home: Path, environment: Mapping[str, str]) -> bool:
    """True if a server of this home works on a database that Prefect has made, here or for another workspace."""
    return (home / SERVER_DATABASE).exists() and not _is_chosen_by_user(environment)


def keep_new_database(home: Path, environment: Mapping[str, str]) -> None:
    """Keeps a copy of the database that a server has just made, before anybody has used it."""
    kept = kept_database(environment)
    aside = aside_of(kept, os.getpid())
    with suppress(StoreError, OSError):  # no cache folder: the next workspace waits as this one did
        kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        copy_database(home / SERVER_DATABASE, aside)
        aside.chmod(0o600)
        aside.replace(kept)


def _is_chosen_by_user(environment: Mapping[str, str]) -> bool:
    return any(environment.get(name) for name in _CHOSEN_BY_USER)


def kept_database(environment: Mapping[str, str]) -> Path:
    """Where the empty database of this version of Prefect is kept."""
    cache_dir = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache_dir / "mammography-gmic" / f"prefect-{version('prefect')}.db"
