"""The manifest seen through the splits: which lines, exams and findings belong to training, tuning and test."""

from __future__ import annotations

import hashlib
import mmap
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from io import BytesIO
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pandas.api.extensions import ExtensionArray
from pyarrow import compute

from schemas.errors import StoreError
from schemas.exam import FINDINGS, UNKNOWN, ExamRecord, Finding, Laterality, QuarantinedFile, Split
from schemas.layout import (
    DEVICE_COLUMNS,
    MANIFEST_COLUMNS,
    MANIFEST_NAMES,
    OPTIONAL_COLUMNS,
    SPLIT_NAMES,
    Column,
)
from schemas.reports.data import SplitReport
from tasks.adapters.allocator import uncollected
from tasks.adapters.store.exam_store import ExamStore
from tasks.adapters.store.parts import LINES_PER_GROUP, manifest_of_patients, manifest_parts, manifest_table, manifest_writer
from tasks.adapters.workspace import write_atomically

LINES_AT_ONCE: Final = 1000
"""Of which something is made that takes more memory than they: a frame, a text."""
DIGESTS: Final = frozenset(name for name in MANIFEST_NAMES if name.endswith("_sha256"))
"""Columns that checks and audits alone ask: a fifth of a million lines' memory."""
_LINES_PER_TEXT: Final = LINES_PER_GROUP
_Known = tuple[Mapping[Laterality, frozenset[Finding] | None], Mapping[Laterality, frozenset[Finding]]]
_COLUMNS: Final = (*MANIFEST_COLUMNS, *OPTIONAL_COLUMNS)
_ZERO_WHERE_UNSAID: Final = frozenset(column.name for column in OPTIONAL_COLUMNS if not column.is_nullable)


@uncollected()
def exam_records(manifest: pd.DataFrame) -> list[ExamRecord]:
    """One record per exam from the manifest's lines, by exam and patient; of a breast its first line speaks."""
    keys = ["exam_id", "patient_id", "laterality"]
    breasts = manifest[[*keys, *FINDINGS]].drop_duplicates(keys).sort_values(keys, kind="stable")
    sides = {side.value: side for side in Laterality}
    lines = zip(*(texts_of(breasts[key]) for key in keys), _labels(breasts), strict=True)
    records: list[ExamRecord] = []
    known: dict[tuple[tuple[str, tuple[int, ...]], ...], _Known] = {}  # a million exams say some ten different things
    for (exam_id, patient_id), of_exam in groupby(lines, key=itemgetter(0, 1)):
        said = tuple((side, label) for _, _, side, label in of_exam)
        if said not in known:
            known[said] = (
                {sides[side]: _present(label) for side, label in said},
                {sides[side]: _absent(label) for side, label in said},
            )
        findings, absent = known[said]
        records.append(ExamRecord(exam_id=exam_id, patient_id=patient_id, findings=findings, absent=absent))
    return records


def manifest_with_splits(report: SplitReport, ingested_store: pd.DataFrame) -> pd.DataFrame:
    """The manifest with a ``split`` column; patients that came after the split have none and are left out.

    Raises:
        StoreError: The splits file is gone or damaged.
    """
    splits = read_splits(report.splits_path)
    return ingested_store.merge(splits, on="patient_id", how="inner")


def read_splits(path: Path) -> pd.DataFrame:
    """Which patient is in which split.

    Raises:
        StoreError: The file is gone or damaged.
    """
    try:
        return pd.read_parquet(path)[list(SPLIT_NAMES)]
    except (OSError, ValueError, KeyError) as damage:  # pyarrow's errors about damage are among these
        raise StoreError(
            f"The splits at {path} are gone or damaged",
            expected="which patient is in which split: it cannot be made again once the cohort has grown",
            got=type(damage).__name__,
            remedy="restore the folder from a backup; `mammo split CONFIG.yaml --force split` divides all anew",
        ) from damage


def texts_of(column: pd.Series[Any]) -> list[Any]:
    """The values of a column of texts: one by one pandas hands them out five times as slowly."""
    found: list[Any] = column.to_numpy(object).tolist()
    return found


def _labels(lines: pd.DataFrame) -> Iterator[tuple[int, ...]]:
    """Of each line, what is said of each finding."""
    return zip(*(lines[finding.value].tolist() for finding in FINDINGS), strict=True)


