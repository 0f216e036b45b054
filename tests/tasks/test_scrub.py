"""Repair deletes nothing before its replacement is written: what is away for a while comes back, copies are sources too."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.config.run import RunConfig
from schemas.errors import StoreError
from schemas.layout import PIXELS
from schemas.reports.data import IngestReport, ScrubReport
from tasks.adapters.pseudonyms import open_key
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import published_rows, read_manifest
from tasks.adapters.workspace import Workspace
from tasks.scrub import after_repair, mark_damaged, read_everything

IngestHere = Callable[[RunConfig], IngestReport]
MakeConfig = Callable[..., RunConfig]
Repair = Callable[[RunConfig], ScrubReport]


@pytest.fixture
def repair(scheduler: str, ingest_here: IngestHere) -> Repair:
    """``repair(config)``: the steps of ``flows.scrub`` with --repair, as plain functions."""

    def steps(config: RunConfig) -> ScrubReport:
        found = read_everything.fn(config, scheduler)
        mark_damaged.fn(config, found)
        ingest_here(config)
        return after_repair.fn(found, read_everything.fn(config, scheduler))

    return steps


@pytest.fixture
def config(tmp_path: Path, two_exams: Path, make_config: MakeConfig, ingest_here: IngestHere) -> RunConfig:
    """Two exams of four views, each in a shard of its own, ingested."""
    made = make_config(tmp_path / "workspace", two_exams)
    assert ingest_here(made).images_published == 8
    return made


def _shard(config: RunConfig, shard: int) -> Path:
    return Workspace(config.workspace_dir).store.pixels_dir / PIXELS / "c" / str(shard)


def _source_of(config: RunConfig, row: int) -> Path:
    """The file of a stored image, told by its digest."""
    store = open_store(Workspace(config.workspace_dir).store_dir)
    sha256 = read_manifest(store).set_index("row").loc[row, "source_sha256"]
    digest = open_key(Workspace(config.workspace_dir).key_path).source_digest
    files = config.ingest.source_dir.rglob("*.dcm")
    return next(path for path in files if digest(hashlib.sha256(path.read_bytes()).hexdigest()) == sha256)


def test_pixels_that_are_away_are_not_damaged(config: RunConfig, repair: Repair) -> None:
    """Their disk is not mounted: a sentence, and nothing is marked, read or written."""
    pixels_dir = Workspace(config.workspace_dir).store.pixels_dir
    pixels_dir.rename(config.workspace_dir / "away")
    with pytest.raises(StoreError, match=r"pixels.zarr of the exam store is gone.*disk"):
        repair(config)
    (config.workspace_dir / "away").rename(pixels_dir)
    again = repair(config)
    assert (again.images_read, again.damaged_image_ids, again.images_repaired) == (8, (), 0)


def test_pixels_that_the_disk_does_not_give_are_not_damaged(config: RunConfig, repair: Repair) -> None:
    """A real error of the system, which says nothing of the bytes: nothing is marked, nothing unpublished."""
    store = open_store(Workspace(config.workspace_dir).store_dir)
    before = read_manifest(store)
    shard = _shard(config, 1) / "0" / "0"
    away = shard.rename(config.workspace_dir / "away")
    shard.symlink_to(shard)  # ELOOP when it is opened
    with pytest.raises(StoreError, match=r"cannot be read.*ELOOP.*nothing is called damaged"):
        repair(config)
    shard.unlink()
    away.rename(shard)
    assert read_manifest(store).equals(before)
    assert (repair(config).damaged_image_ids, repair(config).images_repaired) == ((), 0)


def test_what_was_lost_comes_back_with_its_bytes(config: RunConfig, repair: Repair) -> None:
    """A shard and a file of it are away while somebody repairs: unpublished, kept in mind, published when the shard is back."""
    store = open_store(Workspace(config.workspace_dir).store_dir)
    before = read_manifest(store)
    away = config.workspace_dir / "away"
    _shard(config, 1).rename(away)
    _source_of(config, 4).unlink()
    lost = repair(config)
    assert (lost.images_lost, lost.images_repaired, len(lost.awaited_image_ids)) == (1, 3, 1)
    assert sorted(published_rows(store).values()) == [0, 1, 2, 3, 5, 6, 7]

    shutil.rmtree(_shard(config, 1), ignore_errors=True)
    away.rename(_shard(config, 1))
    back = repair(config)
    assert (back.images_lost, back.images_repaired, back.awaited_image_ids) == (0, 1, ())
    assert read_manifest(store).equals(before)


def test_a_copy_is_a_source(config: RunConfig, repair: Repair, ingest_here: IngestHere) -> None:
    """The file that was read is gone, one with the same bytes lies elsewhere in the folder: the image is read from that."""
    store = open_store(Workspace(config.workspace_dir).store_dir)
    source = _source_of(config, 5)
    shutil.copy(source, source.with_name("copy.dcm"))
    assert ingest_here(config).images_published == 8
    before = read_manifest(store)
    source.unlink()
    shutil.rmtree(_shard(config, 1))
    mended = repair(config)
    assert (mended.images_repaired, mended.images_lost) == (4, 0)
    assert read_manifest(store).equals(before)


def test_a_shard_without_an_index_is_kept_until_all_of_it_is_written_again(config: RunConfig, repair: Repair) -> None:
    """A file of it is missing: the bytes stay beside the new shard. With the file back it is whole, and they go."""
    shard = _shard(config, 1) / "0" / "0"
    shard.write_bytes(shard.read_bytes()[:-1])
    source = _source_of(config, 6)
    source.rename(config.workspace_dir / "source")
    assert repair(config).images_lost == 1
    assert len(list(shard.parent.glob("*.damaged"))) == 1
    (config.workspace_dir / "source").rename(source)
    assert repair(config).images_lost == 0
    assert [path.name for path in shard.parent.iterdir()] == ["0"]
