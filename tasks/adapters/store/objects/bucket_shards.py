"""The shards of a store in a bucket: written whole by one put, read image by image by range.

A shard's object has the name that zarr gives its file. It is made beside the network, in a temporary folder of the one who
writes, and put on the condition that what was there is what its kept rows were taken from: of two who write one shard, the
later is told.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from schemas.errors import StoreError
from schemas.layout import PIXELS
from tasks.adapters.buckets.bucket import Bucket, PutLost
from tasks.adapters.store.objects.chunk_cache import ChunkCache
from tasks.adapters.store.shard_file import NO_CHUNK, ShardFile, decode_chunk, index_bytes, is_chunk_sound, parsed_index
from tasks.adapters.workspace import StoreFolder

Index = tuple[NDArray[np.uint64], str]
"""Offset and length of each image of a shard, and the shard's entity tag."""

_INDEXES: Final[OrderedDict[tuple[str, str, str], Index]] = OrderedDict()
_LOCK: Final = threading.Lock()
_CANVASES: Final = threading.local()
"""One of each array a thread: a fresh one for each image costs as much as decoding it."""
_INDEXES_KEPT: Final = 100_000
"""Of a process: a quarter of a kilobyte each, all of a million images and their masks."""
_TRIES: Final = 4
"""How often an image is asked for while its shard is written anew under the reader's hands."""