def _present(label: Sequence[int]) -> frozenset[Finding] | None:
    present = frozenset(finding for finding, value in zip(FINDINGS, label, strict=True) if value == 1)
    return present if present or UNKNOWN not in label else None


def _absent(label: Sequence[int]) -> frozenset[Finding]:
    return frozenset(finding for finding, value in zip(FINDINGS, label, strict=True) if value == 0)


def publish(
    store: ExamStore,
    lines: Iterable[Mapping[str, object]],
    quarantined: Sequence[QuarantinedFile],
    see: Callable[[pd.DataFrame], object] = lambda part: None,
) -> str:
    """Replaces the manifest and the quarantine list; what the manifest names is visible to readers from now on.

    Which columns it has is known when the last line was taken, so all lie in a file without a name until then.

    Args:
        store: Where.
        lines: Taken one at a time: of a million some thousands are in memory.
        quarantined: The files of the list.
        see: Is shown the lines, part by part, with every column that a manifest may have.

    Returns:
        Its ``data_version``, of the lines as they were written.
    """
    says: set[str] = set()
    with TemporaryFile(dir=store.folder) as aside, TemporaryFile(dir=store.folder) as texts:
        with ExitStack() as open_stream:
            stream: pa.RecordBatchStreamWriter | None = None
            for part in _in_parts(lines):
                asked = set().union(*part) - says  # most lines lack most of them
                says |= {
                    column.name
                    for column in OPTIONAL_COLUMNS
                    if column.name in asked and any(_says(line.get(column.name), column) for line in part)
                }
                see(frame := _typed(part, _COLUMNS))
                batch = _batch(frame)
                stream = stream or open_stream.enter_context(pa.ipc.new_stream(aside, batch.schema))
                stream.write_batch(batch)
        columns = [column for column in _COLUMNS if column.name in MANIFEST_NAMES or column.name in says]
        names = [column.name for column in columns]
        schema = _batch(_typed([], columns)).schema
        aside.seek(0)
        with pa.ipc.open_stream(aside) as parts, manifest_writer(store.files, schema, store.store_id) as writer:
            batches = (batch.select(names).replace_schema_metadata(writer.schema.metadata) for batch in parts)

            def written() -> Iterator[pd.DataFrame]:
                while group := list(islice(batches, LINES_PER_GROUP // LINES_AT_ONCE)):
                    writer.write_table(pa.Table.from_batches(group))
                    yield from (batch.to_pandas() for batch in group)

            version = _version_as_they_lie(written(), texts)
    refused = pd.DataFrame(
        [(file.file_id, " ".join(file.reason_codes), file.refusal.text) for file in quarantined],
        columns=["file_id", "reason_codes", "message"],
    )
    write_atomically(store.quarantine_path, refused.to_csv(index=False).encode())
    return version


def _in_parts(lines: Iterable[Mapping[str, object]]) -> Iterator[list[Mapping[str, object]]]:
    """At least one part, of nothing if there is nothing."""
    taken = iter(lines)
    yield list(islice(taken, LINES_AT_ONCE))
    while part := list(islice(taken, LINES_AT_ONCE)):
        yield part


def _typed(lines: Sequence[Mapping[str, object]], columns: Sequence[Column]) -> pd.DataFrame:
    """Some lines as the manifest has them; 0 where an optional column that must have a value has none."""
    return pd.DataFrame({column.name: _values(lines, column) for column in columns}, copy=False)


def _values(lines: Sequence[Mapping[str, object]], column: Column) -> ExtensionArray | NDArray[Any]:
    """One column, made as its type at once: to change the type of one takes pandas 0.1 ms, whatever the lines are."""
    values: list[Any] = [line.get(column.name) for line in lines]
    if column.name in _ZERO_WHERE_UNSAID:
        values = [0 if value is None or value != value else value for value in values]
    return pd.array(values, dtype="string") if column.dtype == "string" else np.array(values, dtype=column.dtype)


def _batch(frame: pd.DataFrame) -> pa.RecordBatch:
    return pa.RecordBatch.from_pandas(frame, preserve_index=False)


def _says(value: object, column: Column) -> bool:
    """True if a line has something to say in an optional column."""
    return value is not None if column.is_nullable else bool(value)


def read_manifest(store: ExamStore, *, without: Collection[str] = ()) -> pd.DataFrame:
    """The published images, ``schemas.layout.MANIFEST_COLUMNS``.

    Args:
        store: Whose.
        without: Columns that nobody asks: digests of a million images are half of their lines.

    Raises:
        StoreError: Nothing was published yet, or the manifest is damaged or of another store.
    """
    return _frames(store, lambda: [manifest_table(store.files, store.store_id, without=without)], without)[0]


def read_divided(
    store: ExamStore, splits: pd.DataFrame, wanted: Iterable[Split], *, without: Collection[str] = ()
) -> list[pd.DataFrame]:
    """The published images of some splits, a table each: of a million lines nothing is ever there twice.

    Args:
        store: Whose.
        splits: Lines of ``read_splits``.
        wanted: Which splits.
        without: Columns that nobody asks.

    Raises:
        StoreError: As ``read_manifest``.
    """
    groups = [pa.array(texts_of(splits.loc[splits["split"] == part.value, "patient_id"]), pa.string()) for part in wanted]
    return _frames(store, lambda: manifest_of_patients(store.files, store.store_id, groups, without=without), without)


def _frames(store: ExamStore, read: Callable[[], list[pa.Table]], without: Collection[str]) -> list[pd.DataFrame]:
    try:
        tables = read()
    except FileNotFoundError as missing:
        raise _nothing_published(store) from missing
    if lacking := [name for name in MANIFEST_NAMES if name not in tables[0].column_names and name not in without]:
        raise _damaged(store, lacking)
    return [tables.pop(0).to_pandas(split_blocks=True, self_destruct=True) for _ in list(tables)]  # never there twice


def _nothing_published(store: ExamStore) -> StoreError:
    return StoreError(
        f"Nothing is published in {store.folder}", expected=store.manifest_path.name, remedy="run `mammo ingest` first"
    )


def _damaged(store: ExamStore, lacking: Sequence[str]) -> StoreError:
    return StoreError(
        f"The manifest {store.manifest_path} is damaged",
        expected=f"the columns {', '.join(lacking)}",
        got="it without them",
        remedy="`mammo ingest CONFIG.yaml` writes it anew from the ledger",
    )


def published_rows(store: ExamStore) -> dict[str, int]:
    """image_id -> row of the images that readers see now; empty if nothing was published, or the manifest is damaged."""
    return _published(store, "row")


def published_patients(store: ExamStore) -> dict[str, str]:
    """image_id -> patient_id of the images that readers see now; empty if nothing was published, or the manifest is damaged."""
    return _published(store, "patient_id")


def _published(store: ExamStore, column: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    with suppress(FileNotFoundError, StoreError):
        for part in manifest_parts(store.files, store.store_id, ["image_id", column]):
            values.update(zip(part["image_id"].to_pylist(), part[column].to_pylist(), strict=True))
        return values
    return {}


def read_with_version(store: ExamStore, columns: Collection[str]) -> tuple[pd.DataFrame, str]:
    """Some columns of the published images, and the data version of all: of a million lines the rest is never there at once.

    Raises:
        StoreError: As ``read_manifest``.
    """
    kept: list[pd.DataFrame] = []  # a pass, so that they are of the very lines that the version names

    def parts() -> Iterator[pd.DataFrame]:
        for part in manifest_parts(store.files, store.store_id, None, lines=_LINES_PER_TEXT):
            frame = part.to_pandas()
            kept.append(frame[list(columns)].copy())  # a view would keep the whole part
            yield frame

    try:
        version = _version_as_they_lie(parts())
    except FileNotFoundError as missing:
        raise _nothing_published(store) from missing
    except KeyError as missing:
        raise _damaged(store, [str(missing)]) from missing
    return pd.concat(kept, ignore_index=True), version


def data_version(manifest: pd.DataFrame) -> str:
    """sha256 over what training and evaluation see: images, crops, masks and labels; not where and when they were stored."""
    starts = range(0, max(1, len(manifest)), _LINES_PER_TEXT)
    return _version_as_they_lie(manifest.iloc[start : start + _LINES_PER_TEXT] for start in starts)


def _version_as_they_lie(parts: Iterable[pd.DataFrame], aside: BinaryIO | None = None) -> str:
    """Of lines in any order: to gather texts of whole lines by image costs less than to gather all columns.

    A million lines are half a gigabyte of text: in memory, or in ``aside``, an empty file.
    """
    text: BinaryIO = BytesIO() if aside is None else aside
    ends, digest = array("q", [0]), hashlib.sha256()
    images: list[pa.Array] = []
    for part in parts:
        said = part[_version_columns(part.columns)]
        if not images:
            digest.update(_csv(said.iloc[:0]))
        end_N, of_lines = _bytes_of(_csv_lines(said))
        ends.frombytes((ends[-1] + end_N[1:].astype(np.int64)).tobytes())
        text.write(of_lines)
        images.append(pa.array(part["image_id"].tolist(), pa.string()))  # the column itself would keep the whole part
    order = compute.sort_indices(pa.chunked_array(images, pa.string()))
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(_content(text))]
    lines = pa.Array.from_buffers(pa.large_binary(), len(ends) - 1, buffers)
    for start in range(0, len(lines), LINES_AT_ONCE):
        digest.update(_bytes_of(lines.take(order.slice(start, LINES_AT_ONCE)))[1])
    return digest.hexdigest()


def _content(file: BinaryIO) -> memoryview | mmap.mmap | bytes:
    """Without a copy of it."""
    if isinstance(file, BytesIO):
        return file.getbuffer()
    file.flush()
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if file.tell() else b""


def _version_columns(names: Collection[str]) -> list[str]:
    """The columns that say what an image shows, of those that a manifest has."""
    columns = [name for name in MANIFEST_NAMES if name not in ("row", "gate_warnings", "batch", "batch_date")]
    # Which share a window holds follows from crop and window: a store that says it is of the same data as one that does not.
    # Nor does what made an image change what it shows.
    said = [one.name for one in OPTIONAL_COLUMNS if not one.name.endswith("_seen_fraction") and one not in DEVICE_COLUMNS]
    return columns + [name for name in said if name in names]


def _csv(part: pd.DataFrame, *, header: bool = True) -> bytes:
    return part.to_csv(index=False, header=header, lineterminator="\n").encode()


def _csv_lines(part: pd.DataFrame) -> pa.BinaryArray:
    """The lines that pandas writes, to the byte, in a third of its time: digests of every store hang on them."""
    *texts, last = (_csv_values(part[name]) for name in part)
    if last is not None and all(text is not None for text in texts):
        empty = {"null_handling": "replace", "null_replacement": ""}
        ended = compute.binary_join_element_wise(last, "\n", "", **empty)
        lines = compute.binary_join_element_wise(*texts, ended, ",", **empty).cast(pa.binary())
        text = bytes(_bytes_of(lines)[1])
        plain = {b",": len(part) * len(texts), b"\n": len(part), b'"': 0, b"\r": 0}
        if all(text.count(mark) == count for mark, count in plain.items()):
            return lines
    found = [_csv(part.iloc[[place]], header=False) for place in range(len(part))]  # a value needs quotes, or is of no kind
    return pa.array(found, pa.binary())


def _bytes_of(lines: pa.BinaryArray | pa.LargeBinaryArray) -> tuple[NDArray[np.signedinteger[Any]], memoryview]:
    """Where each line ends, and before them 0; and the bytes of all. Only of an array that is no part of another."""
    _, ends, text = lines.buffers()
    if not len(lines):
        return np.zeros(1, np.int32), memoryview(b"")
    is_large = pa.types.is_large_binary(lines.type)
    end_N = (np.frombuffer(ends, np.int64) if is_large else np.frombuffer(ends, np.int32))[: len(lines) + 1]
    return end_N, memoryview(text)[: int(end_N[-1])]


def _csv_values(values: pd.Series[Any]) -> pa.Array | None:
    """The texts of a column as CSV has them, null where it is empty; None = of another kind than a manifest's columns."""
    if isinstance(values.dtype, pd.StringDtype):
        texts = pa.array(values, from_pandas=True)
        whole = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
        return whole.cast(pa.string())
    plain = values.to_numpy()
    if plain.dtype == np.bool_:
        return compute.if_else(pa.array(plain), *(pa.scalar(said, pa.string()) for said in ("True", "False")))
    if plain.dtype == np.int64:
        return compute.cast(pa.array(plain), pa.string())
    if plain.dtype != np.float64:
        return None
    places_N, bits_U = pd.factorize(plain.view(np.int64))  # by their bits: 0.0 and -0.0 are two texts
    texts_U = [repr(value) if value == value else None for value in bits_U.view(np.float64).tolist()]
    return pa.array(texts_U, pa.string()).take(pa.array(places_N))


def lines_of(manifest: pd.DataFrame) -> list[dict[str, Any]]:
    """The manifest's lines by column name."""
    return [{str(name): value for name, value in line.items()} for line in manifest.to_dict("records")]
