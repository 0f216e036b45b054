"""INbreast: full-field digital mammograms whose identity is in the file name."""

from __future__ import annotations

import re
from typing import Final

from tasks.adapters.datasets.gate_profile import Profile
from tasks.adapters.datasets.subject import Subject, groups_of, subject_of
from tasks.adapters.dicom.header import DicomHeader

_PATH: Final = re.compile(r"(?:^|/)\d+_(?P<patient>[0-9a-f]+)_MG_(?P<laterality>[LR])_(?P<view>CC|MLO?)_ANON\.dcm$")


def _identify(header: DicomHeader, relative_path: str) -> Subject:
    """From ``53581406_<patient>_MG_R_CC_ANON.dcm``; the set writes ML for its MLO.

    The header says "removed" for every patient, so the name in the path goes before it.
    """
    named = groups_of(_PATH, relative_path)
    view = named.get("view", "")
    return subject_of(
        header,
        patient=named.get("patient", header.patient_id),
        exam=header.study_instance_uid,
        sides={"path": named.get("laterality", "")},
        views={"path": "MLO" if view.startswith("ML") else view},
    )


PROFILE: Final = Profile(
    name="inbreast",
    title="INbreast",
    relaxed=frozenset({"L02", "V02", "V11", "X09", "X11"}),
    mapped=frozenset({"I03", "L01", "V01"}),
    identify=_identify,
)
