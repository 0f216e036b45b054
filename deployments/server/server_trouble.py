"""A Prefect server that fails a command: what its clients raise then tells nobody why, and this says it."""

from __future__ import annotations

import errno
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from schemas.errors import MammoError, StoreError
from tasks.adapters.workspace import SERVER_DATABASE

_LEAST_ROOM_BYTES: Final = 2**20
_FULL: Final = (b"database or disk is full", b"No space left on device", b"Disk quota exceeded")
_SECONDS_TO_CONNECT: Final = 5.0


@contextmanager
def full_disk_in_words(home: Path) -> Iterator[None]:
    """What a server on a full disk answers tells nobody why: an internal error, or nothing.

    Args:
        home: The server's folder, with its database and log.

    Raises:
        StoreError: The block failed, and the disk is full.
    """
    log_path = home / "server.log"
    before = log_path.stat().st_size if log_path.exists() else 0
    try:
        yield
    except StoreError:
        raise
    except Exception as failed:
        if not _is_full(home, log_path, before):
            raise
        raise _full(home, type(failed).__name__) from failed


def require_room(home: Path) -> None:
    """Asked before a server is started.

    Raises:
        StoreError: There is none left on its disk.
    """
    if shutil.disk_usage(home).free < _LEAST_ROOM_BYTES:
        raise _full(home, "no room, so that it was not started")


@contextmanager
def lost_server_in_words(address: str, told: Callable[[], MammoError]) -> Iterator[None]:
    """What clients make of a server that was killed is a traceback through their libraries.

    Args:
        address: Its own, as http://127.0.0.1:4200.
        told: What is said of it.

    Raises:
        MammoError: The block failed, and the server has ended: what ``told`` returns.
    """
    try:
        yield
    except (MammoError, OSError):  # they have their sentences; clients raise neither
        raise
    except Exception as failed:
        if not nobody_listens(address):
            raise
        raise told() from failed


def server_has_ended(address: str, home: Path) -> MammoError:
    """Of a command's own server."""
    return MammoError(
        "The Prefect server of this command has ended, and the command with it",
        expected="that it runs until the command is done",
        got=f"nobody listens at {address}",
        remedy=f"run the same command again: what is finished is kept; {home / 'server.log'} may say why it ended",
    )


def configured_is_silent(address: str) -> MammoError:
    """Of a server that ``PREFECT_API_URL`` or Prefect's profile names."""
    return MammoError(
        "The configured Prefect server does not answer",
        expected=f"an answer at {address}/api/health",
        remedy="start it, correct PREFECT_API_URL, or unset it: a server of the workspace's own is started then",
    )


def nobody_listens(address: str) -> bool:
    """True of a server that has ended; not of a busy one, whose queue of connections is full, nor of one behind a web proxy."""
    place = urlsplit(address)
    if not getproxies().keys().isdisjoint((place.scheme, "all")) and not proxy_bypass(place.hostname or ""):
        return False
    port = place.port or (443 if place.scheme == "https" else 80)
    try:
        socket.create_connection((place.hostname or "", port), _SECONDS_TO_CONNECT).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


# ---------------------------------------------------------------------------------------------------------------------


def _full(home: Path, got: str) -> StoreError:
    return StoreError(
        "The disk of the workspace's Prefect server is full",
        expected=f"room for {home / SERVER_DATABASE}",
        got=got,
        remedy="make room and run the same command again: what is finished is kept; `mammo prune` deletes old history",
    )


def _is_full(home: Path, log_path: Path, before: int) -> bool:
    """True if there is no room left, or the server has said so since."""
    try:
        with log_path.open("rb") as log:
            log.seek(before)
            said = log.read()
        return any(words in said for words in _FULL) or shutil.disk_usage(home).free < _LEAST_ROOM_BYTES
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
