"""Who and what a file shows: patient, exam, side and view, from the header and from where a profile says to look.

Every place that names a side or a view is kept with its name, so that the rules can see fallbacks and contradictions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from schemas.exam import Laterality, ViewPosition
from tasks.adapters.datasets.gate_profile import Profile
from tasks.adapters.dicom.header import DicomHeader


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Subject:
    """Raw identifiers and what each source says of side and view; stays inside the gate.

    Attributes:
        patient: PatientID or what the profile puts in its place; "" = none.
        exam: StudyInstanceUID or what the profile puts in its place; "" = none.
        is_exam_mapped: True if ``exam`` is not a UID by the profile's choice.
        sides: Source name to ``R``, ``L`` or another value that was found there.
        views: Source name to ``CC``, ``MLO``, or another view's name or "other".
    """

    patient: str
    exam: str
    is_exam_mapped: bool
    sides: dict[str, str]
    views: dict[str, str]

    @property
    def laterality(self) -> Laterality | None:
        """The side, if all sources agree on one."""
        named = set(self.sides.values())
        return Laterality(named.pop()) if len(named) == 1 and named <= set(Laterality) else None

    @property
    def view_position(self) -> ViewPosition | None:
        """The view, if all sources agree on CC or MLO."""
        named = set(self.views.values())
        return ViewPosition(named.pop()) if len(named) == 1 and named <= set(ViewPosition) else None


def find_subject(header: DicomHeader, relative_path: str, profile: Profile) -> Subject:
    """Gathers patient, exam, side and view from the header, the profile's patterns and its mappings."""
    from_id = _groups(profile.patient_id_pattern, header.patient_id)
    from_path = _groups(profile.path_pattern, relative_path)
    exam = header.study_instance_uid or from_path.get("exam", "")
    # A set whose header says "removed" for everybody names patients in the path: the pattern goes before the attribute.
    patient = from_id.get("patient") or from_path.get("patient") or header.patient_id
    if profile.is_patient_the_exam:
        patient = header.patient_id or exam
    if profile.is_exam_the_patient:
        exam = patient
    return Subject(
        patient=patient,
        exam=exam,
        is_exam_mapped=exam != header.study_instance_uid,
        sides=_sides(header, profile, from_id, from_path),
        views=_views(header, profile, from_id, from_path),
    )


def _sides(header: DicomHeader, profile: Profile, from_id: dict[str, str], from_path: dict[str, str]) -> dict[str, str]:
    oriented = _STANDARD_ORIENTATIONS.get("\\".join(header.patient_orientation)) if profile.are_standard_orientations else None
    sources = {
        "ImageLaterality": header.image_laterality,
        "Laterality": header.laterality,
        "PatientID": from_id.get("laterality", "")[:1],
        "path": from_path.get("laterality", "")[:1],
        "PatientOrientation": oriented[0] if oriented else "",
    }
    return {source: value for source, value in sources.items() if value}


def _views(header: DicomHeader, profile: Profile, from_id: dict[str, str], from_path: dict[str, str]) -> dict[str, str]:
    orientation = "\\".join(header.patient_orientation)
    oriented = _STANDARD_ORIENTATIONS.get(orientation) if profile.are_standard_orientations else None
    in_orientation = orientation if profile.is_view_in_orientation and orientation in set(ViewPosition) else ""
    sources = {
        "ViewCodeSequence": VIEW_CODES.get(header.view_codes[0].value, "other") if header.view_codes else "",
        "ViewPosition": header.view_position,
        "PatientID": from_id.get("view", ""),
        "path": from_path.get("view", "").replace("MLO", "ML").replace("ML", "MLO"),  # INbreast writes ML for its MLO
        "PatientOrientation": in_orientation or (oriented[1] if oriented else ""),
    }
    return {source: value for source, value in sources.items() if value}


def _groups(pattern: re.Pattern[str] | None, text: str) -> dict[str, str]:
    match = pattern.search(text) if pattern else None
    return {name: value for name, value in match.groupdict().items() if value} if match else {}


VIEW_CODES: Final = {
    # CID 4014, SNOMED CT number and its retired SRT/SNM3 code.
    **dict.fromkeys(("399162004", "R-10242"), "CC"),
    **dict.fromkeys(("399368009", "R-10226"), "MLO"),
    **dict.fromkeys(("399260004", "R-10224"), "ML"),
    **dict.fromkeys(("399352003", "R-10228"), "LM"),
    **dict.fromkeys(("399099002", "R-10230"), "LMO"),
    **dict.fromkeys(("399196006", "R-10244"), "FB"),
    **dict.fromkeys(("399188001", "R-102D0"), "SIO"),
    **dict.fromkeys(("441555000", "R-40AAA"), "ISO"),
    **dict.fromkeys(("399192008", "R-1024A"), "XCCL"),
    **dict.fromkeys(("399101009", "R-1024B"), "XCCM"),
    "127457009": "specimen",
}
_STANDARD_ORIENTATIONS: Final = {
    "A\\R": ("L", "CC"), "P\\L": ("R", "CC"), "A\\FR": ("L", "MLO"), "P\\FL": ("R", "MLO"),
}  # fmt: skip
