"""CDD-CESM: low-energy images and their subtracted twins, as JPEG; outlines of the VGG Image Annotator."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from schemas.exam import Acquisition
from tasks.adapters.datasets.gate_profile import Profile
from tasks.adapters.datasets.published.breast_rules import agreed, birads_grade, density_letter, worst_birads
from tasks.adapters.datasets.published.reading import Breast, DataSet, Facts, Image, Lesion, Policies, Reading, counts
from tasks.adapters.datasets.published.regions import Ellipse, Polygon, Shape, circle
from tasks.adapters.datasets.published.tables import Row, Table
from tasks.adapters.datasets.published.tree import Tree

PROFILE: Final = Profile(
    name="cdd-cesm",
    title="CDD-CESM, as `mammo dataset` copies it",
    relaxed=frozenset({"V11", "X09", "X11", "X12"}),
    is_advised=False,
)
FACTS: Final = Facts(
    name="cdd-cesm",
    title="CDD-CESM",
    licence="CC BY 4.0",
    size="1.5 GB, 2,006 files",
    release="TCIA, 2021",
    needs=(
        "Radiology manual annotations.xlsx", "Radiology_hand_drawn_segmentations_v2.csv", "Low energy images of CDD-CESM/",
    ),
    get="https://www.cancerimagingarchive.net/collection/cdd-cesm",
    source="doi 10.7937/29kw-ae92; omar-mohamed/CDD-CESM-Dataset#2",
    is_lossy=True,
    counts=(
        *counts("the set's page and table", low_energy=1003, subtracted=1003, patients=326, low_energy_malignant=331),
    ),
)  # fmt: skip

_COLUMNS: Final = (
    "Patient_ID", "Side", "Breast density (ACR)", "View", "Type", "Findings", "BIRADS", "Image_name",
    "Pathology Classification/ Follow up",
)  # fmt: skip
_NAME: Final = re.compile(r"^P(?P<patient>\d+)_(?P<side>[LR])_(?P<type>DM|CM)_(?P<view>CC|MLO)_?\d*$", re.IGNORECASE)
_LABEL: Final = _COLUMNS[-1]
_OUTLINES: Final = ("#filename", "region_shape_attributes")


def _read(tree: Tree, policies: Policies) -> Reading:
    table = tree.table("Radiology manual annotations.xlsx", columns=_COLUMNS, sheet="all")
    reading = Reading()
    rows: list[tuple[Row, Image]] = []
    for row in table:
        image = _image(tree, table, row)
        rows.append((row, image))
        reading.images.append(image)
    mammograms = [(row, image) for row, image in rows if image.left_out is None]
    reading.faults["two BI-RADS in one field: the higher"] = sum("$" in row["BIRADS"] for row, _ in mammograms)
    reading.breasts = _breasts(mammograms)
    reading.counts = {
        "low_energy": len(mammograms),
        "subtracted": len(rows) - len(mammograms),
        "patients": len({image.patient for image in reading.images}),
        "low_energy_malignant": sum(row[_LABEL].casefold() == "malignant" for row, _ in mammograms),
    }
    _mark(tree, reading, {image.path.rpartition("/")[2].casefold(): (row, image) for row, image in mammograms})
    return reading


def _image(tree: Tree, table: Table, row: Row) -> Image:
    """The name says all; blanks stand round some of them."""
    name = row["Image_name"].strip().removesuffix(".jpg")
    match = _NAME.match(name)
    if match is None:
        table.refuse("names an image of another form", expected="P1_L_DM_CC", got="another name")
    is_mammogram = match["type"].upper() == "DM"
    folder = "Low energy images of CDD-CESM" if is_mammogram else "Subtracted images of CDD-CESM"
    return Image(
        path=next(iter(tree.by_name.get(f"{name}.jpg".casefold(), ())), f"{folder}/{name}.jpg"),
        patient=match["patient"],
        exam=match["patient"],
        laterality=match["side"].upper(),
        view=match["view"].upper(),
        acquisition=Acquisition.FFDM.value,
        left_out=None if is_mammogram else "subtracted contrast image",
    )


def _breasts(rows: Sequence[tuple[Row, Image]]) -> list[Breast]:
    by_breast: dict[tuple[str, str, str], list[Row]] = {}
    for row, image in rows:
        by_breast.setdefault(image.breast, []).append(row)
    breasts = []
    for (patient, exam, side), found in by_breast.items():
        classes = {row[_LABEL].casefold() for row in found}
        malignant, benign = "malignant" in classes, "benign" in classes
        is_known = malignant or benign or classes == {"normal"}
        breasts.append(
            Breast(
                patient=patient,
                exam=exam,
                laterality=side,
                benign=int(benign) if is_known else None,
                malignant=int(malignant) if is_known else None,
                label_source="biopsy" if malignant else "followup",
                birads=worst_birads(birads_grade(row["BIRADS"]) for row in found),
                density=agreed(density_letter(row["Breast density (ACR)"]) for row in found),
            )
        )
    return breasts


def _mark(tree: Tree, reading: Reading, by_name: Mapping[str, tuple[Row, Image]]) -> None:
    """Outlines of mammograms; those of images that are called normal contradict the table, and are not used."""
    path = tree.find("Radiology_hand_drawn_segmentations_v2.csv", "Radiology_hand_drawn_segmentations.csv")
    if path is None:
        reading.remarks.append(tree.remark_missing(FACTS.needs[1]))
        return
    table = Table(path=path, columns=_OUTLINES, get=FACTS.get, repeated=tree.repeated)
    findings = {"malignant": "malignant", "benign": "benign"}
    for row in table:
        name = row["#filename"].strip().casefold()
        if "_cm_" in name:
            continue  # the twin's outline
        found = by_name.get(name)
        if found is None:
            reading.faults["outline of no image: not used"] += 1
            continue
        finding = findings.get(found[0][_LABEL].casefold())
        shape = _shape(table, row["region_shape_attributes"])
        if finding is None:
            reading.faults["outline on an image that is labelled normal: not used"] += 1
        elif shape is None:
            reading.faults["outline without a shape: not used"] += 1
        else:
            reading.marks.append(Lesion(path=found[1].path, finding=finding, shape=shape))


def _shape(table: Table, text: str) -> Shape | None:
    try:
        given: Any = json.loads(text)
        match given:
            case {"name": "polygon" | "polyline", "all_points_x": list(xs), "all_points_y": list(ys)} if xs and len(xs) == len(
                ys
            ):
                return Polygon(tuple((float(x), float(y)) for x, y in zip(xs, ys, strict=True)), names_pixels=True)
            case {"name": "circle", "cx": x, "cy": y, "r": radius}:
                return circle(float(x), float(y), float(radius))
            case {"name": "ellipse", "cx": x, "cy": y, "rx": radius_x, "ry": radius_y}:
                theta = float(given.get("theta", 0.0))
                return Ellipse(float(x), float(y), float(radius_x), float(radius_y), theta if math.isfinite(theta) else 0.0)
            case {"name": "rect", "x": x, "y": y, "width": width, "height": height}:
                corners = ((float(x), float(y)), (float(x) + float(width), float(y) + float(height)))
                (left, top), (right, bottom) = corners
                return Polygon(((left, top), (right, top), (right, bottom), (left, bottom)), names_pixels=True)
            case {"name": "point", "cx": x, "cy": y}:
                return Polygon(((float(x), float(y)),), names_pixels=True)
    except (ValueError, TypeError):
        table.refuse("holds a shape of another form", expected="JSON of the VGG Image Annotator", got="something else")
    return None


DATA_SET: Final = DataSet(facts=FACTS, read=_read, profile=PROFILE.name)
