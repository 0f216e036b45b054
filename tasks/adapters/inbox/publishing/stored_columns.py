"""The ledger's lines read by column: parsing a line into Python's values takes several times as long as what is done with them.

Only lines as this version writes them are read so. What is of another form, or lacks a value, is left to ``LedgerLine``, which
takes whatever can be understood and says what is wrong where nothing can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Final

import pyarrow as pa
from pyarrow import json as arrow_json

from schemas.layout import Source
from tasks.adapters.inbox.lines import LinePart
from tasks.adapters.store.tables.line_columns import COLUMNS, TYPES

KEYS: Final = {
    **{name: TYPES[name] for name in ("row", "image_id", "exam_id", "patient_id", "laterality", "view_position", "exam_date")},
    **{name: TYPES[name] for name in ("source_rows_px", "source_columns_px")},
    **dict.fromkeys(("accession_id", "bare_patient_id"), pa.large_string()),
    "is_mask_unusable": pa.bool_(),
}
"""What is asked of all lines together; the last three are not published."""
_STORED: Final = pa.schema([(one.name, TYPES[one.name]) for one in COLUMNS if one.source not in (Source.LABELS, Source.LEDGER)])
_NEVER_EMPTY: Final = frozenset(KEYS) - {"exam_date", "accession_id", "bare_patient_id", "is_mask_unusable"}
_MUST_BE_SAID: Final = "exam_date"
"""Empty where it is not known, and yet written in each line."""


def key_columns(part: LinePart) -> Mapping[str, list[object]] | None:
    """``KEYS`` of some lines; None = they are of another form."""
    table = _read(part, pa.schema(list(KEYS.items())))
    if table is None or any(table[name].null_count for name in _NEVER_EMPTY):
        return None
    return {name: table[name].to_pylist() for name in KEYS}


def stored_columns(part: LinePart) -> dict[str, pa.Array] | None:
    """The manifest's columns of some lines, but those of labels and boxes; None = they are of another form."""
    table = _read(part, _STORED)
    if table is None or any(table[name].null_count for name in _NEVER_EMPTY):
        return None
    found = {name: table[name] for name in _STORED.names}
    found["batch"] = pa.array([batch for _, batch, _, _, _ in part], TYPES["batch"])
    found["batch_date"] = pa.array([date for _, _, date, _, _ in part], TYPES["batch_date"])
    return found


def _read(part: LinePart, schema: pa.Schema) -> pa.RecordBatch | None:
    lines = [line for _, _, _, _, line in part]
    text = "\n".join(lines)
    if not _is_a_line_each(text, lines):
        return None
    try:
        content = text.encode()
        table = arrow_json.read_json(
            BytesIO(content),
            read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(content) + 1),
            parse_options=arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    except (pa.ArrowInvalid, UnicodeEncodeError):
        return None
    if table.num_rows != len(lines):
        return None
    (batch,) = table.combine_chunks().to_batches()
    return batch


def _is_a_line_each(text: str, lines: Sequence[str]) -> bool:
    """True if each is an object by itself that says what must be said: Arrow does not see where one ends."""
    return (
        text.count("\n") == len(lines) - 1
        and all(line[:1] == "{" and line[-1:] == "}" for line in lines)
        and text.count(f'"{_MUST_BE_SAID}":') == len(lines)
    )
