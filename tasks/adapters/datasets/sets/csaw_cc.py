"""CSAW-CC: Swedish screening exams; the file name holds patient and exam number, and the cancer's side is the patient's."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from schemas.exam import Laterality
from tasks.adapters.datasets.gate_profile import Profile
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
    name="csaw-cc",
    title="CSAW-CC",
    relaxed=frozenset({"I09", "V02", "V11", "X09", "X11"}),
    mapped=frozenset({"I03"}),
    is_advised=False,
)
FACTS: Final = Facts(
    name="csaw-cc",
    aliases=("csaw",),
    title="CSAW-CC",
    licence="on request; research only, no sharing of images",
    size="1.3 TB, 98,788 files",
    release="2022, doi 10.5878/45vm-t798",
    needs=("CSAW-CC_breast_cancer_screening_data.csv", "<patient>_20990909_<L|R>_<CC|MLO>_<n>.dcm"),
    get="https://doi.org/10.5878/45vm-t798",
    source="doi 10.5878/45vm-t798",
    shares_data=False,
    counts=counts(
        "the set's page and table",
        images=98788, exams=24694, patients=8723, cases=873, controls=7850, last_exams_timing_1=524, last_exams_timing_2=217,
        last_exams_timing_3=132, patients_with_1_exams=2137, patients_with_2_exams=1250, patients_with_3_exams=1770,
        patients_with_4_exams=3086, patients_with_5_exams=477, patients_with_6_exams=3,
    ),
    policies={
        "interval": Policy(
            values=("unknown", "malignant"),
            meaning="the cancer's breast in the exam 60 to 729 days before the diagnosis (rad_timing 2)",
        ),
    },
)  # fmt: skip

_COLUMNS: Final = (
    "anon_patientid",
    "x_case",
    "x_cancer_laterality",
    "rad_timing",
    "imagelaterality",
    "viewposition",
    "anon_filename",
)
_NO_SIDE: Final = "breast of a case whose cancer's side is neither left nor right: not known"
_CONTRADICTION: Final = "breast of an exam whose rows say different things of the cancer: not known"
_NAME: Final = re.compile(r"^(?P<patient>[^_]+)_\d+_(?P<side>[LR])_(?P<view>[A-Z]+)_(?P<exam>\d+)(?:\.dcm)?$")
_MASK: Final = re.compile(r"(?:^|/)(?P<name>[^/]+_\d+_[LR]_[A-Z]+_\d+)_mask\.png$")


def _read(tree: Tree, policies: Policies) -> Reading:
    table = tree.table(
        "CSAW-CC_breast_cancer_screening_data.csv",
        "anon_dataset_nonhidden_211125.csv",
        columns=_COLUMNS,
        texts=("anon_patientid",),
    )
    reading = Reading()
    by_breast: dict[tuple[str, str, str], Row] = {}
    by_exam: dict[str, Row] = {}
    contradicted: set[str] = set()
    rows: list[Row] = []
    for row in table:
        match = _NAME.match(row["anon_filename"])
        if match is None:
            table.refuse(
                "names a file of another form", expected="<patient>_20990909_<L|R>_<CC|MLO>_<n>.dcm", got="another name"
            )
        table.require(row, "x_case", ("0", "1", "0.0", "1.0"))
        image = _image(tree, row, match)
        rows.append(row)
        reading.images.append(image)
        by_breast.setdefault(image.breast, row)
        if _said(by_exam.setdefault(image.exam, row)) != _said(row):
            contradicted.add(image.exam)
    reading.breasts = [
        _breast(key, row, policies["interval"], is_known=key[1] not in contradicted) for key, row in by_breast.items()
    ]
    reading.faults[_CONTRADICTION] = sum(key[1] in contradicted for key in by_breast)
    for timing, name in (
        ("2", "interval cancer (rad_timing 2): not known by default"),
        ("3", "prior (rad_timing 3): not known"),
    ):
        reading.faults[name] = sum(_is_cancer_breast(row, key[2]) and _timing(row) == timing for key, row in by_breast.items())
    reading.faults[_NO_SIDE] = sum(
        _is_case(row) and not any(_is_cancer_breast(row, each) for each in Laterality) for row in by_breast.values()
    )
    reading.counts = _counted(reading.images, rows)
    return reading


def _image(tree: Tree, row: Row, match: re.Match[str]) -> Image:
    name = row["anon_filename"] if row["anon_filename"].endswith(".dcm") else f"{row['anon_filename']}.dcm"
    view = match["view"]
    return Image(
        path=next(iter(tree.by_name.get(name.casefold(), ())), name),
        patient=row["anon_patientid"],
        exam=f"{row['anon_patientid']}_{match['exam']}",
        laterality=match["side"],
        view=view,
        left_out=None if view in {"CC", "MLO"} else "not CC or MLO",
    )


def _timing(row: Row) -> str:
    return row["rad_timing"].removesuffix(".0")


def _said(row: Row) -> tuple[bool, str, str]:
    """Of the woman and of the exam, so that all rows of an exam say the same."""
    return _is_case(row), row["x_cancer_laterality"][:1].upper(), _timing(row)


def _is_case(row: Row) -> bool:
    return row["x_case"].removesuffix(".0") == "1"


def _is_cancer_breast(row: Row, side: str) -> bool:
    return _is_case(row) and row["x_cancer_laterality"][:1].upper() == side


def _breast(key: tuple[str, str, str], row: Row, interval: str, *, is_known: bool) -> Breast:
    """Benign findings are said nowhere; a case whose side is neither left nor right is not known on both sides."""
    patient, exam, side = key
    malignant: int | None = 0
    if not is_known:
        malignant = None
    elif _is_cancer_breast(row, side):
        malignant = 1 if _timing(row) == "1" or (_timing(row) == "2" and interval == "malignant") else None
    elif _is_case(row) and not any(_is_cancer_breast(row, each) for each in Laterality):
        malignant = None
    return Breast(
        patient=patient,
        exam=exam,
        laterality=side,
        benign=None,
        malignant=malignant,
        label_source="biopsy" if malignant == 1 else "followup",
    )


def _counted(images: Sequence[Image], rows: Sequence[Row]) -> dict[str, int]:
    exams: dict[str, set[str]] = {}
    last: dict[str, tuple[int, Row]] = {}
    for image, row in zip(images, rows, strict=True):
        exams.setdefault(image.patient, set()).add(image.exam)
        number = int(image.exam.rpartition("_")[2])
        if _is_case(row) and number >= last.get(image.patient, (0, row))[0]:
            last[image.patient] = number, row
    per_patient = Counter(f"patients_with_{len(found)}_exams" for found in exams.values())
    return {
        "images": len(images),
        "exams": sum(map(len, exams.values())),
        "patients": len(exams),
        "cases": len(last),
        "controls": len(exams) - len(last),
        **Counter(f"last_exams_timing_{_timing(row)}" for _, row in last.values()),
        **per_patient,
    }


def _lesions(tree: Tree, reading: Reading) -> Iterator[Lesion]:
    """White is cancer, whatever the exam's timing."""
    by_name: Mapping[str, str] = {image.path.rpartition("/")[2].removesuffix(".dcm"): image.path for image in reading.images}
    for match in tree.matching(_MASK):
        path = by_name.get(match["name"])
        mask_HW = two_values(tree.picture(match.string))
        if path is None or mask_HW is None:
            reading.faults["mask of no image, or not of two values"] += 1
        else:
            yield Lesion(path=path, finding="malignant", shape=Drawn(mask_HW))


DATA_SET: Final = DataSet(facts=FACTS, read=_read, lesions=_lesions, profile=PROFILE.name)
