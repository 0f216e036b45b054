"""Publishing takes the ledger's lines one at a time: what is published is the same, and memory does not grow with them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from mammo_tests.ledger_files import accepted_file, store_with_ledger
from mammo_tests.manifests import line_of
from schemas.config.ingest import IngestConfig
from schemas.layout import MANIFEST_COLUMNS, Source
from tasks.adapters.inbox import ledger as ledger_module
from tasks.adapters.inbox.batches import Scan
from tasks.adapters.inbox.claims import publishable
from tasks.adapters.inbox.lines import LedgerLine
from tasks.adapters.inbox.publication import Outcome, labels_of, manifest_sizes, outcome, write_published
from tasks.adapters.inbox.publishing.published import Keys, published_parts, read_keys
from tasks.adapters.inbox.store_ledger import StoreLedger
from tasks.adapters.labels.named_inputs import InputCounter
from tasks.adapters.pseudonyms import Pseudonyms
from tasks.adapters.store import manifest as manifest_module
from tasks.adapters.store.exam_store import ExamStore
from tasks.adapters.store.manifest import read_manifest

CONFIG = IngestConfig(source_dir=Path("source"))
PSEUDONYMS = Pseudonyms(b"k" * 32)
_STORED = [column.name for column in MANIFEST_COLUMNS if column.source not in (Source.LABELS, Source.LEDGER)]


def _store(folder: Path, lines: Iterable[Mapping[str, object]]) -> ExamStore:
    """A store whose ledger holds these lines, each of a file of its own."""
    store = store_with_ledger(folder)
    written = [LedgerLine(file_id=f"F{number}", stored=dict(line)) for number, line in enumerate(lines)]
    with StoreLedger(store) as ledger:
        ledger.add_accepted(
            accepted_file(line.file_id, at="1-1", image_id=line.image_id, exam_id=line.exam_id, source_sha256=line.file_id)
            for line in written
        )
        ledger.plan_rows(4, planned_utc="2026-01-02T03:04:05+00:00")
        row_of = {file_id: row for file_id, (row, _) in ledger.unwritten_rows().items()}
        ledger.add_written(replace(line, stored={**line.stored, "row": row_of[line.file_id]}) for line in written)
    return store


def _line(row: int, **changes: object) -> dict[str, object]:
    return {name: value for name, value in line_of(row).items() if name in _STORED} | changes


def _publish(store: ExamStore, before: Iterable[str] = ()) -> tuple[Outcome, Keys, str]:
    """As the task does: what became of the files, the keys of what is published, and its data version."""
    what = outcome(store, Scan(file_ids=frozenset(), unsettled=()))
    inputs = InputCounter(CONFIG, PSEUDONYMS, {})
    keys = read_keys(store, published_parts(store, what.left_out), dict.fromkeys(before, "P"), (), inputs)
    joined = labels_of(CONFIG, what, keys, PSEUDONYMS)
    return what, keys, write_published(store, what, joined, {}).data_version


def test_what_is_published_is_what_the_rules_say_of_all_lines_at_once(tmp_path: Path) -> None:
    """Of lines that share images, pixels, exams, patients and dates at random, in the order of their rows."""
    chance = np.random.default_rng(5)
    lines = []
    for row in range(400):
        line = _line(row if chance.random() < 0.95 else int(chance.integers(400)))  # some come again
        for name in ("image_id", "exam_id", "pixel_sha256", "patient_id", "exam_date"):
            if chance.random() < 0.03:
                line[name] = _line(int(chance.integers(400)))[name]
        lines.append(line | {"exam_date": line["exam_date"] if chance.random() < 0.9 else None})
    store = _store(tmp_path, lines)
    with StoreLedger(store) as ledger:
        every, compared = ledger.manifest_lines(), ledger.lines_to_compare()
    expected = publishable(every)
    what, keys, version = _publish(store, before=[line.image_id for line in every[:9]])
    manifest = read_manifest(store)
    assert manifest["row"].tolist() == [line.row for line in expected.lines]
    assert min(expected.copies, expected.contested, len(expected.twins), len(every) - len(compared)) > 0
    assert {file.file_id for file in what.refused} == {file.file_id for file in expected.refused}
    assert (what.found.copies, what.found.contested) == (expected.copies, expected.contested)
    assert manifest_sizes(manifest)["data_version"] == version
    assert set(keys.breasts()) == {line.breast for line in expected.lines}
    assert keys.gone == {line.image_id for line in every[:9]} - {line.image_id for line in expected.lines}


def test_memory_does_not_grow_with_the_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times as many images take their keys more, and not their lines; the file is written group by group."""
    monkeypatch.setattr(manifest_module, "LINES_AT_ONCE", 50)
    monkeypatch.setattr(manifest_module, "LINES_PER_GROUP", 50)
    monkeypatch.setattr(ledger_module, "LINES_PER_PART", 50)
    peaks = []
    for count in (100, 400):
        store = _store(tmp_path / f"{count}", (_line(row) for row in range(count)))
        _publish(store)  # what is made once for all is there then
        tracemalloc.start()
        try:
            _publish(store)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / 300 < 900, peaks  # lines and a table of them would take 2,100
    metadata = parquet.read_metadata(store.manifest_path)
    assert {metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)} == {50}
