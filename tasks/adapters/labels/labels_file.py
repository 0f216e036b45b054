"""The labels file: what is known of each breast, read with a schema and joined to the exams (docs/reference/labels.md).

Raw identifiers live from one line of the file to the next and leave as pseudonyms; no message quotes what a field holds.
Public data sets' own tables, the manifest and the checks on it (rule R61, ``expectations.py``) do not belong here.
"""

from __future__ import annotations

import contextlib
import csv
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from pathlib import Path
from typing import Final, NoReturn, TypeVar

import pandas as pd

from schemas.errors import LabelError
from schemas.exam import LABEL_SOURCES, BreastLabel, FindingType, Laterality
from tasks.adapters.pseudonyms import Pseudonyms

logger = logging.getLogger(__name__)

Breast = tuple[str, Laterality]
"""Exam pseudonym and side."""

Name = TypeVar("Name")

REQUIRED_COLUMNS: Final = ("patient_id", "laterality", "benign", "malignant", "label_source")
EXAM_COLUMNS: Final = ("study_instance_uid", "accession_number", "study_date")
OPTIONAL_COLUMNS: Final = ("issuer_of_patient_id", "birads", "density", "finding_type", "label_date", "note")
_KNOWN_COLUMNS: Final = frozenset((*REQUIRED_COLUMNS, *EXAM_COLUMNS, *OPTIONAL_COLUMNS))


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelJoin:
    """Labels and breasts put together.

    Attributes:
        matched: The label of each breast that has one, be it "not known".
        orphans: Labels whose exam, or whose side of that exam, is not there.
        unlabelled: Breasts without a label.
    """

    matched: Mapping[Breast, BreastLabel]
    orphans: int
    unlabelled: int


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
    reader = _LabelReader(pseudonyms, exams_by_day, exams_by_accession)
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


def join_labels(
    labels: Iterable[BreastLabel], breasts: Iterable[Breast], *, patient_by_exam: Mapping[str, str] | None = None
) -> LabelJoin:
    """Put labels and breasts together (rule R60): orphans on either side are counted, never guessed.

    Args:
        labels: At most one per breast, as ``read_labels`` gives them.
        breasts: (exam, side) of every breast that has an image; repetitions do not matter.
        patient_by_exam: If given, a label must name the patient its exam belongs to.

    Raises:
        LabelError: There are labels and exams, and not one label finds its breast; or labels name other patients than the
            exams they join to, as they do where a column of the labels file has slipped.
    """
    present = set(breasts)
    all_labels = {(label.exam_id, label.laterality): label for label in labels}
    matched = {breast: label for breast, label in all_labels.items() if breast in present}
    if all_labels and present and not matched:
        raise LabelError(
            "Labels join to no exam",
            expected=f"StudyInstanceUIDs (0020,000D) of {len({exam_id for exam_id, _ in present})} exams",
            got=f"{len(all_labels)} labels, none for a breast of these exams",
            remedy="check that labels_csv and source_dir are of the same data set, and that study_instance_uid was not rounded "
            "or cut by a spreadsheet; every label must be for an exam, and a side of it, that was published",
        )
    _check_patients(matched.values(), patient_by_exam or {})
    return LabelJoin(matched=matched, orphans=len(all_labels) - len(matched), unlabelled=len(present - matched.keys()))


def _check_patients(labels: Iterable[BreastLabel], patient_by_exam: Mapping[str, str]) -> None:
    strangers = sum(patient_by_exam.get(label.exam_id, label.patient_id) != label.patient_id for label in labels)
    if strangers:
        raise LabelError(
            "Labels name another patient than their exam does",
            expected="patient_id (and issuer_of_patient_id, where the images carry one) as in the DICOM files",
            got=f"{strangers} labels of another patient",
            remedy="check that the columns of the labels file have not slipped, and that patient_id kept its leading zeros",
        )


