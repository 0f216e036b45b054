"""What ingest makes of an inbox: files that are still coming, come again, contradict each other, change or go away."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

from deployments.commands.quarantine import app as quarantine
from schemas.config.run import RunConfig
from schemas.errors import ConfigError, TooManyWithdrawn
from schemas.layout import PIXELS
from schemas.reports.data import IngestReport
from tasks.adapters.store.exam_store import crop_digest, open_store, read_row
from tasks.adapters.store.manifest import read_manifest
from tasks.adapters.store.same_patient import read_former_patients, read_same_patients
from tasks.adapters.store.views import stored_views
from tasks.adapters.workspace import StoreFolder, Workspace
from tasks.ingest import scan_source

IngestHere = Callable[[RunConfig], IngestReport]
MakeConfig = Callable[..., RunConfig]


def images(folder: Path) -> list[Path]:
    """The cohort's DICOM files."""
    return sorted((folder / "dicom").rglob("*.dcm"))


def altered(path: Path, target: Path, **attributes: str) -> Path:
    """A copy under the same SOPInstanceUID, with other attributes; ``pixels="other"`` changes one value."""
    dataset = pydicom.dcmread(path)
    if attributes.pop("pixels", ""):
        pixels_HW = dataset.pixel_array.copy()
        pixels_HW[pixels_HW == pixels_HW.max()] -= 1
        dataset.PixelData = pixels_HW.tobytes()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(target)
    return target


@pytest.fixture
def config(tmp_path: Path, two_exams: Path, make_config: MakeConfig) -> RunConfig:
    """Eight images of two exams."""
    return make_config(tmp_path / "workspace", two_exams)


# --------------------------------------------------------------------------------------------------- same UID, I06


def test_one_uid_with_other_pixels_refuses_both_and_alerts(
    config: RunConfig, two_exams: Path, tmp_path: Path, ingest_here: IngestHere, caplog: pytest.LogCaptureFixture
) -> None:
    """Published first, contradicted later (fault 10): both are quarantined and unpublished until one is discarded."""
    first = ingest_here(config)
    assert (first.images_published, first.images_new, first.images_contested) == (8, 8, 0)
    altered(images(two_exams)[0], two_exams / "dicom" / "again.dcm", pixels="other")
    with caplog.at_level(logging.WARNING):
        second = ingest_here(config)
    assert (second.images_published, second.images_contested, second.images_withdrawn) == (7, 1, 1)
    assert second.quarantined_by_reason == {"I06": 2} and second.data_version != first.data_version
    assert "ALERT I06" in caplog.text
    assert second.contact_sheet_path is not None and second.contact_sheet_path.read_text().count("I06") >= 2
    assert ingest_here(config).images_published == 7, "a rerun changes nothing"
    newcomer = scan_source.fn(config)
    assert newcomer.unsettled == ()
    wrong = _file_id(config, "again.dcm")
    path = tmp_path / "config.yaml"
    path.write_text(config.model_dump_json())
    with pytest.raises(ConfigError, match="because of what other files say"):
        CliRunner().invoke(quarantine, ["release", str(path), wrong, "--reason", "again"], catch_exceptions=False)
    said = CliRunner().invoke(quarantine, ["discard", str(path), wrong, "--reason", "of the phantom"], catch_exceptions=False)
    assert said.exit_code == 0, said.output
    assert ingest_here(config).data_version == first.data_version


def test_one_uid_under_two_patients_refuses_both(config: RunConfig, two_exams: Path, ingest_here: IngestHere) -> None:
    """Same pixels, same SOPInstanceUID, other PatientID: nobody can say whose image it is."""
    altered(images(two_exams)[0], two_exams / "dicom" / "again.dcm", PatientID="OTHER")
    report = ingest_here(config)
    assert (report.images_published, report.images_contested) == (7, 1)


