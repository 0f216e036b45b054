"""Rules on identifiers (I): they name patient, exam and image, and do no harm where they are used."""

from __future__ import annotations

import re
from typing import Final

from tasks.adapters.dicom.header import is_uid
from tasks.adapters.gate.rules.rule import BLOCK, WARN, Seen, rule

_NAME: Final = re.compile(r"[0-9A-Za-z._-]{1,64}")
_HOSTILE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f<>=+@|\\/]|\.\.")
_HOSTILE_ID: Final = re.compile(r"[\x00-\x1f\x7f-\x9f<>=|\\]|\.\.|^[/@]")
_REPLACED: Final = "\ufffd"
_ASCII_SET: Final = re.compile(r"ISO.?(2022.)?IR.?6")
_CHARACTER_SET: Final = re.compile(
    r"ISO.?(2022.)?IR.?(6|13|58|87|1(00|01|09|10|26|27|38|44|48|49|59|66)|192|203)|(ISO 2022 )?(GBK|58)|GB18030"
)
"""Defined terms of SpecificCharacterSet (0008,0005), PS3.3 C.12.1.1.2, and the spellings of them that are met."""
_UNUSUAL_ID: Final = re.compile(r"[/+@]")


@rule("I01", BLOCK, "Study, SOP instance and SOP class UIDs are digits and dots, at most 64")
def are_uids_valid(seen: Seen) -> str | None:
    """PS3.5 9.1, but for leading zeros in a component: they are common in old exams and harm nobody, so they pass.

    Where a public set's table names the file, its identifiers are what the set made of them: an instance may have another
    name, and what kind of object it is may be said nowhere.
    """
    if seen.subject.is_named:
        return None if _NAME.fullmatch(seen.header.sop_instance_uid) else "SOPInstanceUID"
    uids = {"SOPInstanceUID": seen.header.sop_instance_uid, "SOPClassUID": seen.header.sop_class_uid}
    if not seen.subject.is_exam_mapped:
        uids["StudyInstanceUID"] = seen.header.study_instance_uid
    wrong = [name for name, uid in uids.items() if not is_uid(uid)]
    if not seen.subject.exam and "StudyInstanceUID" not in wrong:
        wrong.append("StudyInstanceUID")
    return " ".join(wrong) if wrong else None


@rule("I02", WARN, "SOPInstanceUID agrees with the file meta information")
def is_instance_uid_agreed(seen: Seen) -> str | None:
    """MediaStorageSOPInstanceUID (0002,0003) repeats it (PS3.10 7.1)."""
    return None if seen.header.media_storage_sop_instance_uid == seen.header.sop_instance_uid else ""


@rule("I03", BLOCK, "PatientID is given: exams are split by patient")
def is_patient_named(seen: Seen) -> str | None:
    """PatientID (0010,0020), or what the data set puts in its place."""
    return None if seen.subject.patient else ""


@rule(
    "I04",
    BLOCK,
    "PatientID holds no control or invisible character and none of < > = | \\ or '..', and begins with none of / @",
)
def is_patient_id_harmless(seen: Seen) -> str | None:
    """It would be a page, a formula, a terminal's command or a path somewhere else; or one patient two that look alike."""
    ids = (seen.header.patient_id, seen.subject.patient)
    return "" if any(_HOSTILE_ID.search(text) or not text.replace(" ", "").isprintable() for text in ids) else None


@rule("I05", WARN, "IssuerOfPatientID, manufacturer and model hold no such character")
def are_device_names_harmless(seen: Seen) -> str | None:
    """Manufacturer and model reach tables and pages, cleaned."""
    header = seen.header
    texts = (header.issuer_of_patient_id, header.manufacturer, header.model_name)
    return "" if any(map(_HOSTILE.search, texts)) else None


@rule("I07", WARN, "PatientID holds none of / + @")
def is_patient_id_plain(seen: Seen) -> str | None:
    """The standard allows them, and only the pseudonym is kept; in a labels file or a shell they need care."""
    return "" if _UNUSUAL_ID.search(seen.header.patient_id) or _UNUSUAL_ID.search(seen.subject.patient) else None


@rule("I08", BLOCK, "PatientID, its issuer and AccessionNumber decode by SpecificCharacterSet")
def are_ids_decoded(seen: Seen) -> str | None:
    """A replaced character would make two patients one, a guessed character set one patient two."""
    header = seen.header
    ids = {
        "PatientID": header.patient_id,
        "IssuerOfPatientID": header.issuer_of_patient_id,
        "AccessionNumber": header.accession_number,
    }
    return " ".join(name for name, text in ids.items() if not _is_decoded(text, header.specific_character_set)) or None


@rule("I09", WARN, "PatientID is the patient whom ingest.subjects_csv names")
def is_patient_agreed(seen: Seen) -> str | None:
    """The table's patient is taken. A header that names nobody contradicts nobody."""
    is_other = seen.header.patient_id not in {"", seen.subject.patient}
    return "" if seen.subject.is_named and is_other else None


def _is_decoded(text: str, character_sets: tuple[str, ...]) -> bool:
    """True if the text is what its bytes mean. Where nothing else is named, they are ASCII (PS3.3 C.12.1.1.2).

    A reader takes bytes of no known set for Latin-1, and what it cannot decode for U+FFFD.
    """
    if text.isascii():
        return True
    known = [_CHARACTER_SET.fullmatch(name.upper()) for name in character_sets if name]
    if _REPLACED in text or not known or not all(known):
        return False
    first = character_sets[0].upper()
    is_first_ascii = not first or _ASCII_SET.fullmatch(first) is not None
    return not (is_first_ascii and any("\x80" <= letter <= "\xff" for letter in text))
