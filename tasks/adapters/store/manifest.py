"""The manifest seen through the splits: which lines, exams and findings belong to training, tuning and test."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final

import pandas as pd
import pyarrow as pa

from schemas.errors import StoreError
from schemas.exam import FINDINGS, UNKNOWN, ExamRecord, Finding, Laterality, QuarantinedFile, Split
from schemas.layout import MANIFEST_COLUMNS, MANIFEST_NAMES, OPTIONAL_COLUMNS, SPLIT_NAMES
from schemas.reports.data import SplitReport
from tasks.adapters.allocator import uncollected
from tasks.adapters.store.exam_store import ExamStore
from tasks.adapters.store.parts import LINES_PER_GROUP, manifest_of_patients, manifest_parts, manifest_table, manifest_writer
from tasks.adapters.store.tables.line_columns import LineColumns, columns_of, schema_of
from tasks.adapters.store.tables.line_texts import version_as_they_lie
from tasks.adapters.workspace import write_atomically

LINES_AT_ONCE: Final = 1000
"""Of which something is made that takes more memory than they: a frame, a text."""
DIGESTS: Final = frozenset(name for name in MANIFEST_NAMES if name.endswith("_sha256"))
"""Columns that checks and audits alone ask: a fifth of a million lines' memory."""
_Known = tuple[Mapping[Laterality, frozenset[Finding] | None], Mapping[Laterality, frozenset[Finding]]]


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
    see: Callable[[pa.RecordBatch], object] = lambda part: None,
) -> str:
    """``publish_columns`` of lines that are taken one at a time: of a million some thousands are in memory."""
    return publish_columns(store, (columns_of(part) for part in _in_parts(lines)), quarantined, see)


def publish_columns(
    store: ExamStore,
    parts: Iterable[LineColumns],
    quarantined: Sequence[QuarantinedFile],
    see: Callable[[pa.RecordBatch], object] = lambda part: None,
) -> str:
    """Replaces the manifest and the quarantine list; what the manifest names is visible to readers from now on.

    Which columns it has is known when the last part was taken, so all lie in a file without a name until then.

    Args:
        store: Where.
        parts: The lines, of which some thousands are in memory.
        quarantined: The files of the list.
        see: Is shown the lines, part by part, with every column that a manifest may have.

    Returns:
        Its ``data_version``, of the lines as they were written.
    """
    says: set[str] = set()
    with TemporaryFile(dir=store.folder) as aside, TemporaryFile(dir=store.folder) as texts:
        with ExitStack() as open_stream:
            stream: pa.RecordBatchStreamWriter | None = None
            for part in _at_least_one(parts):
                says |= part.says
                see(part.batch)
                stream = stream or open_stream.enter_context(pa.ipc.new_stream(aside, part.batch.schema))
                stream.write_batch(part.batch)
        schema = schema_of(says)
        aside.seek(0)
        with pa.ipc.open_stream(aside) as taken, manifest_writer(store.files, schema, store.store_id) as writer:
            batches = (batch.select(schema.names).replace_schema_metadata(writer.schema.metadata) for batch in taken)

            def written() -> Iterator[pa.RecordBatch]:
                for group in _groups(batches):
                    writer.write_table(group)
                    yield from group.to_batches() or [pa.RecordBatch.from_pylist([], group.schema)]

            version = version_as_they_lie(written(), texts)
    refused = pd.DataFrame(
        [(file.file_id, " ".join(file.reason_codes), file.refusal.text) for file in quarantined],
        columns=["file_id", "reason_codes", "message"],
    )
    write_atomically(store.quarantine_path, refused.to_csv(index=False).encode())
    return version


def _in_parts(lines: Iterable[Mapping[str, object]]) -> Iterator[list[Mapping[str, object]]]:
    taken = iter(lines)
    while part := list(islice(taken, LINES_AT_ONCE)):
        yield part


def _at_least_one(parts: Iterable[LineColumns]) -> Iterator[LineColumns]:
    """One of nothing if there is nothing: it has the columns."""
    taken = iter(parts)
    yield next(taken, None) or columns_of([])
    yield from taken


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The lines in groups of the manifest's file, whatever parts they come in; at least one."""
    waiting: list[pa.RecordBatch] = []
    room, is_any = LINES_PER_GROUP, False
    for batch in batches:
        while batch.num_rows >= room:
            yield pa.Table.from_batches([*waiting, batch.slice(0, room)])
            batch, waiting, room, is_any = batch.slice(room), [], LINES_PER_GROUP, True
        waiting.append(batch)
        room -= batch.num_rows
    if room < LINES_PER_GROUP or not is_any:
        yield pa.Table.from_batches(waiting)


def read_manifest(store: ExamStore, *, without: Collection[str] = ()) -> pd.DataFrame:
    """The published images, ``schemas.layout.MANIFEST_COLUMNS``.

    Args:
        store: Whose.
        without: Columns that nobody asks: digests of a million images are half of their lines.

    Raises:
        StoreError: Nothing was published yet, or the manifest is damaged or of another store.
    """
    return _frames(store, lambda: [manifest_table(store.files, store.store_id, without=without)], without)[0]


def all_but(asked: Collection[str]) -> frozenset[str]:
    """The columns that a manifest may have and nobody asks: of a million images they take more memory than the rest."""
    return frozenset(column.name for column in (*MANIFEST_COLUMNS, *OPTIONAL_COLUMNS)) - frozenset(asked)


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

    def parts() -> Iterator[pa.RecordBatch]:
        for part in manifest_parts(store.files, store.store_id, None, lines=LINES_PER_GROUP):
            kept.append(part.select(list(columns)).to_pandas())
            yield part

    try:
        version = version_as_they_lie(parts())
    except FileNotFoundError as missing:
        raise _nothing_published(store) from missing
    except KeyError as missing:
        raise _damaged(store, [str(missing)]) from missing
    return pd.concat(kept, ignore_index=True), version


def lines_of(manifest: pd.DataFrame) -> list[dict[str, Any]]:
    """The manifest's lines by column name."""
    return [{str(name): value for name, value in line.items()} for line in manifest.to_dict("records")]