@pytest.mark.parametrize(
    "attributes",
    [
        {"ViewPosition": "other"},
        {"PatientAge": "033Y"},
        {"StudyDate": "20010203"},
        pytest.param({"AccessionNumber": "A-1"}, marks=pytest.mark.long),  # a text as the age is
        pytest.param({"Manufacturer": "Another maker"}, marks=pytest.mark.long),
        {"PixelPaddingValue": 1500},
    ],
    ids=lambda attributes: next(iter(attributes)),
)
def test_one_uid_with_other_facts_is_a_contradiction_until_one_is_kept(
    config: RunConfig, two_exams: Path, tmp_path: Path, ingest_here: IngestHere, attributes: dict[str, object]
) -> None:
    """Same pixels, another view, age, date, accession number, maker or padding: a correction counts, by a person's word."""
    original = images(two_exams)[0]
    dataset = pydicom.dcmread(original)
    if "ViewPosition" in attributes:
        others = (pydicom.dcmread(path) for path in images(two_exams))
        other = next(each for each in others if each.get("ViewPosition") != dataset.get("ViewPosition"))
        attributes = {name: other[name].value for name in ("ViewPosition", "ViewCodeSequence") if name in other}
    if "StudyDate" in attributes:  # an exam of two dates is another matter: E04
        for path in images(two_exams)[1:4]:
            altered(path, path, StudyDate="")
    if "PixelPaddingValue" in attributes:
        dataset.add_new("PixelPaddingValue", "US", 1500)
        attributes = {}
        dataset.add_new("PixelPaddingRangeLimit", "US", 3000)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    first = ingest_here(config)
    dataset.save_as(two_exams / "dicom" / "corrected.dcm")
    second = ingest_here(config)
    assert (second.images_published, second.images_contested) == (7, 1), second.quarantined_by_reason
    path = tmp_path / "config.yaml"
    path.write_text(config.model_dump_json())
    right = _file_id(config, "corrected.dcm")
    said = CliRunner().invoke(quarantine, ["keep", str(path), right, "--reason", "corrected"], catch_exceptions=False)
    assert said.exit_code == 0, said.output
    third = ingest_here(config)
    assert (third.images_published, third.images_contested) == (8, 0) and third.data_version != first.data_version
    assert CliRunner().invoke(quarantine, ["keep", str(path), right, "--reason", "again"]).exit_code != 0


def test_an_image_sent_again_is_used_once(config: RunConfig, two_exams: Path, ingest_here: IngestHere) -> None:
    """Byte for byte, and once more with another header: the same pixels, one image, nothing refused."""
    shutil.copy(images(two_exams)[0], two_exams / "dicom" / "same.dcm")
    altered(images(two_exams)[0], two_exams / "dicom" / "resent.dcm", StationName="OTHER")
    report = ingest_here(config)
    assert (report.images_published, report.images_copied, report.files_quarantined) == (8, 1, 0)


def test_copies_that_come_together_take_one_row_and_later_ones_none(
    config: RunConfig, two_exams: Path, ingest_here: IngestHere
) -> None:
    """A folder sent twice over: its files are compared by digest before rows are given out, and each image is decoded once."""
    originals = images(two_exams)
    for path in originals:
        shutil.copy(path, path.with_name(f"sent again {path.name}"))
    first = ingest_here(config)
    assert _ledger_counts(config) == {"rows": 8, "duplicate": 8, "accepted": 8}
    for path in originals:
        shutil.copy(path, path.with_name(f"and again {path.name}"))
    os.utime(originals[0])  # touched: the same bytes, the same row
    report = ingest_here(config)
    assert _ledger_counts(config) == {"rows": 8, "duplicate": 16, "accepted": 8}
    assert (report.images_published, report.images_copied, report.data_version) == (8, 0, first.data_version)
    manifest = read_manifest(open_store(report.store_dir))
    assert set(manifest["source_sha256"]) == {_digest(config, path) for path in originals}


def _ledger_counts(config: RunConfig) -> dict[str, int]:
    path = Workspace(config.workspace_dir).store_dir / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM images WHERE manifest IS NOT NULL").fetchone()
        (digested,) = connection.execute("SELECT count(*) FROM files WHERE source_sha256 != ''").fetchone()
        states = dict(connection.execute("SELECT state, count(*) FROM files GROUP BY state").fetchall())
    assert digested == sum(states.values())
    return {"rows": rows, **states}


def _file_id(config: RunConfig, name: str) -> str:
    from tasks.adapters.pseudonyms import open_key

    return open_key(Workspace(config.workspace_dir).key_path).file_id(name)


