"""Images of a store in a bucket, as they are stored, in files of this machine: bounded, checked at each reading, never needed.

A file is named by what it is a copy of: array, row, entity tag of the shard and offset in it. A shard that was written anew has
another tag, so what is found is what the shard holds now.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tasks.adapters.store.shard_file import is_chunk_sound
from tasks.adapters.workspace import aside_of

_FULL: Final = 0.9
"""Share of its size to which the cache is emptied; the rest is what its processes add until one of them looks again."""
_LOOKED_AFTER: Final = 0.01
"""Share of its size that a process adds before it looks how large the whole is."""
_ADDED: Final[dict[tuple[Path, int], int]] = {}
_LOCK: Final = threading.Lock()


@dataclass(frozen=True, slots=True)
class ChunkCache:
    """Cheap to make and to pickle. Any number of processes may share its folder; above ten it may be a little larger.

    Attributes:
        folder: Of one store; made where it is first written.
        size_bytes: At most; 0 = nothing is kept.
    """

    folder: Path
    size_bytes: int

    def get(self, array: str, row: int, etag: str, offset: int) -> bytes | None:
        """A stored image with its checksum; None = it is not here, or was damaged and is gone now."""
        path = self._path(array, row, etag, offset)
        try:
            chunk = path.read_bytes()
        except OSError:
            return None
        if not is_chunk_sound(chunk):
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)  # what was read last goes last
        return chunk

    def add(self, array: str, row: int, etag: str, offset: int, chunk: bytes) -> None:
        """Keeps a copy, and makes room; a disk that refuses is no error: the image is there."""
        if len(chunk) > self.size_bytes * (1 - _FULL):
            return
        path = self._path(array, row, etag, offset)
        aside = aside_of(path, f"{os.getpid()}-{threading.get_ident()}")
        with suppress(OSError):
            self._make_room(len(chunk))
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                with open(aside, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                    file.write(chunk)
                aside.replace(path)
            finally:
                aside.unlink(missing_ok=True)

    def keep_only(self, rows: Collection[int]) -> None:
        """Deletes what is a copy of another row: it was withdrawn, or is not published any more."""
        kept = rows if isinstance(rows, frozenset | set) else frozenset(rows)
        for path in self._files():
            if not path.name.split("-", 1)[0].isdigit() or int(path.name.split("-", 1)[0]) not in kept:
                path.unlink(missing_ok=True)

    def _path(self, array: str, row: int, etag: str, offset: int) -> Path:
        tag = hashlib.sha256(etag.encode()).hexdigest()[:16]
        return self.folder / array / f"{row % 256:02x}" / f"{row}-{tag}-{offset}"

    def _files(self) -> Iterator[Path]:
        return (path for path in self.folder.glob("*/*/*") if path.is_file())

    def _make_room(self, added: int) -> None:
        with _LOCK:
            so_far = _ADDED.get((self.folder, os.getpid()))
            if so_far is not None and so_far + added < self.size_bytes * _LOOKED_AFTER:
                _ADDED[self.folder, os.getpid()] = so_far + added
                return
            _ADDED[self.folder, os.getpid()] = added
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _alone(self.folder / "lock") as is_alone:
            if is_alone:
                self._evict()

    def _evict(self) -> None:
        found = []
        for path in self._files():
            with suppress(FileNotFoundError):
                seen = path.stat()
                found.append((seen.st_mtime_ns, seen.st_size, path))
        left = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if left <= self.size_bytes * _FULL:
                return
            path.unlink(missing_ok=True)
            left -= size


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Holds a lock if nobody else does: one process at a time makes room."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)
