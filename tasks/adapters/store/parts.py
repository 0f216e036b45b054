"""The parts of a store belong together: each carries the store's id, and if one is there all must be.

A part that is missing is never made anew beside the others: new arrays would read as black images, a new ledger would give out
rows that the manifest names, a new key would make strangers of known patients. ``store.json`` is written last, when a store is
made, and its id last, when a store of a former release is given one: without it nothing counts.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyarrow import compute, parquet

from schemas.config.run import Stage
from schemas.errors import StoreError
from schemas.layout import LESION_MASK, PIXELS
from tasks.adapters.pseudonyms import names_of_key
from tasks.adapters.store.store_settings import bucket_url, objects_of
from tasks.adapters.workspace import StoreFolder, Workspace, replaced, write_atomically

LINES_PER_GROUP: Final = 20_000
"""Of the manifest's file: a million lines in a thousand groups take four times as long to read, in one group as a whole."""
_ID: Final = "store_id"
_DAMAGE: Final = (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException)


def is_unmade(files: StoreFolder) -> bool:
    """True if nothing of a store is there, or only what a killed maker left."""
    return files.unfinished_path.exists() or not any(path.exists() for path in (files.settings_path, *files.parts))


def is_new(workspace: Workspace) -> bool:
    """True if a store may be made here: nothing is there of one, and no ingest has said anything of one.

    Raises:
        StoreError: There was a store, which is gone as a whole.
    """
    if not is_unmade(workspace.store):
        return False
    if workspace.report_path(Stage.INGEST.value).exists():
        raise StoreError(
            f"The exam store of {workspace.root} is gone",
            expected="what its last ingest published",
            remedy="see that its disk is there; else restore it from a backup. To begin anew, delete the folder ingest too",
        )
    return True


@contextmanager
def making(files: StoreFolder) -> Iterator[None]:
    """Inside, the parts of a new store are written, ``store.json`` last; what a killed maker left is deleted first."""
    if files.unfinished_path.exists():  # it ended before anybody could put anything into the store
        shutil.rmtree(files.pixels_dir, ignore_errors=True)
        for path in (files.ledger_path, files.manifest_path, files.settings_path):
            path.unlink(missing_ok=True)
    write_atomically(files.unfinished_path, b"")
    yield
    files.unfinished_path.unlink()


def require_parts(files: StoreFolder, store_id: str, *, for_writing: bool) -> None:
    """Checks that the parts are there and of this store; readers need no manifest of it yet, and no ledger that is sound.

    Raises:
        StoreError: A part is missing, damaged, or belongs to another store.
    """
    require_arrays(files, store_id)
    if (for_writing or store_id) and not files.ledger_path.exists():
        raise missing_part(files.ledger_path, "restore it from a backup (`mammo restore`), or ingest into a new workspace_dir")
    if for_writing and store_id:
        found = _manifest_id(files.manifest_path)
        if found is not None:
            require_same(found, store_id, files.manifest_path)


def require_arrays(files: StoreFolder, store_id: str) -> None:
    """Checks that the pixels are there and of this store.

    Raises:
        StoreError: They are missing, damaged, or belong to another store.
    """
    remedy = (
        "see that the disk they lie on is there; if they are lost: `mammo backup`, then `mammo restore` of that archive makes "
        "empty ones, and `mammo ingest` reads the files again"
    )
    group = files.pixels_dir
    for path in (group, group / PIXELS, group / LESION_MASK):
        if not (path / "zarr.json").exists():
            raise missing_part(path, remedy)
    try:
        found = str(_group(files)["attributes"].get(_ID, ""))
    except _DAMAGE as damage:
        raise StoreError(
            f"The description of the arrays in {group} is damaged", expected="zarr metadata", remedy="restore it from a backup"
        ) from damage
    if store_id:
        require_same(found, store_id, group)


def require_key(files: StoreFolder, key_id: str) -> None:
    """Checks that the key beside a store is its own. None need be there for a reader: who trains can do without.

    Two stores may have one key, to have the same pseudonyms: the file of either is right in both.

    Raises:
        StoreError: It is another one.
        ConfigError: It is damaged.
    """
    path = Workspace(files.root.parent).key_path
    names = names_of_key(path)
    if names is None:
        return
    if names[0] != key_id:
        raise StoreError(
            f"{path.name} in {path.parent} is not the key that the pseudonyms of this store were made with",
            expected=f"the key {key_id}, as {files.settings_path.name} says",
            got=f"the key {names[0]}{f' of the store {names[1][:12]}' if names[1] else ''}",
            remedy="put the right one back, or restore it from a backup (`mammo restore`)",
        )


def require_same(found: str, store_id: str, part: Path) -> None:
    """Refuses a part of another store.

    Raises:
        StoreError: It is one.
    """
    if found != store_id:
        raise StoreError(
            f"{part.name} in {part.parent} belongs to another store",
            expected=f"the store {store_id[:12]}, as {StoreFolder(part.parent).settings_path.name} says",
            got=found[:12] or "a part without an id",
            remedy="put the right one back, or restore all of them from one backup",
        )


def missing_part(path: Path, remedy: str) -> StoreError:
    """What to raise where a part is gone; nothing was made in its place."""
    return StoreError(f"{path.name} of the exam store is gone", expected=path, got="no such file", remedy=remedy)


