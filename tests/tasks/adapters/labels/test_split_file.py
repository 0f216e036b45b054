"""The split file: by pseudonym, whole, one split a person; nothing that it holds is quoted."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import ConfigError
from schemas.exam import Split
from tasks.adapters.labels.split_file import Fold, GivenSplits, given_splits
from tasks.adapters.pseudonyms import Pseudonyms

PSEUDONYMS = Pseudonyms(b"k" * 32)


def known(*patients: str, issuer: str = "") -> set[tuple[str, str | None]]:
    """What the ledger knows of published patients."""
    return {(PSEUDONYMS.patient_id(patient, issuer), PSEUDONYMS.patient_id(patient)) for patient in patients}


def given(folder: Path, text: str, patients: set[tuple[str, str | None]], persons: dict[str, str] | None = None) -> GivenSplits:
    """What a file of this text says of the patients."""
    path = folder / "splits.csv"
    path.write_text(text)
    return given_splits(path, PSEUDONYMS, patients, persons or {})


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_each_patient_has_the_split_of_its_line(tmp_path: Path, separator: str) -> None:
    """Words of other data sets, another column, repeated and empty lines; who is not published is counted."""
    rows = (
        ("Split", "view", "Patient_ID"),
        ("training", "CC", "0017"),
        ("Training", "MLO", "0017"),
        ("", "", ""),
        ("validation", "CC", "0023"),
        ("test", "CC", "0031"),
        ("left out", "CC", "0040"),
        ("test", "CC", "elsewhere"),
    )
    found = given(tmp_path, "\n".join(map(separator.join, rows)), known("0017", "0023", "0031", "0040"))
    parts = {"0017": Split.TRAIN, "0023": Split.TUNING, "0031": Split.TEST, "0040": None}
    assert found.by_patient == {PSEUDONYMS.patient_id(patient): part for patient, part in parts.items()}
    assert found.unknown == 1


def test_a_line_without_an_issuer_means_the_patient_under_any(tmp_path: Path) -> None:
    """With the issuer's column a line means that patient, without it the PatientID."""
    patients = known("0017", issuer="HOSPITAL")
    ((patient_id, _),) = patients
    assert given(tmp_path, "patient_id,split\n0017,test\n", patients).by_patient == {patient_id: Split.TEST}
    full = "patient_id,issuer_of_patient_id,split\n0017,HOSPITAL,tuning\n"
    assert given(tmp_path, full, patients).by_patient == {patient_id: Split.TUNING}


def test_whoever_may_be_one_person_has_one_split(tmp_path: Path) -> None:
    """A line for one of her pseudonyms is for all; two that differ are refused."""
    patients = known("0017") | known("0017", issuer="A")
    persons = {patient_id: PSEUDONYMS.patient_id("0017") for patient_id, _ in patients}
    text = "patient_id,issuer_of_patient_id,split\n0017,A,test\n"
    assert set(given(tmp_path, text, patients, persons).by_patient.values()) == {Split.TEST}
    with pytest.raises(ConfigError, match="divides patients who are probably one person"):
        given(tmp_path, text + "0017,,train\n", patients, persons)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patient_id,part\nSECRET,train\n", "lacks columns"),
        ("split,patient_id\nSECRET,0017\n", "Line 2 .* gives no split"),
        ("patient_id,split\n,train\n", "Line 2 .* names no patient"),
        ("patient_id,split\n0017,train\n0017,test\n", "Line 3 .* second split"),
        ("patient_id,split\nSECRET,train\n", "does not name every patient"),
        ('patient_id,split\n"SECRET,train\n', "cannot be read"),
        ("", "lacks columns"),
    ],
)
def test_what_cannot_be_meant_is_refused_unquoted(tmp_path: Path, text: str, message: str) -> None:
    """Each message names the line, what was expected and the kind of fault."""
    with pytest.raises(ConfigError, match=message) as refused:
        given(tmp_path, text, known("0017"))
    assert "SECRET" not in str(refused.value) and "0017" not in str(refused.value)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    """The reason is the system's, the remedy names the config."""
    with pytest.raises(ConfigError, match=r"No such file.*split\.file"):
        given_splits(tmp_path / "none.csv", PSEUDONYMS, known("0017"), {})


def test_a_fold_of_a_k_fold_file_tests_and_all_others_train(tmp_path: Path) -> None:
    """The column is ``fold``; numbers from 1; a patient of two folds, a number beyond and a file without folds are refused."""
    path = tmp_path / "folds.csv"
    patients = known("0017", "0023", "0031", "0040")

    def of(text: str) -> GivenSplits:
        path.write_text(text)
        return given_splits(path, PSEUDONYMS, patients, {}, Fold(number=2, folds=3))

    found = of("patient_id,fold,split\n0017,1,test\n0023,2,train\n0031,3,\n0040,left out,\n")
    parts = {"0017": Split.TRAIN, "0023": Split.TEST, "0031": Split.TRAIN, "0040": None}
    assert found.by_patient == {PSEUDONYMS.patient_id(patient): part for patient, part in parts.items()}
    with pytest.raises(ConfigError, match=r"Line 3 .* second fold.*Got: 3 after 1"):
        of("patient_id,fold\n0017,1\n0017,3\n")
    with pytest.raises(ConfigError, match=r"Line 2 .* no fold.*count from 1 to split.folds"):
        of("patient_id,fold\n0017,0\n")
    with pytest.raises(ConfigError, match="no fold"):
        of("patient_id,split\n0017,test\n")
    with pytest.raises(ConfigError, match=r"A fold has no patient.*Got: none in 3"):
        of("patient_id,fold\n0017,1\n0023,2\n0031,1\n0040,left out\n")
