"""Twenty flipped bits, each found and none silently read; sound chunks in the wrong place are found too (fault 14)."""

from __future__ import annotations

import random
import resource
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.config.ingest import PreprocessConfig
from schemas.errors import StoreError
from schemas.layout import LESION_MASK, PIXELS
from tasks.adapters.store.exam_store import (
    ExamStore,
    StoredImage,
    create_store,
    crop_digest,
    read_row,
    reserve_rows,
    set_aside_unreadable_shards,
    write_shard,
)
from tasks.adapters.store.verification import DigestJob, ExpectedImage, find_damage, write_damage_list

PREPROCESS = PreprocessConfig(window_px=(96, 64), jitter_shift_px=8, jitter_size_px=8)


def crop(row: int) -> NDArray[np.uint16]:
    """A crop of noise."""
    return np.random.default_rng(row).integers(1, 4096, (100, 80), dtype=np.uint16)


@pytest.fixture
def store(tmp_path: Path) -> ExamStore:
    """Two shards of four rows; row 1 of each has a lesion mask."""
    made = create_store(tmp_path / "exam_store", preprocess=PREPROCESS, preprocess_version="1", rows_per_shard=4, key_id="k")
    reserve_rows(made, 8)
    for shard in range(2):
        rows = range(4 * shard, 4 * shard + 4)
        write_shard(
            made,
            shard,
            (StoredImage(row=row, pixels_HW=crop(row), mask_HW=mask(row) if row % 4 == 1 else None) for row in rows),
        )
    return made


def mask(row: int) -> NDArray[np.uint8]:
    """Lesion bits."""
    return (crop(row) > 2048).astype(np.uint8)


def job(store: ExamStore) -> DigestJob:
    """Everything that was written."""
    images = [
        ExpectedImage(
            file_id=f"F{row}",
            image_id=f"I{row}",
            row=row,
            shape_px=(100, 80),
            written_sha256=crop_digest(crop(row)),
            mask_sha256=crop_digest(mask(row)) if row % 4 == 1 else None,
        )
        for row in range(8)
    ]
    return DigestJob(store=store, images=tuple(images))


def shard_path(store: ExamStore, name: str, shard: int) -> Path:
    """A shard's file."""
    return store.folder / "pixels.zarr" / name / "c" / str(shard) / "0" / "0"


def found(store: ExamStore) -> set[tuple[str, int]]:
    """Array and row of what is damaged."""
    return {(one.array, one.image.row) for one in find_damage(job(store))}


def test_a_sound_store_has_no_damage(store: ExamStore, tmp_path: Path) -> None:
    """Nothing is found, and the list says so."""
    assert found(store) == set()
    write_damage_list(tmp_path / "damage.csv", [])
    assert (tmp_path / "damage.csv").read_text() == "image_id,row,array,got\n"


def test_each_of_twenty_flipped_bits_is_found_and_none_is_read(store: ExamStore) -> None:
    """Anywhere in a shard, index included: the scrub names a row of that shard, and reading that row is an error."""
    draw = random.Random(7)  # noqa: S311
    for _ in range(20):
        name, shard = draw.choice([(PIXELS, 0), (PIXELS, 1), (LESION_MASK, 0)])
        path = shard_path(store, name, shard)
        sound = path.read_bytes()
        bit = draw.randrange(8 * len(sound))
        damaged = bytearray(sound)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        rows = {row for array, row in found(store) if array == name}
        assert rows and {row // 4 for row in rows} == {shard}, (name, bit)
        for row in rows:
            with pytest.raises(StoreError):
                read_row(store, row, name)
        intact = set(range(4 * shard, 4 * shard + 4)) - rows if name == PIXELS else set()
        assert all((read_row(store, row)[:100, :80] == crop(row)).all() for row in intact)
        path.write_bytes(sound)
    assert found(store) == set()


def test_sound_chunks_of_another_shard_are_found(store: ExamStore) -> None:
    """A shard restored to the wrong place: every checksum is right, every image is wrong."""
    shutil.copy(shard_path(store, PIXELS, 1), shard_path(store, PIXELS, 0))
    assert found(store) == {(PIXELS, row) for row in range(4)}


def test_missing_shards_are_found(store: ExamStore) -> None:
    """Zarr reads them as zeros: no image is, and a mask that is told of is not."""
    shard_path(store, PIXELS, 0).unlink()
    shard_path(store, LESION_MASK, 1).unlink()
    assert found(store) == {*((PIXELS, row) for row in range(4)), (LESION_MASK, 5)}


def test_a_damaged_image_can_be_written_again_and_its_neighbours_stay(store: ExamStore) -> None:
    """One chunk is mended, the others keep their bytes; a shard without a readable index is dropped first."""
    path = shard_path(store, PIXELS, 0)
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)
    set_aside_unreadable_shards(store, range(8))
    (row,) = (row for _, row in found(store))
    write_shard(store, 0, [StoredImage(row=row, pixels_HW=crop(row), mask_HW=mask(row) if row == 1 else None)])
    assert found(store) == set()
    path.write_bytes(path.read_bytes()[:-1])
    set_aside_unreadable_shards(store, range(8))
    assert not path.exists() and shard_path(store, PIXELS, 1).exists()


def test_a_file_that_may_not_grow_leaves_the_shard_as_it_was(store: ExamStore) -> None:
    """A limit on the size of files instead of a full disk (fault 2), for who may mount nothing: OSError, nothing changed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_shard(store, 0, [StoredImage(row=row, pixels_HW=crop(row + 9), mask_HW=None) for row in range(4)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert found(store) == set()
    assert not list(store.folder.rglob("*.partial"))


def test_the_list_names_damage_by_pseudonym(store: ExamStore, tmp_path: Path) -> None:
    """One line per image and array."""
    shard_path(store, LESION_MASK, 1).unlink()
    write_damage_list(tmp_path / "damage.csv", find_damage(job(store)))
    assert (tmp_path / "damage.csv").read_text().splitlines()[
        1
    ] == 'I5,5,lesion_mask,"readable, but not what was written there"'
