"""A list of exams by accession number or StudyInstanceUID, as a person or another system writes it: CSV with a head."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from schemas.errors import ConfigError
from tasks.adapters.separators import csv_rows, fault_of

ACCESSION, STUDY = "accession_number", "study_instance_uid"
_NOT_IN_A_QUESTION: Final = frozenset('*?\\"')


@dataclass(frozen=True, slots=True)
class WantedExam:
    """One line: one of the two is empty."""

    accession_number: str = field(default="", repr=False)
    study_uid: str = field(default="", repr=False)


def read_worklist(path: Path) -> list[WantedExam]:
    """The exams of a list, each once, in its order; other columns are not read.

    Raises:
        ConfigError: It cannot be read, has neither column, names nothing, or a line holds what would be a pattern. Values are
            never quoted: they are identifiers.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv_rows(file)
            columns = [name for name in (STUDY, ACCESSION) if name in (reader.fieldnames or ())]
            if not columns:
                raise _wrong(path, "it has neither column", "a head with accession_number or study_instance_uid")
            wanted = []
            for line in reader:
                said = {name: (line.get(name) or "").strip() for name in columns}
                if _NOT_IN_A_QUESTION & set("".join(said.values())):
                    raise _wrong(path, f"line {reader.line_num} holds a pattern", "an accession number or a UID, whole")
                study, accession = said.get(STUDY, ""), said.get(ACCESSION, "")
                if study and not study.replace(".", "").isdigit():
                    raise _wrong(path, f"line {reader.line_num} holds no UID", "digits and full stops in study_instance_uid")
                if study or accession:
                    wanted.append(WantedExam("" if study else accession, study))
    except (OSError, UnicodeDecodeError, csv.Error) as unreadable:
        raise _wrong(path, fault_of(unreadable), "a CSV file in UTF-8") from None
    if not wanted:
        raise _wrong(path, "it names no exam", "a line for each exam")
    return list(dict.fromkeys(wanted))


def _wrong(path: Path, got: str, expected: str) -> ConfigError:
    return ConfigError(
        f"The worklist {path} cannot be used", expected=expected, got=got, remedy="correct ingest.source.worklist"
    )
