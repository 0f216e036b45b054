"""A store whose shards lie in a bucket: what was written is read again, by zarr too, and nothing is torn or silently old."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from obstore.store import S3Store
from zarr.storage import ObjectStore

from mammo_tests.object_store import BUCKET, Wire, answers, breaks_off, wire_to
from schemas.config.ingest import PreprocessConfig
from schemas.errors import PeerUnavailable, StoreError
from schemas.layout import LESION_MASK, PIXELS
from tasks.adapters.buckets import bucket as bucket_module
from tasks.adapters.buckets.bucket import bucket_at
from tasks.adapters.store.exam_store import (
    ExamStore,
    StoredImage,
    bucket_shards,
    create_store,
    open_store,
    read_row,
    reserve_rows,
    write_shard,
)
from tasks.adapters.store.objects.bucket_shards import shard_key

PREPROCESS = PreprocessConfig(window_px=(96, 64), jitter_shift_px=8, jitter_size_px=8)
ROWS = 4


def create(folder: Path, url: str) -> ExamStore:
    """A store in a bucket, or in its folder without an address."""
    return create_store(folder, preprocess=PREPROCESS, preprocess_version="1", rows_per_shard=ROWS, key_id="k1", url=url)


def crop(row: int) -> NDArray[np.uint16]:
    """An image of a row."""
    return np.random.default_rng(row).integers(1, 4096, (100 + row % 8, 80), dtype=np.uint16)


def images(*rows: int) -> Iterator[StoredImage]:
    """What is written to some rows; odd ones have a mask."""
    for row in rows:
        yield StoredImage(row=row, pixels_HW=crop(row), mask_HW=(crop(row) > 2048).astype(np.uint8) if row % 2 else None)


def is_as_written(store: ExamStore, row: int) -> bool:
    """True if a row and its mask are what ``images`` wrote."""
    size_px = crop(row).shape
    mask_HW = read_row(store, row, LESION_MASK, size_px=(size_px[0], size_px[1]))
    expected_HW = (crop(row) > 2048) if row % 2 else np.zeros(size_px, np.bool_)
    return bool((read_row(store, row, size_px=(size_px[0], size_px[1])) == crop(row)).all() and (mask_HW == expected_HW).all())


@pytest.fixture
def url(s3: str) -> str:
    """An address where nothing is."""
    return f"s3://{BUCKET}/{uuid4().hex}"


@pytest.fixture
def store(tmp_path: Path, url: str) -> ExamStore:
    """Two shards in a bucket: a whole one and one of two images."""
    store = create(tmp_path / "workspace" / "exam_store", url)
    reserve_rows(store, 2 * ROWS)
    write_shard(store, 0, images(0, 1, 2, 3))
    write_shard(store, 1, images(4, 5))
    return open_store(store.folder)


@pytest.fixture
def wire(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """A wire to the server, by which this process asks from now on, and without much patience."""
    monkeypatch.setattr(bucket_module, "PATIENCE", timedelta(seconds=1))
    with wire_to(s3) as wire:
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.endpoint)
        bucket_module.opened.cache_clear()
        yield wire
    bucket_module.opened.cache_clear()


def test_what_was_written_is_read_again_and_zarr_opens_it_where_it_lies(store: ExamStore, url: str, s3: str) -> None:
    """Our reader, a copy of the store without its folder, and zarr's own object store see the same images."""
    elsewhere = replace(pickle.loads(pickle.dumps(store)), folder=Path("/nowhere"), cache_dir=None)  # noqa: S301
    assert all(is_as_written(one, row) for one in (store, elsewhere) for row in range(6))
    assert not list(store.files.pixels_dir.rglob("c")), "a shard lies in the store's folder"
    client = S3Store(BUCKET, prefix=f"{url.rsplit('/', 1)[1]}/pixels.zarr", endpoint=s3, client_options={"allow_http": True})
    group = zarr.open_group(ObjectStore(client, read_only=True), mode="r")
    pixels = group[PIXELS]
    assert isinstance(pixels, zarr.Array) and pixels.shape[0] == 2 * ROWS
    assert all((np.asarray(pixels[row])[: crop(row).shape[0], :80] == crop(row)).all() for row in range(6))
    assert not np.asarray(pixels[6]).any()


def test_a_worker_writes_without_the_stores_folder_and_keeps_what_others_wrote(store: ExamStore) -> None:
    """A shard's other rows keep their bytes, and a store's object is all that a writer needs."""
    worker = replace(store, folder=Path("/nowhere"))
    before = bucket_shards(store).chunk(PIXELS, 4)
    write_shard(worker, 1, images(6, 7))
    assert bucket_shards(store).chunk(PIXELS, 4) == before
    assert all(is_as_written(store, row) for row in range(8))