def test_what_was_discarded_does_not_come_back(
    config: RunConfig, two_exams: Path, tmp_path: Path, ingest_here: IngestHere
) -> None:
    """A file that one profile refuses and a person discards: not read under another profile, nor used under another name."""
    wrong = images(two_exams)[0]
    strict = config.model_copy(update={"ingest": config.ingest.model_copy(update={"file_memory_mib": 641})})
    altered(wrong, wrong, BurnedInAnnotation="YES")
    assert ingest_here(strict).quarantined_by_reason == {"D01": 1}
    path = tmp_path / "config.yaml"
    path.write_text(strict.model_dump_json())
    file_id = _file_id(config, wrong.relative_to(two_exams / "dicom").as_posix())
    said = CliRunner().invoke(quarantine, ["discard", str(path), file_id, "--reason", "wrong"], catch_exceptions=False)
    assert said.exit_code == 0, said.output
    assert scan_source.fn(config).unsettled == (), "other limits or profiles do not bring it back"
    with closing(sqlite3.connect(Workspace(config.workspace_dir).store_dir / "ledger.sqlite")) as connection:
        connection.execute(
            "UPDATE files SET source_sha256 = ? WHERE file_id = ?", (_digest(config, images(two_exams)[1]), file_id)
        )
        connection.commit()  # as if the discarded bytes were those of a sound image
    sound = images(two_exams)[1]
    sound.rename(sound.with_name("another name.dcm"))
    report = ingest_here(config)
    assert report.files_quarantined == 0
    assert _ledger_counts_of("discarded", config) == 2


def _digest(config: RunConfig, path: Path) -> str:
    from tasks.adapters.pseudonyms import open_key

    return open_key(Workspace(config.workspace_dir).key_path).source_digest(hashlib.sha256(path.read_bytes()).hexdigest())


def _ledger_counts_of(state: str, config: RunConfig) -> int:
    with closing(sqlite3.connect(Workspace(config.workspace_dir).store_dir / "ledger.sqlite")) as connection:
        return int(connection.execute("SELECT count(*) FROM files WHERE state = ?", (state,)).fetchone()[0])


# ---------------------------------------------------------------------------------------------------- still coming, F07


def test_a_file_that_grows_is_left_until_it_is_complete(config: RunConfig, two_exams: Path) -> None:
    """Written slowly by another process (fault 5): not in this scan, whole in the next; nothing about it is quarantined."""
    whole = images(two_exams)[0].read_bytes()
    growing = images(two_exams)[0]
    growing.write_bytes(whole[:1000])
    stop = threading.Event()

    def append() -> None:
        at = 1000
        while not stop.wait(0.05):
            at += 100
            with growing.open("ab") as file:
                file.write(whole[at - 100 : at])

    settling = config.model_copy(update={"ingest": config.ingest.model_copy(update={"settle_s": 0.4})})
    writer = threading.Thread(target=append)
    writer.start()
    scan = scan_source.fn(settling)
    stop.set()
    writer.join()
    assert (len(scan.unsettled), scan.still_copied, len(scan.file_ids)) == (7, 1, 8)
    growing.write_bytes(whole)
    assert len(scan_source.fn(settling).unsettled) == 8