def write_arrays_id(files: StoreFolder, store_id: str) -> None:
    """Marks the arrays as those of this store."""
    group = _group(files)
    group["attributes"] = {**group["attributes"], _ID: store_id}
    write_atomically(files.pixels_dir / "zarr.json", json.dumps(group, indent=2).encode())


def write_manifest(files: StoreFolder, table: pa.Table, store_id: str) -> None:
    """Replaces the manifest, with its store's id if that has one; its bytes are never in memory as a whole.

    Raises:
        OSError: The disk is full or the folder cannot be written; the earlier manifest stays.
    """
    with manifest_writer(files, table.schema, store_id) as writer:
        writer.write_table(table, row_group_size=LINES_PER_GROUP)


@contextmanager
def manifest_writer(files: StoreFolder, schema: pa.Schema, store_id: str) -> Iterator[parquet.ParquetWriter]:
    """Takes the lines of a new manifest, group by group; it replaces the one in force when the block ends well.

    Raises:
        OSError: The disk is full or the folder cannot be written; the earlier manifest stays.
        StoreError: The store lies in a bucket where another workspace publishes; the earlier manifest stays.
        PeerUnavailable: The object store cannot be asked; likewise.
    """
    metadata = dict(schema.metadata or {})
    if store_id:
        metadata[_ID.encode()] = store_id.encode()
    url = bucket_url(files)
    with replaced(files.manifest_path) as file:
        with parquet.ParquetWriter(file, schema.with_metadata(metadata)) as writer:
            yield writer
        if url:  # first there, where others read; then here
            file.flush()
            objects = objects_of(files, url)
            objects.put_lists()
            objects.put(files.manifest_path, Path(file.name))


def manifest_table(files: StoreFolder, store_id: str, *, without: Collection[str] = ()) -> pa.Table:
    """The manifest in force.

    Args:
        files: The store's.
        store_id: Of the store.
        without: Columns that are not read.

    Raises:
        StoreError: It is damaged, or belongs to another store.
        FileNotFoundError: Nothing was published yet.
    """
    with _readable(files.manifest_path):
        columns = [name for name in parquet.read_schema(files.manifest_path).names if name not in without]
        table = parquet.read_table(files.manifest_path, columns=columns)
    _require_id(table.schema, store_id, files.manifest_path)
    return table


def manifest_of_patients(
    files: StoreFolder, store_id: str, groups: Sequence[pa.Array], *, without: Collection[str] = ()
) -> list[pa.Table]:
    """The lines of each group of patients, in the manifest's order; those of nobody's are never all in memory.

    Raises:
        StoreError, FileNotFoundError: As ``manifest_parts``.
    """
    kept: list[list[pa.RecordBatch]] = [[] for _ in groups]
    for part in manifest_parts(files, store_id, None, lines=5 * LINES_PER_GROUP, without=without):  # a look-up table each
        for patients, found in zip(groups, kept, strict=True):
            found.append(part.filter(compute.is_in(part["patient_id"], value_set=patients)))
    return [pa.Table.from_batches(found) for found in kept]


def manifest_parts(
    files: StoreFolder, store_id: str, columns: list[str] | None, *, lines: int = 1000, without: Collection[str] = ()
) -> Iterator[pa.RecordBatch]:
    """Some columns of the manifest in force, part by part: what is not asked for is not read, nor many parts at once.

    At least one part, of nothing if nothing is published: it has the columns.

    Args:
        files: The store's.
        store_id: Of the store.
        columns: Those asked; None = all.
        lines: Of a part.
        without: Columns that are not read, where all are asked.

    Raises:
        StoreError: It is damaged, or belongs to another store.
        FileNotFoundError: Nothing was published yet.
    """
    path = files.manifest_path
    with _readable(path), parquet.ParquetFile(path, pre_buffer=False) as file:
        _require_id(file.schema_arrow, store_id, path)
        nothing = file.schema_arrow.empty_table()
        nothing.select(columns or [])  # a column that is not there is an error, and would be left out
        if columns is None:
            columns = [name for name in nothing.column_names if name not in without]
        if not file.metadata.num_rows:
            yield pa.RecordBatch.from_pylist([], nothing.select(columns).schema)
        yield from file.iter_batches(lines, columns=columns, use_threads=False)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except _DAMAGE as damage:
        raise StoreError(
            f"The manifest {path} cannot be read",
            expected="an undamaged parquet file",
            got=type(damage).__name__,
            remedy="`mammo ingest CONFIG.yaml` writes it anew from the ledger",
        ) from damage


def _require_id(schema: pa.Schema, store_id: str, path: Path) -> None:
    if store_id:
        require_same((schema.metadata or {}).get(_ID.encode(), b"").decode(), store_id, path)


def _manifest_id(path: Path) -> str | None:
    """The id in a manifest; None if there is none that can be read: ingest writes it anew from the ledger."""
    try:
        metadata: dict[bytes, bytes] = parquet.read_schema(path).metadata or {}
        return metadata.get(_ID.encode(), b"").decode()
    except _DAMAGE:
        return None


def _group(files: StoreFolder) -> dict[str, Any]:
    group: dict[str, Any] = json.loads((files.pixels_dir / "zarr.json").read_bytes())
    return {"attributes": {}, **group}