@pytest.mark.parametrize("fault", ["cut", "broken off"])
def test_a_shard_that_does_not_get_through_changes_nothing(store: ExamStore, wire: Wire, fault: str) -> None:
    """Its put is cut or breaks off: an error that says when to try again, and every reader sees what was there before."""
    if fault == "broken off":
        wire.faults.append(breaks_off(times=1000, to=b"PUT"))
        with pytest.raises(PeerUnavailable):
            write_shard(store, 1, images(6, 7))
        wire.faults.clear()
    else:
        with pytest.raises(PeerUnavailable):

            def cut_in_the_middle() -> Iterator[StoredImage]:
                yield from images(6)
                wire.is_cut = True
                yield from images(7)

            write_shard(store, 1, cut_in_the_middle())
        wire.is_cut = False
    assert [*bucket_shards(store).written_rows(PIXELS, 1)] == [0, 1]
    assert all(is_as_written(store, row) for row in range(6))
    write_shard(store, 1, images(6, 7))
    assert all(is_as_written(store, row) for row in range(8))


def test_a_server_that_asks_to_slow_down_is_asked_again(store: ExamStore, wire: Wire) -> None:
    """Two answers of 503 to a put, and two to readers, and nothing is lost."""
    wire.faults += [answers("503 Slow Down", times=2, to=b"PUT"), answers("503 Slow Down", times=2, to=b"GET")]
    write_shard(store, 1, images(6, 7))
    assert all(is_as_written(replace(store, cache_dir=None), row) for row in range(8))


def test_of_two_writers_of_one_shard_the_later_is_told(store: ExamStore) -> None:
    """Who has read a shard that another writes meanwhile puts nothing in its place."""

    def overtaken() -> Iterator[StoredImage]:
        yield from images(6)
        write_shard(store, 1, images(7))

    with pytest.raises(StoreError, match="Another process has written a shard"):
        write_shard(store, 1, overtaken())
    assert [*bucket_shards(store).written_rows(PIXELS, 1)] == [0, 1, 3]
    assert all(is_as_written(store, row) for row in (4, 5, 7))


def test_a_shard_that_was_written_anew_is_not_read_by_its_old_index(store: ExamStore) -> None:
    """A reader that knows where images lay finds them where they are now, and never another one's bytes."""
    reader = replace(store, cache_dir=None)
    assert is_as_written(reader, 4)
    bucket = bucket_at(store.url)
    bucket.delete(shard_key(PIXELS, 1))
    write_shard(store, 1, images(5, 4))  # in another order, so at other places
    assert is_as_written(reader, 4) and is_as_written(reader, 5)
    bucket.delete(shard_key(PIXELS, 1))
    with pytest.raises(StoreError, match="cannot be read"):
        read_row(reader, 4)


def test_damage_in_the_bucket_is_refused(store: ExamStore) -> None:
    """A flipped bit of an image, and one of an index: each is an error of that image or shard, and of no other."""
    bucket, key = bucket_at(store.url), shard_key(PIXELS, 0)
    content = bytearray(bucket.get(key)[0])
    content[10] ^= 1
    bucket.put(key, bytes(content))
    with pytest.raises(StoreError, match="Row 0"):
        read_row(store, 0)
    assert is_as_written(store, 1)
    content[-10] ^= 1
    bucket.put(key, bytes(content))
    fresh = replace(store, seen="another manifest", cache_dir=None)
    with pytest.raises(StoreError, match="is damaged"):
        read_row(fresh, 1)
    assert is_as_written(fresh, 4)


def test_an_address_holds_one_store(store: ExamStore, tmp_path: Path, url: str) -> None:
    """Another workspace's store is not written over, and one that was killed while it was made is made again."""
    with pytest.raises(StoreError, match="Another workspace publishes"):
        create(tmp_path / "other" / "exam_store", url)
    killed = tmp_path / "killed" / "exam_store"
    create(killed, f"{url}-2")
    for path in (store.files.settings_path, store.files.ledger_path):
        (killed / path.name).unlink()
    shutil.rmtree(killed / store.files.pixels_dir.name)
    again = create(killed, f"{url}-2")
    settings = json.loads(bucket_at(f"{url}-2").get(again.files.settings_path.name)[0])
    assert settings["store_id"] == again.store_id


def test_a_store_does_not_move_by_a_changed_config(store: ExamStore, tmp_path: Path, url: str) -> None:
    """A store on disk, and one in a bucket, stay where they were made."""
    create(tmp_path / "on-disk" / "exam_store", "")
    with pytest.raises(StoreError, match="other settings: url"):
        create(tmp_path / "on-disk" / "exam_store", url)
    with pytest.raises(StoreError, match="other settings: url"):
        create(store.folder, "")
