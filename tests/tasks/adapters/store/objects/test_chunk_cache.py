"""Copies of stored images on this machine: bounded, checked at each reading, and never needed."""

from __future__ import annotations

import os
from pathlib import Path

import google_crc32c

from tasks.adapters.store.objects.chunk_cache import ChunkCache


def chunk(row: int) -> bytes:
    """A stored image of 1,000 bytes with its checksum."""
    content = bytes([row % 256]) * 996
    return content + int(google_crc32c.value(content)).to_bytes(4, "little")


def size_of(cache: ChunkCache) -> int:
    """Bytes of all copies."""
    return sum(path.stat().st_size for path in cache.folder.glob("*/*/*") if path.is_file())


def test_it_stays_within_its_size_and_forgets_what_was_not_read_for_longest(tmp_path: Path) -> None:
    """Of fifty images in a cache for twenty the newest are there, and the one that was read all the time."""
    cache = ChunkCache(tmp_path / "cache", 20_000)
    for row in range(50):
        cache.add("pixels", row, "tag", 0, chunk(row))
        for path in cache.folder.glob("pixels/*/*"):  # so that no clock's resolution decides
            os.utime(path, ns=(1, 1 + int(path.name.split("-")[0]) * 1000))
        os.utime(next(cache.folder.glob("pixels/00/0-*")), ns=(1, 10**9))
        assert size_of(cache) <= 20_000
    there = {row for row in range(50) if cache.get("pixels", row, "tag", 0) == chunk(row)}
    assert {0, 49, 48, 47, 40} <= there and not there & set(range(1, 30))


def test_a_damaged_copy_is_gone_and_asked_for_again(tmp_path: Path) -> None:
    """A flipped bit, and a copy that was cut, are no copies."""
    cache = ChunkCache(tmp_path, 100_000)
    for damage in (b"x" + chunk(1)[1:], chunk(1)[:500], b""):
        cache.add("pixels", 1, "tag", 7, chunk(1))
        path = next(tmp_path.glob("pixels/*/1-*"))
        path.write_bytes(damage)
        assert cache.get("pixels", 1, "tag", 7) is None and not path.exists()


def test_a_copy_is_of_one_shard_and_place(tmp_path: Path) -> None:
    """Another array, entity tag or offset is another copy."""
    cache = ChunkCache(tmp_path, 100_000)
    cache.add("pixels", 1, "tag", 7, chunk(1))
    assert cache.get("pixels", 1, "tag", 7) == chunk(1)
    for asked in (("masks", 1, "tag", 7), ("pixels", 1, "t", 7), ("pixels", 1, "tag", 8)):
        assert cache.get(*asked) is None


def test_a_disk_that_refuses_is_no_error(tmp_path: Path) -> None:
    """Nothing is kept then, and nothing unfinished is left; an image larger than the cache is not kept either."""
    (tmp_path / "file").write_bytes(b"")
    ChunkCache(tmp_path / "file" / "cache", 100_000).add("pixels", 1, "tag", 0, chunk(1))
    small = ChunkCache(tmp_path / "small", 500)
    small.add("pixels", 1, "tag", 0, chunk(1))
    assert small.get("pixels", 1, "tag", 0) is None
    ChunkCache(tmp_path / "none", 0).add("pixels", 1, "tag", 0, chunk(1))
    assert not (tmp_path / "none").exists()
