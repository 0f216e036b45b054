"""CBIS-DDSM: film scans of TCIA. PatientID names one view, and the study UID differs from view to view."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import DatasetError
from schemas.exam import Acquisition, FindingType, ViewPosition
from tasks.adapters.datasets.gate_profile import Profile
from tasks.adapters.datasets.published.breast_rules import agreed, birads_grade, density_letter, one_kind, proven, worst_birads
from tasks.adapters.datasets.published.reading import Breast, DataSet, Facts, Image, Lesion, Policies, Reading, counts
from tasks.adapters.datasets.published.regions import Drawn, two_values
from tasks.adapters.datasets.published.tree import Tree
from tasks.adapters.datasets.subject import Subject, groups_of, subject_of
from tasks.adapters.dicom.header import DicomHeader

# A patient may be in the mass and in the calcification set, so the prefix is no part of the name.
_PATIENT_ID: Final = re.compile(
    r"^(?:Mass|Calc)-(?:Training|Test)_(?P<patient>P_\d+)_(?P<laterality>LEFT|RIGHT)_(?P<view>CC|MLO)"
)


def _identify(header: DicomHeader, relative_path: str) -> Subject:
    """From a PatientID such as ``Calc-Test_P_00038_LEFT_CC``. A patient has one exam; PatientOrientation may hold the view."""
    named = groups_of(_PATIENT_ID, header.patient_id)
    patient = named.get("patient", header.patient_id)
    oriented = "\\".join(header.patient_orientation)
    return subject_of(
        header,
        patient=patient,
        exam=patient,
        sides={"PatientID": named.get("laterality", "")[:1]},
        views={"PatientID": named.get("view", ""), "PatientOrientation": oriented if oriented in set(ViewPosition) else ""},
    )


PROFILE: Final = Profile(
    name="cbis-ddsm",
    title="CBIS-DDSM film scans from TCIA",
    relaxed=frozenset({"I09", "K02", "L02", "V02", "V11", "X09", "X11", "X31"}),
    mapped=frozenset({"V01"}),
    identify=_identify,
    not_a_view_pattern=re.compile(r"ROI mask|cropped|_(?:CC|MLO)_\d+$", re.IGNORECASE),
    acquisition=Acquisition.FILM,
)

# ------------------------------------------------------------------------------------------------ the set as downloaded

_KINDS: Final = ("mass", "calc")
_PARTS: Final = ("train", "test")
FACTS: Final = Facts(
    name="cbis-ddsm",
    title="CBIS-DDSM",
    licence="CC BY 3.0",
    size="164 GB, 10,239 files",
    release="TCIA version 1, 2017",
    needs=(*(f"{kind}_case_description_{part}_set.csv" for kind in _KINDS for part in _PARTS), "CBIS-DDSM/"),
    get="https://www.cancerimagingarchive.net/collection/cbis-ddsm",
    source="doi 10.7937/K9/TCIA.2016.7O02S9CY; nature.com/articles/sdata2017177",
    counts=(
        *counts(
            "the four case description tables",
            rows=3568, mass_train_rows=1318, mass_test_rows=378, calc_train_rows=1546, calc_test_rows=326,
            rows_malignant=1457, rows_benign=1429, rows_benign_without_callback=682, patients=1566, image_folders=3103,
            films=3032, breasts=1708, breasts_malignant=761, breasts_benign=967, breasts_by_annotator=210,
            patients_in_both_splits=31, patients_train=1248, patients_test=318,
        ),
        *counts("TCIA, 10,239 images = films + mask and crop of each row", needs_files=True, dicom_files=10239),
    ),
)  # fmt: skip

_COLUMNS: Final = (
    "patient_id", "left or right breast", "image view", "abnormality id", "abnormality type", "assessment", "pathology",
    "image file path",
)  # fmt: skip
_WORDS: Final = {
    "left or right breast": ("LEFT", "RIGHT"),
    "image view": tuple(ViewPosition),
    "pathology": ("MALIGNANT", "BENIGN", "BENIGN_WITHOUT_CALLBACK"),
}
"""What decides of whom a row is and what it says: another word is not guessed."""
_DENSITY: Final = ("breast_density", "breast density")  # the mass tables' name, and the calc tables'
_FILE: Final = re.compile(
    r"(?:^|/)(?P<folder>(?:Mass|Calc)-(?:Training|Test)_P_\d+_(?:LEFT|RIGHT)_(?:CC|MLO)(?:_\d+)?)/.*\.(?:dcm|DCM)$"
)
_SHAPES: Final = {
    "ARCHITECTURAL_DISTORTION": FindingType.DISTORTION,
    "ASYMMETRIC_BREAST_TISSUE": FindingType.ASYMMETRY,
    "FOCAL_ASYMMETRIC_DENSITY": FindingType.ASYMMETRY,
}


@dataclass(frozen=True, slots=True)
class _Abnormality:
    """A row of the four tables."""

    kind: str
    part: str
    folder: str
    number: str
    patient: str
    side: str
    view: str
    pathology: str
    assessment: str
    density: str
    finding_type: str

    @property
    def film(self) -> tuple[str, str, str]:
        """The film that it is seen on: in the mass and in the calc set it has a folder each."""
        return self.patient, self.side, self.view

    @property
    def finding(self) -> str:
        """Its class; what was not called back was judged benign at screening."""
        return "malignant" if self.pathology == "MALIGNANT" else "benign"


def _rows(tree: Tree) -> Iterator[_Abnormality]:
    for kind in _KINDS:
        for part in _PARTS:
            table = tree.table(
                f"{kind}_case_description_{part}_set.csv",
                columns=_COLUMNS,
                optional=(*_DENSITY, "mass shape"),
                texts=("abnormality id",),
            )
            for row in table:
                folder = row["image file path"].partition("/")[0]
                if not _PATIENT_ID.match(folder):
                    table.refuse("names no image folder", expected="Mass-Training_P_00001_LEFT_CC/…", got="another text")
                for column, words in _WORDS.items():
                    table.require(row, column, words)
                shape = _SHAPES.get(row["mass shape"], FindingType.MASS)
                yield _Abnormality(
                    kind=kind,
                    part=part,
                    folder=folder,
                    number=row["abnormality id"],
                    patient=row["patient_id"],
                    side=row["left or right breast"][:1],
                    view=row["image view"],
                    pathology=row["pathology"],
                    assessment=row["assessment"],
                    density=row[_DENSITY[0]] or row[_DENSITY[1]],
                    finding_type=(shape if kind == "mass" else FindingType.CALCIFICATION).value,
                )


def _refuse_kaggle(tree: Tree) -> None:
    if tree.find("dicom_info.csv") and tree.find("meta.csv"):
        raise DatasetError(
            "This is Kaggle's copy of CBIS-DDSM: its images are JPEG of 8 bit",
            expected="the DICOM files of TCIA, 16 bit",
            got="csv/dicom_info.csv and csv/meta.csv",
            remedy=f"get the set from {FACTS.get}",
        )


def _read(tree: Tree, policies: Policies) -> Reading:
    _refuse_kaggle(tree)
    rows = list(_rows(tree))
    reading = Reading()
    files = _files_by_folder(tree)
    kept = _kept_folders(rows, files)
    parts: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        parts[row.patient].add(row.part)
    reading.patients_in_both = frozenset(patient for patient, found in parts.items() if len(found) > 1)
    for folder, row in {row.folder: row for row in rows}.items():
        of_film = kept[row.film]
        reading.images.append(
            Image(
                path=_film_path(folder, files),
                patient=row.patient,
                exam=row.patient,
                laterality=row.side,
                view=row.view,
                acquisition=Acquisition.FILM.value,
                split="train" if "train" in parts[row.patient] else "test",
                left_out=None if folder == of_film else f"same film as {of_film}",
            )
        )
    reading.breasts = _breasts(rows)
    both = "one film in the mass and in the calc set: one image, lesions of both"
    reading.faults[both] = len({row.folder for row in rows}) - len(kept)
    reading.faults["patient in both official splits: kept in train"] = len(reading.patients_in_both)
    reading.faults["density 0: not known"] = sum(row.density == "0" for row in rows)
    reading.counts = _counted(rows, reading, len(kept), sum(map(len, files.values())))
    reading.notes["rows"] = rows
    folders = {f"{row.folder}_{row.number}" for row in rows}
    reading.helpers = lambda path: (match := _FILE.search(path)) is not None and match["folder"] in folders
    return reading


def _files_by_folder(tree: Tree) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for match in tree.matching(_FILE):
        found[match["folder"]].append(match.string)
    return found


def _film_path(folder: str, files: Mapping[str, list[str]]) -> str:
    return files[folder][0] if files.get(folder) else f"CBIS-DDSM/{folder}"


def _kept_folders(rows: Sequence[_Abnormality], files: Mapping[str, list[str]]) -> dict[tuple[str, str, str], str]:
    """The folder that stands for each film: the mass set's, unless only the other was downloaded."""
    folders: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for row in rows:
        folders[row.film].append(row.folder)
    return {film: next((name for name in names if files.get(name)), names[0]) for film, names in folders.items()}


