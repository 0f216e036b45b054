"""The store's columns: the one list that writer and data checks share is sound in itself."""

from __future__ import annotations

import pandas as pd
import pytest

from schemas.exam import UNKNOWN, Acquisition, Finding, ImageRecord, Laterality, Photometric, ViewPosition
from schemas.layout import HEADER_NAMES, MANIFEST_COLUMNS, MANIFEST_NAMES, OPTIONAL_COLUMNS, SPLIT_NAMES, Column, Source
from tasks.adapters.dicom.header import DicomHeader

BY_NAME = {column.name: column for column in MANIFEST_COLUMNS}


def test_names_are_unique_and_the_split_joins_by_one() -> None:
    """A manifest has one column per name; splits join it by patient."""
    assert len(BY_NAME) == len(MANIFEST_COLUMNS)
    assert tuple(BY_NAME) == MANIFEST_NAMES
    assert set(SPLIT_NAMES) & set(MANIFEST_NAMES) == {"patient_id"}


@pytest.mark.parametrize("column", MANIFEST_COLUMNS, ids=lambda column: column.name)
def test_a_columns_limits_and_type_agree(column: Column) -> None:
    """Limits are ordered and for numbers, sets are of the type, integers and flags cannot be missing."""
    assert pd.Series([], dtype=column.dtype).dtype == column.dtype
    assert column.description
    if column.minimum is not None or column.maximum is not None:
        assert column.dtype in ("int64", "float64")
    if column.minimum is not None and column.maximum is not None:
        assert column.minimum < column.maximum
    if column.allowed is not None:
        assert {type(value) for value in column.allowed} == {str if column.dtype == "string" else int}
    if column.dtype in ("int64", "bool"):
        assert not column.is_nullable


@pytest.mark.parametrize("column", (*MANIFEST_COLUMNS, *OPTIONAL_COLUMNS), ids=lambda column: column.name)
def test_an_example_is_what_the_column_demands(column: Column) -> None:
    """It is of the type, within limits and set: a builder of lines may use it as it is."""
    assert column.example is not None
    assert pd.Series([column.example]).astype(column.dtype)[0] == column.example
    assert column.allowed is None or column.example in column.allowed
    assert column.minimum is None or float(column.example) >= column.minimum
    assert column.maximum is None or float(column.example) <= column.maximum


def test_a_column_of_the_header_is_in_both_records_and_no_free_text() -> None:
    """The gate copies it by its name, unread: text may name somebody, and only an encoding's UID is known to be none."""
    for name in HEADER_NAMES:
        assert name in ImageRecord.__dataclass_fields__ and name in DicomHeader.__dataclass_fields__
    text = [column.name for column in MANIFEST_COLUMNS if column.source is Source.HEADER and column.dtype == "string"]
    assert text == ["transfer_syntax_uid"]
    assert not any(column.dtype == "string" for column in OPTIONAL_COLUMNS if column.source is Source.HEADER)


@pytest.mark.parametrize(
    ("name", "words"),
    [("laterality", Laterality), ("view_position", ViewPosition), ("acquisition", Acquisition), ("photometric", Photometric)],
)
def test_closed_sets_are_the_records_words(name: str, words: type[Laterality]) -> None:
    """A word added to schemas.exam is allowed here too."""
    assert BY_NAME[name].allowed == tuple(word.value for word in words)


def test_each_finding_has_a_label_column_with_not_known() -> None:
    """Benign and malignant: absent, present, not known."""
    assert all(BY_NAME[finding.value].allowed == (0, 1, UNKNOWN) for finding in Finding)


def test_no_column_is_for_an_identifier() -> None:
    """No name, birth date, accession number, UID of an instance or path; ids are pseudonyms, dates are shifted."""
    forbidden = ("name", "birth", "accession", "path", "address", "uid", "time")
    allowed = {"model_name", "transfer_syntax_uid"}  # of the machine and of the encoding
    assert [name for name in MANIFEST_NAMES if any(word in name for word in forbidden) and name not in allowed] == []
    assert "hifted" in BY_NAME["exam_date"].description
    assert all("seudonym" in BY_NAME[name].description for name in ("image_id", "exam_id", "patient_id"))


def test_lengths_and_counts_say_their_unit() -> None:
    """Pixels, millimetres and years are in the name."""
    for column in MANIFEST_COLUMNS:
        if column.name.startswith(("crop_", "stored_", "source_rows", "source_columns", "best_center")):
            assert column.name.endswith("_px"), column.name
