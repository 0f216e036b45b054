"""The manifest seen through the splits: which lines, exams and findings belong to training, tuning and test."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pandas.api.extensions import ExtensionArray

from schemas.errors import StoreError
from schemas.exam import FINDINGS, NOT_KNOWN, UNKNOWN, ExamRecord, Finding, Laterality, QuarantinedFile
from schemas.layout import (
    DEVICE_COLUMNS,
    MANIFEST_COLUMNS,
    MANIFEST_NAMES,
    OPTIONAL_COLUMNS,
    SOFTWARE_VERSIONS,
    SPLIT_NAMES,
    Column,
)
from schemas.reports.data import SplitReport
from tasks.adapters.store.exam_store import ExamStore
from tasks.adapters.store.parts import manifest_parts, manifest_table, manifest_writer, write_manifest
from tasks.adapters.workspace import write_atomically

LINES_AT_ONCE: Final = 1000
"""Of which something is made that takes more memory than they: a frame, a text, a group of the manifest's file."""
_COLUMNS: Final = (*MANIFEST_COLUMNS, *OPTIONAL_COLUMNS)
_ZERO_WHERE_UNSAID: Final = frozenset(column.name for column in OPTIONAL_COLUMNS if not column.is_nullable)


def exam_records(manifest: pd.DataFrame) -> list[ExamRecord]:
    """One record per exam from the manifest's lines, by exam and patient; of a breast its first line speaks."""
    keys = ["exam_id", "patient_id", "laterality"]
    breasts = manifest[[*keys, *FINDINGS]].drop_duplicates(keys).sort_values(keys, kind="stable")
    known = {label: (_present(label), _absent(label)) for label in set(_labels(breasts))}
    sides = {side.value: side for side in Laterality}
    records: list[ExamRecord] = []
    exam: tuple[str, str] | None = None
    for exam_id, patient_id, side, label in zip(*(breasts[key] for key in keys), _labels(breasts), strict=True):
        if (exam_id, patient_id) != exam:
            exam = (exam_id, patient_id)
            findings: dict[Laterality, frozenset[Finding] | None] = {}
            absent: dict[Laterality, frozenset[Finding]] = {}
            records.append(ExamRecord(exam_id=exam_id, patient_id=patient_id, findings=findings, absent=absent))
        findings[sides[side]], absent[sides[side]] = known[label]
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
) -> list[str]:
    """Replaces the manifest and the quarantine list; what the manifest names is visible to readers from now on.

    Which columns it has is known when the last line was taken, so all lie in a file without a name until then.

    Args:
        store: Where.
        lines: Taken one at a time: of a million some thousands are in memory.
        quarantined: The files of the list.
        see: Is shown the lines, part by part, with every column that a manifest may have.

    Returns:
        The manifest's columns.
    """
    says: set[str] = set()
    with TemporaryFile(dir=store.folder) as aside:
        with ExitStack() as open_stream:
            stream: pa.RecordBatchStreamWriter | None = None
            for part in _in_parts(lines):
                says |= {
                    column.name
                    for column in OPTIONAL_COLUMNS
                    if column.name not in says and any(_says(line.get(column.name), column) for line in part)
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
            for batch in parts:
                writer.write_batch(batch.select(names).replace_schema_metadata(writer.schema.metadata))
    refused = pd.DataFrame(
        [(file.file_id, " ".join(file.reason_codes), file.refusal.text) for file in quarantined],
        columns=["file_id", "reason_codes", "message"],
    )
    write_atomically(store.quarantine_path, refused.to_csv(index=False).encode())
    return names


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


def read_manifest(store: ExamStore) -> pd.DataFrame:
    """The published images, ``schemas.layout.MANIFEST_COLUMNS``.

    Raises:
        StoreError: Nothing was published yet, or the manifest is damaged or of another store.
    """
    try:
        manifest: pd.DataFrame = manifest_table(store.files, store.store_id).to_pandas()
    except FileNotFoundError as missing:
        raise StoreError(
            f"Nothing is published in {store.folder}", expected=store.manifest_path.name, remedy="run `mammo ingest` first"
        ) from missing
    if lacking := [name for name in MANIFEST_NAMES if name not in manifest]:
        raise StoreError(
            f"The manifest {store.manifest_path} is damaged",
            expected=f"the columns {', '.join(lacking)}",
            got="it without them",
            remedy="`mammo ingest CONFIG.yaml` writes it anew from the ledger",
        )
    return manifest


def published_rows(store: ExamStore) -> dict[str, int]:
    """image_id -> row of the images that readers see now; empty if nothing was published, or the manifest is damaged."""
    rows: dict[str, int] = {}
    with suppress(FileNotFoundError, StoreError):
        for part in manifest_parts(store.files, store.store_id, ["image_id", "row"]):
            rows.update(zip(part["image_id"].to_pylist(), part["row"].to_pylist(), strict=True))
        return rows
    return {}


def published_patients(store: ExamStore) -> dict[str, str]:
    """image_id -> patient_id of the images that readers see now; empty if nothing was published, or the manifest is damaged."""
    patients: dict[str, str] = {}
    with suppress(FileNotFoundError, StoreError):
        for part in manifest_parts(store.files, store.store_id, ["image_id", "patient_id"]):
            patients.update(zip(part["image_id"].to_pylist(), part["patient_id"].to_pylist(), strict=True))
        return patients
    return {}


def devices_of(manifest: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """From an exam to its device and that device's software, as its first image names them; "not known" where none does."""
    first = manifest.drop_duplicates("exam_id")
    names = ("manufacturer", "model_name", "device_id", SOFTWARE_VERSIONS)
    columns = [first[name] if name in first else pd.Series(index=first.index, dtype="string") for name in names]
    said = pd.concat(columns, axis=1, keys=names).astype("string").fillna("")
    named = {}
    for exam_id, maker, model, device_id, software in zip(first["exam_id"], *(said[name] for name in names), strict=True):
        parts = [part for part in (maker, model, device_id) if part]
        named[str(exam_id)] = (" ".join(parts) or NOT_KNOWN, software or NOT_KNOWN)
    return named


def data_version(manifest: pd.DataFrame) -> str:
    """sha256 over what training and evaluation see: images, crops, masks and labels; not where and when they were stored."""
    order = manifest["image_id"].reset_index(drop=True).sort_values().index
    at_once = 10 * LINES_AT_ONCE  # of a million the text would be a gigabyte; of a thousand, pandas' own work counts
    starts = range(0, max(1, len(order)), at_once)
    return _version((manifest.iloc[order[start : start + at_once]] for start in starts), manifest.columns)


def version_of(lines: Iterable[Mapping[str, object]], names: Collection[str]) -> str:
    """The same of lines that come in the order of their images.

    Args:
        lines: Taken one at a time.
        names: The manifest's columns.
    """
    columns = [column for column in _COLUMNS if column.name in names]
    return _version((_typed(part, columns) for part in _in_parts(lines)), names)


def _version(parts: Iterable[pd.DataFrame], names: Collection[str]) -> str:
    columns = [name for name in MANIFEST_NAMES if name not in ("row", "gate_warnings", "batch", "batch_date")]
    # Which share a window holds follows from crop and window: a store that says it is of the same data as one that does not.
    # Nor does what made an image change what it shows.
    said = [one.name for one in OPTIONAL_COLUMNS if not one.name.endswith("_seen_fraction") and one not in DEVICE_COLUMNS]
    columns += [name for name in said if name in names]
    digest = hashlib.sha256()
    for number, part in enumerate(parts):
        digest.update(part[columns].to_csv(index=False, header=number == 0, lineterminator="\n").encode())
    return digest.hexdigest()


def lines_of(manifest: pd.DataFrame) -> list[dict[str, Any]]:
    """The manifest's lines by column name."""
    return [{str(name): value for name, value in line.items()} for line in manifest.to_dict("records")]