def _breasts(rows: Sequence[_Abnormality]) -> list[Breast]:
    by_breast: dict[tuple[str, str], list[_Abnormality]] = defaultdict(list)
    for row in rows:
        by_breast[row.patient, row.side].append(row)
    breasts = []
    for (patient, side), found in by_breast.items():
        benign, malignant = proven(row.finding for row in found)
        is_read_only = all(row.pathology == "BENIGN_WITHOUT_CALLBACK" for row in found)
        breasts.append(
            Breast(
                patient=patient,
                exam=patient,
                laterality=side,
                benign=benign,
                malignant=malignant,
                label_source="annotator" if is_read_only else "biopsy",
                birads=worst_birads(birads_grade(row.assessment) for row in found),
                density=agreed(density_letter(row.density) for row in found),
                finding_type=one_kind(row.finding_type for row in found),
            )
        )
    return breasts


def _counted(rows: Sequence[_Abnormality], reading: Reading, films: int, dicom_files: int) -> dict[str, int]:
    pathology = Counter(row.pathology for row in rows)
    split = Counter({image.patient: image.split for image in reading.images}.values())
    by_table = Counter(f"{row.kind}_{row.part}_rows" for row in rows)
    return {
        "rows": len(rows),
        **by_table,
        **{f"rows_{name.lower()}": count for name, count in pathology.items()},
        "patients": len({row.patient for row in rows}),
        "image_folders": len(reading.images),
        "films": films,
        "breasts": len(reading.breasts),
        "breasts_malignant": sum(breast.malignant == 1 for breast in reading.breasts),
        "breasts_benign": sum(breast.benign == 1 for breast in reading.breasts),
        "breasts_by_annotator": sum(breast.label_source == "annotator" for breast in reading.breasts),
        "patients_in_both_splits": len(reading.patients_in_both),
        "patients_train": split["train"],
        "patients_test": split["test"],
        "dicom_files": dicom_files,
    }


def _lesions(tree: Tree, reading: Reading) -> Iterator[Lesion]:
    """The mask of each row, told by what it holds: its place and its name differ from folder to folder."""
    files = _files_by_folder(tree)
    kept = {(image.patient, image.laterality, image.view): image.path for image in reading.images if image.left_out is None}
    for row in reading.notes["rows"]:
        path, found = kept.get(row.film), files.get(f"{row.folder}_{row.number}", [])
        if path is None:
            continue
        shape_px = tree.size_px(path)
        mask_HW = next((mask for mask in (_mask(tree, name, shape_px) for name in found) if mask is not None), None)
        if mask_HW is not None:
            yield Lesion(path=path, finding=row.finding, shape=Drawn(mask_HW))
        elif found:
            reading.faults["mask of another size than its image: not used"] += 1
        else:
            reading.faults["row without a mask file"] += 1


def _mask(tree: Tree, path: str, shape_px: tuple[int, int]) -> NDArray[np.bool_] | None:
    return two_values(tree.pixels(path)) if tree.size_px(path) == shape_px else None


DATA_SET: Final = DataSet(facts=FACTS, read=_read, lesions=_lesions, profile=PROFILE.name)
