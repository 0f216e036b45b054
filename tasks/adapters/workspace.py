"""Where a run keeps its things, the lock of a folder, and files written so that a crash never leaves half of one."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from schemas.config.run import RunConfig
from schemas.errors import StoreBusy

_SECONDS_BETWEEN_TRIES = 0.5


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folders below ``workspace_dir``; one stage writes into one folder."""

    root: Path

    @property
    def store_dir(self) -> Path:
        """The exam store (``schemas.layout``)."""
        return self.root / "exam_store"

    @property
    def key_path(self) -> Path:
        """The pseudonym key, 0600; whoever has it can link pseudonyms to patients."""
        return self.root / "pseudonym.key"

    def stage_dir(self, stage: str) -> Path:
        """Output folder of a stage."""
        return self.root / stage


def exam_store_dir(config: RunConfig) -> Path:
    """The store that a run reads: its workspace's, or another workspace's that it names."""
    return config.store_dir or Workspace(config.workspace_dir).store_dir


def write_atomically(path: Path, content: bytes) -> None:
    """Writes aside, syncs and renames: readers see the old file or the new one, never a part, also after a power cut.

    Raises:
        OSError: The disk is full or the folder cannot be written; nothing is changed then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    sync(path.parent)


def delete_leftovers(folder: Path) -> None:
    """Deletes what killed writers left aside in a folder and its subfolders; call where nobody else writes into it.

    ``write_atomically`` writes aside as ``.part``, zarr and ``ShardFile`` as ``.partial``.
    """
    for leftover in (*folder.rglob("*.part"), *folder.rglob("*.partial")):
        leftover.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Brings a file's bytes, or a folder's names, to the disk.

    Raises:
        OSError: The disk refused them.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def held_lock(folder: Path, *, purpose: str, wait_s: float = 0.0) -> Iterator[None]:
    """Holds the folder for one writer; the kernel frees it when the process ends, however it ends.

    Args:
        folder: What is written.
        purpose: What for: named to others who want it meanwhile.
        wait_s: How long to wait for another process that holds it.

    Raises:
        StoreBusy: Another process holds it, still after ``wait_s``; the message names its pid, host and start.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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
