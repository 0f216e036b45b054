"""The lock of a folder: one writer at a time, on one machine, and nothing to delete when a process was killed."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from schemas.errors import StoreBusy, StoreError, error_name

_SECONDS_BETWEEN_TRIES = 0.5


@contextmanager
def held_lock(folder: Path, *, purpose: str, wait_s: float = 0.0) -> Iterator[None]:
    """Holds the folder for one writer; the kernel frees it when the process ends, however it ends.

    Args:
        folder: What is written.
        purpose: What for: named to others who want it meanwhile.
        wait_s: How long to wait for another process that holds it.

    Raises:
        StoreBusy: Another process holds it, still after ``wait_s``; the message names its pid, host and start.
        StoreError: The folder cannot be made or written.
    """
    descriptor = _opened_lock(folder)
    try:
        deadline_s = time.monotonic() + wait_s
        while not _locks(descriptor):
            if time.monotonic() < deadline_s:
                time.sleep(_SECONDS_BETWEEN_TRIES)
                continue
            raise StoreBusy(
                f"{folder} is in use",
                expected="one writer at a time",
                got=_holder(folder / "lock"),
                remedy="wait for that run to end, or stop it; its finished work is kept",
            )
        os.ftruncate(descriptor, 0)
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "purpose": purpose, "since_utc": _now_utc()}
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _opened_lock(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as trouble:
        if trouble.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StoreError(
            f"{folder} cannot be written",
            expected="a folder of the user who runs mammo",
            got=error_name(trouble),
            remedy="correct workspace_dir, or the rights of the folder above it",
        ) from trouble


def is_held(folder: Path) -> bool:
    """True if a process holds the folder now; leaves no trace."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _locks(descriptor)
    finally:
        os.close(descriptor)


def _locks(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(lock_path: Path) -> str:
    try:
        holder = json.loads(lock_path.read_text())
    except (OSError, ValueError):
        return "another process, which has not named itself yet"
    return f"{holder['purpose']} by pid {holder['pid']} on {holder['host']} since {holder['since_utc']}"


def _now_utc() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
