"""The subjects file: who and what each file of a source folder shows, where a table says it instead of the header.

``ingest.subjects_csv`` (docs/reference/subjects.md). It names every file that comes in: what it does not name, and what it
leaves out with a reason, is no failure and is not opened.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

from schemas.errors import LabelError
from schemas.exam import Acquisition, Laterality, ViewPosition
from tasks.adapters.datasets.subject import Subject
from tasks.adapters.separators import csv_rows, fault_of

SUBJECT_COLUMNS: Final = ("path", "patient_id", "exam", "laterality", "view", "acquisition", "left_out", "file")
_REQUIRED: Final = ("path", "patient_id", "exam", "laterality", "view")
SOURCE: Final = "subjects_csv"
"""How the table is named among the sources of a side and a view."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class NamedSubject:
    """What the table says of one file. Raw identifiers: stays inside the gate."""

    patient: str
    exam: str
    laterality: Laterality
    view_position: ViewPosition
    acquisition: Acquisition | None = None

    def over(self, told: Subject) -> Subject:
        """The table's patient and exam; its side and view beside what the header tells of them: both must agree."""
        sides = {source: side for source, side in told.sides.items() if side in set(Laterality)}
        return replace(
            told,
            patient=self.patient,
            exam=self.exam,
            is_exam_mapped=True,
            is_named=True,
            sides={**sides, SOURCE: self.laterality.value},
            views={**told.views, SOURCE: self.view_position.value},
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class NamedSubjects:
    """The table: what it says of each file that comes in, by its path below the source folder; and how many it leaves out."""

    by_path: Mapping[str, NamedSubject]
    left_out: int


def read_subjects(path: Path) -> NamedSubjects:
    """Reads the table; the same file is read once in a process.

    Raises:
        LabelError: It cannot be read, lacks a column, or a line is not of its schema.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise _unreadable(path, error.strerror) from None
    return _read(path, status.st_mtime_ns, status.st_size)


def subjects_version(path: Path | None) -> str:
    """A digest of the table; what was refused under another is read again. "" = there is none."""
    if path is None:
        return ""
    try:
        status = path.stat()
    except OSError as error:
        raise _unreadable(path, error.strerror) from None
    return _digest(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def _digest(path: Path, _modified_ns: int, _size: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


@lru_cache(maxsize=2)
def _read(path: Path, _modified_ns: int, _size: int) -> NamedSubjects:
    by_path: dict[str, NamedSubject] = {}
    left_out = 0
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv_rows(file)
            missing = [column for column in _REQUIRED if column not in (rows.fieldnames or ())]
            if missing:
                raise LabelError(
                    f"{path.name} lacks columns of a subjects file",
                    expected=", ".join(SUBJECT_COLUMNS),
                    got=f"no {missing[0]}",
                    remedy="docs/reference/subjects.md shows an example",
                )
            for row in rows:
                if (row.get("left_out") or "").strip():
                    left_out += 1
                    continue
                place = (row.get("file") or "").strip() or (row["path"] or "").strip()
                if by_path.setdefault(place, subject := _subject(row, rows.line_num, path.name)) is not subject:
                    raise LabelError(
                        f"Line {rows.line_num} of {path.name} names a file a second time", expected="one line a file"
                    )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, fault_of(error)) from None
    return NamedSubjects(by_path=by_path, left_out=left_out)


def _subject(row: Mapping[str, str | None], line: int, name: str) -> NamedSubject:
    values = {column: (row.get(column) or "").strip() for column in SUBJECT_COLUMNS}
    words: dict[str, tuple[str, ...]] = {
        "laterality": tuple(Laterality),
        "view": tuple(ViewPosition),
        "acquisition": ("", *Acquisition),
    }
    for column, known in words.items():
        if values[column] not in known:
            raise LabelError(
                f"Line {line} of {name}, column {column}",
                expected=", ".join(word for word in known if word),
                got="another word" if values[column] else "nothing",
                remedy="a file that shows something else is left out: say why in left_out",
            )
    for column in ("path", "patient_id", "exam"):
        if not values[column]:
            raise LabelError(f"Line {line} of {name}, column {column}", expected="a name", got="nothing")
    return NamedSubject(
        patient=values["patient_id"],
        exam=values["exam"],
        laterality=Laterality(values["laterality"]),
        view_position=ViewPosition(values["view"]),
        acquisition=Acquisition(values["acquisition"]) if values["acquisition"] else None,
    )


def _unreadable(path: Path, got: str | None) -> LabelError:
    return LabelError(
        f"The subjects file {path.name} cannot be read",
        expected="CSV in UTF-8 with a header line",
        got=got,
        remedy="check ingest.subjects_csv in the config",
    )
