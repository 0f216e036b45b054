"""CMMD: the Chinese Mammography Database of TCIA. The side is told by how the image lies."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from schemas.exam import Finding, Laterality
from tasks.adapters.datasets.gate_profile import Profile
from tasks.adapters.datasets.published.breast_rules import proven
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
from tasks.adapters.datasets.published.regions import Polygon
from tasks.adapters.datasets.published.tables import Row, read_json
from tasks.adapters.datasets.published.tree import Tree
from tasks.adapters.datasets.published.twins import same_pixels_of_two
from tasks.adapters.datasets.subject import VIEW_CODES, Subject, side_and_view_of_orientation, subject_of
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

# ------------------------------------------------------------------------------------------------ the set as downloaded

FACTS: Final = Facts(
    name="cmmd",
    title="CMMD (Chinese Mammography Database)",
    licence="CC BY 4.0",
    size="23 GB, 5,202 files",
    release="TCIA, 2022; outlines of TOMPEI-CMMD, 2025, are read where they lie below the folder",
    needs=("CMMD_clinicaldata_revision.xlsx", "CMMD/D1-0001/…/1-1.dcm"),
    get="https://www.cancerimagingarchive.net/collection/cmmd",
    source="doi 10.7937/tcia.eqde-4b16; doi 10.7937/08JS-9D38 (TOMPEI-CMMD)",
    counts=(
        *counts(
            "CMMD_clinicaldata_revision.xlsx",
            rows=1872, rows_malignant=1316, rows_benign=556, rows_mass=1149, rows_both=461, rows_calcification=262,
            rows_left=988, rows_right=884, patients_with_two_rows=97,
        ),
        *counts(
            "TCIA, and the headers of all files", needs_files=True,
            images=5202, images_left=2682, images_right=2520, patients=1775, breasts=2601, breasts_without_row=729,
            images_of_two_patients=10,
        ),
    ),
    policies={
        "sides": Policy(
            values=("checked", "as-written"),
            meaning="labels of 16 patients whose side or view is written wrongly: empty, or as the table has them",
        ),
        "tompei": Policy(
            values=("no", "yes"),
            meaning="breasts without a clinical row: not known, or 0/0 (annotator) where TOMPEI-CMMD's readers say Normal",
        ),
    },
)  # fmt: skip

_FILE: Final = re.compile(r"(?:^|/)(?P<patient>D[12]-\d+)/[^/]+/[^/]+/[^/]+\.dcm$")
_OUTLINE: Final = re.compile(r"(?:^|/)(?P<patient>D[12]-\d+)_(?P<view>CC|MLO)_(?P<side>[LR])_AnnotationFile\.json$")
_READINGS: Final = "TOMPEI-CMMD_clinical_data_v01_20250121.xlsx"
_KINDS: Final = {"mass": "mass", "calcification": "calcification", "both": "several"}
_WRONG_SIDES: Final = frozenset(
    {
        "D1-0252", "D1-0690", "D1-0711",  # both views' tags are reversed
        "D1-0999", "D2-0224", "D2-0229", "D2-0642",  # the tags of the MLO views are swapped
        "D2-0041",  # those of the CC views are
        "D2-0112",  # the left CC is stored mirrored
        "D2-0048", "D2-0132", "D2-0153", "D2-0212", "D2-0282", "D2-0458", "D2-0637",  # the row names the other breast
    }
)  # fmt: skip
"""Found by comparison with the outlines of TOMPEI-CMMD, doi 10.7937/08JS-9D38."""
_TWINS: Final = "same pixels under two patients: neither is used"


def _read(tree: Tree, policies: Policies) -> Reading:
    rows = list(_rows(tree))
    reading = Reading(images=_images(tree))
    for path in same_pixels_of_two(tree, reading.images):
        place = next(i for i, image in enumerate(reading.images) if image.path == path)
        reading.images[place] = replace(reading.images[place], left_out=_TWINS)
        reading.faults[_TWINS] += 1
    for row in rows:
        patient, side = row["ID1"], row["LeftRight"]
        is_doubted = patient in _WRONG_SIDES and policies["sides"] == "checked"
        benign, malignant = (None, None) if is_doubted else proven([row["classification"].casefold()])
        reading.faults["side or view is written wrongly: label not known"] += is_doubted
        reading.breasts.append(
            Breast(
                patient=patient,
                exam=patient,
                laterality=side,
                benign=benign,
                malignant=malignant,
                label_source="biopsy",
                finding_type=_KINDS.get(row["abnormality"].casefold()),
            )
        )
    stated, shown = {breast.key for breast in reading.breasts}, {image.breast for image in reading.images}
    normal = [breast for breast in _read_normal(tree, policies) if breast.key in shown - stated]
    reading.breasts += normal
    reading.faults["breast without a clinical row: Normal by TOMPEI-CMMD's readers"] = len(normal)
    reading.faults["breast without a clinical row: not known"] = len(shown - stated) - len(normal)
    reading.counts = _counted(rows, reading, len(shown), len(shown - stated))
    _mark(tree, reading)
    return reading


def _rows(tree: Tree) -> Iterator[Row]:
    columns = ("ID1", "LeftRight", "abnormality", "classification")
    table = tree.table("CMMD_clinicaldata_revision.xlsx", "CMMD_clinicaldata_revision.csv", columns=columns)
    for row in table:
        if row["LeftRight"] not in set(Laterality) or row["classification"].casefold() not in set(Finding):
            table.refuse("holds a row of another kind", expected="L or R, and Benign or Malignant", got="something else")
        yield row


def _read_normal(tree: Tree, policies: Policies) -> Iterator[Breast]:
    """Breasts that TOMPEI-CMMD's readers call Normal: no biopsy says so. Further lines of its heading name no patient."""
    if policies["tompei"] == "no":
        return
    columns = ("ID", "LeftRight", "classification")
    for row in tree.table(_READINGS, columns=columns, sheet="Imaging Diagnosis Details Sheet"):
        patient, side = row["ID"], row["LeftRight"].upper()
        is_doubted = patient in _WRONG_SIDES and policies["sides"] == "checked"
        if row["classification"].casefold() == "normal" and side in set(Laterality) and not is_doubted:
            yield Breast(patient=patient, exam=patient, laterality=side, benign=0, malignant=0, label_source="annotator")


