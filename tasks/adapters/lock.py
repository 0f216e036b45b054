"""The lock of a folder: one writer at a time, on one machine, and nothing to delete when a process was killed.

Beside it readers: those who make something of a workspace's images or weights, and are not to be at it while these go.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from schemas.errors import StoreBusy, StoreError, error_name

_SECONDS_BETWEEN_TRIES = 0.5
LOCK_FILE = "lock"
"""Lies in the folder that is held, and stays there."""
_READERS = "readers.lock"
_KNOWS_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
"""What a file system answers that has no locks; a share that is away answers otherwise."""


@contextmanager
def held_lock(folder: Path, *, purpose: str, wait_s: float = 0.0) -> Iterator[None]:
    """Holds the folder for one writer; the kernel frees it when the process ends, however it ends.

    Args:
        folder: What is written.
        purpose: What for: named to others who want it meanwhile.
        wait_s: How long to wait for another process that holds it.

    Raises:
        StoreBusy: Another process holds it, still after ``wait_s``; the message names its pid, host and start.
        StoreError: The folder cannot be made, written or locked.
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
                got=_holder(folder / LOCK_FILE),
                remedy="wait for that run to end, or stop it; its finished work is kept",
            )
        _name_holder(descriptor, purpose)
        yield
    finally:
        os.close(descriptor)


def empty_held(folder: Path, *, first: str) -> None:
    """Deletes what lies in a folder that this process holds, but not its lock: another process would lock a new one.

    Args:
        folder: Held.
        first: What says that the rest is whole: it goes first, so that a kill leaves nothing that says so wrongly.

    Raises:
        OSError: The disk refuses.
    """
    (folder / first).unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK_FILE:
            path.unlink(missing_ok=True)


@contextmanager
def reading(folders: Collection[Path]) -> Iterator[None]:
    """Inside, nobody takes away what these workspaces hold; any number of processes may read.

    A workspace that is not there, or where this user may not write, is read without: who takes away there is another.

    Raises:
        StoreBusy: Something is being taken away; the message names what by.
    """
    with ExitStack() as opened:
        for folder in folders:
            descriptor = _opened_readers(folder)
            if descriptor is None:
                continue
            opened.callback(os.close, descriptor)
            if not _locks(descriptor, fcntl.LOCK_SH):
                raise StoreBusy(
                    f"What is in {folder} is being taken away",
                    expected="no withdrawal and no pruning while images or weights are read",
                    got=_holder(folder / _READERS),
                    remedy="run again when that has ended",
                )
        yield


@contextmanager
def without_readers(folder: Path, *, purpose: str) -> Iterator[None]:
    """Inside, nobody reads the workspace: what is taken away does not come back in what somebody made of it meanwhile.

    Raises:
        StoreBusy: Somebody reads it.
    """
    descriptor = _opened_readers(folder)
    try:
        if descriptor is not None:
            if not _locks(descriptor):
                raise StoreBusy(
                    f"What is in {folder} is being read",
                    expected="no evaluation, prediction or other stage while images or weights are taken away",
                    got="a run that has not ended",
                    remedy="let that run end, or stop it",
                )
            _name_holder(descriptor, purpose)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _opened_readers(folder: Path) -> int | None:
    try:
        return os.open(folder / _READERS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None


def _opened_lock(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _locks(descriptor)
    finally:
        os.close(descriptor)


def _name_holder(descriptor: int, purpose: str) -> None:
    os.ftruncate(descriptor, 0)
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "purpose": purpose, "since_utc": _now_utc()}
    os.pwrite(descriptor, json.dumps(holder).encode(), 0)


def _locks(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as trouble:  # nobody could say whether another writes there too
        if trouble.errno not in _KNOWS_NO_LOCKS:
            raise
        raise StoreError(
            "The file system of the workspace locks no files",
            expected="locks (flock), by which one writer keeps others out",
            got=error_name(trouble),
            remedy="see that the share's lock service runs, or mount it with locks; or set workspace_dir to a local disk",
        ) from trouble
    return True


def _holder(lock_path: Path) -> str:
    try:
        holder = json.loads(lock_path.read_text())
    except (OSError, ValueError):
        return "another process, which has not named itself yet"
    return f"{holder['purpose']} by pid {holder['pid']} on {holder['host']} since {holder['since_utc']}"


def _now_utc() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
