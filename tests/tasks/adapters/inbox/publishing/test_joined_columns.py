"""Lines read by column are to the byte what they are line by line: a slow way that is written here, and odd values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from mammo_tests.ledger_files import accepted_file, store_with_ledger
from mammo_tests.manifests import line_of
from schemas.config.ingest import IngestConfig
from schemas.exam import BreastLabel, Finding, FindingType, Laterality, LesionBox
from schemas.layout import DEVICE_COLUMNS, MANIFEST_COLUMNS, MANIFEST_NAMES, OPTIONAL_COLUMNS, Column, Source
from tasks.adapters.inbox import ledger as ledger_module
from tasks.adapters.inbox.batches import Scan
from tasks.adapters.inbox.lines import LedgerLine, LinePart
from tasks.adapters.inbox.publication import outcome, write_published
from tasks.adapters.inbox.publishing.joined_columns import manifest_columns
from tasks.adapters.inbox.publishing.published import Keys, published_parts, read_keys
from tasks.adapters.inbox.store_ledger import StoreLedger
from tasks.adapters.labels.joining import LabelJoin, join_labels
from tasks.adapters.labels.labels import Labels
from tasks.adapters.labels.named_inputs import InputCounter
from tasks.adapters.pseudonyms import Pseudonyms
from tasks.adapters.store import manifest as manifest_module
from tasks.adapters.store.exam_store import ExamStore

COLUMNS: Final = (*MANIFEST_COLUMNS, *OPTIONAL_COLUMNS)
STORED: Final = tuple(one for one in COLUMNS if one.source not in (Source.LABELS, Source.LEDGER))
NO_LABELS: Final = join_labels(Labels(), [])
WRONG: Final = (KeyError, TypeError, ValueError, OverflowError)
GONE: Final = object()
_ASKED_FOR_LABELS: Final = ("laterality", "exam_date", "source_rows_px")
ODD: Final[Sequence[object]] = (
    None, GONE, True, False, 0, 1, -5, 5.0, -0.0, 0.0, 5.5, 1e-7, 1e16, 5e-324, 1 / 3, float("nan"), float("inf"),
    float("-inf"), 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 10**30, 10**400, "", "L", "5", "1.5", "x", "NaN", "a, b", 'say "x"',
    "two\nlines", "}\n{", "return\r", "\u00e4\U0001f600", "nothing\0there", "\u2028", '"exam_date": 1', "\ud800", [1], {"a": 1},
)  # fmt: skip


def _labels() -> LabelJoin:
    """Of the first exam's breasts all that can be said, of the second's one thing, of others nothing."""
    labels = Labels()
    full = BreastLabel(
        benign=False, malignant=True, birads=5, label_source="biopsy", density="b", finding_type=FindingType.MASS,
        groups='{"site": "\u00e4"}', diagnosis_date=date(2020, 1, 1), followup_date=None,
    )  # fmt: skip
    other = BreastLabel(benign=None, malignant=None, birads=None, label_source="followup", followup_date=date(2018, 1, 1))
    first, second = (str(line_of(row)["exam_id"]) for row in (0, 4))
    for number, (exam, side, label) in enumerate(
        ((first, Laterality.LEFT, full), (first, Laterality.RIGHT, other), (second, Laterality.LEFT, other)), 1
    ):
        labels.add(number, "P", exam, side, labels.kind_of(label))
    return join_labels(labels, [(first, Laterality.LEFT), (first, Laterality.RIGHT), (second, Laterality.LEFT)])


def _boxes() -> dict[str, tuple[LesionBox, ...]]:
    box = LesionBox(finding=Finding.MALIGNANT, top_px=-3, bottom_px=20, left_px=5, right_px=9)
    return {str(line_of(row)["image_id"]): (box, box)[: 1 + row % 2] for row in (1, 4)}


def _stored(number: int, **changes: object) -> dict[str, object]:
    """What the ledger holds of an image; ``GONE`` takes a value away."""
    names = {column.name for column in STORED}
    line = {name: value for name, value in line_of(number).items() if name in names} | {"accession_id": None} | changes
    return {name: value for name, value in line.items() if value is not GONE}


def _part(lines: Iterable[Mapping[str, object]]) -> LinePart:
    return [(f"F{number}", 1, "2026-01-02", "", json.dumps(line)) for number, line in enumerate(lines)]


def _slowly(part: LinePart, joined: LabelJoin, boxes: Mapping[str, tuple[LesionBox, ...]]) -> tuple[pa.Table, set[str]]:
    """The manifest of some lines value by value, with every column, and which optional ones it has to have."""
    lines = []
    for _, batch, day, _, text in part:
        line = {**json.loads(text), "batch": batch, "batch_date": day}
        label = joined.label_of((str(line["exam_id"]), Laterality(str(line["laterality"]))))
        for name in ("benign", "malignant", "birads"):
            value = None if label is None else getattr(label, name)
            line[name] = 255 if value is None else int(value)
        for name, field in (*((one, one) for one in ("label_source", "density", "finding_type")), ("label_groups", "groups")):
            line[name] = None if label is None else getattr(label, field)
        for name, field in (("days_to_diagnosis", "diagnosis_date"), ("days_of_followup", "followup_date")):
            day_of = None if label is None else getattr(label, field)
            known = day_of is not None and line["exam_date"] is not None
            line[name] = float((day_of - date.fromisoformat(str(line["exam_date"]))).days) if known else None
        found = boxes.get(str(line["image_id"]), ())
        size = int(str(line["source_rows_px"])), int(str(line["source_columns_px"]))
        texts = [
            f"{box.finding} {max(0, box.top_px)} {min(size[0], box.bottom_px)} {box.left_px} {box.right_px}" for box in found
        ]
        line["lesion_boxes"] = "; ".join(texts) or None
        lines.append(line)
    said = {
        one.name
        for one in OPTIONAL_COLUMNS
        if any(line.get(one.name) is not None if one.is_nullable else bool(line.get(one.name)) for line in lines)
    }
    made = {one.name: _slow_column([line.get(one.name) for line in lines], one) for one in COLUMNS}
    return pa.Table.from_pandas(pd.DataFrame(made), preserve_index=False), said


def _slow_column(values: list[object], column: Column) -> object:
    if column.name == "quarter_turns":
        values = [0 if value is None or value != value else value for value in values]
    return pd.array(values, dtype="string") if column.dtype == "string" else np.array(values, dtype=column.dtype)


def _slow_version(manifest: pd.DataFrame) -> str:
    left_out = {"row", "gate_warnings", "batch", "batch_date", "breast_seen_fraction", "lesion_seen_fraction"}
    left_out |= {column.name for column in DEVICE_COLUMNS}
    said = manifest.sort_values("image_id").drop(columns=[name for name in manifest if name in left_out])
    return hashlib.sha256(said.to_csv(index=False, lineterminator="\n").encode()).hexdigest()


def _same(part: LinePart, joined: LabelJoin, boxes: Mapping[str, tuple[LesionBox, ...]]) -> bool:
    """Whether the lines could be made; they must be the same then, and an error is one in both ways."""
    try:
        expected, said = _slowly(part, joined, boxes)
    except WRONG:
        with pytest.raises(WRONG):
            manifest_columns(part, joined, boxes)
        return False
    made = manifest_columns(part, joined, boxes)
    assert made.says == said
    assert made.batch.schema.equals(expected.schema, check_metadata=True)
    for name in expected.column_names:
        one, other = made.batch[name], expected[name].combine_chunks()
        assert one.is_null().equals(other.is_null()) and repr(one.to_pylist()) == repr(other.to_pylist()), (
            name
        )  # -0.0 is not 0.0
    return True


@pytest.mark.parametrize(
    "name",
    [
        "image_id", "exam_id", "laterality", "source_rows_px", "exam_date", "has_lesion_mask", "pixel_max", "pixel_mean",
        "pixel_spacing_mm", "manufacturer", "software_versions", "quarter_turns", "breast_seen_fraction",
    ],
)  # fmt: skip
def test_an_odd_value_is_in_a_column_what_it_is_in_a_line(name: str) -> None:
    """Missing, of another kind, too large, no number, in other letters: the same value, or an error in both ways."""
    joined, boxes = _labels(), _boxes()
    made = [
        _same(_part([_stored(0), _stored(1, **{name: value}), _stored(2)]), labels, found)
        for value in ODD
        for labels, found in ([(NO_LABELS, {}), (joined, {})] if name in _ASKED_FOR_LABELS else [(joined, boxes)])
    ]
    assert any(made)


def test_lines_as_ingest_writes_them_are_read_by_column(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else all of the above would hold of the slow way twice over."""
    part = _part([_stored(row, quarter_turns=row % 2, lesion_seen_fraction=None) for row in range(8)])
    module = "tasks.adapters.inbox.publishing.joined_columns.each_parsed"
    monkeypatch.setattr(module, lambda parts: pytest.fail("read line by line"))
    assert _same(part, _labels(), _boxes())
    assert manifest_columns(part, _labels(), {}).says == {
        "quarter_turns", "label_groups", "days_to_diagnosis", "days_of_followup",
    }  # fmt: skip


