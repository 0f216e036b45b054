"""Patients who are probably one: the same PatientID came with and without its issuer, or with two spellings of it.

IssuerOfPatientID (0010,0021) is part of a patient's pseudonym, so a file that lacks it makes a second patient of the same
woman. Nobody can tell such files from two women who have one number in two hospitals; but whoever may be one person is never
divided between training and test. The list lies beside the manifest, which stays as it is.

A changed subjects file makes other patients of stored images, and so does an issuer that comes with later files of an exam.
Weights that were trained before know them under their former
pseudonyms, so these are kept.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from schemas.errors import StoreError
from tasks.adapters.workspace import StoreFolder, write_atomically

_COLUMNS = ("patient_id", "person_id")
_FORMER_COLUMNS = ("patient_id", "former_patient_id")


def same_patients(patients: Iterable[tuple[str, str | None]]) -> dict[str, str]:
    """Patient to person, for those patients alone who share their PatientID with another.

    Args:
        patients: Pseudonym of PatientID with its issuer, and that of PatientID alone, which names the person; None in images
            that older versions stored.
    """
    only: dict[str, str] = {}
    several: defaultdict[str, set[str]] = defaultdict(set)  # few: a set for every patient of a million would take 200 MB
    for patient_id, bare_patient_id in patients:
        person_id = bare_patient_id or patient_id
        if (first := only.setdefault(person_id, patient_id)) != patient_id:
            several[person_id] |= {first, patient_id}
    return {patient_id: person_id for person_id, members in sorted(several.items()) for patient_id in sorted(members)}


def write_same_patients(files: StoreFolder, person_by_patient: Mapping[str, str]) -> None:
    """Replaces the list; without anybody to name there is none."""
    path = files.same_patient_path
    if not person_by_patient:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(person_by_patient.items())
    write_atomically(path, text.getvalue().encode())


def read_same_patients(files: StoreFolder) -> dict[str, str]:
    """Patient to person; empty where no two patients share a PatientID."""
    return dict(_lines(files.same_patient_path, _COLUMNS))


def note_former_patients(files: StoreFolder, found: set[tuple[str, str]]) -> None:
    """Adds patients whose images were another's before, and whose."""
    known = set(_former_lines(files))
    if not found - known:
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_FORMER_COLUMNS)
    writer.writerows(sorted(known | found))
    write_atomically(files.former_patients_path, text.getvalue().encode())


def without_issuer_before(files: StoreFolder, patients: Iterable[tuple[str, str | None]]) -> list[tuple[str, str | None]]:
    """Patients, as ``same_patients`` takes them, under whose name images were published before the issuer came.

    Nothing of theirs is published now, but a network may have learnt of them: their split is that of whom they are.
    """
    bare_of = dict(iter(patients))
    return [(former, former) for patient_id, former in _former_lines(files) if bare_of.get(patient_id) == former]


def read_former_patients(files: StoreFolder) -> dict[str, frozenset[str]]:
    """Of each patient all former pseudonyms of her images, those of former ones too; empty where nobody has any."""
    former: defaultdict[str, set[str]] = defaultdict(set)
    for patient_id, former_id in _former_lines(files):
        former[patient_id].add(former_id)
    found = {}
    for patient_id in sorted(former):
        names, waiting = set[str](), [patient_id]
        while waiting:
            fresh = former.get(waiting.pop(), set()) - names
            names |= fresh
            waiting += fresh
        found[patient_id] = frozenset(names)
    return found


def _former_lines(files: StoreFolder) -> list[tuple[str, str]]:
    return _lines(files.former_patients_path, _FORMER_COLUMNS)


def _lines(path: Path, columns: tuple[str, str]) -> list[tuple[str, str]]:
    """The lines of a list; none where there is no list.

    Raises:
        StoreError: It is damaged: whoever took it for empty would divide one person between training and test.
    """
    first, second = columns
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
            if not all(line.get(first) and line.get(second) for line in lines) or not lines:
                raise ValueError
            return [(line[first], line[second]) for line in lines]
    except FileNotFoundError:
        return []
    except (ValueError, csv.Error) as damage:
        raise StoreError(
            f"{path} is damaged",
            expected=f"lines of {first} and {second}, as ingest wrote them",
            got=type(damage).__name__,
            remedy="`mammo ingest` writes same_patient.csv anew; restore the other one from a backup (`mammo restore`)",
        ) from damage
