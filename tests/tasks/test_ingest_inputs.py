"""Labels, boxes and masks that a config names: they are there, are read before decoding, and are all accounted for."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest

from schemas.config.run import RunConfig
from schemas.errors import LabelError
from schemas.reports.data import IngestReport
from tasks.adapters.inbox.batches import scan_folder
from tasks.adapters.inbox.ledger import Ledger
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import read_manifest
from tasks.adapters.store.same_patient import read_former_patients
from tasks.adapters.workspace import StoreFolder, Workspace

IngestHere = Callable[[RunConfig], IngestReport]
MakeConfig = Callable[..., RunConfig]
SHAPE_PX = (384, 288)


@pytest.fixture
def config(tmp_path: Path, two_exams: Path, make_config: MakeConfig) -> RunConfig:
    """Eight images of two exams, their labels and masks."""
    return make_config(tmp_path / "workspace", two_exams)


def with_inputs(config: RunConfig, **inputs: Any) -> RunConfig:
    """The config with other inputs."""
    return config.model_copy(update={"ingest": config.ingest.model_copy(update=inputs)})


def uids(folder: Path) -> list[str]:
    """SOPInstanceUIDs of the cohort's images, in the order of their paths."""
    paths = sorted((folder / "dicom").rglob("*.dcm"))
    return [str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in paths]


def png(mask_HW: Any, extension: str = ".png") -> bytes:
    """A picture's bytes."""
    return bytes(cv2.imencode(extension, mask_HW)[1])


def lesion(value: int, shape_px: tuple[int, ...] = SHAPE_PX) -> Any:
    """A mask with a square of one value."""
    mask_HW = np.zeros(shape_px, np.uint8)
    mask_HW[150:200, 20:270] = value
    return mask_HW


def huge_png() -> bytes:
    """A PNG of a few bytes that says it has 60,000 x 60,000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + bytes(20)


@pytest.mark.parametrize("name", ["labels_csv", "boxes_csv", "masks_dir"])
@pytest.mark.parametrize("is_first_run", [True, False])
def test_an_input_that_is_not_there_stops_the_run_and_takes_nothing_away(
    config: RunConfig, two_exams: Path, ingest_here: IngestHere, name: str, is_first_run: bool
) -> None:
    """Gone, or of the wrong kind: before anything is decoded, and stored masks and labels stay as they are."""
    store_dir = Workspace(config.workspace_dir).store_dir
    before = None
    if not is_first_run:
        ingest_here(config)
        before = (store_dir / "manifest.parquet").read_bytes()
    of_wrong_kind = two_exams / "labels.csv" if name == "masks_dir" else two_exams
    for path in (two_exams / "gone", of_wrong_kind):
        with pytest.raises(
            LabelError, match=rf"ingest\.{name} cannot be read.*Expected: a (file|folder).*Remedy: check {name}"
        ):
            ingest_here(with_inputs(config, **{name: path}))
    if before is not None:
        assert (store_dir / "manifest.parquet").read_bytes() == before
        assert ingest_here(config).images_published == 8
        assert (store_dir / "manifest.parquet").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels_csv", "patient_id,study_instance_uid,laterality,benign,malignant,label_source\nP,1.2,R,0,seven,biopsy\n"),
        ("labels_csv", "patient_id,laterality\n"),
        ("boxes_csv", "sop_instance_uid,finding,xmin,ymin,xmax,ymax\n1.2,malignant,9,9,1,1\n"),
    ],
)
def test_labels_and_boxes_are_read_before_anything_is_decoded(
    config: RunConfig, two_exams: Path, ingest_here: IngestHere, name: str, text: str
) -> None:
    """A fault in them is told at once, not after hours of decoding: no file was opened."""
    path = two_exams / "faulty.csv"
    path.write_text(text)
    with pytest.raises(LabelError, match=r"line 2|columns"):
        ingest_here(with_inputs(config, **{name: path}))
    with Ledger(Workspace(config.workspace_dir).store_dir / "ledger.sqlite") as ledger:
        assert (ledger.row_count(), ledger.quarantined(), ledger.unwritten_rows()) == (0, [], {})


def test_masks_that_cannot_be_used_or_are_of_no_image_are_counted(
    config: RunConfig, two_exams: Path, ingest_here: IngestHere
) -> None:
    """Black and white, of another size, no PNG, cut, of no image, misnamed: each is in the report, in this run and the next."""
    masks_dir = two_exams / "masks"
    shutil.rmtree(masks_dir)
    masks_dir.mkdir()
    used, *others = uids(two_exams)
    unusable = [
        png(lesion(255)),
        png(lesion(3, (192, 288))),
        b"no picture",
        png(lesion(1), ".jpg"),
        png(lesion(2))[:60],
        huge_png(),
        png(lesion(1, (*SHAPE_PX, 3))),
    ]
    (masks_dir / f"{used}.png").write_bytes(png(lesion(2)))
    for uid, content in zip(others, unusable, strict=True):
        (masks_dir / f"{uid}.png").write_bytes(content)
    (masks_dir / f"{used}.PNG").write_bytes(png(lesion(2)))
    (masks_dir / "2.25.999.png").write_bytes(png(lesion(2)))
    (masks_dir / ".DS_Store").touch()
    for _ in range(2):
        report = ingest_here(config)
        assert report.images_published == 8
        assert (report.masks_found, report.masks_unusable, report.masks_unmatched) == (10, 8, 1)
    assert read_manifest(open_store(report.store_dir))["has_lesion_mask"].sum() == 1


def test_masks_that_are_no_files_are_counted(config: RunConfig, two_exams: Path, ingest_here: IngestHere) -> None:
    """A folder and a pipe with a mask's name hold no mask, and nothing waits for them."""
    masks_dir = two_exams / "masks"
    shutil.rmtree(masks_dir)
    masks_dir.mkdir()
    folder, pipe, *_ = uids(two_exams)
    (masks_dir / f"{folder}.png").mkdir()
    os.mkfifo(masks_dir / f"{pipe}.png")
    report = ingest_here(config)
    assert (report.images_published, report.masks_found, report.masks_unusable) == (8, 2, 2)


