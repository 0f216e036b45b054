"""KAU-BCMD: JPEG, in folders by the BI-RADS of the case; which breast it is of is said nowhere."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from tasks.adapters.datasets.gate_profile import Profile
from tasks.adapters.datasets.published.breast_rules import birads_grade, worst_birads
from tasks.adapters.datasets.published.reading import Breast, DataSet, Facts, Image, Policies, Reading
from tasks.adapters.datasets.published.tree import Tree

PROFILE: Final = Profile(
    name="kau-bcmd",
    title="KAU-BCMD, as `mammo dataset` copies it",
    relaxed=frozenset({"V11", "X09", "X11", "X12"}),
    is_advised=False,
)
FACTS: Final = Facts(
    name="kau-bcmd",
    aliases=("kau",),
    title="KAU-BCMD (King Abdulaziz University)",
    licence="not verified: see the Kaggle page",
    size="2 GB, 2,206 files (Kaggle's copy; 5,662 published)",
    release="Kaggle; doi 10.3390/data6110111",
    needs=("correctSheetlast.xlsx", "BIRAD1/b1/", "Birad4/b4/"),
    get="https://www.kaggle.com/datasets/asmaasaad/king-abdulaziz-university-mammogram-dataset",
    source="doi 10.3390/data6110111",
    shares_data=False,
    is_lossy=True,
)
_FILE: Final = re.compile(
    r"(?:^|/)bi-?rads?\s*(?P<birads>\d)/(?:[^/]+/)?(?P<year>\d+)_BC(?P<patient>\d+)_\s*(?P<view>CC|MLO)_(?P<side>[LR])\.jpe?g$",
    re.IGNORECASE,
)
_BOTH: Final = "BI-RADS of the case given to both breasts: malignant not known"


def _read(tree: Tree, policies: Policies) -> Reading:
    graded, named = _grades(tree)
    reading = Reading()
    of_case: dict[str, list[int | None]] = {}
    for match in tree.matching(_FILE):
        patient = f"BC{match['patient']}"
        of_case.setdefault(patient, []).append(graded.get(patient, int(match["birads"])))
        reading.images.append(
            Image(
                path=match.string,
                patient=patient,
                exam=patient,
                laterality=match["side"].upper(),
                view=match["view"].upper(),
            )
        )
    if not reading.images and not tree.is_partial:
        tree.refuse_missing("BIRAD1/b1/19_BC…_ CC_L.jpg")
    for patient, _, side in sorted({image.breast for image in reading.images}):
        birads = worst_birads(of_case[patient])
        is_negative = birads == 1
        reading.faults[_BOTH] += not is_negative
        reading.breasts.append(
            Breast(
                patient=patient,
                exam=patient,
                laterality=side,
                benign=0 if is_negative else None,
                malignant=0 if is_negative else None,
                label_source="birads_proxy",
                birads=birads,
            )
        )
    here = {(image.patient, image.laterality, image.view) for image in reading.images}
    reading.faults["image that the table names and that is not here"] = len(named - here)  # Kaggle's copy is a part itself
    reading.counts = {"images": len(reading.images), **Counter(f"birads_{worst_birads(found)}" for found in of_case.values())}
    return reading


def _grades(tree: Tree) -> tuple[dict[str, int], set[tuple[str, str, str]]]:
    """The table's BI-RADS of each case, for which its folder's stands where it has none; and what images the table names."""
    if tree.find("correctSheetlast.xlsx") is None and tree.is_partial:
        return {}, set()
    table = tree.table("correctSheetlast.xlsx", columns=("PatientID", "Assesment"), optional=("Breast type", "Breast view"))
    found: dict[str, list[int | None]] = {}
    named = set()
    for row in table:
        found.setdefault(row["PatientID"], []).append(birads_grade(row["Assesment"]))
        if row["Breast type"] and row["Breast view"]:
            named.add((row["PatientID"], row["Breast type"][0].upper(), row["Breast view"].upper()))
    return {patient: worst for patient, grades in found.items() if (worst := worst_birads(grades)) is not None}, named


DATA_SET: Final = DataSet(facts=FACTS, read=_read, profile=PROFILE.name)
