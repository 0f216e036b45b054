"""RSNA Screening Mammography Breast Cancer Detection, 2022: headers without side, view and study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from schemas.exam import Laterality, ViewPosition
from tasks.adapters.datasets.gate_profile import Profile
from tasks.adapters.datasets.published.breast_rules import agreed, birads_grade, density_letter, worst_birads
from tasks.adapters.datasets.published.reading import Breast, DataSet, Facts, Image, Policies, Reading, counts
from tasks.adapters.datasets.published.tables import Row
from tasks.adapters.datasets.published.tree import Tree
from tasks.adapters.datasets.subject import Subject, side_and_view_of_orientation, subject_of
from tasks.adapters.dicom.header import DicomHeader


def _identify(header: DicomHeader, relative_path: str) -> Subject:
    """From the header: a patient has one exam, and PatientOrientation tells side and view."""
    side, view = side_and_view_of_orientation(header)
    return subject_of(
        header,
        patient=header.patient_id,
        exam=header.patient_id,
        sides={"PatientOrientation": side},
        views={"PatientOrientation": view},
    )


PROFILE: Final = Profile(
    name="rsna",
    title="RSNA Screening Mammography 2022 from Kaggle",
    relaxed=frozenset({"K05", "L02", "V02", "X09", "X11", "T03"}),
    mapped=frozenset({"I01", "L01", "V01"}),
    identify=_identify,
)

# ------------------------------------------------------------------------------------------------ the set as downloaded

FACTS: Final = Facts(
    name="rsna-2022",
    aliases=("rsna",),
    title="RSNA Screening Mammography Breast Cancer Detection 2022",
    licence="RSNA/Kaggle competition rules: non-commercial, no sharing",
    size="314 GB, 54,706 files",
    release="Kaggle, 2022",
    needs=("train.csv", "train_images/<patient>/<image>.dcm"),
    get="https://www.kaggle.com/competitions/rsna-breast-cancer-detection",
    source="github.com/RSNA/AI-Challenge-Data",
    shares_data=False,
    counts=counts(
        "train.csv",
        images=54706, images_site_1=29519, images_site_2=25187, patients=11913, breasts=23826, breasts_cancer=492,
        patients_cancer=486, images_cancer=1158, breasts_biopsied=1214, breasts_benign=722, breasts_invasive=349, mlo=27903,
        cc=26765, at=19, lm=10, ml=8, lmo=1, birads_none=28420, birads_0=8249, birads_1=15772, birads_2=2265,
        density_none=25236, density_a=3105, density_b=12651, density_c=12175, density_d=1539, implants=1477, no_age=37,
        difficult_images=7705, difficult_breasts=3281,
    ),
)  # fmt: skip

_COLUMNS: Final = (
    "site_id", "patient_id", "image_id", "laterality", "view", "age", "cancer", "biopsy", "invasive", "BIRADS", "implant",
    "density", "difficult_negative_case",
)  # fmt: skip
_YES: Final = ("1", "1.0", "True", "TRUE", "true")
_NO: Final = ("0", "0.0", "False", "FALSE", "false")


def _read(tree: Tree, policies: Policies) -> Reading:
    if tree.find("train.csv") is None and tree.find("test.csv") is not None:
        tree.refuse_missing("train.csv (test.csv has no labels)")
    table = tree.table("train.csv", columns=_COLUMNS, texts=("patient_id", "image_id"))
    reading = Reading()
    rows: list[Row] = []
    for row in table:
        table.require(row, "laterality", tuple(Laterality))
        for column in ("cancer", "biopsy"):  # an empty cell is no statement that there was none
            table.require(row, column, (*_YES, *_NO))
        rows.append(row)
        reading.images.append(_image(tree, row))
    by_breast: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by_breast.setdefault((row["patient_id"], row["laterality"]), []).append(row)
    reading.breasts = [_breast(patient, side, found, reading.faults) for (patient, side), found in by_breast.items()]
    reading.counts = _counted(rows, by_breast)
    return reading


def _image(tree: Tree, row: Row) -> Image:
    path = f"train_images/{row['patient_id']}/{row['image_id']}.dcm"
    if path not in tree.present:
        path = next(iter(tree.by_name.get(f"{row['image_id']}.dcm", ())), path)
    return Image(
        path=path,
        patient=row["patient_id"],
        exam=row["patient_id"],
        laterality=row["laterality"],
        view=row["view"],
        left_out=None if row["view"] in set(ViewPosition) else "not CC or MLO",
    )


def _breast(patient: str, side: str, rows: Sequence[Row], faults: Counter[str]) -> Breast:
    """No row of a breast contradicts another in the set; where one does, the worse holds."""
    cancer, biopsy = (any(row[name] in _YES for row in rows) for name in ("cancer", "biopsy"))
    faults["rows of one breast differ: the worse holds"] += len({(row["cancer"], row["biopsy"]) for row in rows}) > 1
    return Breast(
        patient=patient,
        exam=patient,
        laterality=side,
        benign=int(biopsy and not cancer),
        malignant=int(cancer),
        label_source="biopsy" if biopsy else "followup",
        birads=worst_birads(birads_grade(row["BIRADS"]) for row in rows),
        density=agreed(density_letter(row["density"]) for row in rows),
    )


def _counted(rows: Sequence[Row], by_breast: Mapping[tuple[str, str], Sequence[Row]]) -> dict[str, int]:
    def breasts(name: str) -> int:
        return sum(any(row[name] in _YES for row in found) for found in by_breast.values())

    cancer = [row for row in rows if row["cancer"] in _YES]
    return {
        "images": len(rows),
        **Counter(f"images_site_{row['site_id']}" for row in rows),
        "patients": len({row["patient_id"] for row in rows}),
        "breasts": len(by_breast),
        "breasts_cancer": breasts("cancer"),
        "patients_cancer": len({row["patient_id"] for row in cancer}),
        "images_cancer": len(cancer),
        "breasts_biopsied": breasts("biopsy"),
        "breasts_benign": breasts("biopsy") - breasts("cancer"),
        "breasts_invasive": breasts("invasive"),
        **Counter(row["view"].lower() for row in rows),
        **Counter(f"birads_{'none' if (grade := birads_grade(row['BIRADS'])) is None else grade}" for row in rows),
        **Counter(f"density_{density_letter(row['density']) or 'none'}" for row in rows),
        "implants": sum(row["implant"] in _YES for row in rows),
        "no_age": sum(not row["age"] for row in rows),
        "difficult_images": sum(row["difficult_negative_case"] in _YES for row in rows),
        "difficult_breasts": breasts("difficult_negative_case"),
    }


DATA_SET: Final = DataSet(facts=FACTS, read=_read, profile=PROFILE.name)
