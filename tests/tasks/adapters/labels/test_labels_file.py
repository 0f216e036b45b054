"""The labels file: every line is understood or refused by name of line and column, and nothing it holds is quoted."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.config.ingest import PhantomConfig
from schemas.errors import LabelError
from schemas.exam import Acquisition, BreastLabel, ImageRecord, Laterality, Photometric, ViewPosition
from tasks.adapters.datasets.phantom_cohort import labels_csv, plan_cohort
from tasks.adapters.labels.joining import LabelJoin, join_labels
from tasks.adapters.labels.labels import Breast, Labels
from tasks.adapters.labels.labels_file import read_labels
from tasks.adapters.pseudonyms import Pseudonyms

PSEUDONYMS = Pseudonyms(b"k" * 32)
HEADER = "patient_id,study_instance_uid,laterality,benign,malignant,birads,label_source,label_date"
CANARY = "CANARY^PHI^19470302"


def labels_file(folder: Path, *lines: str, header: str = HEADER) -> Path:
    """A CSV with these lines below the header; the first line is line 2."""
    path = folder / "labels.csv"
    path.write_text("\n".join((header, *lines)) + "\n", encoding="utf-8")
    return path


def read(folder: Path, *lines: str, header: str = HEADER) -> list[BreastLabel]:
    """The labels of a CSV with these lines."""
    return [label for _, label in read_labels(labels_file(folder, *lines, header=header), PSEUDONYMS)]


def join(folder: Path, *lines: str, breasts: Iterable[Breast], header: str = HEADER) -> LabelJoin:
    """The labels of a CSV with these lines, put to breasts."""
    return join_labels(read_labels(labels_file(folder, *lines, header=header), PSEUDONYMS), breasts)


def breast(uid: str, side: str) -> Breast:
    """One side of an exam, as it is published."""
    return PSEUDONYMS.exam_id(uid), Laterality(side)


def test_line_becomes_a_label_by_pseudonyms(tmp_path: Path) -> None:
    """Every value lands in its field; identifiers are the pseudonyms that ingest gives the images."""
    labels = read_labels(labels_file(tmp_path, "007,1.2.3,R,0,1,5,biopsy,2019-03-05"), PSEUDONYMS)
    assert list(labels) == [(breast("1.2.3", "R"), BreastLabel(benign=False, malignant=True, birads=5, label_source="biopsy"))]
    assert labels.patient_of(PSEUDONYMS.exam_id("1.2.3")) == PSEUDONYMS.patient_id("007")


def test_phantom_labels_are_of_the_schema(tmp_path: Path) -> None:
    """What `mammo phantom` writes, `mammo ingest` reads."""
    exams = plan_cohort(PhantomConfig(output_dir=tmp_path, patients=5))
    path = tmp_path / "labels.csv"
    path.write_text(labels_csv(exams), encoding="utf-8")
    assert len(read_labels(path, PSEUDONYMS)) == 2 * len(exams)


@pytest.mark.parametrize(
    ("line", "column", "expected"),
    [
        (f",1.2,R,0,1,5,biopsy,{CANARY}", "patient_id", "PatientID"),
        (f"P,{CANARY},R,0,1,5,biopsy,", "study_instance_uid", "digits and dots"),
        ("P,1.2E+15,R,0,1,5,biopsy,", "study_instance_uid", "digits and dots"),
        ("P,,R,0,1,5,biopsy,", "study_instance_uid", "accession_number, study_date"),
        (f"P,1.2,{CANARY},0,1,5,biopsy,", "laterality", "R or L"),
        ("P,1.2,B,0,1,5,biopsy,", "laterality", "R or L.*Got: 'B'"),
        (f"P,1.2,R,{CANARY},1,5,biopsy,", "benign", "0, 1, or empty"),
        ("P,1.2,R,0,255,5,biopsy,", "malignant", "0, 1, or empty"),
        ("P,1.2,R,0,0.5,5,biopsy,", "malignant", "0, 1, or empty"),
        (f"P,1.2,R,0,1,{CANARY},biopsy,", "birads", "0 to 6"),
        ("P,1.2,R,0,1,7,biopsy,", "birads", "0 to 6"),
        ("P,1.2,R,0,1,٤,biopsy,", "birads", "0 to 6"),
        (f"P,1.2,R,0,1,5,{CANARY},", "label_source", "biopsy, followup"),
        ("P,1.2,R,0,1,5,,", "label_source", "Got: nothing"),
        (f"P,1.2,R,0,1,5,biopsy,{CANARY}", "label_date", "2024-01-31"),
        ("P,1.2,R,0,1,5,biopsy,2023-02-29", "label_date", "2024-01-31"),
        ("P,1.2,R,0,1,5,biopsy,0001-01-01", "label_date", "2024-01-31"),
    ],
)
def test_value_outside_the_schema_is_refused(tmp_path: Path, line: str, column: str, expected: str) -> None:
    """The message names line, column, what was expected and what to do; of what was there it tells the shape only."""
    with pytest.raises(LabelError, match=rf"line 3, column {column}\..*{expected}.*Remedy") as refusal:
        read(tmp_path, "P,1.1,R,0,1,5,biopsy,", line)
    assert "CANARY" not in str(refusal.value)
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


def test_identical_lines_are_one_label(tmp_path: Path) -> None:
    """A table with a line per view says the same twice; blank lines say nothing."""
    assert len(read(tmp_path, "P,1.2,R,0,1,5,biopsy,", "", "P,1.2,R,0,1,5,biopsy,2019-01-01", "P,1.2,L,0,0,1,biopsy,")) == 2


@pytest.mark.parametrize(
    ("second", "columns"),
    [
        ("P,1.2,R,1,1,5,biopsy,", "benign"),
        ("P,1.2,R,0,,5,followup,", "malignant, label_source"),
        ("P,1.2,R,0,1,,biopsy,", "birads"),
    ],
)
def test_contradictory_lines_are_refused(tmp_path: Path, second: str, columns: str) -> None:
    """Which of two labels of a breast is right is nobody's guess: both lines and the columns are named."""
    with pytest.raises(LabelError, match=rf"line 4 contradicts line 2.*other values in {columns}\. Remedy"):
        join(tmp_path, "P,1.2,R,0,1,5,biopsy,", "P,1.2,L,0,0,1,biopsy,", second, breasts=[breast("1.2", "R")])


