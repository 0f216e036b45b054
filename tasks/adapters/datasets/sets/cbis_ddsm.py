"""CBIS-DDSM: film scans of TCIA. PatientID names one view, and the study UID differs from view to view."""

from __future__ import annotations

import re
from typing import Final

from schemas.exam import Acquisition, ViewPosition
from tasks.adapters.datasets.gate_profile import Profile
from tasks.adapters.datasets.subject import Subject, groups_of, subject_of
from tasks.adapters.dicom.header import DicomHeader

# A patient may be in the mass and in the calcification set, so the prefix is no part of the name.
_PATIENT_ID: Final = re.compile(
    r"^(?:Mass|Calc)-(?:Training|Test)_(?P<patient>P_\d+)_(?P<laterality>LEFT|RIGHT)_(?P<view>CC|MLO)"
)


def _identify(header: DicomHeader, relative_path: str) -> Subject:
    """From a PatientID such as ``Calc-Test_P_00038_LEFT_CC``. A patient has one exam; PatientOrientation may hold the view."""
    named = groups_of(_PATIENT_ID, header.patient_id)
    patient = named.get("patient", header.patient_id)
    oriented = "\\".join(header.patient_orientation)
    return subject_of(
        header,
        patient=patient,
        exam=patient,
        sides={"PatientID": named.get("laterality", "")[:1]},
        views={"PatientID": named.get("view", ""), "PatientOrientation": oriented if oriented in set(ViewPosition) else ""},
    )


PROFILE: Final = Profile(
    name="cbis-ddsm",
    title="CBIS-DDSM film scans from TCIA",
    relaxed=frozenset({"K02", "L02", "V02", "V11", "X09", "X11", "X31"}),
    mapped=frozenset({"V01"}),
    identify=_identify,
    not_a_view_pattern=re.compile(r"ROI mask|cropped|_(?:CC|MLO)_\d+$", re.IGNORECASE),
    acquisition=Acquisition.FILM,
)
