"""tensorstore reads what zarr reads, refuses what zarr refuses, and says what to do where it cannot work."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.config.ingest import PreprocessConfig
from schemas.config.training import StoreReader, TrainConfig
from schemas.errors import ConfigError, StoreError
from schemas.layout import LESION_MASK, PIXELS
from tasks.adapters.store import tensorstore_reader
from tasks.adapters.store.exam_store import ExamStore, StoredImage, create_store, read_row, reserve_rows, write_shard

pytest.importorskip("tensorstore", reason="the extra tensorstore is not installed")
SETTINGS = PreprocessConfig(window_px=(96, 64), jitter_shift_px=8, jitter_size_px=8)


def _image(row: int) -> StoredImage:
    rng = np.random.default_rng(row)
    pixels_HW = rng.integers(1, 4096, (100 - row, 70 + row), dtype=np.uint16)
    return StoredImage(row=row, pixels_HW=pixels_HW, mask_HW=(pixels_HW > 2048).astype(np.uint8) if row % 2 else None)


@pytest.fixture
def store(tmp_path: Path) -> ExamStore:
    """Rows 0 to 5 of two shards of four; rows 6 and 7 were never written."""
    made = create_store(tmp_path / "s", preprocess=SETTINGS, preprocess_version="1", rows_per_shard=4, key_id="k")
    reserve_rows(made, 8)
    write_shard(made, 0, map(_image, range(4)))
    write_shard(made, 1, map(_image, range(4, 6)))
    return made


def _read(store: ExamStore, row: int, name: str = PIXELS) -> NDArray[np.uint16]:
    return read_row(store, row, name, reader=StoreReader.TENSORSTORE)


@pytest.mark.parametrize("name", [PIXELS, LESION_MASK])
def test_both_readers_give_the_same_pixels(store: ExamStore, name: str) -> None:
    """Every row of both arrays, in the same type."""
    for row in range(6):
        ours_HW, theirs_HW = _read(store, row, name), read_row(store, row, name)
        np.testing.assert_array_equal(ours_HW, theirs_HW)
        assert ours_HW.dtype == theirs_HW.dtype


def test_rows_written_later_are_seen(store: ExamStore) -> None:
    """An array that has grown since it was opened is opened again."""
    _read(store, 0)
    reserve_rows(store, 12)
    write_shard(store, 2, [_image(8)])
    np.testing.assert_array_equal(_read(store, 8), read_row(store, 8))


def test_a_shard_written_anew_is_seen(store: ExamStore) -> None:
    """What was kept of a shard's file, its index, is not used for the file that has replaced it."""
    _read(store, 4)
    longer = StoredImage(row=4, pixels_HW=np.random.default_rng(9).integers(1, 4096, (100, 80), dtype=np.uint16))
    write_shard(store, 1, [longer, _image(5)])
    for row in (4, 5):
        np.testing.assert_array_equal(_read(store, row), read_row(store, row))


def test_it_reads_where_it_is_installed(store: ExamStore) -> None:
    """``auto``, the config's default: tensorstore opens the array. Where it is not installed zarr does."""
    tensorstore_reader.opened.cache_clear()
    found_HW = read_row(store, 0, reader=TrainConfig().store_reader)
    assert tensorstore_reader.opened.cache_info().misses == 1
    np.testing.assert_array_equal(found_HW, read_row(store, 0))


@pytest.mark.parametrize("row", [6, 400])
def test_a_row_without_an_image_is_refused(store: ExamStore, row: int) -> None:
    """A chunk that was never written, and a row beyond the array, are errors, not black images."""
    with pytest.raises(StoreError, match=f"Row {row}"):
        _read(store, row)


def test_a_flipped_bit_is_refused(store: ExamStore) -> None:
    """Checksums that the writer left are checked, in a file that was read when it was sound too."""
    _read(store, 0)
    path = store.folder / "pixels.zarr" / PIXELS / "c" / "0" / "0" / "0"
    damaged = bytearray(path.read_bytes())
    damaged[2000] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match="crc32c"):
        _read(store, 0)


def test_a_process_of_the_fork_server_reads(store: ExamStore) -> None:
    """Loader processes read although their parent has read before."""
    _read(store, 0)
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        got_HW = pool.apply(read_row, (store, 1), {"reader": StoreReader.TENSORSTORE})
    np.testing.assert_array_equal(got_HW, read_row(store, 1))


# A process of its own: to fork one that has threads already, as that of the tests has, may hang for reasons that are not ours.
_FORKS = """
import multiprocessing, pickle, sys
sys.path[:0] = [sys.argv[1]]
from schemas.config.training import StoreReader
from schemas.errors import StoreError
from tasks.adapters.store.exam_store import read_row
store = pickle.loads(bytes.fromhex(sys.argv[2]))
read_row(store, 0, reader=StoreReader.TENSORSTORE)
with multiprocessing.get_context("fork").Pool(1) as pool:
    try:
        pool.apply_async(read_row, (store, 1), {"reader": StoreReader.TENSORSTORE}).get(timeout=90)
    except StoreError as refused:
        print(refused)
    print(pool.apply_async(read_row, (store, 1), {"reader": StoreReader.AUTO}).get(timeout=90).shape)
"""


def test_a_forked_process_is_told_instead_of_hanging(store: ExamStore) -> None:
    """After a fork the parent's reader is refused with the remedy; where nobody asked for it, zarr reads."""
    command = [sys.executable, "-c", _FORKS, str(Path(__file__).parents[4]), pickle.dumps(store).hex()]
    said = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert "forkserver" in said.stdout and said.stdout.endswith(f"{read_row(store, 1).shape}\n"), said.stderr


def test_without_the_extra_the_remedy_is_named(store: ExamStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A config that asks for an uninstalled reader is told what to install."""
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    tensorstore_reader.opened.cache_clear()
    with pytest.raises(ConfigError, match=r"pip install .*'\.\[tensorstore\]"):
        _read(store, 0)
