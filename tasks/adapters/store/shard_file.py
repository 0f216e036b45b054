"""One shard of a zarr array, written image by image: encode, append, index, one rename. The only module that imports numcodecs.

zarr itself writes a shard from one block of memory, which it reads back and zeroes first: 500 MB and twice the time for the
store's shards. What is written here is the same format (zarr v3, ``sharding_indexed`` with the index at the end; chunks are
``bytes``, ``blosc``, ``crc32c``), and zarr and tensorstore read it; the tests hold both to it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

import google_crc32c
import numpy as np
from numcodecs.blosc import Blosc
from numpy.typing import NDArray

from schemas.errors import StoreError
from tasks.adapters.workspace import sync

COMPRESSOR: Final = "lz4"
COMPRESSION_LEVEL: Final = 9
"""Of every chunk, with shuffled bits; zarr's metadata says the same. It takes 2 % fewer bytes than 5 (decision 0007)."""

NO_CHUNK: Final = 2**64 - 1
"""Offset and length of a chunk that is not there."""
_CHECKSUM: Final = np.dtype("<u4")


class ShardFile:
    """A context manager: the shard is on disk, under its name, when the block ends well; nothing is changed when it does not.

    Rows that were in the shard before and are neither added nor dropped keep their bytes, checksum included.

    Args:
        path: The shard's file.
        rows: Images of a shard, one chunk each.
        canvas_px: (rows, columns) of a chunk.
        dtype: uint16 or uint8.
        is_synced: It must outlive a power cut; false for one that is on its way elsewhere.

    Raises:
        OSError: The disk is full or gone.
        StoreError: The shard that is there is damaged.
    """

    def __init__(
        self,
        path: Path,
        *,
        rows: int,
        canvas_px: tuple[int, int],
        dtype: type[np.uint16 | np.uint8],
        is_synced: bool = True,
    ) -> None:
        self._path, self._is_synced = path, is_synced
        self._canvas_HW = np.zeros(canvas_px, dtype)
        self._used_px = (0, 0)
        self._blosc = Blosc(COMPRESSOR, COMPRESSION_LEVEL, Blosc.BITSHUFFLE, typesize=np.dtype(dtype).itemsize)
        self._index_R2 = np.full((rows, 2), NO_CHUNK, "<u8")  # offset, length
        self._settled = np.zeros(rows, np.bool_)
        self._aside_path = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
        self._file: BinaryIO | None = None

    def __enter__(self) -> ShardFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None and self._settled.any():
                self._finish()
        finally:
            if self._file is not None:
                self._file.close()
            self._aside_path.unlink(missing_ok=True)

    def add(self, row: int, crop_HW: NDArray[np.uint16] | NDArray[np.uint8]) -> None:
        """Encodes an image at the canvas's upper left corner, 0 elsewhere.

        Args:
            row: Index in the shard.
            crop_HW: (rows, columns), at most the canvas in size.
        """
        rows_px, columns_px = crop_HW.shape
        self._canvas_HW[rows_px : self._used_px[0]] = 0
        self._canvas_HW[:rows_px, columns_px : self._used_px[1]] = 0
        self._canvas_HW[:rows_px, :columns_px] = crop_HW
        self._used_px = (rows_px, columns_px)
        encoded = self._blosc.encode(self._canvas_HW)
        self._append(row, encoded, np.array(google_crc32c.value(encoded), _CHECKSUM).tobytes())
        self._settled[row] = True

    def drop(self, row: int) -> None:
        """Forgets what an earlier writer stored there; the row reads as 0."""
        self._settled[row] = True

    def _append(self, row: int, *parts: bytes) -> None:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._aside_path.open("wb")
        self._index_R2[row] = self._file.tell(), sum(map(len, parts))
        for part in parts:
            self._file.write(part)

    def _finish(self) -> None:
        self._keep_earlier()
        if self._file is None:
            self._path.unlink(missing_ok=True)  # nothing is left in it
            return
        index = self._index_R2.tobytes()
        self._file.write(index + np.array(google_crc32c.value(index), _CHECKSUM).tobytes())
        self._file.flush()
        if not self._is_synced:
            self._aside_path.replace(self._path)
            return
        os.fsync(self._file.fileno())
        self._aside_path.replace(self._path)
        # The ledger counts on it: what it calls written must outlive a power cut. These folders hold the file's name, up to c/.
        for folder in self._path.parents[:3]:
            sync(folder)

    def _keep_earlier(self) -> None:
        try:
            earlier = self._path.open("rb")
        except FileNotFoundError:
            return
        with earlier:
            index_R2 = _read_index(earlier, len(self._index_R2), self._path)
            for row in np.flatnonzero(~self._settled & (index_R2[:, 0] != NO_CHUNK)):
                earlier.seek(int(index_R2[row, 0]))
                self._append(int(row), earlier.read(int(index_R2[row, 1])))


