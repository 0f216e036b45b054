"""EMBED of Emory University: patient and exam are folders."""

from __future__ import annotations

import re
from typing import Final

from tasks.adapters.datasets.gate_profile import Profile
from tasks.adapters.datasets.subject import Subject, groups_of, subject_of
from tasks.adapters.dicom.header import DicomHeader

_PATH: Final = re.compile(r"(?:^|/)cohort/(?P<patient>[^/]+)/(?P<exam>[^/]+)/[^/]+\.dcm$")


def _identify(header: DicomHeader, relative_path: str) -> Subject:
    """From ``cohort/<patient>/<exam>/<image>.dcm``."""
    named = groups_of(_PATH, relative_path)
    return subject_of(
        header,
        patient=named.get("patient", header.patient_id),
        exam=header.study_instance_uid or named.get("exam", ""),
    )


PROFILE: Final = Profile(
    name="embed",
    title="EMBED (Emory) open data",
    relaxed=frozenset({"L02", "V02"}),
    mapped=frozenset({"I03"}),
    identify=_identify,
)
