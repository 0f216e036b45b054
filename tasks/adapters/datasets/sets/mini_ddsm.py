"""Mini-DDSM: films of DDSM that others have decoded and made smaller, with a table of what each patient has."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from schemas.exam import Acquisition
from tasks.adapters.datasets.gate_profile import Profile
from tasks.adapters.datasets.published.breast_rules import Label, agreed, density_letter
from tasks.adapters.datasets.published.reading import (
    Breast,
    DataSet,
    Facts,
    Image,
    Lesion,
    Policies,
    Policy,
    Reading,
    counts,
)
from tasks.adapters.datasets.published.regions import Drawn, two_values
from tasks.adapters.datasets.published.tables import Row
from tasks.adapters.datasets.published.tree import Tree

PROFILE: Final = Profile(
    name="mini-ddsm",
    title="Mini-DDSM film scans, as `mammo dataset` copies them",
    relaxed=frozenset({"V11", "X09", "X11", "X12", "X31"}),
    acquisition=Acquisition.FILM,
    is_advised=False,
)
FACTS: Final = Facts(
    name="mini-ddsm",
    aliases=("miniddsm",),
    title="Mini-DDSM",
    licence="as DDSM: free for research, with citation; the edition's own licence is not verified",
    size="45 GB with both editions, 7,808 images",
    release="Kaggle cheddad/miniddsm2, 16-bit PNG or 8-bit JPEG",
    needs=("DataWMask.xlsx", "MINI-DDSM-Complete-PNG-16/ or MINI-DDSM-Complete-JPEG-8/"),
    get="https://www.kaggle.com/datasets/cheddad/miniddsm2",
    source="listing of the PNG-16 edition (dangnh0611/kaggle_rsna_breast_cancer)",
    counts=(
        *counts(
            "listing", needs_files=True,
            images=7808, patients=1952, patients_normal=602, patients_benign=671, patients_cancer=679,
            images_normal=2408, images_benign=2684, images_cancer=2716,
        ),
    ),
    policies={
        "unmarked": Policy(
            values=("normal", "unknown"),
            meaning="the breast without a contour of a patient with one: read and nothing marked, or not known",
        ),
    },
)  # fmt: skip

_CASE: Final = (
    r"(?P<status>normal|benign|cancer)/(?P<folder>\d+)/"
    r"(?P<letter>[A-D])_(?P<number>\d+)_\d+\.(?P<side>LEFT|RIGHT)_(?P<view>CC|MLO)"
)
_FILE: Final = re.compile(rf"(?:^|/){_CASE}\.(?P<ending>png|jpe?g)$", re.IGNORECASE)
MASK: Final = re.compile(rf"(?:^|/)(?P<film>{_CASE})_Mask\d*\.(?:png|jpe?g)$", re.IGNORECASE)
_WHITE: Final = 128
"""Masks of the JPEG edition have grey edges, which no mask of two values has."""
_CONTOURS: Final = ("Tumour_Contour2", "Tumour_Contour3")
_BOTH_SIDES: Final = "contours in both breasts of a patient with cancer: which of them has it is not known"
_NO_SIDE: Final = "benign or cancer without a contour: the breast is not known"


def _read(tree: Tree, policies: Policies) -> Reading:
    table = tree.table(
        "DataWMask.xlsx", "DataWMask.csv", columns=("fullPath", "Status", "Tumour_Contour"), optional=(*_CONTOURS, "Density")
    )
    rows = {key: row for row in table if (key := _key(row["fullPath"]))}
    if not rows:
        table.refuse("names no film", expected=r"fullPath as Cancer\0001\C_0001_1.LEFT_CC.png", got="other paths")
    found: dict[str, str] = {}
    for match in tree.matching(_FILE):
        key = _key(match.string)
        if key not in found or match["ending"].lower() == "png":  # of two editions the one without loss
            found[key] = match.string
    reading = Reading()
    reading.faults["film of both editions: the PNG is used"] = sum(1 for _ in tree.matching(_FILE)) - len(found)
    reading.faults["film that the table does not name: not used"] = len(found.keys() - rows.keys())
    reading.images = [_image(key, found.get(key, row["fullPath"].replace("\\", "/"))) for key, row in rows.items()]
    reading.images += [
        _image(key, found[key], left_out="no row in the set's table") for key in sorted(found.keys() - rows.keys())
    ]
    reading.breasts = list(_breasts(rows, policies, reading))
    reading.notes = {"paths": found, "rows": rows}
    reading.counts = _counted(reading.images, found.keys() | rows.keys())
    return reading


def _key(path: str) -> str:
    """A film's name without its edition and ending, in one spelling: the table's paths have backslashes."""
    match = re.search(_CASE, path.replace("\\", "/"), re.IGNORECASE)
    return match[0].casefold() if match else ""


def _parts(key: str) -> re.Match[str]:
    match = re.fullmatch(_CASE, key, re.IGNORECASE)
    if match is None:
        raise ValueError(key)
    return match


def _patient(key: str) -> str:
    """Letter and number: a number alone stands in up to three classes."""
    parts = _parts(key)
    return f"{parts['letter'].upper()}-{parts['number']}"


def _image(key: str, path: str, left_out: str | None = None) -> Image:
    parts = _parts(key)
    return Image(
        path=path,
        patient=_patient(key),
        exam=_patient(key),
        laterality=parts["side"][0].upper(),
        view=parts["view"].upper(),
        acquisition=Acquisition.FILM.value,
        left_out=left_out,
    )


def _has_contour(row: Row) -> bool:
    return any(row[name] not in {"", "-"} for name in ("Tumour_Contour", *_CONTOURS))


def _breasts(rows: Mapping[str, Row], policies: Policies, reading: Reading) -> Iterator[Breast]:
    """The status is the patient's, its breast the one with a contour."""
    of_patient: dict[str, dict[str, list[Row]]] = {}
    for key, row in rows.items():
        of_patient.setdefault(_patient(key), {}).setdefault(_parts(key)["side"][0].upper(), []).append(row)
    for patient, sides in of_patient.items():
        status = agreed(row["Status"].strip().casefold() for found in sides.values() for row in found)
        marked = {side for side, found in sides.items() if any(map(_has_contour, found))}
        reading.faults[_BOTH_SIDES] += status == "cancer" and len(marked) > 1
        reading.faults[_NO_SIDE] += status in {"benign", "cancer"} and not marked
        for side, found in sorted(sides.items()):
            benign, malignant = _label(status, side, marked, policies)
            yield Breast(
                patient=patient,
                exam=patient,
                laterality=side,
                benign=benign,
                malignant=malignant,
                label_source="biopsy" if side in marked else "annotator",
                density=agreed(density_letter(row["Density"]) for row in found),
            )


