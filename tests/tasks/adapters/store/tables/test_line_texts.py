"""The texts of a version: what they are made of does not stay (what they say is tested with the exam store)."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from mammo_tests.manifests import line_of
from schemas.layout import OPTIONAL_COLUMNS
from tasks.adapters.store.tables.line_columns import columns_of
from tasks.adapters.store.tables.line_texts import version_as_they_lie

PARTS, BYTES_OF_A_PART = 20, 2**20


def test_no_part_stays_in_memory_when_its_text_is_made(tmp_path: Path) -> None:
    """Parts read from a file are one piece of memory each: one column of it, or what it is cast to, would keep them all."""
    line = {**line_of(0), **{column.name: None for column in OPTIONAL_COLUMNS}, "manufacturer": "x" * BYTES_OF_A_PART}
    kept = columns_of([line]).batch
    with (tmp_path / "parts").open("wb") as file, pa.ipc.new_stream(file, kept.schema) as stream:
        for _ in range(PARTS):
            stream.write_batch(kept)
    held: list[int] = []

    def parts(file: BinaryIO) -> Iterator[pa.RecordBatch]:
        for part in pa.ipc.open_stream(file):
            yield part
            del part
            held.append(tracemalloc.get_traced_memory()[0])

    with (tmp_path / "parts").open("rb") as file, (tmp_path / "texts").open("w+b") as texts:
        tracemalloc.start()  # Arrow has what it reads of a Python file from Python
        try:
            version_as_they_lie(parts(file), texts)
        finally:
            tracemalloc.stop()
    assert len(held) == PARTS and max(held) < 8 * BYTES_OF_A_PART, held
