"""INbreast: full-field digital mammograms whose identity is in the file name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from schemas.exam import FindingType, Laterality
from tasks.adapters.datasets.gate_profile import Profile
from tasks.adapters.datasets.published.breast_rules import (
    MALIGNANT_FROM,
    agreed,
    birads_grade,
    density_letter,
    finding_of,
    one_kind,
    proxy_label,
    worst_birads,
)
from tasks.adapters.datasets.published.reading import Breast, DataSet, Facts, Image, Lesion, Policies, Reading, counts
from tasks.adapters.datasets.published.regions import Points, Polygon
from tasks.adapters.datasets.published.tables import Row, read_plist
from tasks.adapters.datasets.published.tree import Tree
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
    relaxed=frozenset({"I09", "L02", "V02", "V11", "X09", "X11"}),
    mapped=frozenset({"I03", "L01", "V01"}),
    identify=_identify,
)

# ------------------------------------------------------------------------------------------------ the set as downloaded

FACTS: Final = Facts(
    name="inbreast",
    title="INbreast",
    licence="on request; research only, no sharing",
    size="9 GB, 410 files",
    release="2012",
    needs=("INbreast.csv", "AllDICOMs/", "AllXML/"),
    get="the authors, doi 10.1016/j.acra.2011.09.014",
    source="doi 10.1016/j.acra.2011.09.014",
    shares_data=False,
    counts=counts(
        "INbreast.csv",
        images=410, images_left=209, images_right=201, cc=203, mlo=206, fb=1, acr_1=136, acr_2=146, acr_3=99, acr_4=28,
        acr_none=1, birads_1=67, birads_2=220, birads_3=23, birads_4a=13, birads_4b=8, birads_4c=22, birads_5=49, birads_6=8,
    ),
    policies={"malignant_from": MALIGNANT_FROM},
)  # fmt: skip

_COLUMNS: Final = ("Laterality", "View", "Acquisition date", "File Name", "ACR", "Bi-Rads")
_FILE: Final = re.compile(r"(?:^|/)(?P<number>\d+)_(?P<patient>[0-9a-f]+)_MG_[LR]_(?:CC|MLO?|FB)_ANON\.dcm$", re.IGNORECASE)
_OUTLINES: Final = re.compile(r"(?:^|/)(?P<number>\d+)\.xml$", re.IGNORECASE)
_POINT: Final = re.compile(r"\(?\s*(-?[\d.]+(?:e[-+]?\d+)?)\s*,\s*(-?[\d.]+(?:e[-+]?\d+)?)")
_KINDS: Final = {
    **dict.fromkeys(("mass", "spiculated region", "espiculated region"), FindingType.MASS),
    **dict.fromkeys(("calcification", "calcifications", "cluster"), FindingType.CALCIFICATION),
    **dict.fromkeys(("asymmetry", "assymetry"), FindingType.ASYMMETRY),
    "distortion": FindingType.DISTORTION,
}
"""Names of outlines as the set spells them; others (Unnamed, Point 1) name no lesion."""
_SWAPPED: Final = "22670094"
"""Its outline is suspected to hold rows before columns: wentaozhu/inbreast, readxml.m."""


def _read(tree: Tree, policies: Policies) -> Reading:
    table = tree.table("INbreast.csv", "INbreast.xls", "INbreast.xlsx", columns=_COLUMNS, texts=("File Name",))
    rows = [row for row in table if row["Laterality"] in set(Laterality)]  # the spreadsheet ends with two lines of totals
    files = {match["number"]: match for match in tree.matching(_FILE)}
    reading = Reading(images=[_image(row, files) for row in rows])
    of_number = {row["File Name"]: (image, row) for row, image in zip(rows, reading.images, strict=True)}
    malignant_from = int(policies["malignant_from"])
    kinds: dict[tuple[str, str, str], list[str]] = {}
    for match in tree.matching(_OUTLINES):
        if match["number"] in of_number:
            image, row = of_number[match["number"]]
            label = proxy_label(birads_grade(row["Bi-Rads"]), malignant_from=malignant_from)
            for kind, points in _outlines(tree, match, reading):
                kinds.setdefault(image.breast, []).append(kind)
                reading.marks.append(Lesion(path=image.path, finding=finding_of(label), shape=Polygon(points), inherits=False))
    if next(tree.matching(_OUTLINES), None) is None:
        reading.remarks.append(tree.remark_missing("AllXML/"))
    reading.breasts = _breasts(rows, reading.images, kinds, malignant_from)
    reading.faults["ACR is blank: density not known"] = sum(not row["ACR"] for row in rows)
    reading.counts = _counted(rows)
    return reading


def _image(row: Row, files: Mapping[str, re.Match[str]]) -> Image:
    """The patient is in the file's name alone; the table writes MLO where names write ML."""
    number = row["File Name"]
    match = files.get(number)
    patient = match["patient"] if match else number
    view = "MLO" if row["View"].upper().startswith("ML") else row["View"].upper()
    return Image(
        path=match.string if match else f"AllDICOMs/{number}",
        patient=patient,
        exam=f"{patient}_{row['Acquisition date']}",
        laterality=row["Laterality"],
        view=view,
        left_out=None if view in {"CC", "MLO"} else "not CC or MLO",
    )


