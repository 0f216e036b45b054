"""The labels file: what is known of each breast, read with a schema (docs/reference/labels.md).

Raw identifiers live from one line of the file to the next and leave as pseudonyms; no message quotes what a field holds.
Public data sets' own tables, the manifest and the checks on it (rule R61, ``expectations.py``) do not belong here.

A million lines are read at every ingest: what repeats from line to line (values, dates, the patient and exam of the line
before) is worked out once.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import LabelError
from schemas.exam import Laterality
from tasks.adapters.labels.breast_label import (
    EXAM_COLUMNS,
    LabelLine,
    is_study_uid,
    parse_date,
    parse_label,
    parse_laterality,
)
from tasks.adapters.labels.labels import Labels
from tasks.adapters.pseudonyms import Pseudonyms
from tasks.adapters.separators import separator_of

logger = logging.getLogger(__name__)

REQUIRED_COLUMNS: Final = ("patient_id", "laterality", "benign", "malignant", "label_source")
_DATED: Final = ("diagnosis_date", "followup_date")
"""Of a breast with a cancer, and of one without."""
OPTIONAL_COLUMNS: Final = ("issuer_of_patient_id", "birads", "density", "finding_type", "label_date", *_DATED, "note")
_KNOWN_COLUMNS: Final = frozenset((*REQUIRED_COLUMNS, *EXAM_COLUMNS, *OPTIONAL_COLUMNS))
_IDENTIFIERS: Final = ("patient_id", "issuer_of_patient_id", "study_instance_uid", "accession_number")
_WHOSE: Final = ("patient_id", "issuer_of_patient_id", *EXAM_COLUMNS, "label_date", *_DATED)
_WHAT: Final = ("laterality", "benign", "malignant", "birads", "label_source", "density", "finding_type")
_NEVER_GROUPS: Final = frozenset((*_IDENTIFIERS, "study_date", "label_date", *_DATED, "note"))
_MOST_GROUPS: Final = 20
"""Different values of a column that makes groups: more are hardly groups, and may be names or numbers of persons."""
_MOST_REMEMBERED: Final = 100_000  # spellings and days: far fewer in any table that means something


def read_labels(
    path: Path,
    pseudonyms: Pseudonyms,
    *,
    exams_by_day: Mapping[tuple[str, date], Sequence[str]] | None = None,
    exams_by_accession: Mapping[str, Sequence[str]] | None = None,
    group_columns: Sequence[str] = (),
    patient_by_exam: Mapping[str, str] | None = None,
) -> Labels:
    """Read a labels file, CSV or Parquet, into one label per breast.

    Args:
        path: ``*.parquet`` is read as Parquet, everything else as CSV in UTF-8, separated by comma, semicolon or tab.
        pseudonyms: Replaces PatientID (0010,0020) and StudyInstanceUID (0020,000D).
        exams_by_day: Exams by patient and shifted date; needed for lines that name their exam by ``study_date``.
        exams_by_accession: Exams by their accession pseudonym; needed for lines that name their exam by ``accession_number``.
        group_columns: Further columns, whose values make groups (``evaluate.subgroup_columns``).
        patient_by_exam: Whose dates a published exam's are shifted as; a line may name her without her issuer.

    Raises:
        LabelError: The file cannot be read, a column is missing or unknown, a value is not of the schema, or a date does not
            tell which exam is meant. Lines that contradict each other are kept for ``join_labels`` to judge.
    """
    _refuse_identifiers(group_columns)
    read = _parquet_rows if path.suffix.lower() in {".parquet", ".pq"} else _csv_rows
    header, rows = read(path, group_columns)
    reader = _Reader(header, pseudonyms, exams_by_day, exams_by_accession, group_columns, patient_by_exam or {})
    for number, values in rows:
        reader.add(number, values)
    labels = reader.labels
    if not labels:
        raise LabelError(
            f"The labels file {path.name} holds no label",
            expected="a header and one line per breast",
            got="no line below the header",
            remedy="export the labels again; docs/reference/labels.md shows an example",
        )
    if reader.before_exam:
        logger.warning("R61: %d labels are dated before their exam", reader.before_exam)
    if labels.contradictions:
        logger.warning(
            "%d breasts or exams are labelled in two ways; the run ends if one of them is published", len(labels.contradictions)
        )
    logger.info("Read %d labels from %d lines", len(labels), reader.lines)
    return labels


# ---------------------------------------------------------------------------------------------------------- line to label


class _Reader:
    """Turns the rows of one file into labels."""

    def __init__(
        self,
        header: Sequence[str],
        pseudonyms: Pseudonyms,
        exams_by_day: Mapping[tuple[str, date], Sequence[str]] | None,
        exams_by_accession: Mapping[str, Sequence[str]] | None,
        group_columns: Sequence[str],
        patient_by_exam: Mapping[str, str],
    ) -> None:
        self._header = header
        self._group_columns = group_columns
        self._groups: dict[str, set[str]] = {column: set() for column in group_columns}
        self._pseudonyms = pseudonyms
        self._exams_by_day = exams_by_day
        self._exams_by_accession = exams_by_accession
        self._patient_by_exam = patient_by_exam
        self._whose, self._what = _picker(header, _WHOSE), _picker(header, (*_WHAT, *group_columns))
        self._parsed: dict[tuple[str, ...], tuple[Laterality, int]] = {}
        self._dates: dict[str, date | None] = {}
        self._patient: tuple[tuple[str, str], str] = ("", ""), ""
        self._exam = "", ""
        self._day: tuple[tuple[str, date], date] | tuple[None, None] = None, None
        self.labels = Labels()
        self.lines = 0
        self.before_exam = 0

    def add(self, number: int, values: list[str]) -> None:
        """Takes a row, whose values are in the order of the header."""
        self.lines += 1
        values.append("")  # the place of every column that is absent
        patient, issuer, uid, accession, study_day, label_day, *dated_days = self._whose(values)
        if (patient, issuer) != self._patient[0]:
            self._patient = (patient, issuer), self._patient_id(number, values, patient, issuer)
        patient_id = self._patient[1]
        study_date = self._date(number, values, "study_date", study_day) if study_day else None
        label_date = self._date(number, values, "label_date", label_day) if label_day else None
        if study_date and label_date and label_date < study_date:
            self.before_exam += 1
        if not uid:
            exam_id = self._exam_of_other_name(number, values, patient_id, accession, study_date)
        elif uid == self._exam[0]:
            exam_id = self._exam[1]
        else:
            exam_id = self._exam_of_uid(number, values, uid)
            self._exam = uid, exam_id
        what = self._what(values)
        laterality, kind = self._parsed.get(what) or self._parse(number, values, what)
        if any(dated_days):
            kind = self._dated(number, values, dated_days, self._patient_by_exam.get(exam_id, patient_id))
        self.labels.add(number, patient_id, exam_id, laterality, kind)

    def _line(self, number: int, values: Sequence[str]) -> LabelLine:
        return LabelLine(number=number, values=dict(zip(self._header, values, strict=False)))

    def _patient_id(self, number: int, values: Sequence[str], patient: str, issuer: str) -> str:
        if not patient:
            self._line(number, values).refuse(
                "patient_id", expected="PatientID (0010,0020)", remedy="patients are split by it: fill it in"
            )
        return self._pseudonyms.patient_id(patient, issuer)

    def _date(self, number: int, values: Sequence[str], column: str, text: str) -> date | None:
        parsed = self._dates.get(text)
        if parsed is None:
            parsed = parse_date(self._line(number, values), column)
            _remember(self._dates, text, parsed)
        return parsed

    def _exam_of_uid(self, number: int, values: Sequence[str], uid: str) -> str:
        if not is_study_uid(uid):
            self._line(number, values).refuse(
                "study_instance_uid",
                expected="StudyInstanceUID (0020,000D): digits and dots, at most 64",
                remedy="export the column as text, so that no spreadsheet rounds it",
            )
        return self._pseudonyms.exam_id(uid)

    def _exam_of_other_name(
        self, number: int, values: Sequence[str], patient_id: str, accession: str, study_date: date | None
    ) -> str:
        """The one exam of that name; without any a name that no exam has, so that the label is counted as an orphan."""
        if accession:
            name = self._pseudonyms.accession_id(accession)
            exam_ids = None if self._exams_by_accession is None else self._exams_by_accession.get(name) or (f"no {name}",)
            column = "accession_number"
        elif study_date is not None:
            if (patient_id, study_date) != self._day[0]:
                self._day = (patient_id, study_date), self._pseudonyms.shifted_date(patient_id, study_date)
            day = patient_id, self._day[1]
            exam_ids = None if self._exams_by_day is None else self._exams_by_day.get(day) or (f"no {patient_id} {day[1]}",)
            column = "study_date"
        else:
            self._line(number, values).refuse(
                "study_instance_uid", expected=f"one of {', '.join(EXAM_COLUMNS)}", remedy="say which exam is meant"
            )
        if exam_ids is None:
            self._line(number, values).refuse(
                "study_instance_uid",
                expected=f"StudyInstanceUID (0020,000D): exams are not looked up by {column} here",
                remedy="fill in study_instance_uid",
            )
        if len(exam_ids) > 1:
            self._line(number, values).refuse(
                column,
                expected=f"one exam of that {column}, not {len(exam_ids)}",
                remedy="tell these exams apart by study_instance_uid",
            )
        return exam_ids[0]

    def _dated(self, number: int, values: Sequence[str], days: Sequence[str], patient_id: str) -> int:
        line = self._line(number, values)
        label = parse_label(line, self._group_columns)
        shifted: dict[str, date] = {}
        for column, is_cancer, text in zip(_DATED, (True, False), days, strict=True):
            if (day := self._date(number, values, column, text) if text else None) is None:
                continue
            if label.malignant is not is_cancer:
                line.refuse(
                    column,
                    expected=f"nothing, as malignant is not {int(is_cancer)}",
                    remedy="diagnosis_date is of a cancer; followup_date is the last day without one, where there is none",
                )
            shifted[column] = self._pseudonyms.shifted_date(patient_id, day)
        diagnosed, followed = (shifted.get(column) for column in _DATED)
        return self.labels.kind_of(replace(label, diagnosis_date=diagnosed, followup_date=followed))

    def _parse(self, number: int, values: Sequence[str], what: tuple[str, ...]) -> tuple[Laterality, int]:
        line = self._line(number, values)
        label = parse_label(line, self._group_columns)
        for column in self._group_columns:
            self._groups[column].add(line[column])
            if len(self._groups[column] - {""}) > _MOST_GROUPS:
                raise LabelError(
                    f"The labels file's column {column} is named in evaluate.subgroup_columns and holds too many values",
                    expected=f"at most {_MOST_GROUPS} different ones",
                    got=f"more, at line {number}",
                    remedy="make groups of them: a column of measurements or of names is none; or take it out of the config",
                )
        parsed = parse_laterality(line), self.labels.kind_of(label)
        _remember(self._parsed, what, parsed)
        return parsed


def _picker(header: Sequence[str], columns: Sequence[str]) -> Callable[[Sequence[str]], tuple[str, ...]]:
    """Takes these columns from a row that ends with an empty value, which is that of columns that are absent."""
    places: list[Any] = [header.index(column) if column in header else len(header) for column in columns]
    return itemgetter(*places)


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def _remember(memory: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    if len(memory) >= _MOST_REMEMBERED:
        memory.clear()
    memory[key] = value


# ----------------------------------------------------------------------------------------------------------- file to rows

Rows = Iterator[tuple[int, list[str]]]
"""Number and values of each line, in the order of the header."""


def _csv_rows(path: Path, group_columns: Sequence[str]) -> tuple[list[str], Rows]:
    rows = _read_csv(path, group_columns)
    _, header = next(rows)
    return header, rows


def _read_csv(path: Path, group_columns: Sequence[str]) -> Rows:
    """The header first, as line 1."""
    line_number = 1
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header_line = file.readline()
            delimiter = separator_of(header_line)
            header = _read_header(next(csv.reader([header_line], delimiter=delimiter, strict=True), []), path, group_columns)
            yield line_number, header
            rows = csv.reader(file, delimiter=delimiter, strict=True)
            for row in rows:
                line_number = 1 + rows.line_num
                values = [value.strip() for value in row]
                if any(values):
                    _require_length(header, values, line_number)
                    yield line_number, values
    except UnicodeDecodeError:
        _refuse_file(path, line_number, got="bytes that are not UTF-8", remedy="save it as CSV in UTF-8")
    except csv.Error:
        _refuse_file(path, line_number, got="a quote or character that CSV does not allow", remedy="export it again as CSV")
    except OSError as error:
        _refuse_file(path, None, got=error.strerror, remedy="check labels_csv in the config")


def _require_length(header: Sequence[str], values: Sequence[str], line_number: int) -> None:
    if len(values) != len(header):
        raise LabelError(
            f"Labels line {line_number} does not fit the header",
            expected=f"{len(header)} fields",
            got=f"{len(values)}",
            remedy="quote fields that hold the separator, or export the file again",
        )


def _parquet_rows(path: Path, group_columns: Sequence[str]) -> tuple[list[str], Rows]:
    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
    except OSError as error:  # pyarrow's "this is no Parquet file" is one of these or of the next
        _refuse_file(path, None, got=error.strerror or "no readable Parquet file", remedy="check labels_csv in the config")
    except (ValueError, pa.ArrowException):
        _refuse_file(path, None, got="no readable Parquet file", remedy="write it again, or use CSV")
    index = (schema.pandas_metadata or {}).get("index_columns", [])
    names = [name for name in schema.names if name not in index]
    header = _read_header(names, path, group_columns)
    for name, column in zip(names, header, strict=True):
        if column in _IDENTIFIERS and not _is_text(schema.field(name).type):
            raise LabelError(
                f"Column {column} of {path.name} is not text",
                expected="a text column",
                got=schema.field(name).type,
                remedy="write identifiers as text: a number loses leading zeros",
            )
    return header, _read_parquet(file, names, path)


def _read_parquet(file: pq.ParquetFile, names: list[str], path: Path) -> Rows:
    number = 0
    try:
        for batch in file.iter_batches(columns=names):
            columns = [[_as_text(value) for value in column.to_pylist()] for column in batch.columns]
            for values in zip(*columns, strict=True):
                number += 1
                yield number, list(values)
    except (OSError, ValueError, pa.ArrowException):
        _refuse_file(path, number, got="a damaged Parquet file", remedy="write it again, or use CSV")


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _as_text(value: object) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, datetime):
        return value.date().isoformat()
    return str(int(value)) if isinstance(value, bool) else str(value).strip()


def _read_header(names: list[str], path: Path, group_columns: Sequence[str]) -> list[str]:
    """Check the columns. An unknown name is told by its place: without a header line it would be a patient's data."""
    header, known = [name.strip().lower() for name in names], _KNOWN_COLUMNS.union(group_columns)
    unknown = [str(place) for place, name in enumerate(header, start=1) if name not in known]
    missing = [name for name in (*REQUIRED_COLUMNS, *group_columns) if name not in header]
    if not set(EXAM_COLUMNS).intersection(header):
        missing.append(" or ".join(EXAM_COLUMNS))
    repeated = sorted({name for name in header if name in known and header.count(name) > 1})
    if missing or unknown or repeated:
        faults = {"missing": missing, "not of the schema, by place": unknown, "more than once": repeated}
        raise LabelError(
            f"The columns of the labels file {path.name} are not those of the schema",
            expected=f"{', '.join(REQUIRED_COLUMNS)}, and {' or '.join(EXAM_COLUMNS)}; optional {', '.join(OPTIONAL_COLUMNS)}",
            got="; ".join(f"{fault}: {', '.join(columns)}" for fault, columns in faults.items() if columns),
            remedy="name the columns in the first line as docs/reference/labels.md does, and leave others out, or name them in "
            "evaluate.subgroup_columns: they make groups then",
        )
    return header


def _refuse_identifiers(group_columns: Sequence[str]) -> None:
    """What a column of the file says of a person stays in the file, whoever asks for groups of it."""
    if refused := [column for column in group_columns if column in _NEVER_GROUPS]:
        raise LabelError(
            "A column of the labels file that may name a patient is no subgroup",
            expected="evaluate.subgroup_columns without " + ", ".join(sorted(_NEVER_GROUPS)),
            got=", ".join(refused),
            remedy="take it out of evaluate.subgroup_columns",
        )


def _refuse_file(path: Path, line_number: int | None, *, got: str | None, remedy: str) -> NoReturn:
    place = f"The labels file {path.name}" + (f" cannot be read after line {line_number}" if line_number else " cannot be read")
    raise LabelError(place, expected="CSV in UTF-8, or Parquet", got=got, remedy=remedy) from None
