"""The split file: which patient trains, tunes or tests, as somebody else has divided them (docs/reference/split-file.md).

Raw identifiers leave as pseudonyms; no message quotes what a field holds.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from schemas.errors import ConfigError
from schemas.exam import Split
from tasks.adapters.pseudonyms import Pseudonyms
from tasks.adapters.separators import separator_of

PATIENT: Final = "patient_id"
OPTIONAL_COLUMNS: Final = ("issuer_of_patient_id",)
LEFT_OUT: Final = "left out"
_WORDS: Final[Mapping[str, Split | None]] = {
    "train": Split.TRAIN,
    "training": Split.TRAIN,
    "tuning": Split.TUNING,
    "valid": Split.TUNING,
    "validation": Split.TUNING,
    "val": Split.TUNING,
    "test": Split.TEST,
    "testing": Split.TEST,
    LEFT_OUT: None,
}
Part = Split | int | None
"""What a line says of its patient: a split, the number of a fold, or that the patient is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """Which fold of a k-fold file tests; the patients of all others train."""

    number: int
    folds: int

    def split_of(self, fold: int) -> Split:
        """What a patient of a fold does."""
        return Split.TEST if fold == self.number else Split.TRAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenSplits:
    """What a split file says of the patients of a store.

    Attributes:
        by_patient: Split by pseudonym; None = the file leaves the patient out.
        unknown: Patients of the file who have no image in the store.
        sha256: Digest of the file.
    """

    by_patient: Mapping[str, Split | None]
    unknown: int
    sha256: str