def test_exam_of_two_patients_is_refused(tmp_path: Path) -> None:
    """A slipped identifier column would send labels to other people's breasts."""
    with pytest.raises(LabelError, match=r"line 3, column patient_id.*the patient of line 2.*Remedy") as refusal:
        join(tmp_path, "P,1.2,R,0,1,5,biopsy,", f"{CANARY},1.2,L,0,1,5,biopsy,", breasts=[breast("1.2", "R")])
    assert "CANARY" not in str(refusal.value)


def test_contradictions_among_orphans_are_counted_and_stop_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A hospital's table holds breasts that are not published, and two opinions of them: the run goes on, the report counts."""
    joined = join(
        tmp_path,
        "P,1.1,R,0,1,5,biopsy,",
        "P,1.1,L,0,0,1,biopsy,",
        "P,1.1,L,0,1,5,biopsy,",
        "P,1.2,R,0,1,5,biopsy,",
        "P,1.2,R,1,0,2,biopsy,",
        "P,1.2,R,0,0,1,biopsy,",
        "Q,1.3,R,0,0,1,biopsy,",
        f"{CANARY},1.3,L,0,0,1,biopsy,",
        breasts=[breast("1.1", "R")],
    )
    assert (joined.matched, joined.orphans, joined.orphan_contradictions) == (1, 4, 3)
    assert joined.label_of(breast("1.1", "R")) == BreastLabel(benign=False, malignant=True, birads=5, label_source="biopsy")
    assert "3 breasts or exams are labelled in two ways" in caplog.text and "CANARY" not in caplog.text


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        (HEADER.replace("malignant,", ""), "missing: malignant"),
        (HEADER.replace("study_instance_uid", "accession"), "missing: study_instance_uid or .* or study_date; not .*: 2"),
        (HEADER + ",bi-rads", "by place: 9"),
        (HEADER + ",birads", "more than once: birads"),
        (f"{CANARY},1.2.3,R,0,1,5,biopsy,2019-01-01", "missing: patient_id, .*by place: 1, 2, 3"),
        ("", "missing: patient_id, laterality"),
    ],
)
def test_columns_outside_the_schema_are_refused(tmp_path: Path, header: str, fault: str) -> None:
    """A misspelt column is not silently left out. It is told by place: a file without header begins with a patient."""
    with pytest.raises(LabelError, match=rf"not those of the schema.*{fault}.*Remedy") as refusal:
        read(tmp_path, "P,1.2,R,0,1,5,biopsy,", header=header)
    assert "CANARY" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (HEADER.encode() + b"\nP,1.2,R,0,1,5,biopsy\n", "line 2 does not fit the header.*Expected: 8 fields. Got: 7"),
        (HEADER.encode() + b'\nP,1.2,R,0,1,5,"biopsy\n', "cannot be read after line"),
        (HEADER.encode() + b"\nM\xfcller,1.2,R,0,1,5,biopsy,\n", "not UTF-8"),
        (HEADER.encode() + b"\n", "holds no label"),
        (b"", "missing: patient_id"),
        (b"DICM" * 64 + bytes(300), "not those of the schema|cannot be read"),
    ],
)
def test_damaged_file_is_refused(tmp_path: Path, content: bytes, fault: str) -> None:
    """A cut, wrongly encoded or empty file is a clear sentence, not a traceback of csv."""
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    with pytest.raises(LabelError, match=fault):
        read_labels(path, PSEUDONYMS)


