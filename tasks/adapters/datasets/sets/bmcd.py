"""BMCD: pairs of a prior and a recent exam of one breast, in folders whose numbers repeat, with misspelt names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from tasks.adapters.datasets.gate_profile import Profile
from tasks.adapters.datasets.published.breast_rules import Label, birads_grade, density_letter
from tasks.adapters.datasets.published.reading import Breast, DataSet, Facts, Image, Lesion, Policies, Reading, counts
from tasks.adapters.datasets.published.regions import Drawn
from tasks.adapters.datasets.published.tables import Row
from tasks.adapters.datasets.published.tree import Tree

PROFILE: Final = Profile(
    name="bmcd",
    title="BMCD (micro-calcifications) from Zenodo",
    relaxed=frozenset({"L02", "V02", "V11", "X09", "X11"}),
    mapped=frozenset({"I03", "L01"}),
    is_advised=False,
)
FACTS: Final = Facts(
    name="bmcd",
    title="BMCD (Breast Micro-Calcifications Dataset)",
    licence="CC BY 4.0 (as believed: see the record)",
    size="5 GB, 800 files",
    release="Zenodo 5036062; version 2 is 7969411",
    needs=("Description.xlsx", "Dataset/Suspicious_cases/", "Dataset/Normal_cases/"),
    get="https://zenodo.org/records/5036062",
    source="zenodo.org/records/5036062",
    counts=(
        *counts(
            "Description.xlsx",
            patients=100, suspicious=50, result_benign=21, result_dcis=6, result_malignant=5, result_not_available=18,
            normal_birads_1=22, normal_birads_2=28, suspicious_birads_4a=27, suspicious_birads_4b=15, suspicious_birads_4c=6,
            suspicious_birads_5=2, density_a=10, density_b=57, density_c=28, density_d=5, left=51, right=49,
        ),
        *counts("the record's listing", needs_files=True, dicom_files=400, mask_files=400, exams=200),
    ),
)  # fmt: skip

_COLUMNS: Final = ("dir", "laterality", "age", "density", "BIRADS", "biopsy_result", "folder_type")
_FOLDER: Final = r"(?:^|/)(?P<type>Suspicious|Normal)_cases/(?P<number>\d+)/"
_FILE: Final = re.compile(_FOLDER + r"(?P<view>CC|MLO)_(?P<when>\w+?)\.dcm$", re.IGNORECASE)
_MASK: Final = re.compile(_FOLDER + r"(?P<view>CC|MLO)_(?P<when>\w+?)_GT\.jpe?g$", re.IGNORECASE)
_WHEN: Final = {"prior": "prior", "recent": "recent", "recemt": "recent", "reent": "recent"}
_WHITE: Final = 128  # JPEG turns black and white into greys

_Key = tuple[str, str]
"""Kind of folder in lower case, and its number: numbers repeat in both."""


def _read(tree: Tree, policies: Policies) -> Reading:
    table = tree.table("Description.xlsx", "label.csv", columns=_COLUMNS)
    rows: dict[_Key, Row] = {}
    row: Row | None
    for row in table:
        if row["laterality"][:1].upper() not in {"L", "R"}:
            table.refuse("holds a row of another kind", expected="Left or Right in laterality", got="something else")
        rows[row["folder_type"].split("_")[0].casefold(), row["dir"].removesuffix(".0")] = row
    reading = Reading()
    for match in tree.matching(_FILE):
        when = _WHEN.get(match["when"].casefold())
        row = rows.get((match["type"].casefold(), match["number"]))
        if when is None or row is None:
            table.refuse("names no folder of a file", expected="each folder and each name", got=match.string)
        reading.faults["misspelt file name: read as what it means"] += match["when"].casefold() != when
        reading.images.append(_image(match, when, row))
    reading.breasts = [_breast(key, row) for key, row in rows.items()]
    reading.faults["prior exam: not known"] = len({image.exam for image in reading.images if image.exam.endswith("_prior")})
    reading.counts = _counted(rows, reading, sum(1 for _ in tree.matching(_MASK)))
    return reading


def _image(match: re.Match[str], when: str, row: Row) -> Image:
    patient = f"{match['type'].casefold()}_{match['number']}"
    return Image(
        path=match.string,
        patient=patient,
        exam=f"{patient}_{when}",
        laterality=row["laterality"][:1].upper(),
        view=match["view"].upper(),
    )


def _breast(key: _Key, row: Row) -> Breast:
    """What is written is of the recent exam; nothing is known of the prior one."""
    kind, number = key
    label, source = _label(kind, row["biopsy_result"].upper())
    return Breast(
        patient=f"{kind}_{number}",
        exam=f"{kind}_{number}_recent",
        laterality=row["laterality"][:1].upper(),
        benign=label[0],
        malignant=label[1],
        label_source=source,
        birads=birads_grade(row["BIRADS"]),
        density=density_letter(row["density"]),
        finding_type="calcification" if 1 in label else None,
    )


def _label(kind: str, result: str) -> tuple[Label, str]:
    if result in {"DCIS", "MALIGNANT"}:
        return (0, 1), "biopsy"
    if result == "BENIGN":
        return (1, 0), "biopsy"
    return ((0, 0) if kind == "normal" else (None, None)), "birads_proxy"


def _counted(rows: Mapping[_Key, Row], reading: Reading, masks: int) -> dict[str, int]:
    suspicious = [row for (kind, _), row in rows.items() if kind == "suspicious"]
    side = Counter(row["laterality"][:1].upper() for row in rows.values())
    return {
        "patients": len(rows),
        "suspicious": len(suspicious),
        **Counter(f"result_{row['biopsy_result'].lower().replace(' ', '_')}" for row in suspicious),
        **Counter(f"{kind}_birads_{row['BIRADS'].lower()}" for (kind, _), row in rows.items()),
        **Counter(f"density_{density_letter(row['density'])}" for row in rows.values()),
        "left": side["L"],
        "right": side["R"],
        "dicom_files": len(reading.images),
        "mask_files": masks,
        "exams": len({image.exam for image in reading.images}),
    }


def _lesions(tree: Tree, reading: Reading) -> Iterator[Lesion]:
    """Drawings of micro-calcifications; an all black one marks none."""
    paths = {(*image.exam.rsplit("_", 1), image.view): image.path for image in reading.images}
    for match in tree.matching(_MASK):
        patient = f"{match['type'].casefold()}_{match['number']}"
        path = paths.get((patient, _WHEN.get(match["when"].casefold(), ""), match["view"].upper()))
        mask_HW = np.asarray(tree.picture(match.string)) >= _WHITE
        if path is not None and mask_HW.any():
            yield Lesion(path=path, finding=None, shape=Drawn(mask_HW))


DATA_SET: Final = DataSet(facts=FACTS, read=_read, lesions=_lesions, profile=PROFILE.name)
