"""Who and what a file shows: patient, exam, side and view, and who says so.

Every place that names a side or a view is kept with its name, so that the rules can see fallbacks and contradictions. The
functions below are what the modules of ``sets`` put their own knowledge into.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from schemas.exam import Laterality, ViewPosition
from tasks.adapters.dicom.header import DicomHeader


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Subject:
    """Raw identifiers and what each source says of side and view; stays inside the gate.

    Attributes:
        patient: PatientID or what the data set puts in its place; "" = none.
        exam: StudyInstanceUID or what the data set puts in its place; "" = none.
        is_exam_mapped: True if ``exam`` is not a UID by the profile's choice.
        sides: Source name to ``R``, ``L`` or another value that was found there.
        views: Source name to ``CC``, ``MLO``, or another view's name or "other".
        is_named: True if a table of the set names the file: identifiers that are no UIDs are meant.
    """

    patient: str
    exam: str
    is_exam_mapped: bool
    sides: dict[str, str]
    views: dict[str, str]
    is_named: bool = False

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


_NONE: Final[Mapping[str, str]] = MappingProxyType({})


def subject_of_header(header: DicomHeader, relative_path: str = "") -> Subject:
    """Whom a file shows whose attributes are where the standard puts them; the path says nothing."""
    return subject_of(header, patient=header.patient_id, exam=header.study_instance_uid)


def subject_of(
    header: DicomHeader, *, patient: str, exam: str, sides: Mapping[str, str] = _NONE, views: Mapping[str, str] = _NONE
) -> Subject:
    """A subject whose side and view are named by the standard's attributes and by what a data set adds.

    Args:
        header: Of the file.
        patient: Stands for the patient; "" = not known.
        exam: Stands for the exam; "" = not known.
        sides: Further sources of the side, by name; empty values name nothing.
        views: Further sources of the view, by name; empty values name nothing.
    """
    named = groups_of(_SIDE_AND_VIEW, header.view_position)
    all_sides = {
        "ImageLaterality": header.image_laterality,
        "Laterality": header.laterality,
        "ViewPosition": named.get("side", ""),
        **sides,
    }
    coded = VIEW_CODES.get(header.view_codes[0].value, "other") if header.view_codes else ""
    all_views = {"ViewCodeSequence": coded, "ViewPosition": named.get("view", header.view_position), **views}
    # A series of both breasts says B, a set that does not know says U: neither contradicts an image that says L.
    is_named = not set(Laterality).isdisjoint(all_sides.values())
    return Subject(
        patient=patient,
        exam=exam,
        is_exam_mapped=exam != header.study_instance_uid,
        sides={source: value for source, value in all_sides.items() if value and (value in set(Laterality) or not is_named)},
        views={source: value for source, value in all_views.items() if value},
    )


def side_and_view_of_orientation(header: DicomHeader) -> tuple[str, str]:
    """Side and view that PatientOrientation (0020,0020) tells of an image that lies as PS3.3 C.7.6.1.1.1 wants; "" = nothing.

    For data sets of which it is known that all their images lie so.
    """
    return _STANDARD_ORIENTATIONS.get("\\".join(header.patient_orientation), ("", ""))


def groups_of(pattern: re.Pattern[str], text: str) -> dict[str, str]:
    """The named groups that a pattern finds in a text, without the empty ones; nothing if it does not match."""
    match = pattern.search(text)
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
_SIDE_AND_VIEW: Final = re.compile(r"^(?P<side>[LR])[ _-]?(?P<view>CC|MLO)$")
"""ViewPosition (0018,5101) of devices that put the side before it: LCC."""
_STANDARD_ORIENTATIONS: Final = {
    "A\\R": ("L", "CC"), "P\\L": ("R", "CC"), "A\\FR": ("L", "MLO"), "P\\FL": ("R", "MLO"),
}  # fmt: skip