@pytest.mark.parametrize("name", ["absent.csv", "absent.parquet", "."])
def test_absent_file_is_refused(tmp_path: Path, name: str) -> None:
    """The remedy points at the config."""
    with pytest.raises(LabelError, match=r"cannot be read.*Remedy: check labels_csv"):
        read_labels(tmp_path / name, PSEUDONYMS)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_spreadsheet_exports_are_read(tmp_path: Path, separator: str) -> None:
    """A byte order mark, CRLF, capitals in the header and other separators change nothing."""
    text = f"{HEADER.upper()}\r\n P ,1.2,r,0,1,5,Biopsy,20190305\r\n".replace(",", separator)
    path = tmp_path / "labels.csv"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    found = list(read_labels(path, PSEUDONYMS))
    assert found == list(read_labels(labels_file(tmp_path, "P,1.2,R,0,1,5,biopsy,2019-03-05"), PSEUDONYMS))


def test_parquet_gives_the_same_labels(tmp_path: Path) -> None:
    """Integers with gaps, floats, booleans and dates of a Parquet file read as the CSV's text does."""
    table = pd.DataFrame(
        {
            "patient_id": ["007", "007"],
            "study_instance_uid": ["1.2", "1.2"],
            "laterality": ["R", "L"],
            "benign": pd.array([1, None], dtype="Int64"),
            "malignant": [True, False],
            "birads": [4.0, None],
            "label_source": ["biopsy", "followup"],
            "label_date": [pd.Timestamp("2019-03-05"), pd.NaT],
        }
    )
    table.to_parquet(tmp_path / "labels.parquet")
    lines = labels_file(tmp_path, "007,1.2,R,1,1,4,biopsy,2019-03-05", "007,1.2,L,,0,,followup,")
    assert list(read_labels(tmp_path / "labels.parquet", PSEUDONYMS)) == list(read_labels(lines, PSEUDONYMS))


def test_parquet_with_numbers_for_identifiers_is_refused(tmp_path: Path) -> None:
    """007 as a number is 7, another patient."""
    row = {
        "patient_id": 7,
        "study_instance_uid": "1.2",
        "laterality": "R",
        "benign": 0,
        "malignant": 0,
        "label_source": "biopsy",
    }
    pd.DataFrame([row]).to_parquet(tmp_path / "labels.parquet")
    with pytest.raises(LabelError, match=r"patient_id .*not text.*leading zeros"):
        read_labels(tmp_path / "labels.parquet", PSEUDONYMS)
    (tmp_path / "labels.parquet").write_bytes(b"PAR1" + b"no" * 50)
    with pytest.raises(LabelError, match="cannot be read"):
        read_labels(tmp_path / "labels.parquet", PSEUDONYMS)


