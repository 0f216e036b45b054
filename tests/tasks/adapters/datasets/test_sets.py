"""Public data sets: whom their files show, by the places of their own where they say it."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from mammo_tests.mammograms import PSEUDONYMS, accept, breast, inspect, rejection, removing, setting, write
from schemas.errors import ConfigError
from schemas.exam import Acquisition, Laterality, ViewPosition
from tasks.adapters.datasets.catalogue import PROFILES, profile_named
from tasks.adapters.datasets.gate_profile import CLINICAL_STRICT
from tasks.adapters.gate.admission import inspect_header


def cbis(path: Path, side: str, view: str, *, subset: str = "Mass-Test", suffix: str = "", series: str = "full") -> Path:
    """A file with CBIS-DDSM's header: secondary capture, one PatientID and study per view, view in PatientOrientation."""

    def edit(dataset: pydicom.Dataset) -> None:
        removing("ImageLaterality", "ViewPosition", "ViewCodeSequence", "ImagerPixelSpacing", "PresentationIntentType")(dataset)
        name = f"{subset}_P_00173_{side}_{view}{suffix}"
        setting(
            SOPClassUID="1.2.840.10008.5.1.4.1.1.7", PatientID=name, PatientName=name, Laterality=side[0],
            PatientOrientation=view, StudyInstanceUID=f"2.25.{len(side)}{len(view)}{len(subset)}",
            SeriesDescription=f"{series} mammogram images",
        )(dataset)  # fmt: skip

    return write(path, laterality=Laterality(side[0]), edit=edit)


def test_cbis_views_of_one_patient_join_in_one_exam(tmp_path: Path) -> None:
    """Four PatientIDs and StudyInstanceUIDs, one patient and one exam; the calcification set's files join too."""
    records = [
        inspect(cbis(tmp_path / f"{subset}{side}{view}.dcm", side, view, subset=subset), "cbis-ddsm")
        for subset in ("Mass-Test", "Calc-Training")
        for side in ("LEFT", "RIGHT")
        for view in ("CC", "MLO")
    ]
    assert {record.exam_id for record in records} == {PSEUDONYMS.exam_id("P_00173")}
    assert {record.patient_id for record in records} == {PSEUDONYMS.patient_id("P_00173")}
    assert len({(record.laterality, record.view_position) for record in records}) == 4
    assert {record.acquisition for record in records} == {Acquisition.FILM}


def test_cbis_masks_and_crops_are_refused(tmp_path: Path) -> None:
    """Lesion files carry the view's PatientID with a number after it."""
    assert rejection(cbis(tmp_path / "a.dcm", "LEFT", "CC", suffix="_1"), "cbis-ddsm").reason_codes == ("K08",)
    assert rejection(cbis(tmp_path / "b.dcm", "LEFT", "CC", series="cropped"), "cbis-ddsm").reason_codes == ("K08",)


def test_a_contradiction_with_the_patient_id_is_refused(tmp_path: Path) -> None:
    """Laterality R in a file named LEFT is L03 under the profile that reads the name."""
    path = cbis(tmp_path / "a.dcm", "LEFT", "CC")
    dataset = pydicom.dcmread(path)
    dataset.Laterality = "R"
    dataset.save_as(path)
    assert rejection(path, "cbis-ddsm").reason_codes == ("L03",)


def test_small_phantoms_need_their_profile(tmp_path: Path) -> None:
    """640 x 448 is X01 under the strict profile, accepted under `phantom`, and one file's rejection sends nobody to it."""
    path = write(tmp_path / "a.dcm", breast(shape_px=(640, 448)))
    refused = rejection(path)
    assert refused.reason_codes == ("X01",)
    assert "profile: phantom" not in str(refused)  # a small image of a clinic is no phantom: a whole folder's refusals tell
    record, gated = accept(path, "phantom")
    assert (record.gate_warnings, gated.warnings) == ((), ())


def test_cmmd_side_comes_from_the_orientation(tmp_path: Path) -> None:
    """CMMD's images are oriented as the standard wants: P, L is a right CC."""
    edit = removing("ImageLaterality", "ViewPosition")
    path = write(tmp_path / "a.dcm", laterality=Laterality.RIGHT, edit=edit)
    record = inspect(path, "cmmd")
    assert (record.laterality, record.view_position) == (Laterality.RIGHT, ViewPosition.CC)
    assert rejection(path).reason_codes == ("L01",)


def test_inbreast_reads_the_file_name(tmp_path: Path) -> None:
    """Patient hash, side and view come from <file>_<patient>_MG_<side>_<view>_ANON.dcm; ML is its MLO."""
    path = tmp_path / "20586908_6c613a14b80a8591_MG_R_ML_ANON.dcm"
    edit = lambda dataset: (  # noqa: E731
        removing("ImageLaterality", "ViewPosition", "ViewCodeSequence")(dataset), setting(PatientID="removed")(dataset)
    )  # fmt: skip
    record = inspect(write(path, laterality=Laterality.RIGHT, edit=edit), "inbreast")
    assert record.patient_id == PSEUDONYMS.patient_id("6c613a14b80a8591")
    assert (record.laterality, record.view_position) == (Laterality.RIGHT, ViewPosition.MLO)


def test_vindr_exams_count_as_patients(tmp_path: Path) -> None:
    """Without a PatientID the exam stands for the patient: two exams are never joined by an empty identifier."""
    first = inspect(write(tmp_path / "a.dcm", edit=removing("PatientID")), "vindr")
    second = inspect(
        write(tmp_path / "b.dcm", edit=lambda d: (removing("PatientID")(d), setting(StudyInstanceUID="2.25.5")(d))), "vindr"
    )
    assert first.patient_id == PSEUDONYMS.patient_id("2.25.8100")
    assert first.patient_id != second.patient_id


def test_embed_falls_back_to_its_folders(tmp_path: Path) -> None:
    """The patient is the folder's name in cohort/<patient>/<study>/."""
    folder = tmp_path / "cohort" / "10042" / "77"
    folder.mkdir(parents=True)
    path = write(folder / "1.dcm", edit=removing("PatientID"))
    record = inspect_header(path, source_dir=tmp_path, profile=PROFILES["embed"], pseudonyms=PSEUDONYMS)
    assert record.patient_id == PSEUDONYMS.patient_id("10042")


def test_an_unknown_profile_names_the_nearest() -> None:
    """A misspelt name is a config error with the likely one."""
    with pytest.raises(ConfigError, match="did you mean cbis-ddsm"):
        profile_named("cbis_ddsm")
    assert profile_named("clinical-strict") is CLINICAL_STRICT
