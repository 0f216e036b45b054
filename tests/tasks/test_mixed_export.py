"""A whole export of an archive: what is no mammogram is recognised, counted, and no failure."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from mammo_tests.hostile import DEFLATE, with_syntax
from schemas.config.run import RunConfig
from schemas.errors import TooManyFailures
from schemas.reports.data import IngestReport

IngestHere = Callable[[RunConfig], IngestReport]

TOMOSYNTHESIS = UID("1.2.840.10008.5.1.4.1.1.13.1.3")
RAW = UID("1.2.840.10008.5.1.4.1.1.1.2.1")
CAPTURE = UID("1.2.840.10008.5.1.4.1.1.7")
ULTRASOUND = UID("1.2.840.10008.5.1.4.1.1.6.1")
ULTRASOUND_FILM = UID("1.2.840.10008.5.1.4.1.1.3.1")
REPORT = UID("1.2.840.10008.5.1.4.1.1.88.22")
PDF = UID("1.2.840.10008.5.1.4.1.1.104.1")
MPEG4 = "1.2.840.10008.1.2.4.102"
F04_BYTES = 600_000_001
VIEWER = {
    "autorun.inf": b"[autorun]\r\nopen=VIEWER.EXE\r\n",
    "VIEWER.EXE": b"MZ\x90\0" + bytes(range(256)) * 20,
    "README.txt": b"The images of CANARY\n" * 200,
    "index.html": b"<html>CANARY</html>",
    "L_CC.jpg": b"\xff\xd8\xff\xe0" + bytes(range(256)) * 20,
}


def of_class(sound: Path, target: Path, uid: UID, **attributes: object) -> Path:
    """The file as an object of another class."""
    dataset = pydicom.dcmread(sound)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = uid
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(target)
    return target


def small_report(target: Path, uid: UID = REPORT) -> Path:
    """A structured report as devices write them, of less than 2 kB."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = uid
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.Modality, dataset.PatientID, dataset.StudyInstanceUID = "SR", "CANARY", generate_uid()
    dataset.save_as(target, enforce_file_format=True)
    assert target.stat().st_size < 2000
    return target


@pytest.fixture
def export_dir(tmp_path: Path, cohort_dir: Path) -> Path:
    """Four mammograms of an exam, ten other objects as an archive holds them, and the disc's viewer."""
    folder = tmp_path / "cohort" / "dicom"
    exam = next(path for path in sorted((cohort_dir / "dicom").iterdir()) if path.is_dir())
    shutil.copytree(exam, folder)
    sound = sorted(folder.glob("*.dcm"))[0]
    of_class(sound, folder / "raw.dcm", RAW, PresentationIntentType="FOR PROCESSING")
    large = of_class(sound, folder / "tomosynthesis.dcm", TOMOSYNTHESIS, NumberOfFrames="60")
    with large.open("r+b") as file:
        file.truncate(F04_BYTES)  # zeros that take no place on the disk
    of_class(sound, folder / "tomosynthesis-2.dcm", TOMOSYNTHESIS, NumberOfFrames="60")
    of_class(sound, folder / "screenshot.dcm", CAPTURE, Modality="OT")
    of_class(sound, folder / "ultrasound.dcm", ULTRASOUND, Modality="US")
    film = of_class(sound, folder / "film.dcm", ULTRASOUND_FILM, Modality="US")
    film.write_bytes(with_syntax(film.read_bytes(), MPEG4))
    of_class(sound, folder / "letter.dcm", PDF, Modality="DOC")
    small_report(folder / "report.dcm")
    report = small_report(folder / "deflated.dcm")
    report.write_bytes(with_syntax(report.read_bytes(), DEFLATE) + bytes(2000))
    cut = small_report(folder / "cut.dcm", PDF)
    cut.write_bytes(cut.read_bytes()[:-20])
    (folder / "DICOMDIR").write_bytes(sound.read_bytes())
    for name, content in VIEWER.items():
        (folder / name).write_bytes(content)
    return folder


def test_a_whole_export_is_no_failure(export_dir: Path, make_config: Callable[..., RunConfig], ingest_here: IngestHere) -> None:
    """Processed, raw, tomosynthesis, report, letter, ultrasound, a viewer: mammograms published, the others counted.

    Not one failure is allowed. Also where a rule on the file itself (too small, too large, a film's compression, deflated, cut)
    comes before its kind is seen. A mammogram that is too small stays a failure.
    """
    changes = {"ingest.labels_csv": None, "ingest.masks_dir": None, "ingest.max_failed_fraction": 0.0}
    config = make_config(export_dir.parents[1] / "workspace", export_dir.parent, **changes)
    report = ingest_here(config)
    assert (report.images_published, report.files_quarantined, report.files_not_ours) == (4, 15, 15)
    by_reason = report.quarantined_by_reason
    assert (by_reason["F03"], by_reason["F04"], by_reason["F13"]) == (4, 1, 2)
    assert {code for code in by_reason if code[0] == "K"} >= {"K01", "K02", "K03", "K04"}
    again = ingest_here(config)
    assert (again.images_published, again.files_not_ours) == (4, 15)
    small = sorted(export_dir.glob("CANARY*.dcm"))[0]
    (export_dir / "small.dcm").write_bytes(small.read_bytes()[:1500])
    with pytest.raises(TooManyFailures, match="1 of 5 files were refused"):
        ingest_here(config)