def test_issuer_tells_patients_apart(tmp_path: Path) -> None:
    """IssuerOfPatientID (0010,0021) is part of the pseudonym, as at ingest."""
    path = labels_file(tmp_path, "P,1.2,R,0,1,5,biopsy,,HOSPITAL", header=HEADER + ",issuer_of_patient_id")
    found = read_labels(path, PSEUDONYMS).patient_of(PSEUDONYMS.exam_id("1.2"))
    assert found == PSEUDONYMS.patient_id("P", "HOSPITAL") != PSEUDONYMS.patient_id("P")


def image(exam: str, day: date | None, patient: str = "P") -> ImageRecord:
    """An image of an exam, of which only patient, exam and date matter here."""
    patient_id = PSEUDONYMS.patient_id(patient)
    return ImageRecord(
        image_id="I",
        exam_id=PSEUDONYMS.exam_id(exam),
        patient_id=patient_id,
        laterality=Laterality.LEFT,
        view_position=ViewPosition.CC,
        acquisition=Acquisition.FFDM,
        source_sha256="",
        rows_px=1,
        columns_px=1,
        bits_stored=12,
        photometric=Photometric.MONOCHROME2,
        transfer_syntax_uid="",
        pixel_spacing_mm=None,
        manufacturer=None,
        model_name=None,
        exam_date=None if day is None else PSEUDONYMS.shifted_date(patient_id, day),
        patient_age_years=None,
        gate_warnings=(),
    )


def index_exams_by_day(images: Iterable[ImageRecord]) -> dict[tuple[str, date], tuple[str, ...]]:
    """The exams of each patient by their shifted date, so that labels can name an exam by patient and date."""
    exam_ids: dict[tuple[str, date], set[str]] = defaultdict(set)
    for image in images:
        if image.exam_date is not None:
            exam_ids[image.patient_id, image.exam_date].add(image.exam_id)
    return {day: tuple(sorted(ids)) for day, ids in exam_ids.items()}


DATED = "patient_id,study_date,laterality,benign,malignant,label_source"


def test_patient_and_date_name_an_exam(tmp_path: Path) -> None:
    """One exam of the patient that day: the label is its. No exam that day: an orphan, whatever other patients have."""
    first, other = date(2019, 3, 5), date(2020, 3, 5)
    days = index_exams_by_day(
        [image("1.1", first), image("1.1", first), image("1.2", other), image("1.3", None), image("2.1", first, "Q")]
    )
    path = labels_file(
        tmp_path, "P,2019-03-05,R,0,1,biopsy", "P,20190306,R,0,1,biopsy", "R,20190305,R,0,1,biopsy", header=DATED
    )
    labels = read_labels(path, PSEUDONYMS, exams_by_day=days)
    assert next(iter(labels))[0] == breast("1.1", "R")
    joined = join_labels(labels, [(PSEUDONYMS.exam_id(uid), Laterality.RIGHT) for uid in ("1.1", "1.2", "1.3", "2.1")])
    assert (joined.matched, joined.orphans, joined.unlabelled) == (1, 2, 3)


def test_two_exams_of_a_day_are_not_guessed(tmp_path: Path) -> None:
    """Screening and assessment on one day: the date does not tell them apart; without exams no date does."""
    days = index_exams_by_day([image("1.1", date(2019, 3, 5)), image("1.2", date(2019, 3, 5))])
    path = labels_file(tmp_path, "P,2019-03-05,R,0,1,biopsy", header=DATED)
    with pytest.raises(LabelError, match=r"line 2, column study_date.*one exam of that study_date, not 2.*study_instance_uid"):
        read_labels(path, PSEUDONYMS, exams_by_day=days)
    with pytest.raises(LabelError, match="not looked up by study_date"):
        read_labels(path, PSEUDONYMS)


ACCESSED = "patient_id,accession_number,laterality,benign,malignant,label_source"


