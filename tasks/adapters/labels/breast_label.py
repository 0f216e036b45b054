"""One line of the labels file to one breast's label; raw identifiers leave as pseudonyms, and no message quotes a value."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from typing import Final, NoReturn, TypeVar

from schemas.errors import LabelError
from schemas.exam import LABEL_SOURCES, BreastLabel, FindingType, Laterality
from tasks.adapters.pseudonyms import Pseudonyms

Breast = tuple[str, Laterality]
"""Exam pseudonym and side."""


Name = TypeVar("Name")


EXAM_COLUMNS: Final = ("study_instance_uid", "accession_number", "study_date")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelLine:
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


class BreastLabels:
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

    def add(self, line: LabelLine) -> None:
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

    def _parse(self, line: LabelLine) -> BreastLabel:
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

    def _exam_id(self, line: LabelLine, patient_id: str, study_date: date | None) -> str:
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

    def _looked_up(self, line: LabelLine, column: str, exams_by_name: Mapping[Name, Sequence[str]] | None, name: Name) -> str:
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


def _parse_laterality(line: LabelLine) -> Laterality:
    value = line["laterality"].upper()
    if value not in set(Laterality):
        line.refuse("laterality", expected="R or L", remedy="write one line per breast; a label of both sides is two lines")
    return Laterality(value)


def _parse_flag(line: LabelLine, column: str) -> bool | None:
    value = line[column]
    # pandas writes a column of 0, 1 and empty as 0.0, 1.0 and empty.
    if value not in {"", "0", "1", "0.0", "1.0"}:
        line.refuse(column, expected="0, 1, or empty for not known", remedy="never write 0 for a breast nobody followed up")
    return value.startswith("1") if value else None


def _parse_birads(line: LabelLine) -> int | None:
    value = line["birads"]
    if not value:
        return None
    match = re.fullmatch(r"([0-6])(?:\.0)?|(4)[abcABC]", value)
    if match is None:
        line.refuse("birads", expected="0 to 6, 4A, 4B, 4C, or empty", remedy="write the BI-RADS assessment category")
    return int(match[1] or match[2])


def _parse_source(line: LabelLine) -> str:
    value = line["label_source"].lower()
    if value not in LABEL_SOURCES:
        line.refuse("label_source", expected=", ".join(LABEL_SOURCES), remedy="say where the label comes from")
    return value


def _parse_density(line: LabelLine) -> str | None:
    value = line["density"].lower()
    if not value:
        return None
    match = re.fullmatch(r"(?:density )?([a-d]|[1-4](?:\.0)?)", value)
    if match is None:
        line.refuse("density", expected="a, b, c, d (or 1 to 4), or empty", remedy="write the BI-RADS density category")
    return "abcd"[int(match[1][0]) - 1] if match[1][0].isdigit() else match[1]


def _parse_finding_type(line: LabelLine) -> FindingType | None:
    value = line["finding_type"].lower()
    if not value:
        return None
    if value not in set(FindingType):
        line.refuse("finding_type", expected=f"{', '.join(FindingType)}, or empty", remedy="`several` for more than one kind")
    return FindingType(value)


def _parse_date(line: LabelLine, column: str) -> date | None:
    value = line[column]
    parsed = None
    if re.fullmatch(r"\d{8}|\d{4}-\d{2}-\d{2}", value, re.ASCII):
        with contextlib.suppress(ValueError):
            parsed = date.fromisoformat(value)
    # Before 1900 there was no mammography, and shifting a date back needs room.
    if value and (parsed is None or parsed.year < 1900):
        line.refuse(column, expected="a date such as 2024-01-31 or 20240131, or empty", remedy="export dates in ISO 8601")
    return parsed
