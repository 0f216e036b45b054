"""EMBED of Emory University: patient and exam are folders."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from schemas.exam import FindingType, ViewPosition
from tasks.adapters.datasets.gate_profile import Profile
from tasks.adapters.datasets.published.breast_rules import Label, agreed, density_letter, one_kind, worst_birads
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
from tasks.adapters.datasets.published.regions import Box
from tasks.adapters.datasets.published.tables import Row, Table, first_number, whole
from tasks.adapters.datasets.published.tree import Tree
from tasks.adapters.datasets.subject import Subject, groups_of, subject_of
from tasks.adapters.dicom.header import DicomHeader

_PATH: Final = re.compile(r"(?:^|/)cohort(?:_\d+)?/(?P<patient>[^/]+)/(?P<exam>[^/]+)/(?:[^/]+/)?[^/]+\.dcm$")


def _identify(header: DicomHeader, relative_path: str) -> Subject:
    """From ``cohort_1/<patient>/<study UID>/<series UID>/<image>.dcm``."""
    named = groups_of(_PATH, relative_path)
    return subject_of(
        header,
        patient=named.get("patient", header.patient_id),
        exam=header.study_instance_uid or named.get("exam", ""),
    )


PROFILE: Final = Profile(
    name="embed",
    title="EMBED (Emory) open data",
    relaxed=frozenset({"L02", "V02"}),
    mapped=frozenset({"I03"}),
    identify=_identify,
)

# ------------------------------------------------------------------------------------------------ the set as downloaded

FACTS: Final = Facts(
    name="embed",
    title="EMBED open data (Emory)",
    licence="EMBED licence: registration, no sharing, no release of weights (clauses 4 and 5)",
    size="16 TB, 480,323 files",
    release="AWS Open Data; the report's counts tell which",
    needs=("tables/EMBED_OpenData_clinical.csv", "tables/EMBED_OpenData_metadata.csv", "images/cohort_1/"),
    get="https://registry.opendata.aws/emory-breast-imaging-dataset-embed",
    source="github.com/Emory-HITI/EMBED_Open_Data",
    shares_data=False,
    shares_weights=False,
    counts=(
        *counts(
            "the set's notebooks of two releases",
            clinical_rows=81776, clinical_patients=(23253, 22382), clinical_exams=(72770, 76373), metadata_rows=480323,
            metadata_patients=23256, screening_rows=58888, screening_patients=20460, screening_exams=55956,
        ),
    ),
    policies={
        "interval": Policy(
            values=("malignant", "unknown"), meaning="cancer within 365 days of a screening read as BI-RADS 1 or 2"
        ),
    },
)  # fmt: skip

_CLINICAL: Final = (
    "empi_anon", "acc_anon", "study_date_anon", "desc", "tissueden", "asses", "side", "bside", "path_severity",
)  # fmt: skip
_KIND_COLUMNS: Final = ("massshape", "massmargin", "massdens", "calcfind", "calcdistri")
_METADATA: Final = (
    "anon_dicom_path", "empi_anon", "acc_anon", "FinalImageType", "ImageLateralityFinal", "ViewPosition", "ROI_coords",
)  # fmt: skip
_METADATA_OPTIONAL: Final = ("spot_mag", "num_roi", "match_level", "PatientOrientation", "Columns", "StudyDescription")
_GRADES: Final = {"A": 0, "N": 1, "B": 2, "P": 3, "S": 4, "M": 5, "K": 6}
_DISTORTION, _ASYMMETRY = frozenset("AQ"), frozenset("BFTVY")
"""Letters of massshape (AWS_Open_Data_Clinical_Legend.csv) that name no mass."""
_MALIGNANT, _BENIGN = frozenset({0, 1}), frozenset({2, 3, 4})
"""path_severity. 5 is non-breast cancer or negative, as one asks; 6 is a benign finding of none of these: both say nothing."""
_RECALL_DAYS, _INTERVAL_DAYS = 180, 365
_EXAM_ROUNDED: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finding:
    """A row of the clinical table."""

    exam: str
    day: date
    is_screening: bool
    is_bilateral: bool
    side: str
    biopsied: str
    grade: int | None
    severity: int | None
    density: str | None
    kind: str | None

    def is_of(self, side: str) -> bool:
        """True if it speaks of a breast: by its side, or of both by ``B`` or nothing."""
        return self.side in {side, "B", ""}

    def proves(self, side: str) -> bool:
        """True if its pathology is of that breast."""
        return self.severity is not None and (self.biopsied or self.side) in {side, "B"}

    @property
    def is_crossed(self) -> bool:
        """True if it was found in one breast and biopsied in the other."""
        return {self.side, self.biopsied} == {"L", "R"}


def _read(tree: Tree, policies: Policies) -> Reading:
    names = ("EMBED_OpenData_{}.csv", "EMBED_OpenData_{}_reduced.csv")
    texts = ("empi_anon", "acc_anon")
    clinical = tree.table(
        *(name.format("clinical") for name in names),
        columns=_CLINICAL,
        optional=_KIND_COLUMNS,
        texts=texts,
        may_repeat=True,
    )
    metadata = tree.table(
        *(name.format("metadata") for name in names), columns=_METADATA, optional=_METADATA_OPTIONAL, texts=texts
    )
    reading = Reading()
    findings = _findings(clinical, reading)
    exams = {exam: found for of_patient in findings.values() for exam, found in _by_exam(of_patient).items()}
    _read_images(tree, metadata, exams, reading)
    shown = {image.breast for image in reading.images if image.left_out is None}
    for patient, of_patient in findings.items():
        for exam, rows in _by_exam(of_patient).items():
            if rows[0].is_screening:
                sides = [side for side in "LR" if (patient, exam, side) in shown]
                reading.breasts += _breasts(patient, exam, sides, of_patient, policies, reading)
    return reading


def _findings(table: Table, reading: Reading) -> dict[str, list[_Finding]]:
    by_patient: dict[str, list[_Finding]] = defaultdict(list)
    rows, screening, rounded = 0, 0, 0
    for row in table:
        finding = _finding(table, row)
        by_patient[row["empi_anon"]].append(finding)
        rows += 1
        screening += finding.is_screening
        rounded += len(finding.exam) >= _EXAM_ROUNDED and finding.exam.endswith("0")
    if rows > 20 and rounded == rows:
        table.refuse("holds rounded accessions", expected="acc_anon as text", got="a 0 at the end of each of 16 digits")
    exams = {(patient, each.exam): each.is_screening for patient, found in by_patient.items() for each in found}
    reading.counts |= {
        "clinical_rows": rows,
        "clinical_patients": len(by_patient),
        "clinical_exams": len({exam for _, exam in exams}),
        "screening_rows": screening,
        "screening_patients": len({patient for (patient, _), is_screening in exams.items() if is_screening}),
        "screening_exams": len({exam for (_, exam), is_screening in exams.items() if is_screening}),
    }
    return by_patient


def _finding(table: Table, row: Row) -> _Finding:
    try:
        day = date.fromisoformat(row["study_date_anon"][:10])
    except ValueError:
        table.refuse("holds dates of another form", expected="study_date_anon as 2015-02-22", got="a date that was changed")
    described = row["desc"].casefold()
    shape = row["massshape"].upper()
    kind = None
    if shape or row["massmargin"] or row["massdens"]:
        kind = FindingType.DISTORTION if shape in _DISTORTION else FindingType.MASS
        kind = FindingType.ASYMMETRY if shape in _ASYMMETRY else kind
    elif row["calcfind"] or row["calcdistri"]:
        kind = FindingType.CALCIFICATION
    density = whole(row["tissueden"])
    return _Finding(
        exam=row["acc_anon"].removesuffix(".0"),
        day=day,
        is_screening="screen" in described,
        is_bilateral="bilat" in described,
        side=row["side"].upper(),
        biopsied=row["bside"].upper(),
        grade=_GRADES.get(row["asses"].upper()),
        severity=whole(row["path_severity"]),
        density=density_letter(str(density)) if density in {1, 2, 3, 4} else None,
        kind=None if kind is None else kind.value,
    )


def _by_exam(findings: Sequence[_Finding]) -> dict[str, list[_Finding]]:
    found: dict[str, list[_Finding]] = defaultdict(list)
    for finding in findings:
        found[finding.exam].append(finding)
    return found


# ---------------------------------------------------------------------------------------------------------------- images


def _read_images(tree: Tree, table: Table, exams: Mapping[str, Sequence[_Finding]], reading: Reading) -> None:
    patients: set[str] = set()
    rows = 0
    for row in table:
        rows += 1
        patients.add(row["empi_anon"])
        exam = row["acc_anon"].removesuffix(".0")
        image = Image(
            path=_path(tree, row["anon_dicom_path"]),
            patient=row["empi_anon"].removesuffix(".0"),
            exam=exam,
            laterality=row["ImageLateralityFinal"].upper(),
            view=row["ViewPosition"].upper(),
            left_out=_why_not(row, exams.get(exam)),
        )
        reading.images.append(image)
        if row["ROI_coords"].strip("()[] ") and image.left_out is None:
            reading.marks += _boxes(tree, table, row, image.path, reading)
    reading.counts |= {"metadata_rows": rows, "metadata_patients": len(patients)}


def _path(tree: Tree, written: str) -> str:
    """Below ``images/``, whatever stood before the cohort's folder on the authors' disk."""
    place = written.find("cohort_")
    path = f"images/{written[place:]}" if place >= 0 else written.removeprefix("./")
    if path in tree.present or not tree.present:
        return path
    return next(iter(tree.by_name.get(path.rpartition("/")[2].casefold(), ())), path)


def _why_not(row: Row, findings: Sequence[_Finding] | None) -> str | None:
    if row["FinalImageType"].upper() != "2D":
        return "synthetic view or other kind of image"
    if (first_number(row["spot_mag"]) or 0) != 0:
        return "spot or magnification view"
    if row["ViewPosition"].upper() not in set(ViewPosition) or row["ImageLateralityFinal"].upper() not in {"L", "R"}:
        return "not CC or MLO"
    if findings is None:
        return "exam without a clinical row"
    return None if findings[0].is_screening else "diagnostic exam"


def _boxes(tree: Tree, table: Table, row: Row, path: str, reading: Reading) -> Iterator[Lesion]:
    """``((ymin, xmin, ymax, xmax), …)`` in a picture that was mirrored where the rows run to the back (P).

    Where the table does not say how the rows run, as a reduced one may not, the image's header does.
    """
    try:
        given = ast.literal_eval(row["ROI_coords"])
        boxes = [given] if given and not isinstance(given[0], tuple | list) else list(given)
        edges = [tuple(float(edge) for edge in box) for box in boxes]
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, IndexError):
        edges = [()]
    if any(len(box) != 4 for box in edges):
        table.refuse("holds ROI_coords of another form", expected="((ymin, xmin, ymax, xmax), …)", got="something else")
    orientation, columns = row["PatientOrientation"].strip("[]('\" "), whole(row["Columns"])
    if not orientation:
        if path not in tree.present:
            reading.faults["box of a picture that may have been mirrored: not used"] += len(edges)
            return
        orientation, columns = "".join(tree.header(path).patient_orientation[:1]), tree.header(path).columns
    is_mirrored = orientation[:1].upper() == "P"
    if is_mirrored and columns is None:
        reading.faults["box of a mirrored picture of unknown width: not used"] += len(edges)
        return
    reading.faults["boxes mirrored back"] += len(edges) if is_mirrored else 0
    reading.faults["number of boxes is not num_roi"] += bool(row["num_roi"]) and whole(row["num_roi"]) != len(edges)
    for top, left, bottom, right in edges:
        box = Box(left, top, right, bottom)
        yield Lesion(path=path, finding=None, shape=box.mirrored(columns or 0) if is_mirrored else box)


# --------------------------------------------------------------------------------------------------------------- breasts


def _breasts(
    patient: str, exam: str, sides: Sequence[str], of_patient: Sequence[_Finding], policies: Policies, reading: Reading
) -> Iterator[Breast]:
    rows = [finding for finding in of_patient if finding.exam == exam]
    for side in sides:
        own = [finding for finding in rows if finding.is_of(side)]
        if not own and not any(finding.is_bilateral for finding in rows):
            reading.faults["breast without a row of a one-sided exam: not known"] += 1
            continue
        birads = worst_birads(finding.grade for finding in own) if own else 1
        if own and birads in {1, 2} and any(finding.proves(side) for finding in rows):
            birads = 0
            reading.faults["pathology on a row that was read negative: BI-RADS 0"] += 1
        days = _INTERVAL_DAYS if birads in {1, 2} else _RECALL_DAYS
        is_crossed = any(finding.is_crossed for finding in (*rows, *_later(rows, of_patient, days)))
        reading.faults["found in one breast, biopsied in the other: not known"] += is_crossed
        label, source = ((None, None), "biopsy") if is_crossed else _label(rows, of_patient, side, birads, policies)
        yield Breast(
            patient=patient,
            exam=exam,
            laterality=side,
            benign=label[0],
            malignant=label[1],
            label_source=source,
            birads=birads,
            density=agreed(finding.density for finding in rows),
            finding_type=one_kind(finding.kind for finding in own),
        )


def _later(rows: Sequence[_Finding], of_patient: Sequence[_Finding], days: int) -> list[_Finding]:
    """What a diagnostic or ultrasound exam says, from the screening's day on."""
    day = rows[0].day
    return [each for each in of_patient if not each.is_screening and 0 <= (each.day - day).days <= days]


def _label(
    rows: Sequence[_Finding], of_patient: Sequence[_Finding], side: str, birads: int | None, policies: Policies
) -> tuple[Label, str]:
    """By pathology of this exam or of a diagnostic one soon after; else by BI-RADS, or by how a recall ended."""
    days = _INTERVAL_DAYS if birads in {1, 2} else _RECALL_DAYS
    later = _later(rows, of_patient, days)
    proofs = {each.severity for each in (*rows, *later) if each.proves(side)}
    if proofs:
        benign, malignant = bool(proofs & _BENIGN), bool(proofs & _MALIGNANT)
        if not benign and not malignant:
            return (None, None), "biopsy"
        if malignant and birads in {1, 2} and policies["interval"] == "unknown":
            return (None, None), "biopsy"
        return (int(benign), int(malignant)), "biopsy"
    if birads in {1, 2}:
        return (0, 0), "birads_proxy"
    grades = [each.grade for each in later if each.is_of(side) and each.grade is not None]
    if birads == 0 and grades and max(grades) in {1, 2}:
        return (0, 0), "followup"
    return (None, None), "birads_proxy"


DATA_SET: Final = DataSet(facts=FACTS, read=_read, profile=PROFILE.name)
