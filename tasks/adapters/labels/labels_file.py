"""The labels file: what is known of each breast, read with a schema and joined to the exams (docs/reference/labels.md).

Raw identifiers live from one line of the file to the next and leave as pseudonyms; no message quotes what a field holds.
Public data sets' own tables, the manifest and the checks on it (rule R61, ``expectations.py``) do not belong here.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Final, NoReturn

import pandas as pd

from schemas.errors import LabelError
from schemas.exam import BreastLabel
from tasks.adapters.labels.breast_label import EXAM_COLUMNS, BreastLabels, LabelLine
from tasks.adapters.pseudonyms import Pseudonyms

logger = logging.getLogger(__name__)


REQUIRED_COLUMNS: Final = ("patient_id", "laterality", "benign", "malignant", "label_source")
OPTIONAL_COLUMNS: Final = ("issuer_of_patient_id", "birads", "density", "finding_type", "label_date", "note")
_KNOWN_COLUMNS: Final = frozenset((*REQUIRED_COLUMNS, *EXAM_COLUMNS, *OPTIONAL_COLUMNS))


def read_labels(
    path: Path,
    pseudonyms: Pseudonyms,
    *,
    exams_by_day: Mapping[tuple[str, date], Sequence[str]] | None = None,
    exams_by_accession: Mapping[str, Sequence[str]] | None = None,
) -> tuple[BreastLabel, ...]:
    """Read a labels file, CSV or Parquet, into one label per breast in the order of the file.

    Args:
        path: ``*.parquet`` is read as Parquet, everything else as CSV in UTF-8, separated by comma, semicolon or tab.
        pseudonyms: Replaces PatientID (0010,0020) and StudyInstanceUID (0020,000D).
        exams_by_day: Exams by patient and shifted date; needed for lines that name their exam by ``study_date``.
        exams_by_accession: Exams by their accession pseudonym; needed for lines that name their exam by ``accession_number``.

    Raises:
        LabelError: The file cannot be read, a column is missing or unknown, a value is not of the schema, two lines disagree
            about a breast or about an exam's patient, or a date does not tell which exam is meant.
    """
    reader = BreastLabels(pseudonyms, exams_by_day, exams_by_accession)
    lines = _parquet_lines(path) if path.suffix.lower() in {".parquet", ".pq"} else _csv_lines(path)
    for line in lines:
        reader.add(line)
    if not reader.line_by_breast:
        raise LabelError(
            f"The labels file {path.name} holds no label",
            expected="a header and one line per breast",
            got="no line below the header",
            remedy="export the labels again; docs/reference/labels.md shows an example",
        )
    if reader.labels_before_exam:
        logger.warning("R61: %d labels are dated before their exam", reader.labels_before_exam)
    logger.info("Read %d labels from %d lines", len(reader.line_by_breast), reader.lines)
    return tuple(label for _, label in reader.line_by_breast.values())


# ---------------------------------------------------------------------------------------------------------- line to label


# ----------------------------------------------------------------------------------------------------------- file to line


def _csv_lines(path: Path) -> Iterator[LabelLine]:
    line_number = 1
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header_line = file.readline()
            delimiter = max(",;\t", key=header_line.count)
            header = _read_header(next(csv.reader([header_line], delimiter=delimiter, strict=True), []), path)
            rows = csv.reader(file, delimiter=delimiter, strict=True)
            for row in rows:
                line_number = 1 + rows.line_num
                values = [value.strip() for value in row]
                if any(values):
                    yield LabelLine(number=line_number, values=_by_column(header, values, line_number))
    except UnicodeDecodeError:
        _refuse_file(path, line_number, got="bytes that are not UTF-8", remedy="save it as CSV in UTF-8")
    except csv.Error:
        _refuse_file(path, line_number, got="a quote or character that CSV does not allow", remedy="export it again as CSV")
    except OSError as error:
        _refuse_file(path, None, got=error.strerror, remedy="check labels_csv in the config")


def _by_column(header: list[str], values: list[str], line_number: int) -> dict[str, str]:
    if len(values) != len(header):
        raise LabelError(
            f"Labels line {line_number} does not fit the header",
            expected=f"{len(header)} fields",
            got=f"{len(values)}",
            remedy="quote fields that hold the separator, or export the file again",
        )
    return dict(zip(header, values, strict=True))


def _parquet_lines(path: Path) -> Iterator[LabelLine]:
    try:
        table = pd.read_parquet(path, dtype_backend="pyarrow")
    except OSError as error:  # pyarrow's "this is no Parquet file" is one of these or of the next
        _refuse_file(path, None, got=error.strerror or "no readable Parquet file", remedy="check labels_csv in the config")
    except ValueError:
        _refuse_file(path, None, got="no readable Parquet file", remedy="write it again, or use CSV")
    table.columns = pd.Index(_read_header([str(name) for name in table.columns], path))
    for column in {"patient_id", "issuer_of_patient_id", "study_instance_uid", "accession_number"}.intersection(table.columns):
        if not pd.api.types.is_string_dtype(table[column]):
            raise LabelError(
                f"Column {column} of {path.name} is not text",
                expected="a text column",
                got=table[column].dtype,
                remedy="write identifiers as text: a number loses leading zeros",
            )
    for number, row in enumerate(table.itertuples(index=False, name=None), start=1):
        yield LabelLine(number=number, values={name: _as_text(value) for name, value in zip(table.columns, row, strict=True)})


def _as_text(value: object) -> str:
    if value is None or value is pd.NA or value != value:
        return ""
    if isinstance(value, datetime):
        return value.date().isoformat()
    return str(int(value)) if isinstance(value, bool) else str(value).strip()


def _read_header(names: list[str], path: Path) -> list[str]:
    """Check the columns. An unknown name is told by its place: without a header line it would be a patient's data."""
    header = [name.strip().lower() for name in names]
    unknown = [str(place) for place, name in enumerate(header, start=1) if name not in _KNOWN_COLUMNS]
    missing = [name for name in REQUIRED_COLUMNS if name not in header]
    if not set(EXAM_COLUMNS).intersection(header):
        missing.append(" or ".join(EXAM_COLUMNS))
    repeated = sorted({name for name in header if name in _KNOWN_COLUMNS and header.count(name) > 1})
    if missing or unknown or repeated:
        faults = {"missing": missing, "not of the schema, by place": unknown, "more than once": repeated}
        raise LabelError(
            f"The columns of the labels file {path.name} are not those of the schema",
            expected=f"{', '.join(REQUIRED_COLUMNS)}, and {' or '.join(EXAM_COLUMNS)}; optional {', '.join(OPTIONAL_COLUMNS)}",
            got="; ".join(f"{fault}: {', '.join(columns)}" for fault, columns in faults.items() if columns),
            remedy="name the columns in the first line as docs/reference/labels.md does, and leave others out",
        )
    return header


def _refuse_file(path: Path, line_number: int | None, *, got: str | None, remedy: str) -> NoReturn:
    place = f"The labels file {path.name}" + (f" cannot be read after line {line_number}" if line_number else " cannot be read")
    raise LabelError(place, expected="CSV in UTF-8, or Parquet", got=got, remedy=remedy) from None