def test_old_files_are_taken_without_waiting(config: RunConfig, two_exams: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody touched them for longer than the settle time: the scan does not wait at all."""
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"waited {seconds} s"))
    settling = config.model_copy(update={"ingest": config.ingest.model_copy(update={"settle_s": 3600.0})})
    real = time.time
    monkeypatch.setattr("tasks.adapters.inbox.source_folder.time.time", lambda: real() + 7200)
    assert len(scan_source.fn(settling).unsettled) == 8


def test_names_for_unfinished_files_are_not_touched(config: RunConfig, two_exams: Path) -> None:
    """.part, .tmp, leading dots and what lies in hidden folders, macOS' companions, DICOMDIR: left alone, not refused."""
    source = images(two_exams)[0]
    (two_exams / "dicom" / ".hidden").mkdir()
    for name in ("a.dcm.part", "b.tmp", ".c.dcm.Xy12", "._d.dcm", "DICOMDIR", ".hidden/e.dcm", "f.filepart"):
        shutil.copy(source, two_exams / "dicom" / name)
    assert len(scan_source.fn(config).file_ids) == 8


def test_a_cut_compressed_file_does_not_stand_in_the_way_of_its_whole(
    config: RunConfig, two_exams: Path, ingest_here: IngestHere
) -> None:
    """JPEG-LS cut in half beside the complete copy (fault 4): one is refused for itself, the other is published, same run."""
    import imagecodecs
    from pydicom.encaps import encapsulate

    path = images(two_exams)[0]
    dataset = pydicom.dcmread(path)
    stream = bytes(imagecodecs.jpegls_encode(dataset.pixel_array))
    dataset.PixelData = encapsulate([stream])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.80"
    dataset.save_as(path)
    whole = path.read_bytes()
    path.with_name("a-cut.dcm").write_bytes(whole[: len(whole) // 2])
    report = ingest_here(config)
    assert (report.images_published, report.files_quarantined, report.images_contested) == (8, 1, 0)
    assert "I06" not in report.quarantined_by_reason


def test_a_sender_that_dies_is_made_good_by_its_second_try(config: RunConfig, two_exams: Path, ingest_here: IngestHere) -> None:
    """A process that sends half a file and is killed (fault 19): seven images are published, the half is refused for itself.

    Sent again under its name, it is the eighth; nothing is there twice.
    """
    path = images(two_exams)[0]
    whole = path.read_bytes()
    path.unlink()
    script = (
        "import sys, time; whole = sys.stdin.buffer.read(); file = open(sys.argv[1], 'wb')\n"
        "file.write(whole[:len(whole) // 2]); file.flush(); print('half', flush=True); time.sleep(600)"
    )
    sender = subprocess.Popen([sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert sender.stdin is not None and sender.stdout is not None
    sender.stdin.write(whole)
    sender.stdin.close()
    assert sender.stdout.readline() == b"half\n"
    sender.kill()
    sender.wait()
    first = ingest_here(config)
    assert (first.images_published, first.files_quarantined) == (7, 1)
    path.write_bytes(whole)
    second = ingest_here(config)
    assert (second.images_published, second.images_new, second.files_quarantined) == (8, 1, 0)


def test_clocks_and_dates_decide_nothing(config: RunConfig, two_exams: Path, ingest_here: IngestHere) -> None:
    """One exam from a sender whose clock is in 2100, studies of the future; then one whose clock is in 1999 (fault 21).

    What is new is asked of the ledger, so the files that seem older are taken all the same.
    """
    settling = config.model_copy(update={"ingest": config.ingest.model_copy(update={"settle_s": 0.3})})
    exams: dict[str, list[Path]] = {}
    for path in images(two_exams):
        exams.setdefault(str(pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID), []).append(path)
    future, past = exams.values()
    for path in past:
        path.rename(path.with_suffix(".part"))
    for path in future:
        os.utime(altered(path, path, StudyDate="20991231"), (4_102_444_800, 4_102_444_800))
    assert ingest_here(settling).images_published == 4
    for path in past:
        os.utime(path.with_suffix(".part").rename(path), (915_148_800, 915_148_800))
    assert ingest_here(settling).images_published == 8


# ------------------------------------------------------------------------------------------- late masks, gone sources


def test_masks_that_come_late_or_change_are_taken(config: RunConfig, two_exams: Path, ingest_here: IngestHere) -> None:
    """No mask, then one, then another, then none: each changes data_version, in the same row, without a new shard."""
    masks_dir = two_exams / "masks"
    shutil.rmtree(masks_dir)
    masks_dir.mkdir()
    path = images(two_exams)[0]
    mask_path = masks_dir / f"{pydicom.dcmread(path).SOPInstanceUID}.png"
    first = ingest_here(config)
    versions = [first.data_version]
    for value in (1, 2):
        mask_HW = np.zeros((384, 288), np.uint8)
        mask_HW[150:200, 20:270] = value
        cv2.imwrite(str(mask_path), mask_HW)
        report = ingest_here(config)
        store = open_store(report.store_dir)
        (line,) = (manifest := read_manifest(store))[manifest["has_lesion_mask"]].to_dict("records")
        found_HW = stored_views(store, manifest, (384, 256)).lesion_mask(line["row"])
        assert set(np.unique(found_HW)) == {0, value}
        assert (report.images_published, report.images_new) == (8, 0)
        versions.append(report.data_version)
    mask_path.unlink()
    versions.append(ingest_here(config).data_version)
    assert len(set(versions)) == 3 and versions[0] == versions[3]
    assert sorted(manifest["row"]) == list(range(8))


def test_images_whose_file_is_gone_stay_and_are_counted(config: RunConfig, two_exams: Path, ingest_here: IngestHere) -> None:
    """An inbox may be emptied after ingest: the store keeps what it has, the report says how much of it."""
    first = ingest_here(config)
    for path in images(two_exams)[:3]:
        path.unlink()
    report = ingest_here(config)
    assert (report.images_published, report.images_without_source) == (8, 3)
    assert report.data_version == first.data_version


def test_a_file_replaced_by_another_of_the_same_name_is_read_anew(
    config: RunConfig, two_exams: Path, ingest_here: IngestHere
) -> None:
    """Corrected at its place: the new pixels are used, in a new row; the old row is in no manifest."""
    first = ingest_here(config)
    path = images(two_exams)[0]
    altered(path, path, pixels="other")
    os.utime(path, ns=(1, 1))
    report = ingest_here(config)
    assert (report.images_published, report.images_contested) == (8, 0) and report.data_version != first.data_version
    assert len(set(range(8)) - set(read_manifest(open_store(report.store_dir))["row"])) == 1


def test_special_files_are_refused_without_a_hang(config: RunConfig, two_exams: Path, ingest_here: IngestHere) -> None:
    """A pipe, a link out of the folder, a hard link, text and an empty file (faults 25, 27): five refusals, the exams go on."""
    folder = two_exams / "dicom"
    os.mkfifo(folder / "pipe.dcm")
    (folder / "link.dcm").symlink_to("/etc/passwd")
    (two_exams / "outside.dcm").write_bytes(images(two_exams)[0].read_bytes())
    (folder / "hard.dcm").hardlink_to(two_exams / "outside.dcm")
    (folder / "letter.txt").write_text("Dear CANARY, " * 500)
    (folder / "empty.dcm").touch()
    report = ingest_here(config)
    assert (report.images_published, report.files_quarantined) == (8, 5)
    assert report.quarantined_by_reason == {"F01": 2, "F02": 1, "F05": 2, "F09": 1, "F03": 1}


def test_labels_find_their_exam_by_accession(config: RunConfig, two_exams: Path, ingest_here: IngestHere) -> None:
    """The labels file names exams by AccessionNumber only: joined at the border by pseudonym, no accession is in the store."""
    lines = ["patient_id,accession_number,laterality,benign,malignant,label_source"]
    for number, exam in enumerate(sorted({path.parent for path in images(two_exams)})):
        for path in sorted(exam.glob("*.dcm")):
            dataset = pydicom.dcmread(path)
            dataset.AccessionNumber = f"ACC-{number}"
            dataset.save_as(path)
        lines += [f"{dataset.PatientID},ACC-{number},{side},0,{number},biopsy" for side in "RL"]
    (two_exams / "labels.csv").write_text("\n".join(lines))
    report = ingest_here(config)
    assert (report.labelled_breasts, report.orphan_labels, report.unlabelled_breasts) == (4, 0, 0)
    manifest = read_manifest(open_store(report.store_dir))
    assert sorted(manifest.groupby("exam_id")["malignant"].max()) == [0, 1]
    stored = [path for path in report.store_dir.rglob("*") if path.is_file()]
    assert not [path for path in stored if b"ACC-" in path.read_bytes()]


def test_a_woman_whose_issuer_is_missing_in_some_exams_is_divided_as_one(
    config: RunConfig, two_exams: Path, ingest_here: IngestHere, caplog: pytest.LogCaptureFixture
) -> None:
    """One PatientID with an issuer and without: two pseudonyms, a warning, one person; labels without issuer find both.

    The days from an exam to its cancer, or its last follow-up, are right, although either pseudonym shifts dates otherwise.
    """
    header = "patient_id,study_instance_uid,laterality,benign,malignant,label_source,diagnosis_date,followup_date"
    lines = [header]
    for number, exam in enumerate(sorted({path.parent for path in images(two_exams)})):
        for path in sorted(exam.glob("*.dcm")):
            altered(path, path, PatientID="CANARY-7", **({"IssuerOfPatientID": "HOSPITAL"} if number else {}))
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        diagnosed = date.fromisoformat(dataset.StudyDate) + timedelta(days=311)
        known = f"{diagnosed}," if number else f",{diagnosed + timedelta(days=400)}"
        lines += [f"CANARY-7,{dataset.StudyInstanceUID},{side},0,{number},biopsy,{known}" for side in "RL"]
    (two_exams / "labels.csv").write_text("\n".join(lines))
    report = ingest_here(config)
    assert (report.patients_of_one_id, report.labelled_breasts) == (2, 4)
    assert "2 patients share their PatientID" in caplog.text and "CANARY" not in caplog.text
    manifest = read_manifest(open_store(report.store_dir))
    assert set(manifest.loc[manifest["malignant"] == 1, "days_to_diagnosis"]) == {311.0}
    assert manifest.loc[manifest["malignant"] == 0, "days_to_diagnosis"].isna().all()
    assert set(manifest.loc[manifest["malignant"] == 0, "days_of_followup"]) == {711.0}
    persons = read_same_patients(StoreFolder(report.store_dir))
    assert set(persons) == set(read_manifest(open_store(report.store_dir))["patient_id"])
    assert len(persons) == 2 and len(set(persons.values())) == 1


def test_a_missing_issuer_is_not_another_one(config: RunConfig, two_exams: Path, ingest_here: IngestHere) -> None:
    """An exam whose right views, and a second file of a left one, name the issuer that its left views lack is one patient's.

    She keeps her split and her former name, by which a network may know her, and her dates agree. Of two issuers nobody knows
    which is meant: E04.
    """
    exam = images(two_exams)[0].parent
    side_of = {path: pydicom.dcmread(path, stop_before_pixels=True).ImageLaterality for path in images(two_exams)}
    left, right = ([path for path, side in side_of.items() if path.parent == exam and side == one] for one in "LR")
    late = {path: altered(path, config.workspace_dir.parent / path.name, IssuerOfPatientID="CLINIC") for path in right}
    for path in right:
        path.unlink()
    before = read_manifest(open_store(ingest_here(config).store_dir))
    for path, copy in late.items():
        copy.rename(path)
    altered(left[0], exam / "again.dcm", IssuerOfPatientID="CLINIC")
    report = ingest_here(config)
    manifest = read_manifest(open_store(report.store_dir))
    assert (report.quarantined_by_reason, report.images_published, report.images_copied) == ({}, 8, 1)
    one_patient = manifest.groupby("exam_id")[["patient_id", "exam_date"]].nunique()
    assert (one_patient == 1).all(axis=None)
    (former,) = set(before["patient_id"]) - set(manifest["patient_id"])
    (now,) = set(manifest["patient_id"]) - set(before["patient_id"])
    files = StoreFolder(report.store_dir)
    assert read_former_patients(files) == {now: frozenset({former})} and report.patients_of_one_id == 0
    persons = read_same_patients(files)
    assert persons[now] == persons[former]
    altered(left[1], left[1], IssuerOfPatientID="ELSEWHERE")
    may_go = config.model_copy(update={"ingest": config.ingest.model_copy(update={"allow_withdrawals": True})})
    assert ingest_here(may_go).quarantined_by_reason == {"E04": 4}


def test_a_ledger_of_an_earlier_day_gives_out_no_row_that_is_published(
    config: RunConfig, two_exams: Path, tmp_path: Path, ingest_here: IngestHere, caplog: pytest.LogCaptureFixture
) -> None:
    """The ledger alone is put back as it was before the second exam came: what comes then takes no place of that exam.

    Readers of the manifest in force would see another patient's pixels under its labels. It is said that the ledger is older.
    """
    exam = images(two_exams)[0].parent
    exam.rename(tmp_path / "later")
    ingest_here(config)
    ledger_path = StoreFolder(config.workspace_dir / "exam_store").ledger_path
    earlier = ledger_path.read_bytes()
    (tmp_path / "later").rename(exam)
    store = open_store(ingest_here(config).store_dir)
    ledger_path.write_bytes(earlier)
    for path in images(two_exams):
        if path.parent == exam:
            uids = {name: f"{pydicom.dcmread(path)[name].value}.9" for name in ("StudyInstanceUID", "SOPInstanceUID")}
            altered(path, path, pixels="other", PatientID="SOMEBODY-ELSE", **uids)
    said = "The ledger is of an earlier day than the store"
    assert said not in caplog.text
    with pytest.raises(TooManyWithdrawn):
        ingest_here(config)
    assert said in caplog.text
    for line in read_manifest(store).itertuples():
        pixels_HW = read_row(store, line.row, PIXELS)[: line.stored_rows_px, : line.stored_columns_px]
        assert crop_digest(pixels_HW) == line.written_sha256