# ---------------------------------------------------------------------------------------------------------- line to label


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A line of the file: raw values, stripped; an absent column reads as empty."""

    number: int
    values: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.values.get(column, "")

    def refuse(self, column: str, *, expected: str, remedy: str) -> NoReturn:
        """Raise without a cause: the foreign exception would quote the value."""
        raise LabelError(
            f"Labels line {self.number}, column {column}", expected=expected, got=_shape_of(self[column]), remedy=remedy
        ) from None


class _LabelReader:
    """Turns lines into labels and holds each against those before it."""

    def __init__(
        self,
        pseudonyms: Pseudonyms,
        exams_by_day: Mapping[tuple[str, date], Sequence[str]] | None,
        exams_by_accession: Mapping[str, Sequence[str]] | None,
    ) -> None:
        self._pseudonyms = pseudonyms
        self._exams_by_day = exams_by_day
        self._exams_by_accession = exams_by_accession
        self._line_by_exam: dict[str, tuple[int, str]] = {}
        self.line_by_breast: dict[Breast, tuple[int, BreastLabel]] = {}
        self.lines = 0
        self.labels_before_exam = 0

    def add(self, line: _Line) -> None:
        """Parse a line; merge it with an identical one, refuse it if it contradicts an earlier one."""
        self.lines += 1
        label = self._parse(line)
        first_line, patient_id = self._line_by_exam.setdefault(label.exam_id, (line.number, label.patient_id))
        if patient_id != label.patient_id:
            raise LabelError(
                f"Labels line {line.number}, column patient_id",
                expected=f"the patient of line {first_line}, which is of the same exam",
                got="another patient",
                remedy="an exam belongs to one patient: correct patient_id or the exam of one of the two lines",
            )
        first_line, first = self.line_by_breast.setdefault((label.exam_id, label.laterality), (line.number, label))
        if first != label:
            differing = [field.name for field in fields(label) if getattr(first, field.name) != getattr(label, field.name)]
            raise LabelError(
                f"Labels line {line.number} contradicts line {first_line}, which is of the same breast",
                expected="one line per breast, or identical ones",
                got=f"other values in {', '.join(differing)}",
                remedy="write one line per breast; a breast with findings of both kinds has benign 1 and malignant 1",
            )

    def _parse(self, line: _Line) -> BreastLabel:
        raw_patient_id = line["patient_id"]
        if not raw_patient_id:
            line.refuse("patient_id", expected="PatientID (0010,0020)", remedy="patients are split by it: fill it in")
        patient_id = self._pseudonyms.patient_id(raw_patient_id, line["issuer_of_patient_id"])
        study_date, label_date = _parse_date(line, "study_date"), _parse_date(line, "label_date")
        if study_date and label_date and label_date < study_date:
            self.labels_before_exam += 1
        return BreastLabel(
            patient_id=patient_id,
            exam_id=self._exam_id(line, patient_id, study_date),
            laterality=_parse_laterality(line),
            benign=_parse_flag(line, "benign"),
            malignant=_parse_flag(line, "malignant"),
            birads=_parse_birads(line),
            label_source=_parse_source(line),
            density=_parse_density(line),
            finding_type=_parse_finding_type(line),
        )

    def _exam_id(self, line: _Line, patient_id: str, study_date: date | None) -> str:
        uid = line["study_instance_uid"]
        if uid:
            # A profile may put another name in the place of the UID, so letters are allowed; 1.2E+15 is a spreadsheet's doing.
            if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", uid) or re.fullmatch(r"[0-9.]+[eE][0-9]+", uid):
                line.refuse(
                    "study_instance_uid",
                    expected="StudyInstanceUID (0020,000D): digits and dots, at most 64",
                    remedy="export the column as text, so that no spreadsheet rounds it",
                )
            return self._pseudonyms.exam_id(uid)
        if line["accession_number"]:
            name = self._pseudonyms.accession_id(line["accession_number"])
            return self._looked_up(line, "accession_number", self._exams_by_accession, name)
        if study_date is None:
            line.refuse("study_instance_uid", expected=f"one of {', '.join(EXAM_COLUMNS)}", remedy="say which exam is meant")
        shifted = self._pseudonyms.shifted_date(patient_id, study_date)
        return self._looked_up(line, "study_date", self._exams_by_day, (patient_id, shifted))

    def _looked_up(self, line: _Line, column: str, exams_by_name: Mapping[Name, Sequence[str]] | None, name: Name) -> str:
        """The one exam of that name. Without any: a name that no exam has, so that the label is counted as an orphan."""
        if exams_by_name is None:
            line.refuse(
                "study_instance_uid",
                expected=f"StudyInstanceUID (0020,000D): exams are not looked up by {column} here",
                remedy="fill in study_instance_uid",
            )
        exam_ids = exams_by_name.get(name, ())
        if len(exam_ids) > 1:
            line.refuse(
                column,
                expected=f"one exam of that {column}, not {len(exam_ids)}",
                remedy="tell these exams apart by study_instance_uid",
            )
        return exam_ids[0] if exam_ids else f"no exam of {name}"


def _shape_of(value: str) -> str:
    """What a value looks like without saying it: in a slipped line any column may hold an identifier."""
    if not value:
        return "nothing"
    return f"'{value}'" if len(value) <= 2 and value.isalnum() else f"a text of {len(value)} characters"


def _parse_laterality(line: _Line) -> Laterality:
    value = line["laterality"].upper()
    if value not in set(Laterality):
        line.refuse("laterality", expected="R or L", remedy="write one line per breast; a label of both sides is two lines")
    return Laterality(value)


def _parse_flag(line: _Line, column: str) -> bool | None:
    value = line[column]
    # pandas writes a column of 0, 1 and empty as 0.0, 1.0 and empty.
    if value not in {"", "0", "1", "0.0", "1.0"}:
        line.refuse(column, expected="0, 1, or empty for not known", remedy="never write 0 for a breast nobody followed up")
    return value.startswith("1") if value else None


def _parse_birads(line: _Line) -> int | None:
    value = line["birads"]
    if not value:
        return None
    match = re.fullmatch(r"([0-6])(?:\.0)?|(4)[abcABC]", value)
    if match is None:
        line.refuse("birads", expected="0 to 6, 4A, 4B, 4C, or empty", remedy="write the BI-RADS assessment category")
    return int(match[1] or match[2])


def _parse_source(line: _Line) -> str:
    value = line["label_source"].lower()
    if value not in LABEL_SOURCES:
        line.refuse("label_source", expected=", ".join(LABEL_SOURCES), remedy="say where the label comes from")
    return value


def _parse_density(line: _Line) -> str | None:
    value = line["density"].lower()
    if not value:
        return None
    match = re.fullmatch(r"(?:density )?([a-d]|[1-4](?:\.0)?)", value)
    if match is None:
        line.refuse("density", expected="a, b, c, d (or 1 to 4), or empty", remedy="write the BI-RADS density category")
    return "abcd"[int(match[1][0]) - 1] if match[1][0].isdigit() else match[1]


def _parse_finding_type(line: _Line) -> FindingType | None:
    value = line["finding_type"].lower()
    if not value:
        return None
    if value not in set(FindingType):
        line.refuse("finding_type", expected=f"{', '.join(FindingType)}, or empty", remedy="`several` for more than one kind")
    return FindingType(value)


def _parse_date(line: _Line, column: str) -> date | None:
    value = line[column]
    parsed = None
    if re.fullmatch(r"\d{8}|\d{4}-\d{2}-\d{2}", value, re.ASCII):
        with contextlib.suppress(ValueError):
            parsed = date.fromisoformat(value)
    # Before 1900 there was no mammography, and shifting a date back needs room.
    if value and (parsed is None or parsed.year < 1900):
        line.refuse(column, expected="a date such as 2024-01-31 or 20240131, or empty", remedy="export dates in ISO 8601")
    return parsed


# ----------------------------------------------------------------------------------------------------------- file to line


def _csv_lines(path: Path) -> Iterator[_Line]:
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
                    yield _Line(number=line_number, values=_by_column(header, values, line_number))
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


def _parquet_lines(path: Path) -> Iterator[_Line]:
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
        yield _Line(number=number, values={name: _as_text(value) for name, value in zip(table.columns, row, strict=True)})


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
