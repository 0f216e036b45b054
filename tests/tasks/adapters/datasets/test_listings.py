"""Real listings of what is downloaded: every name is read, and the files are as many as were published."""

from __future__ import annotations

import csv
import gzip
import os
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from mammo_tests.excerpts import make, write_csv, write_xlsx
from tasks.adapters.datasets.catalogue import DATA_SETS
from tasks.adapters.datasets.conversion.convert import policies_of
from tasks.adapters.datasets.published.reading import Reading
from tasks.adapters.datasets.published.tree import Tree
from tasks.adapters.datasets.sets import mini_ddsm
from tasks.adapters.dicom.dicom_file import read_header
from tasks.adapters.dicom.header import Code

DATA = Path(os.environ.get("MAMMO_REFERENCE_DATA", "../shared/data"))


def listed(name: str, *endings: str) -> list[PurePosixPath]:
    """The files of a real listing."""
    path = DATA / "listings" / name / "listing.txt.gz"
    if not path.exists():
        pytest.skip("the real listings are not at hand")
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    return [PurePosixPath(line.removeprefix("./")) for line in lines if line.lower().endswith(endings)]


def laid_out(root: Path, files: list[PurePosixPath]) -> None:
    """A file of each name, which holds its name."""
    for folder in {root / file.parent for file in files}:
        folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        (root / file).write_text(str(file))


def read(name: str, root: Path, tree: Tree | None = None) -> Reading:
    """What the set's module reads of names and tables."""
    data_set = DATA_SETS[name]
    return data_set.read(tree or Tree(root=root, facts=data_set.facts), policies_of(data_set.facts, ()))


def published(name: str) -> dict[str, int]:
    """The set's published counts."""
    return {count.name: count.published[0] for count in DATA_SETS[name].facts.counts}


def test_every_file_of_bmcd_is_read(tmp_path: Path) -> None:
    """Misspelt names among them: 400 images and 400 masks of 200 exams, nothing left over."""
    files = listed("bmcd", ".dcm", ".jpg")
    laid_out(tmp_path, files)
    folders = sorted({(file.parts[1].split("_")[0].lower(), file.parts[2]) for file in files})
    header = ["dir", "laterality", "age", "density", "BIRADS", "biopsy_result", "folder_type"]
    write_csv(tmp_path / "label.csv", header, [[number, "Left", 50, "b", "1", "", kind] for kind, number in folders])
    reading = read("bmcd", tmp_path)
    counted, wanted = reading.counts, published("bmcd")
    for name in ("dicom_files", "mask_files", "exams", "patients"):
        assert counted[name] == wanted[name], name
    assert reading.faults["misspelt file name: read as what it means"] >= 1
    assert {image.path for image in reading.images} == {str(file) for file in files if file.suffix.lower() == ".dcm"}


def test_every_image_of_cdd_cesm_is_read(tmp_path: Path) -> None:
    """1,003 low-energy images and as many subtracted ones, of 326 patients; second images of a view among them."""
    files = listed("cdd-cesm", ".jpg")
    laid_out(tmp_path, files)
    columns = ["Patient_ID", "Side", "Breast density (ACR)", "View", "Type", "Findings", "BIRADS", "Image_name"]
    rows = [[1, "L", "B", "CC", "DM", "", "1", f" {file.stem} ", "Normal"] for file in files]
    write_xlsx(
        tmp_path / "Radiology manual annotations.xlsx", {"all": [[*columns, "Pathology Classification/ Follow up"], *rows]}
    )
    write_csv(
        tmp_path / "Radiology_hand_drawn_segmentations_v2.csv",
        ["#filename", "region_shape_attributes"],
        [["P0_L_CM_CC.jpg", "{}"]],
    )
    reading = read("cdd-cesm", tmp_path)
    assert {image.path for image in reading.images} == {str(file) for file in files}
    assert [reading.counts[name] for name in ("low_energy", "subtracted", "patients")] == [1003, 1003, 326]


def test_every_image_of_mini_ddsm_is_read(tmp_path: Path) -> None:
    """7,808 films of 1,952 patients by class; the JPEG edition's films are the same, and each mask is of a film."""
    files = listed("mini-ddsm", ".png", ".jpg")
    films = [file for file in files if "mask" not in file.name.lower() and file.parts[0].endswith("PNG-16")]
    rows = [[str(Path(*file.parts[1:])).replace("/", "\\"), file.parts[1], "-", 3] for file in films]
    path = tmp_path / "DataWMask.xlsx"
    write_xlsx(path, {"one": [["fullPath", "Status", "Tumour_Contour", "Density"], *rows]})
    tree = Tree(root=tmp_path, facts=DATA_SETS["mini-ddsm"].facts)
    tree.__dict__["files"] = tuple(sorted([path.name, *map(str, files)]))  # 31,000 files would take longer than all of it
    reading = read("mini-ddsm", tmp_path, tree)
    assert reading.counts == published("mini-ddsm")
    assert {image.path for image in reading.images} == set(map(str, films))
    assert reading.faults["film of both editions: the PNG is used"] == 7808
    names = {path.casefold().rpartition("/")[2].removesuffix(".png") for path in map(str, films)}
    masks = [match["film"].casefold().rpartition("/")[2] for match in tree.matching(mini_ddsm.MASK)]
    assert len(masks) > 6000 and names.issuperset(masks)


def test_every_image_of_cmmd_is_read(tmp_path: Path) -> None:
    """With the real headers' sides and views, and the real table: every count of images is the published one."""
    files = listed("cmmd", ".dcm")
    root = tmp_path / "set"
    laid_out(root, files)
    table = DATA / "csv" / "cmmd"
    (root / "CMMD_clinicaldata_revision.xlsx").write_bytes((table / "CMMD_clinicaldata_revision.xlsx").read_bytes())
    want = make("cmmd", tmp_path / "excerpt")
    header = read_header(tmp_path / "excerpt" / want["images"][0]["path"])
    with (table / "cmmd_cleaned_label.csv").open(newline="") as file:
        told = {row["image_id"]: (row["laterality"], row["__CodeValue"]) for row in csv.DictReader(file)}
    tree = Tree(root=root, facts=DATA_SETS["cmmd"].facts)
    for file in files:
        patient = next(part for part in file.parts if part[:3] in ("D1-", "D2-"))
        side, code = told[f"{patient}_{file.stem}"]
        tree.headers[str(file)] = replace(header, image_laterality=side, view_codes=(Code(value=code),))
    reading = read("cmmd", root, tree)
    wanted = published("cmmd") | {"images_of_two_patients": 0}  # pixels are not here
    assert {name: reading.counts.get(name) for name in wanted} == wanted
    assert {image.view for image in reading.images} == {"CC", "MLO"}
