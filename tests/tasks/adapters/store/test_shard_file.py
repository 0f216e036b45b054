"""A shard written image by image is the file that zarr would have written, and appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BloscShuffle, Crc32cCodec

from schemas.errors import StoreError
from tasks.adapters.store.shard_file import COMPRESSION_LEVEL, COMPRESSOR, ShardFile

ROWS, CANVAS_PX = 4, (60, 48)


def _crop(row: int) -> NDArray[np.uint16]:
    return np.random.default_rng(row).integers(1, 4096, (60 - 7 * row, 20 + 9 * row), dtype=np.uint16)


def _array(folder: Path) -> tuple[zarr.Array[object], Path]:
    array = zarr.create_array(
        folder, shape=(ROWS, *CANVAS_PX), chunks=(1, *CANVAS_PX), shards=(ROWS, *CANVAS_PX), dtype="uint16", fill_value=0,
        compressors=[BloscCodec(cname=COMPRESSOR, clevel=COMPRESSION_LEVEL, shuffle=BloscShuffle.bitshuffle), Crc32cCodec()],
    )  # fmt: skip
    return array, folder / "c" / "0" / "0" / "0"


def _shard(path: Path) -> ShardFile:
    return ShardFile(path, rows=ROWS, canvas_px=CANVAS_PX, dtype=np.uint16)


def _write(path: Path, rows: tuple[int, ...]) -> None:
    with _shard(path) as shard:
        for row in rows:
            shard.add(row, _crop(row))


def test_the_file_is_zarr_s_own_byte_for_byte(tmp_path: Path) -> None:
    """The same images through zarr and through ShardFile: equal files, images of changing size after one another too."""
    theirs, their_path = _array(tmp_path / "theirs")
    block_RHW = np.zeros((ROWS, *CANVAS_PX), np.uint16)
    for row in range(ROWS):
        crop_HW = _crop(row)
        block_RHW[row, : crop_HW.shape[0], : crop_HW.shape[1]] = crop_HW
    theirs[:] = block_RHW
    ours, our_path = _array(tmp_path / "ours")
    _write(our_path, (0, 1, 2, 3))
    assert our_path.read_bytes() == their_path.read_bytes()
    np.testing.assert_array_equal(ours[:], block_RHW)


def test_rows_left_out_read_as_zero_and_others_stay(tmp_path: Path) -> None:
    """Rows 0 and 2 first, then 1 with 2 dropped: 0 keeps its bytes, 2 and 3 read as 0."""
    array, path = _array(tmp_path)
    _write(path, (0, 2))
    with _shard(path) as shard:
        shard.add(1, _crop(1))
        shard.drop(2)
    rows_RHW = np.asarray(array[:])
    assert [int(image_HW.sum()) for image_HW in rows_RHW] == [int(_crop(0).sum()), int(_crop(1).sum()), 0, 0]


def test_an_error_changes_nothing(tmp_path: Path) -> None:
    """A writer that fails after its first image leaves the earlier shard and no other file."""
    _, path = _array(tmp_path)
    _write(path, (0,))
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="decoder"), _shard(path) as shard:
        shard.add(1, _crop(1))
        raise RuntimeError("decoder")
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_damaged_shard_is_not_carried_over(tmp_path: Path) -> None:
    """Rows of a shard whose index is cut off are not lost silently: the writer refuses and leaves the file as it is."""
    _, path = _array(tmp_path)
    _write(path, (0, 1))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(StoreError, match="damaged"):
        _write(path, (2,))
    assert list(path.parent.iterdir()) == [path]


def test_a_shard_whose_last_row_is_dropped_is_gone(tmp_path: Path) -> None:
    """A mask shard without masks is no file."""
    _, path = _array(tmp_path)
    _write(path, (3,))
    with _shard(path) as shard:
        shard.drop(3)
    assert not path.exists()
