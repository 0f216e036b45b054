"""Erasing: crops and masks that nobody owns any more are overwritten where they lie, and taken out of their shards.

A row that is renamed away, or a shard that is written anew, leaves its old bytes on the disk for whoever looks there. What a
person withdrew must not: its bytes are overwritten in place and synced first, then the shard is written anew without it, in one
rename. A stop in between leaves a row that nobody reads and the next call finds again.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa

from schemas.layout import LESION_MASK, PIXELS
from tasks.adapters.store.exam_store import SET_ASIDE, ExamStore, bucket_shards, shard_file, shard_path
from tasks.adapters.store.parts import manifest_table, write_manifest
from tasks.adapters.store.shard_file import is_index_sound, overwrite_rows, written_rows

_CHUNK_BYTES = 2**20


def unpublish(store: ExamStore, image_ids: Collection[str]) -> int:
    """Takes images out of the manifest in force; how many were in it. Labels and all other lines stay as they are.

    Raises:
        StoreError: The manifest is damaged or of another store.
    """
    try:
        table = manifest_table(store.files, store.store_id)
    except FileNotFoundError:
        return 0
    stays = [image_id not in image_ids for image_id in table["image_id"].to_pylist()]
    if not all(stays):
        write_manifest(store.files, table.filter(pa.array(stays)), store.store_id)
    return len(stays) - sum(stays)


def erase_unowned(store: ExamStore, owned: Collection[int], gone: Collection[int]) -> int:
    """Overwrites every crop and mask whose row is not owned, also those of claims of the past; returns how many crops.

    Call under the store's lock, when no manifest names these rows any more.

    Args:
        store: Where.
        owned: Rows of the ledger's claims and of the manifest in force.
        gone: Rows that must go. A shard of theirs that cannot be read is overwritten whole: of its other images nothing could
            be read either, and `mammo scrub --repair` reads their files again.

    Raises:
        OSError: The disk refuses; what is left to do is found by the next call.
    """
    if store.url:
        return _erase_in_bucket(store, owned, gone)
    erased = 0
    for name in (PIXELS, LESION_MASK):
        for path in sorted((store.files.pixels_dir / name / "c").glob("*/0/0*")):
            shard = int(path.parent.parent.name)
            start = shard * store.rows_per_shard
            holds_gone = any(start <= row < start + store.rows_per_shard for row in gone)
            if path.name.endswith(".partial") or (path.name.endswith(SET_ASIDE) and holds_gone):
                _overwrite(path)
            elif path == shard_path(store, name, shard):
                if is_index_sound(path, store.rows_per_shard):
                    count = _erase(store, name, shard, owned)
                    erased += count if name == PIXELS else 0
                elif holds_gone:
                    _overwrite(path)
    return erased


def _erase_in_bucket(store: ExamStore, owned: Collection[int], gone: Collection[int]) -> int:
    """Objects cannot be overwritten in part: the shards are written anew without the rows. Old versions are the bucket's."""
    shards = bucket_shards(store)
    if shards.cache is not None:
        shards.cache.keep_only(owned)
    return {name: shards.erase(name, owned, gone, SET_ASIDE) for name in (LESION_MASK, PIXELS)}[PIXELS]


def _erase(store: ExamStore, name: str, shard: int, owned: Collection[int]) -> int:
    path, start = shard_path(store, name, shard), shard * store.rows_per_shard
    rows = [row for row in written_rows(path, store.rows_per_shard) if start + row not in owned]
    if rows:
        overwrite_rows(path, store.rows_per_shard, rows)
        with shard_file(store, name, shard) as file:
            for row in rows:
                file.drop(row)
    return len(rows)


def _overwrite(path: Path) -> None:
    """A whole file, and then its name."""
    with path.open("r+b") as file:
        left = file.seek(0, os.SEEK_END)
        file.seek(0)
        while left > 0:
            left -= file.write(bytes(min(left, _CHUNK_BYTES)))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