def _outlines(tree: Tree, match: re.Match[str], reading: Reading) -> Iterator[tuple[str, Points]]:
    content = read_plist(tree.root / match.string, get=FACTS.get)
    for region in _regions(content):
        name = str(region.get("Name", "")).strip().casefold()
        found = [_POINT.match(str(text)) for text in region.get("Point_px", ())]
        points = tuple((float(point[1]), float(point[2])) for point in found if point is not None)
        if name not in _KINDS or not points:
            reading.faults["outline that names no lesion: not used"] += 1
            continue
        yield _KINDS[name].value, tuple((y, x) for x, y in points) if _is_swapped(tree, match, points, reading) else points


def _is_swapped(tree: Tree, match: re.Match[str], points: Points, reading: Reading) -> bool:
    """Of the one file under suspicion: only where the other order alone lies in the image."""
    path = next((image.path for image in reading.images if image.path.rpartition("/")[2].startswith(_SWAPPED)), "")
    if match["number"] != _SWAPPED or path not in tree.present:
        return False
    rows, columns = tree.size_px(path)
    as_written = all(x <= columns and y <= rows for x, y in points)
    is_swapped = not as_written and all(y <= columns and x <= rows for x, y in points)
    reading.faults["rows before columns: exchanged"] += is_swapped
    return is_swapped


def _regions(content: Any) -> Iterator[Mapping[str, Any]]:
    for image in content.get("Images", ()) if isinstance(content, Mapping) else ():
        yield from (region for region in image.get("ROIs", ()) if isinstance(region, Mapping))


def _breasts(
    rows: Sequence[Row], images: Sequence[Image], kinds: Mapping[tuple[str, str, str], Sequence[str]], malignant_from: int
) -> list[Breast]:
    by_breast: dict[tuple[str, str, str], list[Row]] = {}
    for row, image in zip(rows, images, strict=True):
        by_breast.setdefault(image.breast, []).append(row)
    breasts = []
    for (patient, exam, side), found in by_breast.items():
        birads = worst_birads(birads_grade(row["Bi-Rads"]) for row in found)
        benign, malignant = proxy_label(birads, malignant_from=malignant_from)
        breasts.append(
            Breast(
                patient=patient,
                exam=exam,
                laterality=side,
                benign=benign,
                malignant=malignant,
                label_source="birads_proxy",
                birads=birads,
                density=agreed(density_letter(row["ACR"]) for row in found),
                finding_type=one_kind(kinds.get((patient, exam, side), ())),
            )
        )
    return breasts


def _counted(rows: Sequence[Row]) -> dict[str, int]:
    side = Counter(row["Laterality"] for row in rows)
    return {
        "images": len(rows),
        "images_left": side["L"],
        "images_right": side["R"],
        **Counter(row["View"].lower() for row in rows),
        **Counter(f"acr_{row['ACR'] or 'none'}" for row in rows),
        **Counter(f"birads_{row['Bi-Rads'].lower()}" for row in rows),
    }


DATA_SET: Final = DataSet(facts=FACTS, read=_read, profile=PROFILE.name)