def written_rows(path: Path, rows: int) -> list[int]:
    """Indices in the shard of the images that it holds.

    Raises:
        StoreError: Its index is damaged.
    """
    with path.open("rb") as file:
        return [int(row) for row in np.flatnonzero(_read_index(file, rows, path)[:, 0] != NO_CHUNK)]


def overwrite_rows(path: Path, rows: int, overwritten: Sequence[int]) -> None:
    """Writes zeros over the bytes of some images, where they lie on the disk; the index goes on naming them.

    Zeros match no checksum, so whoever reads such a row is told of damage: first take it out of the manifest, and afterwards
    ``drop`` it. What a file system keeps besides (snapshots, what a disk moves by itself) is not in our hands.

    Raises:
        OSError: The disk refuses.
        StoreError: The index is damaged.
    """
    with path.open("r+b") as file:
        index_R2 = _read_index(file, rows, path)
        for row in overwritten:
            offset, length = (int(number) for number in index_R2[row])
            if offset != NO_CHUNK:
                file.seek(offset)
                file.write(bytes(length))
        file.flush()
        os.fsync(file.fileno())


def is_index_sound(path: Path, rows: int) -> bool:
    """True if the shard's index matches its checksum; its images may be damaged all the same."""
    try:
        with path.open("rb") as file:
            _read_index(file, rows, path)
    except StoreError:
        return False
    return True


def index_bytes(rows: int) -> int:
    """Length of what ends a shard: its index and the index's checksum."""
    return 16 * rows + _CHECKSUM.itemsize


def parsed_index(tail: bytes, rows: int, name: object) -> NDArray[np.uint64]:
    """Offset and length of each image, from the bytes that end a shard; ``NO_CHUNK`` where there is none.

    Raises:
        StoreError: They are none, or damaged.
    """
    index, checksum = tail[: -_CHECKSUM.itemsize], tail[-_CHECKSUM.itemsize :]
    if len(tail) != index_bytes(rows) or int(np.frombuffer(checksum, _CHECKSUM)[0]) != google_crc32c.value(index):
        raise StoreError(
            f"The shard {name} is damaged",
            expected=f"an index of {rows} chunks that matches its crc32c",
            got="bytes at its end that are none",
            remedy="`mammo scrub CONFIG.yaml --repair` reads its images' files again",
        )
    return np.frombuffer(index, "<u8").reshape(rows, 2)


def is_chunk_sound(chunk: bytes) -> bool:
    """True if a stored image matches the checksum that ends it."""
    if len(chunk) <= _CHECKSUM.itemsize:
        return False
    expected = int(np.frombuffer(chunk[-_CHECKSUM.itemsize :], _CHECKSUM)[0])
    return bool(expected == google_crc32c.value(chunk[: -_CHECKSUM.itemsize]))


def decode_chunk(chunk: bytes, canvas_HW: NDArray[np.uint16] | NDArray[np.uint8]) -> None:
    """Decodes a stored image, its checksum at its end, into a canvas.

    Raises:
        ValueError: It is none of this size.
        RuntimeError: It is none.
    """
    Blosc().decode(chunk[: -_CHECKSUM.itemsize], canvas_HW)


def _read_index(file: BinaryIO, rows: int, path: Path) -> NDArray[np.uint64]:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - index_bytes(rows)))
    return parsed_index(file.read(), rows, path)
