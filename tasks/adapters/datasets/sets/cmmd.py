"""CMMD: the Chinese Mammography Database of TCIA. The side is told by how the image lies."""

from __future__ import annotations

from typing import Final

from tasks.adapters.datasets.gate_profile import Profile
from tasks.adapters.datasets.subject import Subject, side_and_view_of_orientation, subject_of
from tasks.adapters.dicom.header import DicomHeader


def _identify(header: DicomHeader, relative_path: str) -> Subject:
    """From the header; all its images lie as the standard wants, so PatientOrientation tells side and view."""
    side, view = side_and_view_of_orientation(header)
    return subject_of(
        header,
        patient=header.patient_id,
        exam=header.study_instance_uid,
        sides={"PatientOrientation": side},
        views={"PatientOrientation": view},
    )


PROFILE: Final = Profile(
    name="cmmd",
    title="CMMD (Chinese Mammography Database) from TCIA",
    relaxed=frozenset({"L02", "X12"}),
    mapped=frozenset({"L01"}),
    identify=_identify,
)
