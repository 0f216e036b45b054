"""The objects of an exam: valid, marked, of their sources, the same on every run, whatever the source's header is like."""

from __future__ import annotations

import io
import shutil
import subprocess
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from mammo_tests.mammograms import setting
from mammo_tests.results import IDENTITY, MAKER, STUDY_UID, VIEWS, objects_of, read_header, view_result, write_view
from schemas.config.pacs import ResultKind
from schemas.errors import DicomError
from tasks.adapters.results.exam_result import RESEARCH_USE
from tasks.adapters.results.objects.result_objects import ResultObject, result_objects
from tasks.adapters.results.objects.source_header import header_of_json

ODD_HEADERS: dict[str, Callable[[Dataset], object]] = {
    "as it is": lambda header: None,
    "dates of zeros": setting(StudyDate="00000000", PatientBirthDate="00000000", ContentDate="00000000", StudyTime="99:99"),
    "a name of one component": setting(PatientName="PLANTED"),
    "no name, no dates, no spacing": setting(
        PatientName="", StudyDate="", StudyTime="", ImagerPixelSpacing=None, PatientAge=""
    ),
    "white is dark": setting(PhotometricInterpretation="MONOCHROME1"),
    "a letter outside ASCII, three windows": setting(
        SpecificCharacterSet="ISO_IR 100",
        PatientName="M\xfcller^J\xf6rg",
        WindowCenter=[2000, 1000, 1],
        WindowWidth=[3000, 500, 1],
        VOILUTFunction="SIGMOID",
    ),
    "a table of grey levels": setting(WindowCenter=None, WindowWidth=None),
    "an odd sex and age": setting(PatientSex="W", PatientAge="61", PatientID=" 12 "),
    "neither orientation, side nor window": setting(
        PatientOrientation=None, ImageLaterality="B", Laterality="B", WindowCenter=[2000, 1], WindowWidth=0
    ),
    "a name in Kanji": setting(
        SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="PLANTED^NAME=\u5c71\u7530^\u592a\u90ce", StudyTime="250000"
    ),
}


