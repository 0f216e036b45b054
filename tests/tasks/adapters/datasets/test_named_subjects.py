"""The subjects file says whom a file shows; it never says another side or view than the header without being noticed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mammo_tests.mammograms import setting, write
from schemas.errors import GateRejection, LabelError
from schemas.exam import Acquisition, Laterality, ViewPosition
from tasks.adapters.datasets.catalogue import PROFILES
from tasks.adapters.datasets.named_subjects import NamedSubject, read_subjects, subjects_version
from tasks.adapters.gate.admission import inspect_header
from tasks.adapters.pseudonyms import open_key

HEADER = "path,patient_id,exam,laterality,view,acquisition,left_out,file\n"
NAMED = NamedSubject(
    patient="0017", exam="one", laterality=Laterality.RIGHT, view_position=ViewPosition.CC, acquisition=Acquisition.FILM
)


def test_a_table_is_read(tmp_path: Path) -> None:
    """By the file below the source folder; what it leaves out has no subject."""
    path = tmp_path / "subjects.csv"
    path.write_text(HEADER + "a.pgm,0017,one,R,CC,film,,a.pgm.dcm\nb.dcm,0018,two,,XCCL,,not CC or MLO,\n")
    subjects = read_subjects(path)
    assert dict(subjects.by_path) == {"a.pgm.dcm": NAMED}
    assert subjects.left_out == 1
    before = subjects_version(path)
    path.write_text(HEADER + "a.pgm,0018,one,R,CC,film,,a.pgm.dcm\n")
    assert read_subjects(path).by_path["a.pgm.dcm"].patient == "0018"
    assert subjects_version(path) != before and subjects_version(None) == ""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("path,patient_id\n", "no exam"),
        (HEADER + "a,0017,one,R,ML,,,\n", "column view"),
        (HEADER + "a,0017,one,B,CC,,,\n", "column laterality"),
        (HEADER + "a,,one,R,CC,,,\n", "column patient_id"),
        (HEADER + "a,0017,one,R,CC,,,,0017\n", "line 2 has more fields than the header"),
        (HEADER + "a,0017,one,R,CC,,,\na,0018,one,R,CC,,,\n", "names a file a second time"),
    ],
)
def test_a_line_that_says_nothing_is_refused(content: str, said: str, tmp_path: Path) -> None:
    """By its number and column; no value is quoted."""
    path = tmp_path / "subjects.csv"
    path.write_text(content)
    with pytest.raises(LabelError) as refused:
        read_subjects(path)
    assert said in str(refused.value) and "0017" not in str(refused.value)


def test_a_table_that_is_not_there_is_said(tmp_path: Path) -> None:
    """With the config's key."""
    for ask in (read_subjects, subjects_version):
        with pytest.raises(LabelError, match=r"ingest\.subjects_csv"):
            ask(tmp_path / "subjects.csv")


def test_the_tables_patient_is_taken_and_its_side_compared(tmp_path: Path) -> None:
    """Patient and exam are the table's, another PatientID warns (I09); another side or view is refused (L03, V04)."""
    pseudonyms = open_key(tmp_path / "key", creates=True)

    def record_of(named: NamedSubject | None, **attributes: object):  # type: ignore[no-untyped-def]
        path = write(tmp_path / "a.dcm", edit=setting(**attributes))
        profile = PROFILES["clinical-strict"]
        return inspect_header(path, source_dir=tmp_path, profile=profile, pseudonyms=pseudonyms, named=named)

    as_told = record_of(None)
    named = NamedSubject(patient="0017", exam="one", laterality=as_told.laterality, view_position=as_told.view_position)
    record = record_of(named, IssuerOfPatientID="A CLINIC", SOPInstanceUID="a1b2" * 8)
    assert record.patient_id == pseudonyms.patient_id("0017", "")
    assert record.exam_id == pseudonyms.exam_id("one")
    assert "I09" in record.gate_warnings and "I09" not in as_told.gate_warnings
    assert "I09" not in record_of(named, PatientID="0017").gate_warnings
    other_side = Laterality.LEFT if as_told.laterality is Laterality.RIGHT else Laterality.RIGHT
    other_view = ViewPosition.CC if as_told.view_position is ViewPosition.MLO else ViewPosition.MLO
    for side, view, code in ((other_side, as_told.view_position, "L03"), (as_told.laterality, other_view, "V04")):
        with pytest.raises(GateRejection) as refused:
            record_of(NamedSubject(patient="0017", exam="one", laterality=side, view_position=view))
        assert code in refused.value.reason_codes
    film = replace(named, acquisition=Acquisition.FILM)
    assert record_of(film).acquisition is Acquisition.FILM