def split_file_sha256(path: Path) -> str:
    """Digest of a split file.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as unreadable:
        raise _unreadable(path, unreadable) from None


def given_splits(
    path: Path,
    pseudonyms: Pseudonyms,
    patients: Iterable[tuple[str, str | None]],
    person_by_patient: Mapping[str, str],
    fold: Fold | None = None,
) -> GivenSplits:
    """The splits of a store's patients. Whoever may be one person under two pseudonyms is given one split.

    Args:
        path: CSV in UTF-8 with a header line, separated by comma, semicolon or tab. Columns beside those named are not read.
        pseudonyms: Replaces PatientID (0010,0020) with IssuerOfPatientID (0010,0021), where the file has that column.
        patients: Of each published patient the pseudonym, and that of the PatientID without its issuer, by which a file
            without issuers names her; None where only the first is known.
        person_by_patient: Patients who are probably one person.
        fold: The file is a k-fold file, with a column ``fold`` in place of ``split``, and this fold tests.

    Raises:
        ConfigError: The file cannot be read, lacks a column, has an empty or unknown word, is silent about published patients,
            or puts a patient or person into two splits.
    """
    given = _read(path, pseudonyms, _WORDS if fold is None else _words_of(fold), "split" if fold is None else "fold")
    by_person: dict[str, set[Part]] = {}
    pseudonyms_by_patient: dict[str, set[str]] = {}
    for patient_id, bare_patient_id in patients:
        names = pseudonyms_by_patient.setdefault(patient_id, {patient_id})
        if bare_patient_id is not None:
            names.add(bare_patient_id)
    for patient_id, names in pseudonyms_by_patient.items():
        person = person_by_patient.get(patient_id, patient_id)
        by_person.setdefault(person, set()).update(given[name] for name in names if name in given)
    divided = sum(len(parts) > 1 for parts in by_person.values())
    if divided:
        raise ConfigError(
            "The split file divides patients who are probably one person",
            expected="one split for all files of one PatientID (0010,0020), whatever issuer they name",
            got=f"{divided} persons in two splits",
            remedy="give them one split, or correct IssuerOfPatientID (0010,0021) in the files if they are two women",
        )
    silent = sum(not parts for parts in by_person.values())
    if silent:
        raise ConfigError(
            "The split file does not name every patient",
            expected=f"a line for each of {len(by_person)} published patients",
            got=f"{silent} of them without one",
            remedy=f"add them; the word '{LEFT_OUT}' keeps a patient out of every split. If none is named: patient_id is the "
            "PatientID (0010,0020) of the DICOM files, with its leading zeros",
        )
    if fold is not None:
        require_every_fold((part for parts in by_person.values() for part in parts if isinstance(part, int)), fold.folds)
    known = {name for names in pseudonyms_by_patient.values() for name in names}
    return GivenSplits(
        by_patient={
            patient_id: _split(next(iter(by_person[person_by_patient.get(patient_id, patient_id)])), fold)
            for patient_id in pseudonyms_by_patient
        },
        unknown=len(given.keys() - known),
        sha256=split_file_sha256(path),
    )


def require_every_fold(numbers: Iterable[int], folds: int) -> None:
    """Refuses folds without a patient before the first network is trained.

    Raises:
        ConfigError: A fold of 1 to ``folds`` has no published patient.
    """
    empty = sorted(set(range(1, folds + 1)).difference(numbers))
    if empty:
        raise ConfigError(
            "A fold has no patient, so it could judge no network",
            expected=f"published patients in each of {folds} folds",
            got=f"none in {', '.join(map(str, empty))}",
            remedy="set split.folds to the number of folds that there are, or give each a patient",
        )


def _words_of(fold: Fold) -> dict[str, Part]:
    return {**{str(number): number for number in range(1, fold.folds + 1)}, LEFT_OUT: None}


def _split(part: Part, fold: Fold | None) -> Split | None:
    if isinstance(part, Split) or part is None:
        return part
    return None if fold is None else fold.split_of(part)


def _read(path: Path, pseudonyms: Pseudonyms, words: Mapping[str, Part], column: str) -> dict[str, Part]:
    """The split or fold that each line gives its patient, by pseudonym."""
    given: dict[str, Part] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header_line = file.readline()
            delimiter = separator_of(header_line)
            header = [name.strip().lower() for name in next(csv.reader([header_line], delimiter=delimiter, strict=True), [])]
            missing = [name for name in (PATIENT, column) if name not in header]
            if missing:
                raise ConfigError(
                    f"The split file {path.name} lacks columns",
                    expected=", ".join((PATIENT, column, *(f"{name} (optional)" for name in OPTIONAL_COLUMNS))),
                    got=f"no {' and no '.join(missing)}",
                    remedy="name the columns in the first line as docs/reference/split-file.md does",
                )
            for number, values in enumerate(csv.reader(file, delimiter=delimiter, strict=True), start=2):
                if not any(map(str.strip, values)):
                    continue
                line = dict(zip(header, (value.strip() for value in values), strict=False))
                patient_id, part = _patient_and_part(number, line, pseudonyms, words, column)
                if given.setdefault(patient_id, part) != part:
                    raise ConfigError(
                        f"Line {number} of the split file {path.name} puts a patient into a second {column}",
                        expected=f"one {column} a patient",
                        got=f"{part or LEFT_OUT} after {given[patient_id] or LEFT_OUT}",
                        remedy="decide for one; a patient of whom a network learns must not test it",
                    )
    except (OSError, UnicodeDecodeError, csv.Error) as unreadable:
        raise _unreadable(path, unreadable) from None  # the foreign message may quote a value
    return given


def _patient_and_part(
    number: int, line: Mapping[str, str], pseudonyms: Pseudonyms, words: Mapping[str, Part], column: str
) -> tuple[str, Part]:
    patient, word = line.get(PATIENT, ""), line.get(column, "").lower()
    if not patient:
        raise ConfigError(f"Line {number} of the split file names no patient", expected="PatientID (0010,0020)", got="nothing")
    if word not in words:
        raise ConfigError(
            f"Line {number} of the split file gives no {column}",
            expected=f"one of {', '.join(words)}",
            got="another word" if word else "nothing",
            remedy="docs/reference/split-file.md lists the words"
            + ("; folds count from 1 to split.folds" if column == "fold" else ""),
        )
    return pseudonyms.patient_id(patient, line.get("issuer_of_patient_id", "")), words[word]


def _unreadable(path: Path, error: Exception) -> ConfigError:
    return ConfigError(
        f"The split file {path.name} cannot be read",
        expected="CSV in UTF-8 with a header line",
        got=error.strerror if isinstance(error, OSError) else type(error).__name__,
        remedy="check split.file in the config",
    )