@pytest.fixture(scope="module")
def exam(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[ResultObject], list[Path]]:
    """All objects of an ordinary exam."""
    return objects_of(tmp_path_factory.mktemp("exam"))


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian dicom3tools) is not installed")
@pytest.mark.parametrize("name", ODD_HEADERS)
def test_validators_find_no_error(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The validator dciodvfy finds no error in any object, dcentvfy none between them and their sources, of whatever header."""
    views = VIEWS if name == "as it is" else VIEWS[:2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what the libraries say quotes the patient's name
        objects, sources = objects_of(tmp_path, ODD_HEADERS[name], views)
    paths = []
    for number, made in enumerate(objects):
        paths.append(tmp_path / f"{number:02d}-{made.kind}.dcm")
        paths[-1].write_bytes(made.content)
        checked = subprocess.run(["dciodvfy", "-new", str(paths[-1])], capture_output=True, check=False).stderr
        assert b"Error" not in checked, (made.kind, checked)
        if made.kind is ResultKind.PRESENTATION:
            assert np.size(made.dataset.get("SoftcopyVOILUTSequence", [Dataset()])[0].get("WindowCenter", 0)) == 1
    if name not in ("dates of zeros", "neither orientation, side nor window"):  # there the sources are at fault, and say so
        together = subprocess.run(["dcentvfy", *map(str, [*paths, *sources])], capture_output=True, check=False).stderr
        assert [line for line in together.splitlines() if b"Error" in line] == []
    said = capfd.readouterr()
    assert said.out == said.err == ""


@pytest.mark.skipif(shutil.which("dsrdump") is None, reason="dcmtk is not installed")
def test_dcmtk_reads_reports_and_presentation_states(tmp_path: Path, exam: tuple[list[ResultObject], list[Path]]) -> None:
    """Every report is read by dsrdump without a complaint, and every presentation state passes dcmpschk."""
    for number, made in enumerate(exam[0]):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(made.content)
        if made.dataset.Modality in ("SR", "KO"):
            run = subprocess.run(["dsrdump", "-q", str(path)], capture_output=True, text=True, check=True)
            assert run.stderr == ""
        if made.kind is ResultKind.PRESENTATION:
            run = subprocess.run(["dcmpschk", str(path)], capture_output=True, text=True, check=True)
            assert "Test passed" in run.stdout + run.stderr


def test_objects_are_of_the_patient_and_for_research(exam: tuple[list[ResultObject], list[Path]]) -> None:
    """Identity and study as the source has them; research use, algorithm, weights and code version where people look."""
    source = read_header(exam[1][0])
    weights = MAKER.weights_sha256
    for made in exam[0]:
        for keyword in ("PatientName", "PatientID", "AccessionNumber", "StudyInstanceUID", "StudyDate", "PatientAge"):
            assert made.dataset[keyword].value == source[keyword].value
        assert "RESEARCH" in made.dataset.SeriesDescription and weights[:12] in made.dataset.SeriesDescription
        assert made.dataset.DeviceSerialNumber == weights
        assert list(made.dataset.SoftwareVersions) == ["mammography-gmic 0.1.0", f"weights {weights[:12]}"]
        assert made.dataset.SeriesNumber > 900000
        assert made.uid == made.dataset.SOPInstanceUID == made.dataset.file_meta.MediaStorageSOPInstanceUID
        if made.dataset.Modality not in ("OT", "KO"):
            assert RESEARCH_USE.encode() in made.content, made.kind
        if "PixelData" not in made.dataset:
            assert b"diagnos" not in made.content.replace(RESEARCH_USE.encode(), b"").lower()
    assert len({made.uid for made in exam[0]}) == len(exam[0]) == 20
    numbers = {str(made.dataset.SeriesInstanceUID): made.dataset.SeriesNumber for made in exam[0]}
    assert len(set(numbers.values())) == len(numbers)


def test_the_same_exam_makes_the_same_bytes_and_other_weights_other_series(
    tmp_path: Path, exam: tuple[list[ResultObject], list[Path]]
) -> None:
    """Object for object to the last byte; with other weights no UID of an object or a series is met again."""
    again, _ = objects_of(tmp_path)
    assert [made.content for made in again] == [made.content for made in exam[0]]
    headers, results = [read_header(path) for path in exam[1]], [view_result(*view) for view in VIEWS]
    other = replace(MAKER, weights_sha256="fedcba9876543210" * 4)
    kinds = [ResultKind.CAD, ResultKind.PRESENTATION, ResultKind.MEASUREMENTS]
    retrained = list(result_objects(headers, results, other, kinds=kinds, cad_at_least=0.55))
    for name in ("SOPInstanceUID", "SeriesInstanceUID", "SeriesDescription"):
        mine, theirs = ({str(made.dataset[name].value) for made in these} for these in (exam[0], retrained))
        assert mine.isdisjoint(theirs)


def test_an_object_is_recognised_in_another_coding(exam: tuple[list[ResultObject], list[Path]]) -> None:
    """A server may decompress what it stores; one pixel that is another, or a report's number, makes it something else."""
    (made, *_), (report, *_) = (
        [one for one in exam[0] if one.kind is kind] for kind in (ResultKind.SALIENCY, ResultKind.MEASUREMENTS)
    )
    decompressed = pydicom.dcmread(io.BytesIO(made.content))
    decompressed.decompress(generate_instance_uid=False)
    assert decompressed.file_meta.TransferSyntaxUID != made.dataset.file_meta.TransferSyntaxUID
    assert made.is_in(written(decompressed))
    decompressed.PixelData = b"\x01" + decompressed.PixelData[1:]
    assert not made.is_in(written(decompressed))
    changed = pydicom.dcmread(io.BytesIO(report.content))
    assert report.is_in(written(changed))
    changed.ContentSequence[0].ConceptCodeSequence[0].CodeValue = "de"
    assert not report.is_in(written(changed))


def test_a_name_is_written_as_the_archive_says_it(tmp_path: Path) -> None:
    """DICOM JSON is UTF-8 and need not have a SpecificCharacterSet, or names another: no letter becomes a question mark.

    Orthanc names that of Japan without the empty value before it.
    """
    said = read_header(write_view(tmp_path / "view.dcm", *VIEWS[0])).to_json_dict()
    for terms in ([], [None], ["ISO_IR 100"], ["ISO 2022 IR 87"], [None, "ISO 2022 IR 149"], ["ISO_IR 100", "ISO 2022 IR 87"]):
        for name in ("\u0141ukasz^M\xfcller", "Yamada^A=\u5c71\u7530^\u592a\u90ce", "PLAIN"):
            given = {"00080005": {"vr": "CS", "Value": terms}, "00100010": {"vr": "PN", "Value": [name]}}
            (made,) = _objects_of(said | given, ResultKind.PRESENTATION)
            assert str(pydicom.dcmread(io.BytesIO(made.content)).PatientName) == name


@pytest.mark.parametrize("tag", ["00280010", "0020000E", "00080016", "00280004"])
def test_an_image_that_nothing_can_be_made_of_is_its_exam_s_matter(tmp_path: Path, tag: str) -> None:
    """Size, series, class or grey scale are missing: an error that quotes nothing, and that a run survives."""
    said = read_header(write_view(tmp_path / "view.dcm", *VIEWS[0])).to_json_dict()
    del said[tag]
    with pytest.raises(DicomError, match="No result can be made") as failed:
        _objects_of(said, ResultKind.PRESENTATION, ResultKind.CAD)
    assert not any(word in str(failed.value) for word in IDENTITY) and failed.value.__context__ is None


def _objects_of(said: dict[str, Any], *kinds: ResultKind) -> list[ResultObject]:
    header, view = header_of_json(said), view_result(*VIEWS[0])
    return list(result_objects([header], [view], MAKER, kinds=kinds, cad_at_least=0.55))


def written(dataset: Dataset) -> bytes:
    """As a file."""
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def test_only_the_identity_of_the_source_is_taken(tmp_path: Path) -> None:
    """Private values, physicians and comments of the source are in no object."""
    planted = setting(OperatorsName="PLANTEDOPERATOR", ImageComments="PLANTEDCOMMENT", InstitutionName="PLANTEDHOUSE")
    objects, _ = objects_of(tmp_path, planted, views=VIEWS[:1])
    for made in objects:
        content = made.content
        assert IDENTITY[0].encode() in content and STUDY_UID.encode() in content
        assert not any(word in content for word in (b"PLANTEDOPERATOR", b"PLANTEDCOMMENT", b"PLANTEDHOUSE"))


@pytest.mark.parametrize("kind", ResultKind)
@pytest.mark.parametrize(
    ("change", "said"),
    [(setting(Rows=99), "another size"), (setting(ImageLaterality="R", Laterality="R"), "another side")],
    ids=["size", "side"],
)
def test_an_image_that_was_changed_since_it_was_scored_gets_no_result(
    tmp_path: Path, kind: ResultKind, change: Callable[[Dataset], object], said: str
) -> None:
    """Of no kind: patches would lie elsewhere, and one breast's probabilities would be told of the other."""
    left = tuple(place for place in VIEWS if place[0].value == "L")
    with pytest.raises(DicomError, match=said):
        objects_of(tmp_path, change, views=left, kinds=[kind])
