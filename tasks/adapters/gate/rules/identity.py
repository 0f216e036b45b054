"""Rules on identifiers (I): they name patient, exam and image, and do no harm where they are used."""

from __future__ import annotations

import re
from typing import Final

from tasks.adapters.gate.rules.rule import BLOCK, WARN, Seen, rule

_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*")
_HOSTILE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f<>=+@|\\/]|\.\.")


@rule("I01", BLOCK, "Study, SOP instance and SOP class UIDs are digits and dots, at most 64")
def are_uids_valid(seen: Seen) -> str | None:
    """PS3.5 9.1, but for leading zeros in a component: they are common in old exams and harm nobody, so they pass."""
    uids = {"SOPInstanceUID": seen.header.sop_instance_uid, "SOPClassUID": seen.header.sop_class_uid}
    if not seen.subject.is_exam_mapped:
        uids["StudyInstanceUID"] = seen.header.study_instance_uid
    wrong = [name for name, uid in uids.items() if not _UID.fullmatch(uid) or len(uid) > 64]
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


@rule("I04", BLOCK, "PatientID holds no control character and none of < > = + @ | \\ / or '..'")
def is_patient_id_harmless(seen: Seen) -> str | None:
    """It would be a page, a formula, a terminal's command or a path somewhere else."""
    return "" if _HOSTILE.search(seen.header.patient_id) or _HOSTILE.search(seen.subject.patient) else None


@rule("I05", WARN, "IssuerOfPatientID, manufacturer and model hold no such character")
def are_device_names_harmless(seen: Seen) -> str | None:
    """Manufacturer and model reach tables and pages, cleaned."""
    header = seen.header
    texts = (header.issuer_of_patient_id, header.manufacturer, header.model_name)
    return "" if any(map(_HOSTILE.search, texts)) else None
