"""Profiles: named sets of relaxed gate rules and attribute mappings, one per public data set whose headers leave the standard.

A profile is named in the config and recorded in provenance; nothing is relaxed silently. Which rules a data set breaks and
why is in ``docs/gate-rules.md``. What is not known of a set's headers first hand is marked there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from schemas.config.run import nearest_keys
from schemas.errors import ConfigError
from schemas.exam import Acquisition
from tasks.adapters.gate.rules.rule import GATE_RULES


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What one data set is allowed, and where its headers hide what the standard puts elsewhere.

    Patterns are regular expressions whose groups ``patient``, ``exam``, ``laterality`` and ``view`` are taken where they match.

    Attributes:
        title: For whom it is, as users read it.
        relaxed: Rules that neither refuse nor warn.
        mapped: Rules that the mappings below satisfy; with ``relaxed`` they decide which profile is advised.
        smallest_side_px: Lower limit of rule X01.
        patient_id_pattern: Searched in PatientID; the group ``patient`` replaces it.
        path_pattern: Searched in the path below the source folder, for sets that keep identity in file names.
        is_exam_the_patient: True if the files of one exam have different StudyInstanceUIDs and patients have one exam.
        is_patient_the_exam: True if the set holds no PatientID: each exam counts as a patient.
        is_view_in_orientation: True if PatientOrientation holds CC or MLO.
        are_standard_orientations: True if images are oriented as PS3.3 wants, so PatientOrientation tells side and view.
        not_a_view_pattern: Searched in SeriesDescription and PatientID; a match breaks K08.
        acquisition: How all its images came to be; None = as the header says.
    """

    name: str
    title: str
    relaxed: frozenset[str] = frozenset()
    mapped: frozenset[str] = frozenset()
    smallest_side_px: int = 800
    patient_id_pattern: re.Pattern[str] | None = None
    path_pattern: re.Pattern[str] | None = None
    is_exam_the_patient: bool = False
    is_patient_the_exam: bool = False
    is_view_in_orientation: bool = False
    are_standard_orientations: bool = False
    not_a_view_pattern: re.Pattern[str] | None = None
    acquisition: Acquisition | None = None

    @property
    def accepts(self) -> frozenset[str]:
        """The rules that files of this set break under ``clinical-strict`` and not under this profile."""
        return self.relaxed | self.mapped


CLINICAL_STRICT: Final = Profile(name="clinical-strict", title="clinical FFDM exams as a PACS holds them")

_CBIS_DDSM = Profile(
    name="cbis-ddsm",
    title="CBIS-DDSM film scans from TCIA",
    relaxed=frozenset({"K02", "L02", "V02", "V11", "X09", "X11"}),
    mapped=frozenset({"V01"}),
    # PatientID names one view, StudyInstanceUID differs per view, and a patient may be in the mass and the calcification set.
    patient_id_pattern=re.compile(
        r"^(?:Mass|Calc)-(?:Training|Test)_(?P<patient>P_\d+)_(?P<laterality>LEFT|RIGHT)_(?P<view>CC|MLO)"
    ),
    is_exam_the_patient=True,
    is_view_in_orientation=True,
    not_a_view_pattern=re.compile(r"ROI mask|cropped|_(?:CC|MLO)_\d+$", re.IGNORECASE),
    acquisition=Acquisition.FILM,
)
_CMMD = Profile(
    name="cmmd",
    title="CMMD (Chinese Mammography Database) from TCIA",
    relaxed=frozenset({"L02", "X12"}),
    mapped=frozenset({"L01"}),
    are_standard_orientations=True,
)
_VINDR = Profile(
    name="vindr",
    title="VinDr-Mammo from PhysioNet",
    relaxed=frozenset({"V02", "V11", "X09", "X11"}),
    mapped=frozenset({"I01", "I03"}),
    path_pattern=re.compile(r"(?:^|/)(?P<exam>[0-9a-f]{32})/[0-9a-f]{32}\.(?:dicom|dcm)$"),
    is_patient_the_exam=True,
)
_RSNA = Profile(
    name="rsna",
    title="RSNA Screening Mammography 2022 from Kaggle",
    relaxed=frozenset({"K05", "L02", "V02", "X09", "X11", "T03"}),
    mapped=frozenset({"I01", "L01", "V01"}),
    is_exam_the_patient=True,
    are_standard_orientations=True,
)
_INBREAST = Profile(
    name="inbreast",
    title="INbreast",
    relaxed=frozenset({"L02", "V02", "V11", "X09", "X11"}),
    mapped=frozenset({"I03", "L01", "V01"}),
    path_pattern=re.compile(r"(?:^|/)\d+_(?P<patient>[0-9a-f]+)_MG_(?P<laterality>[LR])_(?P<view>CC|MLO?)_ANON\.dcm$"),
)
_EMBED = Profile(
    name="embed",
    title="EMBED (Emory) open data",
    relaxed=frozenset({"L02", "V02"}),
    mapped=frozenset({"I03"}),
    path_pattern=re.compile(r"(?:^|/)cohort/(?P<patient>[^/]+)/(?P<exam>[^/]+)/[^/]+\.dcm$"),
)
_PHANTOM = Profile(
    name="phantom",
    title="synthetic exams of `mammo phantom`, also small ones",
    relaxed=frozenset({"X09"}),
    mapped=frozenset({"X01"}),
    smallest_side_px=256,
)

PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {profile.name: profile for profile in (CLINICAL_STRICT, _CBIS_DDSM, _CMMD, _VINDR, _RSNA, _INBREAST, _EMBED, _PHANTOM)}
)


def profile_named(name: str) -> Profile:
    """Finds a profile.

    Raises:
        ConfigError: There is none of this name; the message names the nearest.
    """
    if name not in PROFILES:
        nearest = nearest_keys(name, PROFILES)
        raise ConfigError(
            f"There is no gate profile {name!r}",
            expected=f"one of {', '.join(PROFILES)}",
            remedy=f"did you mean {nearest[0]}?" if nearest else "set ingest.profile to one of them",
        )
    return PROFILES[name]


def advise_profile(rejections: Iterable[str]) -> str | None:
    """Says which profile fits when a whole folder was refused for the same reasons.

    Args:
        rejections: The reason codes of all refused files, repeated as often as they occurred; a Counter of them will do.

    Returns:
        A sentence, or None if no profile would have accepted what most files were refused for.
    """
    counts = Counter(rejections)
    if not counts:
        return None
    usual = {code for code, count in counts.items() if 2 * count >= max(counts.values())}
    fitting = [profile for profile in PROFILES.values() if usual <= profile.accepts]
    if not fitting:
        return None
    best = min(fitting, key=lambda profile: len(profile.accepts))
    reasons = "; ".join(f"{code} ({GATE_RULES[code].demand})" for code in sorted(usual))
    return f"Files broke {reasons}. If this is {best.title}, set `profile: {best.name}` under `ingest:` in the config."
