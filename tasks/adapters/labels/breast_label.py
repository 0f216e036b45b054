"""What the fields of one line of the labels file say of a breast; no message quotes a value."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, NoReturn

from schemas.errors import LabelError
from schemas.exam import LABEL_SOURCES, BreastLabel, FindingType, Laterality

EXAM_COLUMNS: Final = ("study_instance_uid", "accession_number", "study_date")
_UID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")  # letters: a profile may put another name in the place of the UID
_GROUP: Final = re.compile(r"[^\W_][\w .+/()<>=-]{0,29}")
_ROUNDED: Final = re.compile(r"[0-9.]+[eE][0-9]+")


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


def parse_label(line: LabelLine, group_columns: Sequence[str] = ()) -> BreastLabel:
    """What the line says of its breast.

    Args:
        line: A line of the file.
        group_columns: Columns whose values are kept as they are: groups of breasts.

    Raises:
        LabelError: A value is not of the schema.
    """
    return BreastLabel(
        benign=_parse_flag(line, "benign"),
        malignant=_parse_flag(line, "malignant"),
        birads=_parse_birads(line),
        label_source=_parse_source(line),
        density=_parse_density(line),
        finding_type=_parse_finding_type(line),
        groups=_parse_groups(line, group_columns),
    )


def parse_laterality(line: LabelLine) -> Laterality:
    """Which breast.

    Raises:
        LabelError: Neither R nor L.
    """
    value = line["laterality"].upper()
    if value not in set(Laterality):
        line.refuse("laterality", expected="R or L", remedy="write one line per breast; a label of both sides is two lines")
    return Laterality(value)


def parse_date(line: LabelLine, column: str) -> date | None:
    """A date of the line; None = not given.

    Raises:
        LabelError: It is no date.
    """
    value = line[column]
    parsed = None
    if re.fullmatch(r"\d{8}|\d{4}-\d{2}-\d{2}", value, re.ASCII):
        with contextlib.suppress(ValueError):
            parsed = date.fromisoformat(value)
    # Before 1900 there was no mammography, and shifting a date back needs room.
    if value and (parsed is None or parsed.year < 1900):
        line.refuse(column, expected="a date such as 2024-01-31 or 20240131, or empty", remedy="export dates in ISO 8601")
    return parsed


def is_study_uid(text: str) -> bool:
    """False for what cannot be a StudyInstanceUID, and for what a spreadsheet has rounded: 1.2E+15."""
    return bool(_UID.fullmatch(text)) and not _ROUNDED.fullmatch(text)


# ---------------------------------------------------------------------------------------------------------------------


def _shape_of(value: str) -> str:
    """What a value looks like without saying it: in a slipped line any column may hold an identifier."""
    if not value:
        return "nothing"
    return f"'{value}'" if len(value) <= 2 and value.isalnum() else f"a text of {len(value)} characters"


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


def _parse_groups(line: LabelLine, columns: Sequence[str]) -> str | None:
    """Values by column as JSON, in the order of the columns' names; None = there is no value."""
    for column in columns:
        if line[column] and not _GROUP.fullmatch(line[column]):
            line.refuse(
                column,
                expected="a group's name of at most 30 letters, digits, spaces and . + - / ( ) < > = _, a letter or digit "
                "first, or empty",
                remedy="evaluate.subgroup_columns names this column: its values stand on the page",
            )
    said = {column: line[column] for column in sorted(columns) if line[column]}
    return json.dumps(said, ensure_ascii=False) if said else None