def _label(status: str | None, side: str, marked: set[str], policies: Policies) -> Label:
    if status == "normal":
        return 0, 0
    if status not in {"benign", "cancer"} or not marked or (status == "cancer" and len(marked) > 1):
        return None, None
    if side not in marked:
        return (0, 0) if policies["unmarked"] == "normal" else (None, None)
    return (1, 0) if status == "benign" else (0, 1)


def _counted(images: Sequence[Image], keys: set[str]) -> dict[str, int]:
    patients = {(_parts(key)["status"].lower(), _patient(key)) for key in keys}
    return {
        "images": len(images),
        "patients": len({patient for _, patient in patients}),
        **Counter(f"patients_{status}" for status, _ in patients),
        **Counter(f"images_{_parts(key)['status'].lower()}" for key in keys),
    }


def _lesions(tree: Tree, reading: Reading) -> Iterator[Lesion]:
    """Each mask beside its film, of the film's own edition; a third one lies in a folder of its own."""
    paths: Mapping[str, str] = reading.notes["paths"]
    for match in tree.matching(MASK):
        film = paths.get(match["film"].casefold())
        is_lossy = not match.string.casefold().endswith(".png")
        if film is None or (is_lossy and film.casefold().endswith(".png")):
            continue  # of the other edition
        pixels_HW = np.asarray(tree.picture(match.string))
        mask_HW = pixels_HW >= _WHITE if is_lossy else two_values(pixels_HW)
        if mask_HW is None:
            reading.faults["mask of more than two values: not used"] += 1
        elif mask_HW.any():
            yield Lesion(path=film, finding=None, shape=Drawn(mask_HW))


DATA_SET: Final = DataSet(facts=FACTS, read=_read, lesions=_lesions, profile=PROFILE.name)
