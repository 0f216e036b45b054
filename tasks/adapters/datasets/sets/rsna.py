"""RSNA Screening Mammography Breast Cancer Detection, 2022: headers without side, view and study."""

from __future__ import annotations

from typing import Final

from tasks.adapters.datasets.gate_profile import Profile
from tasks.adapters.datasets.subject import Subject, side_and_view_of_orientation, subject_of
from tasks.adapters.dicom.header import DicomHeader


def _identify(header: DicomHeader, relative_path: str) -> Subject:
    """From the header: a patient has one exam, and PatientOrientation tells side and view."""
    side, view = side_and_view_of_orientation(header)
    return subject_of(
        header,
        patient=header.patient_id,
        exam=header.patient_id,
        sides={"PatientOrientation": side},
        views={"PatientOrientation": view},
    )


PROFILE: Final = Profile(
    name="rsna",
    title="RSNA Screening Mammography 2022 from Kaggle",
    relaxed=frozenset({"K05", "L02", "V02", "X09", "X11", "T03"}),
    mapped=frozenset({"I01", "L01", "V01"}),
    identify=_identify,
)
