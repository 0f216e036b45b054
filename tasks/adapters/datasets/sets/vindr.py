"""VinDr-Mammo of PhysioNet: no PatientID, and an exam is a folder."""

from __future__ import annotations

import re
from typing import Final

from tasks.adapters.datasets.gate_profile import Profile
from tasks.adapters.datasets.subject import Subject, groups_of, subject_of
from tasks.adapters.dicom.header import DicomHeader

_PATH: Final = re.compile(r"(?:^|/)(?P<exam>[0-9a-f]{32})/[0-9a-f]{32}\.(?:dicom|dcm)$")


def _identify(header: DicomHeader, relative_path: str) -> Subject:
    """From ``images/<exam>/<image>.dicom``. The set says nothing of patients: each exam counts as one."""
    exam = header.study_instance_uid or groups_of(_PATH, relative_path).get("exam", "")
    return subject_of(header, patient=header.patient_id or exam, exam=exam)


PROFILE: Final = Profile(
    name="vindr",
    title="VinDr-Mammo from PhysioNet",
    relaxed=frozenset({"V02", "V11", "X09", "X11"}),
    mapped=frozenset({"I01", "I03"}),
    identify=_identify,
)