def _images(tree: Tree) -> list[Image]:
    images = []
    for match in tree.matching(_FILE):
        header = tree.header(match.string)
        code = header.view_codes[0].value if header.view_codes else ""
        images.append(
            Image(
                path=match.string,
                patient=match["patient"],
                exam=match["patient"],
                laterality=header.image_laterality,
                view=VIEW_CODES.get(code, code),
            )
        )
    if not images and not tree.is_partial:
        tree.refuse_missing(FACTS.needs[1])
    return images


def _counted(rows: Sequence[Row], reading: Reading, breasts: int, without_row: int) -> dict[str, int]:
    by_class = Counter(f"rows_{row['classification'].casefold()}" for row in rows)
    by_kind = Counter(f"rows_{row['abnormality'].casefold()}" for row in rows)
    side = Counter(row["LeftRight"] for row in rows)
    per_patient = Counter(row["ID1"] for row in rows)
    of_side = Counter(image.laterality for image in reading.images)
    return {
        "rows": len(rows),
        **by_class,
        **by_kind,
        "rows_left": side["L"],
        "rows_right": side["R"],
        "patients_with_two_rows": sum(count == 2 for count in per_patient.values()),
        "images": len(reading.images),
        "images_left": of_side["L"],
        "images_right": of_side["R"],
        "patients": len({image.patient for image in reading.images}),
        "breasts": breasts,
        "breasts_without_row": without_row,
        "images_of_two_patients": reading.faults[_TWINS],
    }


def _mark(tree: Tree, reading: Reading) -> None:
    """The outlines of TOMPEI-CMMD, in pixels of the DICOM image."""
    by_view = {(image.patient, image.view, image.laterality): image.path for image in reading.images if image.left_out is None}
    for match in tree.matching(_OUTLINE):
        path = by_view.get((match["patient"], match["view"], match["side"]))
        for mark in read_json(tree.root / match.string, get=FACTS.source):
            points = tuple((float(point["x"]), float(point["y"])) for point in mark.get("cgPoints") or ())
            if path is None or not points:
                reading.faults["outline of an image that is not used"] += 1
                continue
            # A lipoma is benign by its look; every other mark is of its breast's class.
            finding = "benign" if str(mark.get("label", "")).strip() == "lipoma" else None
            reading.marks.append(Lesion(path=path, finding=finding, shape=Polygon(points)))


DATA_SET: Final = DataSet(facts=FACTS, read=_read, profile=PROFILE.name)