@pytest.mark.parametrize(
    "texts",
    [["{}{}", ""], ["null"], ["{} null {}"], ['{"row": 1'], ["{", "}"], ["{}, {}"], ["{}\n{}"], ["\ud800"], ["5"]],
    ids=repr,
)
def test_a_text_that_is_no_line_is_an_error(texts: list[str]) -> None:
    """Of a ledger that something else wrote into: no line may be taken for another's."""
    good = json.dumps(_stored(0))
    part = [("F", 1, "2026-01-02", "", text) for text in (good, *texts, good)]
    with pytest.raises(WRONG):
        manifest_columns(part, NO_LABELS, {})


def test_a_batch_that_is_not_known_is_an_error() -> None:
    """As it is line by line."""
    part = [(file_id, None, day, keyed, text) for file_id, _, day, keyed, text in _part([_stored(0)])]
    assert not _same(part, NO_LABELS, {})


# --------------------------------------------------------------------------------------------------------- whole manifests


def _enter(store: ExamStore, lines: Mapping[str, Mapping[str, object]]) -> None:
    """Puts written claims into the ledger by file, or others in their place."""
    with StoreLedger(store) as ledger:
        ledger.add_accepted(
            accepted_file(
                file_id, at="1-1", image_id=str(line["image_id"]), exam_id=str(line["exam_id"]), source_sha256=file_id
            )
            for file_id, line in lines.items()
        )
        ledger.plan_rows(4, planned_utc="2026-01-02T03:04:05+00:00")
        row_of = {file_id: row for file_id, (row, _) in ledger.unwritten_rows().items()}
        ledger.add_written(
            LedgerLine(file_id=file_id, stored={**line, "row": row_of.get(file_id, line["row"])})
            for file_id, line in lines.items()
        )