def test_accession_numbers_name_an_exam(tmp_path: Path) -> None:
    """Known: the label is its exam's. Unknown: an orphan. Of two exams, or with nothing to look it up in: refused."""
    exam_id = PSEUDONYMS.exam_id("1.1")
    exams = {PSEUDONYMS.accession_id("ACC1"): (exam_id,), PSEUDONYMS.accession_id("ACC2"): ("E1", "E2")}
    path = labels_file(tmp_path, "P,ACC1,R,0,1,biopsy", "P,ACC3,R,0,1,biopsy", header=ACCESSED)
    joined = join_labels(read_labels(path, PSEUDONYMS, exams_by_accession=exams), [(exam_id, Laterality.RIGHT)])
    assert (joined.matched, joined.orphans, joined.unlabelled) == (1, 1, 0)
    with pytest.raises(LabelError, match=r"accession_number.*one exam of that accession_number, not 2"):
        read_labels(labels_file(tmp_path, "P,ACC2,R,0,1,biopsy", header=ACCESSED), PSEUDONYMS, exams_by_accession=exams)
    with pytest.raises(LabelError, match="not looked up by accession_number"):
        read_labels(path, PSEUDONYMS)


def test_labels_dated_before_their_exam_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """R61: a biopsy before the exam says nothing of the exam; the log counts and names nobody."""
    header = HEADER + ",study_date"
    with caplog.at_level(logging.DEBUG):
        read(
            tmp_path,
            f"{CANARY},1.9.9,R,0,1,5,biopsy,2019-01-01,2019-02-01",
            f"{CANARY},1.9.9,L,0,1,5,biopsy,2019-02-01,2019-02-01",
            header=header,
        )
    assert "R61: 1 labels are dated before their exam" in caplog.text
    assert "CANARY" not in caplog.text
    assert "1.9.9" not in caplog.text


LABEL = BreastLabel(benign=True, malignant=None, birads=None, label_source="biopsy")


def labels_of(breasts: Iterable[Breast], patient_id: str = "P") -> Labels:
    """The same label of each."""
    labels = Labels()
    for line, one in enumerate(breasts, start=2):
        labels.add(line, patient_id, *one, labels.kind_of(LABEL))
    return labels


BREASTS = st.sets(st.tuples(st.sampled_from(["E1", "E2", "E3"]), st.sampled_from(Laterality)))


@given(BREASTS, BREASTS)
@settings(suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow])
def test_join_counts_both_sides(labelled: set[Breast], present: set[Breast]) -> None:
    """Every label is matched or an orphan, every breast matched or unlabelled; views of a breast count once."""
    labels = labels_of(labelled)
    if labelled and present and not labelled & present:
        with pytest.raises(LabelError, match=r"Labels join to no exam\. .*labels_csv and source_dir.* issuer_of_patient_id"):
            join_labels(labels, present)
        return
    joined = join_labels(labels, [*present, *present])
    assert {one for one in present if joined.label_of(one) == LABEL} == labelled & present
    assert joined.matched == len(labelled & present)
    assert joined.orphans == len(labelled - present)
    assert joined.unlabelled == len(present - labelled)


@pytest.mark.parametrize("patients", [{"E1": ("Q", None)}, {"E1": ("Q", "P"), "E2": ("Q", "R")}])
def test_labels_of_other_patients_are_refused(patients: Mapping[str, Sequence[str | None]]) -> None:
    """A label whose exam belongs to somebody else shows that the file's columns slipped."""
    present = [("E1", Laterality.LEFT), ("E2", Laterality.LEFT)]
    labels = labels_of(present)
    with pytest.raises(LabelError, match=r"another patient than their exam.*Got: 1 labels"):
        join_labels(labels, present, patients_by_exam=patients)
    assert join_labels(labels, present, patients_by_exam={"E1": ("P", None), "E2": ("Q", "P")}).orphans == 0


GROUPED = f"{HEADER},site,room"


def test_columns_that_the_config_names_make_groups(tmp_path: Path) -> None:
    """Their values are kept by column, an empty one is none; unnamed they are refused as before, and so is a missing one."""
    path = labels_file(tmp_path, "P,1.2,R,0,1,5,biopsy,,North (old),2", "P,1.2,L,0,0,1,biopsy,,,", header=GROUPED)
    found = dict(read_labels(path, PSEUDONYMS, group_columns=("site", "room")))
    assert found[breast("1.2", "R")].groups == '{"room": "2", "site": "North (old)"}'
    assert found[breast("1.2", "L")].groups is None
    with pytest.raises(LabelError, match="not of the schema, by place: 9, 10"):
        read_labels(path, PSEUDONYMS)
    with pytest.raises(LabelError, match="missing: floor"):
        read_labels(path, PSEUDONYMS, group_columns=("site", "room", "floor"))