def test_a_mask_that_is_a_link_to_nowhere_is_counted_and_comes_in_when_its_file_does(
    config: RunConfig, two_exams: Path, ingest_here: IngestHere
) -> None:
    """Its image is published without; a stored mask whose link breaks later stays: its share may be away for a day."""
    masks_dir, share = two_exams / "masks", two_exams / "share"
    shutil.rmtree(masks_dir)
    masks_dir.mkdir()
    share.mkdir()
    first, second, third, *_ = uids(two_exams)
    for uid in (first, second):
        (masks_dir / f"{uid}.png").symlink_to(share / f"{uid}.png")
    (masks_dir / f"{third}.png").symlink_to(f"{third}.png")  # to itself
    (share / f"{first}.png").write_bytes(png(lesion(2)))

    def stored(config: RunConfig) -> tuple[int, int, int]:
        report = ingest_here(config)
        assert (report.images_published, report.files_deferred) == (8, 0)
        return report.masks_found, report.masks_unusable, int(read_manifest(open_store(report.store_dir)).has_lesion_mask.sum())

    assert stored(config) == (3, 2, 1)
    share.rename(two_exams / "away")
    assert stored(config) == (3, 2, 1), "nothing stored is taken away"
    (two_exams / "away").rename(share)
    (share / f"{second}.png").write_bytes(png(lesion(1)))
    assert stored(config) == (3, 1, 2)


def test_boxes_of_no_image_and_those_that_leave_theirs_are_counted(
    config: RunConfig, two_exams: Path, ingest_here: IngestHere
) -> None:
    """One image of the file is published, the other is not; a box that ends right of its image is clipped."""
    path = two_exams / "boxes.csv"
    path.write_text(f"sop_instance_uid,finding,xmin,ymin,xmax,ymax\n{uids(two_exams)[0]},,1,2,9999,4\n2.25.999,,-1,2,3,4\n")
    report = ingest_here(with_inputs(config, boxes_csv=path))
    assert (report.boxes_unmatched, report.boxes_clipped) == (1, 1)
    manifest = read_manifest(open_store(report.store_dir))
    boxed = manifest[manifest["lesion_boxes"].notna()]
    assert list(boxed["lesion_boxes"]) == [f"any 2 4 1 {columns}" for columns in boxed["source_columns_px"]] and len(boxed) == 1


