"""VinDr-Mammo of PhysioNet: no PatientID, and an exam is a folder."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from schemas.exam import Laterality, ViewPosition
from tasks.adapters.datasets.gate_profile import Profile
from tasks.adapters.datasets.published.breast_rules import (
    MALIGNANT_FROM,
    agreed,
    birads_grade,
    density_letter,
    finding_of,
    proxy_label,
    worst_birads,
)
from tasks.adapters.datasets.published.reading import Breast, DataSet, Facts, Image, Lesion, Policies, Reading, counts
from tasks.adapters.datasets.published.regions import Box
from tasks.adapters.datasets.published.tables import Row, Table, first_number
from tasks.adapters.datasets.published.tree import Tree
from tasks.adapters.datasets.subject import Subject, groups_of, subject_of
from tasks.adapters.dicom.header import DicomHeader

_PATH: Final = re.compile(r"(?:^|/)(?P<exam>[0-9a-f]{32})/[0-9a-f]{32}\.(?:dicom|dcm)$")


def _identify(header: DicomHeader, relative_path: str) -> Subject:
    """From ``images/<exam>/<image>.dicom``. The set says nothing of patients: each exam counts as one."""
    exam = header.study_instance_uid or groups_of(_PATH, relative_path).get("exam", "")
    return subject_of(header, patient=header.patient_id or exam, exam=exam)


PROFILE: Final = Profile(
    name="vindr",
    title="VinDr-Mammo from PhysioNet",
    relaxed=frozenset({"V02", "V11", "X09", "X11"}),
    mapped=frozenset({"I01", "I03"}),
    identify=_identify,
)

# ------------------------------------------------------------------------------------------------ the set as downloaded

FACTS: Final = Facts(
    name="vindr-mammo",
    aliases=("vindr",),
    title="VinDr-Mammo",
    licence="PhysioNet Restricted Health Data License 1.5.0",
    size="338 GB, 20,000 files",
    release="PhysioNet 1.0.0, 2022",
    needs=("breast-level_annotations.csv", "finding_annotations.csv", "images/<study>/<image>.dicom"),
    get="https://physionet.org/content/vindr-mammo/1.0.0",
    source="doi 10.1038/s41597-023-02100-7",
    shares_data=False,
    counts=(
        *counts(
            "breast-level_annotations.csv",
            images=20000, images_left=10000, images_right=10000, images_cc=10001, images_mlo=9999, studies=5000,
            studies_training=4000, studies_test=1000, breasts=10000, birads_1=6703, birads_2=2338, birads_3=465, birads_4=381,
            birads_5=113, density_a=50, density_b=954, density_c=7646, density_d=1350,
        ),
        *counts(
            "finding_annotations.csv", finding_rows=20486, rows_without_finding=18232, boxes=2254, images_with_boxes=1768,
            finding_birads_3=893, finding_birads_4=995, finding_birads_5=241, boxes_mass=1226,
            boxes_suspicious_calcification=543, boxes_focal_asymmetry=269, boxes_architectural_distortion=119,
            boxes_asymmetry=97, boxes_skin_thickening=57, boxes_suspicious_lymph_node=57, boxes_nipple_retraction=37,
            boxes_global_asymmetry=26, boxes_skin_retraction=18,
        ),
    ),
    policies={"malignant_from": MALIGNANT_FROM},
)  # fmt: skip

_IMAGE_COLUMNS: Final = ("study_id", "image_id", "laterality", "view_position")
_WORDS: Final = {"laterality": tuple(Laterality), "view_position": tuple(ViewPosition), "split": ("training", "test")}
_BOX_COLUMNS: Final = ("finding_categories", "finding_birads", "xmin", "ymin", "xmax", "ymax")
_TWICE: Final = "two {} and no {} of this breast: which is which is not known"


def _read(tree: Tree, policies: Policies) -> Reading:
    table = tree.table(
        "breast-level_annotations.csv",
        columns=(*_IMAGE_COLUMNS, "breast_birads", "breast_density", "split"),
        texts=("study_id", "image_id"),
    )
    findings = tree.table(
        "finding_annotations.csv", columns=(*_IMAGE_COLUMNS, *_BOX_COLUMNS), texts=("image_id",), may_repeat=True
    )
    rows = list(table)
    for row in rows:
        for column, words in _WORDS.items():
            table.require(row, column, words)
    reading = Reading(images=_without_doubt([_image(tree, row) for row in rows]))
    reading.faults.update(image.left_out for image in reading.images if image.left_out)
    paths = {row["image_id"]: image.path for row, image in zip(rows, reading.images, strict=True)}
    boxes = list(_boxes(findings, reading))
    reading.marks = [_lesion(row, paths, findings, int(policies["malignant_from"])) for row in boxes]
    reading.breasts = _breasts(rows, int(policies["malignant_from"]))
    reading.counts |= _counted(rows, reading) | _counted_boxes(boxes, findings)
    return reading


def _image(tree: Tree, row: Row) -> Image:
    name = f"{row['study_id']}/{row['image_id']}"
    path = next((path for path in (f"images/{name}.dicom", f"images/{name}.dcm") if path in tree.present), None)
    path = path or next(iter(tree.by_name.get(f"{row['image_id']}.dicom", ())), f"images/{name}.dicom")
    return Image(
        path=path,
        patient=row["study_id"],
        exam=row["study_id"],
        laterality=row["laterality"],
        view=row["view_position"],
        split="train" if row["split"] == "training" else "test",
    )


def _without_doubt(images: Sequence[Image]) -> list[Image]:
    """Leaves out the images of a breast that has one view twice and the other not at all (study dbca9d28…)."""
    views: dict[tuple[str, str, str], list[str]] = {}
    for image in images:
        views.setdefault(image.breast, []).append(image.view)
    doubted = {breast: found[0] for breast, found in views.items() if len(found) == 2 and found[0] == found[1]}
    other = {"CC": "MLO", "MLO": "CC"}
    return [
        replace(image, left_out=_TWICE.format(view, other.get(view, "other view")))
        if (view := doubted.get(image.breast))
        else image
        for image in images
    ]


def _boxes(table: Table, reading: Reading) -> Iterator[Row]:
    for row in table:
        reading.counts["finding_rows"] = reading.counts.get("finding_rows", 0) + 1
        if row["xmin"]:
            yield row
        else:
            reading.counts["rows_without_finding"] = reading.counts.get("rows_without_finding", 0) + 1


def _categories(row: Row, table: Table) -> list[str]:
    try:
        named = ast.literal_eval(row["finding_categories"])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        named = None
    if not isinstance(named, list):
        table.refuse("holds finding_categories of another form", expected="a list such as ['Mass']", got="something else")
    return [str(name) for name in named]


def _lesion(row: Row, paths: dict[str, str], table: Table, malignant_from: int) -> Lesion:
    """A box is of its own BI-RADS alone: a thickened skin beside a cancer is none."""
    edges = [first_number(row[name]) for name in ("xmin", "ymin", "xmax", "ymax")]
    path = paths.get(row["image_id"])
    if path is None or None in edges:
        table.refuse(
            "holds a box that is none", expected="an image of breast-level_annotations.csv and four numbers", got="neither"
        )
    left, top, right, bottom = (edge for edge in edges if edge is not None)
    finding = finding_of(proxy_label(birads_grade(row["finding_birads"]), malignant_from=malignant_from))
    return Lesion(path=path, finding=finding, shape=Box(left, top, right, bottom), inherits=False)


def _breasts(rows: Sequence[Row], malignant_from: int) -> list[Breast]:
    by_breast: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by_breast.setdefault((row["study_id"], row["laterality"]), []).append(row)
    breasts = []
    for (study, side), found in by_breast.items():
        birads = worst_birads(birads_grade(row["breast_birads"]) for row in found)
        benign, malignant = proxy_label(birads, malignant_from=malignant_from)
        breasts.append(
            Breast(
                patient=study,
                exam=study,
                laterality=side,
                benign=benign,
                malignant=malignant,
                label_source="birads_proxy",
                birads=birads,
                density=agreed(density_letter(row["breast_density"]) for row in found),
            )
        )
    return breasts


def _counted(rows: Sequence[Row], reading: Reading) -> dict[str, int]:
    side, view = Counter(row["laterality"] for row in rows), Counter(row["view_position"] for row in rows)
    split = Counter({row["study_id"]: row["split"] for row in rows}.values())
    return {
        "images": len(rows),
        "images_left": side["L"],
        "images_right": side["R"],
        "images_cc": view["CC"],
        "images_mlo": view["MLO"],
        "studies": split.total(),
        "studies_training": split["training"],
        "studies_test": split["test"],
        "breasts": len(reading.breasts),
        **Counter(f"birads_{breast.birads}" for breast in reading.breasts),
        **Counter(f"density_{breast.density}" for breast in reading.breasts),
    }


def _counted_boxes(boxes: Sequence[Row], table: Table) -> dict[str, int]:
    names = Counter(name for row in boxes for name in _categories(row, table))
    birads = Counter(f"finding_birads_{grade}" for row in boxes if (grade := birads_grade(row["finding_birads"])))
    return {
        "boxes": len(boxes),
        "images_with_boxes": len({row["image_id"] for row in boxes}),
        **birads,
        **{f"boxes_{name.lower().replace(' ', '_')}": count for name, count in names.items()},
    }


DATA_SET: Final = DataSet(facts=FACTS, read=_read, profile=PROFILE.name)