def _published(store: ExamStore) -> Keys:
    """Publishes, and holds what lies in the file against the slow way, from the ledger's own rows."""
    joined, boxes = _labels(), _boxes()
    what = outcome(store, Scan(file_ids=frozenset(), unsettled=()))
    inputs = InputCounter(IngestConfig(source_dir=Path("source")), Pseudonyms(b"k" * 32), boxes)
    keys = read_keys(store, published_parts(store, what.left_out), {}, (), inputs)
    version = write_published(store, what, joined, boxes).data_version
    with StoreLedger(store) as ledger:
        rows = [row for part in ledger.line_parts() for row in part if row[0] not in what.left_out]
    expected, said = _slowly(rows, joined, boxes)
    names = [column.name for column in COLUMNS if column.name in {*MANIFEST_NAMES, *said}]
    found = parquet.read_table(store.manifest_path)
    assert found.replace_schema_metadata(None).equals(expected.select(names).replace_schema_metadata(None))
    columns = json.loads(found.schema.metadata[b"pandas"])["columns"]
    assert [column["name"] for column in columns] == names
    assert version == _slow_version(expected.select(names).to_pandas())
    assert keys.images == len(rows) == found.num_rows
    assert sorted({exam for exam, _ in keys.breasts()}) == sorted(set(expected["exam_id"].to_pylist()))
    return keys


def test_what_is_published_is_what_the_slow_way_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing; odd lines among plain ones, in parts and groups; lines replaced, damaged and taken away, and others after."""
    monkeypatch.setattr(ledger_module, "LINES_PER_PART", 3)
    monkeypatch.setattr(manifest_module, "LINES_PER_GROUP", 4)
    store = store_with_ledger(tmp_path)
    assert _published(store).images == 0
    odd = {
        2: {"pixel_mean": -0.0, "manufacturer": "\u00e4, \U0001f600", "pixel_spacing_mm": None},
        3: {"pixel_mean": 0.0, "patient_age_years": 5},
        7: {"best_center_row_px": -(2**63), "pixel_max": 2**63 - 1, "model_name": "two\nlines"},
        9: {"software_versions": "1", "has_lesion_mask": None, "pixel_mean": 2**53 + 1},
    }
    _enter(store, {f"F{row}": _stored(row, **odd.get(row, {})) for row in range(11)})
    assert _published(store).images == 11
    groups = parquet.read_metadata(store.manifest_path)
    assert [groups.row_group(number).num_rows for number in range(groups.num_row_groups)] == [4, 4, 3]
    with StoreLedger(store) as ledger:
        row_of = {line.file_id: line.row for line in ledger.manifest_lines()}
    _enter(store, {"F4": _stored(4, pixel_mean=7.25, quarter_turns=3) | {"row": row_of["F4"]}})
    with StoreLedger(store) as ledger:
        ledger.mark_damaged(["F7"])
        ledger.withdraw(["F3"], [str(line_of(3)["image_id"])])
    assert _published(store).images == 9
    _enter(store, {f"F{row}": _stored(row) for row in range(20, 24)})
    _enter(store, {"F30": _stored(8) | {"exam_id": "another", "patient_id": "another"}})  # contradicts row 8
    assert _published(store).images == 12