def test_columns_that_make_groups_reach_the_manifest(config: RunConfig, two_exams: Path, ingest_here: IngestHere) -> None:
    """Ingested again with a column named, every line says its value and nothing is decoded; taken out, it is gone again."""
    before = ingest_here(config).data_version
    header, *lines = (two_exams / "labels.csv").read_text().splitlines()
    labels = config.workspace_dir / "grouped.csv"
    labels.write_text("\n".join([f"{header},site", *(f"{line},{'AB'[place % 2]}" for place, line in enumerate(lines))]) + "\n")
    named = with_inputs(config, labels_csv=labels)
    named = named.model_copy(update={"evaluate": config.evaluate.model_copy(update={"subgroup_columns": ("site",)})})
    report = ingest_here(named)
    said = read_manifest(open_store(report.store_dir))["label_groups"]
    assert set(said) == {'{"site": "A"}', '{"site": "B"}'} and report.images_new == 0 and report.data_version != before
    assert ingest_here(config).data_version == before
    assert "label_groups" not in read_manifest(open_store(report.store_dir))


def test_a_changed_subjects_file_changes_what_is_stored(config: RunConfig, two_exams: Path, ingest_here: IngestHere) -> None:
    """Another patient, another side, left out, not named any more, and no table at all: never what was stored before."""
    dicom = two_exams / "dicom"
    lines = []
    for path in sorted(dicom.rglob("*.dcm")):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        name = path.relative_to(dicom).as_posix()
        lines.append([name, "one", "E1" if len(lines) < 4 else "E2", header.ImageLaterality, header.ViewPosition, ""])
    table = two_exams / "subjects.csv"
    others = {"labels_csv": None, "masks_dir": None, "allow_withdrawals": True}

    def ingested() -> tuple[IngestReport, Any]:
        text = [",".join(line) for line in [["path", "patient_id", "exam", "laterality", "view", "left_out"], *lines]]
        table.write_text("\n".join(text) + "\n")
        report = ingest_here(with_inputs(config, subjects_csv=table, **others))
        return report, read_manifest(open_store(report.store_dir))

    first, before = ingested()
    assert (first.images_published, first.subjects_changed, before["patient_id"].nunique()) == (8, 0, 1)
    again, _ = ingested()
    assert (again.subjects_changed, again.data_version) == (0, first.data_version)
    for line in lines[4:]:
        line[1] = "two"
    lines[0][3] = "L" if lines[0][3] == "R" else "R"
    lines[1][5] = "looks odd"
    lines.pop(2)
    changed, manifest = ingested()
    assert (changed.images_published, changed.subjects_changed, changed.images_new, changed.images_withdrawn) == (5, 7, 0, 3)
    assert (changed.quarantined_by_reason, changed.files_left_out) == ({"L03": 1}, 2)
    assert manifest.groupby("exam_id")["patient_id"].nunique().tolist() == [1, 1] and manifest["patient_id"].nunique() == 2
    assert scan_folder(with_inputs(config, **others)).retold == 5  # of a run that ends there
    of_headers = ingest_here(with_inputs(config, **others))
    assert (of_headers.images_published, of_headers.subjects_changed) == (8, 0)
    of_files = set(read_manifest(open_store(of_headers.store_dir))["patient_id"])
    assert not of_files & set(manifest["patient_id"])
    former = read_former_patients(StoreFolder(of_headers.store_dir))  # whom weights may know under these names
    first_name, second_name = before["patient_id"][0], (set(manifest["patient_id"]) - set(before["patient_id"])).pop()
    assert former[second_name] == {first_name}
    assert set(former) == of_files | {second_name} and set().union(*former.values()) == {first_name, second_name}