@dataclass(frozen=True, slots=True)
class BucketShards:
    """The shards below an address. Cheap to make and to pickle.

    Attributes:
        bucket: Where.
        rows: Images of a shard.
        canvas_px: (rows, columns) of an image.
        seen: Names the manifest by which the reader reads: under another one, every shard's index is asked for again.
        cache: Copies on this machine; None = every image is asked for.
    """

    bucket: Bucket
    rows: int
    canvas_px: tuple[int, int]
    seen: str = ""
    cache: ChunkCache | None = None

    # ---------------------------------------------------------------------------------------------------------- writing

    @contextmanager
    def writer(self, name: str, shard: int) -> Iterator[ShardFile]:
        """A writer of one shard, which is in the bucket when the block ends well, and unchanged when it does not.

        Raises:
            StoreError: Another has written it meanwhile.
        """
        key = shard_key(name, shard)
        with tempfile.TemporaryDirectory(prefix="shard-") as folder:
            path = StoreFolder(Path(folder)).shard_path(name, shard)
            etag = self._fetch(key, path)
            before = None if etag is None else path.stat().st_ino
            with ShardFile(path, rows=self.rows, canvas_px=self.canvas_px, dtype=dtype_of(name), is_synced=False) as file:
                yield file
            if path.exists() and path.stat().st_ino != before:
                self._put(key, path, etag)
            elif etag is not None and not path.exists():
                self.bucket.delete(key)

    def _fetch(self, key: str, path: Path) -> str | None:
        try:
            content, etag = self.bucket.get(key)
        except FileNotFoundError:
            return None
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        return etag

    def _put(self, key: str, path: Path, etag: str | None) -> None:
        try:
            self.bucket.put(key, path, instead_of=etag, is_new=etag is None)
        except PutLost:
            pass
        else:
            return
        raise StoreError(
            f"Another process has written a shard at {self.bucket.url} meanwhile; it is left as that one wrote it",
            expected="one writer of a shard at a time",
            got="another entity tag than that of what was read",
            remedy="see that one workspace alone ingests to this address, then run again",
        )

    # ---------------------------------------------------------------------------------------------------------- reading

    def chunk(self, name: str, row: int) -> bytes | None:
        """A stored image with its checksum, which holds; None = none is there.

        Raises:
            ValueError: The stored bytes do not match their checksum.
            StoreError: The shard's index is damaged.
        """
        for is_fresh in (False, *(True for _ in range(_TRIES))):
            found = self.index(name, row // self.rows, is_fresh=is_fresh)
            offset, length = (NO_CHUNK, 0) if found is None else map(int, found[0][row % self.rows])
            if found is None or offset == NO_CHUNK:
                if is_fresh:
                    return None
                continue
            etag = found[1]
            if self.cache is not None and (chunk := self.cache.get(name, row, etag, offset)) is not None:
                return chunk
            try:
                chunk, _ = self.bucket.get(shard_key(name, row // self.rows), if_match=etag, start=offset, length=length)
            except (PutLost, FileNotFoundError):
                continue  # it was written anew, or is gone
            if not is_chunk_sound(chunk):
                raise ValueError("the checksum does not match")
            if self.cache is not None:
                self.cache.add(name, row, etag, offset, chunk)
            return chunk
        return None

    def image(self, name: str, row: int, size_px: tuple[int, int]) -> NDArray[Any]:
        """An image from the canvas's upper left corner; of an array of masks zeros where none is there.

        Raises:
            ValueError: The stored bytes do not match their checksum, or there is no such image.
            RuntimeError: They are no image.
            StoreError: The shard's index is damaged.
        """
        chunk = self.chunk(name, row)
        if chunk is None and name == PIXELS:
            raise ValueError("its shard is missing")
        if chunk is None:
            return np.zeros(size_px, np.uint8)
        canvas_HW: NDArray[Any] | None = getattr(_CANVASES, name, None)
        if canvas_HW is None or canvas_HW.shape != self.canvas_px:
            canvas_HW = np.empty(self.canvas_px, dtype_of(name))
            setattr(_CANVASES, name, canvas_HW)
        decode_chunk(chunk, canvas_HW)
        return canvas_HW[: size_px[0], : size_px[1]].copy()

    def index(self, name: str, shard: int, *, is_fresh: bool = False) -> Index | None:
        """Where a shard's images lie in it; None = there is no such shard.

        Raises:
            StoreError: It is damaged.
        """
        key = shard_key(name, shard)
        known = (self.bucket.url, key, f"{self.seen} {os.getpid()}")
        with _LOCK:
            if not is_fresh and known in _INDEXES:
                return _INDEXES[known]
            _INDEXES.pop(known, None)
        try:
            tail, etag = self.bucket.get(key, start=-index_bytes(self.rows))
        except FileNotFoundError:
            return None
        index = parsed_index(tail, self.rows, f"{self.bucket.url}/{key}"), etag
        with _LOCK:
            _INDEXES[known] = index
            while len(_INDEXES) > _INDEXES_KEPT:
                _INDEXES.popitem(last=False)
        return index

    def missing(self, name: str, shards: Collection[int]) -> set[int]:
        """Those of some shards that are not there: by one listing, whatever their number."""
        if len(shards) == 1:
            return {shard for shard in shards if self.bucket.head(shard_key(name, shard)) is None}
        return set(shards) - {shard for shard, key in self.keys(name) if key == shard_key(name, shard)}

    def keys(self, name: str) -> Iterator[tuple[int, str]]:
        """Shard and name of every object of an array's shards, those set aside included."""
        below = StoreFolder(Path()).shard_path(name, 0).parents[2].as_posix()
        for one in self.bucket.listed(f"{below}/"):
            shard = one.key[len(below) + 1 :].split("/", 1)[0]
            if shard.isdigit():
                yield int(shard), one.key

    # ---------------------------------------------------------------------------------------------------------- mending

    def is_sound(self, name: str, shard: int) -> bool:
        """True if the shard's index matches its checksum, or there is no such shard."""
        try:
            self.index(name, shard, is_fresh=True)
        except StoreError:
            return False
        return True

    def set_aside(self, name: str, shard: int, ending: str) -> None:
        """Keeps the bytes of a shard under another name, and takes its own away."""
        key = shard_key(name, shard)
        content, _ = self.bucket.get(key)
        self.bucket.put(f"{key}.{uuid4().hex}{ending}", content)
        self.bucket.delete(key)

    def delete_endings(self, name: str, ending: str) -> None:
        """Deletes what was set aside."""
        for _, key in self.keys(name):
            if key.endswith(ending):
                self.bucket.delete(key)

    def erase(self, name: str, owned: Collection[int], gone: Collection[int], ending: str) -> int:
        """Writes every shard anew without the rows that nobody owns; returns how many images went.

        A shard that cannot be read, or was set aside, goes as a whole if it may hold a row that must go.
        """
        erased = 0
        for shard, key in list(self.keys(name)):
            start = shard * self.rows
            holds_gone = any(start <= row < start + self.rows for row in gone)
            if key != shard_key(name, shard):
                if holds_gone and key.endswith(ending):
                    self.bucket.delete(key)
            elif self.is_sound(name, shard):
                erased += self._erase(name, shard, owned)
            elif holds_gone:
                self.bucket.delete(key)
        return erased

    def _erase(self, name: str, shard: int, owned: Collection[int]) -> int:
        rows = [row for row in self.written_rows(name, shard) if shard * self.rows + row not in owned]
        if rows:
            with self.writer(name, shard) as file:
                for row in rows:
                    file.drop(row)
        return len(rows)

    def written_rows(self, name: str, shard: int) -> Sequence[int]:
        """Indices in the shard of the images that it holds."""
        found = self.index(name, shard, is_fresh=True)
        return [] if found is None else [int(row) for row in np.flatnonzero(found[0][:, 0] != NO_CHUNK)]


def dtype_of(name: str) -> type[np.uint16 | np.uint8]:
    """Of an array's values."""
    return np.uint16 if name == PIXELS else np.uint8


def shard_key(name: str, shard: int) -> str:
    """The name of a shard's object below the store's address."""
    return StoreFolder(Path()).shard_path(name, shard).as_posix()