@pytest.mark.parametrize("column", ["patient_id", "study_date", "note", "accession_number"])
def test_what_may_name_a_patient_is_no_group(tmp_path: Path, column: str) -> None:
    """Its values would stand in the manifest and on a page."""
    with pytest.raises(LabelError, match="may name a patient"):
        read_labels(labels_file(tmp_path, "P,1.2,R,0,1,5,biopsy,"), PSEUDONYMS, group_columns=(column,))


def test_names_and_measurements_are_no_groups(tmp_path: Path) -> None:
    """A long value is refused unquoted, as is one that begins with a sign, and a column of more than twenty different ones."""
    path = labels_file(tmp_path, f"P,1.2,R,0,1,5,biopsy,,{CANARY}{CANARY},2", header=GROUPED)
    with pytest.raises(LabelError, match=r"line 2, column site") as refused:
        read_labels(path, PSEUDONYMS, group_columns=("site", "room"))
    assert CANARY not in str(refused.value)
    path = labels_file(tmp_path, "P,1.2,R,0,1,5,biopsy,,<40,2", header=GROUPED)
    with pytest.raises(LabelError, match="a letter or digit first"):
        read_labels(path, PSEUDONYMS, group_columns=("site", "room"))
    path = labels_file(tmp_path, *(f"P,1.{exam},R,0,1,5,biopsy,,{exam},x" for exam in range(1, 22)), header=GROUPED)
    with pytest.raises(LabelError, match=r"column site is named in evaluate\.subgroup_columns and holds too many"):
        read_labels(path, PSEUDONYMS, group_columns=("site", "room"))


def test_a_follow_up_is_of_a_breast_without_cancer_and_shifted(tmp_path: Path) -> None:
    """The last day without one leaves shifted as the exam's dates are; beside a cancer, or what is not known, it is refused."""
    header = f"{HEADER},diagnosis_date,followup_date"
    (found,) = read(tmp_path, "17,1.2,L,0,0,1,followup,,,2022-03-04", header=header)
    assert found.followup_date == PSEUDONYMS.shifted_date(PSEUDONYMS.patient_id("17"), date(2022, 3, 4))
    assert found.diagnosis_date is None
    for line in ("17,1.2,R,0,1,5,biopsy,,2020-03-04,2022-03-04", "17,1.2,R,0,,1,followup,,,2022-03-04"):
        with pytest.raises(LabelError, match="line 2, column followup_date"):
            read(tmp_path, line, header=header)


def test_a_date_of_diagnosis_is_of_a_cancer_and_shifted(tmp_path: Path) -> None:
    """It leaves shifted as the exam's dates are; beside a breast without cancer it is refused, unquoted."""
    header = f"{HEADER},diagnosis_date"
    (found, other) = read(tmp_path, "17,1.2,R,0,1,5,biopsy,,2020-03-04", "17,1.2,L,0,0,1,followup,,", header=header)
    assert found.diagnosis_date == PSEUDONYMS.shifted_date(PSEUDONYMS.patient_id("17"), date(2020, 3, 4))
    assert other.diagnosis_date is None
    path = labels_file(tmp_path, "17,1.2,R,0,1,5,biopsy,,2020-03-04", header=header)
    labels = read_labels(path, PSEUDONYMS, patient_by_exam={PSEUDONYMS.exam_id("1.2"): "another"})
    ((_, label),) = labels
    assert label.diagnosis_date == PSEUDONYMS.shifted_date("another", date(2020, 3, 4))
    for line in (
        "17,1.2,R,0,0,1,followup,,2020-03-04",
        "17,1.2,R,0,,1,followup,,2020-03-04",
        "17,1.2,R,0,1,5,biopsy,,4.3.2020",
    ):
        with pytest.raises(LabelError, match="line 2, column diagnosis_date") as refused:
            read(tmp_path, line, header=header)
        assert "2020" not in str(refused.value).replace("2024", "")
