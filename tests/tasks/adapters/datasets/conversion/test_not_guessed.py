"""What a set's files do not say, or say in a word that its publisher does not write, becomes no label, side or split."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mammo_tests.converted import converted, rows_of, written
from mammo_tests.excerpts import make
from schemas.errors import DatasetError


def spoil(path: Path, old: str, new: str) -> None:
    """A table in which something else stands."""
    text = path.read_bytes().decode("utf-8-sig")
    assert old in text
    path.write_bytes(text.replace(old, new).encode())


def labels_of(target: Path) -> dict[tuple[str, str], tuple[Any, Any]]:
    """Benign and malignant by exam and side."""
    return {(each["exam"], each["laterality"]): (each["benign"], each["malignant"]) for each in written(target)["breasts"]}


@pytest.mark.parametrize(
    ("name", "table", "old", "new", "column"),
    [
        ("cbis-ddsm", "mass_case_description_train_set.csv", ",MALIGNANT,", ",,", "pathology"),
        ("cbis-ddsm", "mass_case_description_train_set.csv", ",MALIGNANT,", ",Malign,", "pathology"),
        ("cbis-ddsm", "mass_case_description_train_set.csv", ",LEFT,", ",Links,", "left or right breast"),
        ("rsna-2022", "train.csv", ",61.0,1,1,1,", ",61.0,,,,", "cancer"),
        ("rsna-2022", "train.csv", ",61.0,1,1,1,", ",61.0,1,yes,1,", "biopsy"),
        ("vindr-mammo", "breast-level_annotations.csv", ",training", ",", "split"),
        ("csaw-cc", "CSAW-CC_breast_cancer_screening_data.csv", ",1,Left,", ",,Left,", "x_case"),
    ],
)
def test_another_word_in_a_column_that_decides_is_refused(
    name: str, table: str, old: str, new: str, column: str, tmp_path: Path
) -> None:
    """An empty or unknown pathology was benign, an empty cancer was none, and an empty split was the test set's."""
    root, target = tmp_path / "set", tmp_path / "out"
    make(name, root)
    spoil(root / table, old, new)
    with pytest.raises(DatasetError, match=f"in column {column}"):
        converted(name, root, target)
    assert not target.exists()


def test_an_abnormality_of_neither_kind_is_no_healthy_breast(tmp_path: Path) -> None:
    """A line of Info.txt that was cut off behind its kind was labelled 0/0."""
    root = tmp_path / "set"
    make("mini-mias", root)
    spoil(root / "Info.txt", " M ", "   ")
    with pytest.raises(DatasetError, match="neither benign nor malignant"):
        converted("mini-mias", root, tmp_path / "out")


def test_a_case_whose_side_is_no_side_is_not_known(tmp_path: Path) -> None:
    """A woman with cancer in both breasts was labelled healthy in both."""
    root, target = tmp_path / "set", tmp_path / "out"
    make("csaw-cc", root)
    spoil(root / "CSAW-CC_breast_cancer_screening_data.csv", ",1,Left,", ",1,Bilateral,")
    report = converted("csaw-cc", root, target)
    found = labels_of(target)
    assert [found["90075_2", side] for side in "LR"] == [(None, None)] * 2
    assert found["90077_1", "L"] == (None, 0)
    assert report["faults"]["breast of a case whose cancer's side is neither left nor right: not known"] == 4


def test_rows_that_contradict_each_other_are_not_known(tmp_path: Path) -> None:
    """Of the four views of an exam three said cancer and one said control: which row came first decided."""
    root, target = tmp_path / "set", tmp_path / "out"
    make("csaw-cc", root)
    table = root / "CSAW-CC_breast_cancer_screening_data.csv"
    first, *rows = table.read_text(encoding="utf-8-sig").splitlines()
    lines = [row.replace(",1,Left,", ",0,,") if "90075_20990909_R_MLO_2" in row else row for row in rows]
    assert lines != rows
    table.write_text("\n".join([first, *lines, ""]))
    report = converted("csaw-cc", root, target)
    found = labels_of(target)
    assert [found["90075_2", side] for side in "LR"] == [(None, None)] * 2 and found["90077_1", "L"] == (None, 0)
    assert report["faults"]["breast of an exam whose rows say different things of the cancer: not known"] == 2


@pytest.mark.parametrize("named", [".", "masks"])
def test_a_folder_that_is_a_link_is_not_passed_over(named: str, tmp_path: Path) -> None:
    """CSAW-CC's masks on another disk were no masks. The set's own folder may be reached by a link."""
    root, target = tmp_path / "set", tmp_path / "out"
    make("csaw-cc", root)
    if named == ".":
        (tmp_path / "link").symlink_to(root)
        converted("csaw-cc", tmp_path / "link", target)
        assert written(target)["lesions"]
        return
    mask = next(root.rglob("*_mask.png"))
    (tmp_path / "disk").mkdir()
    mask.rename(tmp_path / "disk" / mask.name)
    (root / named).symlink_to(tmp_path / "disk")
    with pytest.raises(DatasetError, match=r"masks is a link to a folder"):
        converted("csaw-cc", root, target)


@pytest.mark.parametrize(
    ("file", "place", "value"),
    [
        ("IMAGEDB_*", (), []),
        ("IMAGEDB_*", ("STUDIES",), ["1.2"]),
        ("IMAGEDB_*", ("STUDIES", "*"), "1.2"),
        ("nbss_*", (), ["E1"]),
        ("nbss_*", ("E1",), [{"SCREENING": {}}]),
        ("nbss_*", ("E1", "SCREENING"), "RC"),
    ],
)
def test_a_record_of_another_shape_is_refused(file: str, place: tuple[str, ...], value: Any, tmp_path: Path) -> None:
    """OMI-DB's records: some ended in a traceback, others were passed over, and the breast was not known or normal."""
    root = tmp_path / "set"
    make("omi-db", root)
    path = next(root.rglob(f"{file}.json"))
    whole = within = {"": json.loads(path.read_text())}
    *way, last = ("", *place)
    for name in way:
        within = within[name]
    within[next(iter(within)) if last == "*" else last] = value
    path.write_text(json.dumps(whole[""]))
    with pytest.raises(DatasetError, match=f"{path.name} has another shape"):
        converted("omi-db", root, tmp_path / "out")


def test_opinions_in_a_list_are_read(tmp_path: Path) -> None:
    """A biopsy that another release gives as a list was no biopsy."""
    root, target = tmp_path / "set", tmp_path / "out"
    make("omi-db", root)
    record = next(root.rglob("nbss_*.json"))
    content = json.loads(record.read_text())
    for event in ("BIOPSYWIDE", "SURGERY"):
        content["E1"][event]["L"] = list(content["E1"][event]["L"].values())
    record.write_text(json.dumps(content))
    converted("omi-db", root, target)
    assert {side: value for (_, side), value in labels_of(target).items()}["L"] == (0, 1)


def test_an_overlay_that_was_not_downloaded_is_no_healthy_breast(tmp_path: Path) -> None:
    """The .ics says that something is drawn: a cancer's breast was 0/0 where the file with the drawing was not there."""
    root, target = tmp_path / "set", tmp_path / "out"
    make("ddsm", root)
    for path in root.rglob("*.OVERLAY"):
        path.unlink()
    report = converted("ddsm", root, target, is_partial=False)
    assert labels_of(target) == {("B-9013", "L"): (None, None), ("B-9013", "R"): (0, 0)}
    assert any(remark.startswith("2 .OVERLAY files") for remark in report["remarks"])


def test_films_that_are_not_decoded_are_not_there(tmp_path: Path) -> None:
    """Where some films of DDSM are decoded, the others were named as used, in a folder that does not hold them."""
    root, target = tmp_path / "set", tmp_path / "out"
    make("ddsm", root)
    case = next(root.rglob("*.ics")).parent
    for film in ("LEFT_CC", "LEFT_MLO", "RIGHT_CC", "RIGHT_MLO"):
        (case / f"B_9013_1.{film}.LJPEG").write_bytes(b"another dialect")
    for film in ("LEFT_CC", "LEFT_MLO"):
        cv2.imwrite(str(case / f"B_9013_1.{film}.png"), np.full((96, 80), 300, np.uint16))
    with pytest.raises(DatasetError, match="2 of 4 images"):
        converted("ddsm", root, target, is_partial=False)
    assert converted("ddsm", root, target)["left_out"] == {"not downloaded": 2}
    assert all(row["file"] for row in rows_of(target / "subjects.csv") if not row["left_out"])


def test_an_image_of_which_nothing_is_there_is_not_downloaded(tmp_path: Path) -> None:
    """OMI-DB's half download was complete: images without a file and without a header were "not CC or MLO"."""
    root, target = tmp_path / "set", tmp_path / "out"
    want = make("omi-db", root)
    gone = Path(want["images"][0]["path"])
    (root / gone).unlink()
    for path in root.rglob(f"{gone.stem}*.json"):
        path.unlink()
    with pytest.raises(DatasetError, match=gone.name):
        converted("omi-db", root, target, is_partial=False)
    assert converted("omi-db", root, target)["left_out"]["not downloaded"] == 1


@pytest.mark.parametrize(("found", "label"), [("OM", (None, None)), ("N", (0, 0))])
def test_a_cancer_before_the_next_normal_round_is_no_follow_up(found: str, label: tuple[Any, Any], tmp_path: Path) -> None:
    """A normal round years after a cancer of that breast does not say that it had none when it was read."""
    root, target = tmp_path / "set", tmp_path / "out"
    make("omi-db", root)
    record = next(root.rglob("nbss_*.json"))
    content = json.loads(record.read_text())
    content["E2"] = {"EpisodeOpenedDate": "2013-05-01", "SCREENING": {"R": {"DateTaken": "2013-05-01", "Opinion": found}}}
    content["E3"] = {"EpisodeOpenedDate": "2016-05-01", "SCREENING": {"R": {"DateTaken": "2016-05-01", "Opinion": "N"}}}
    record.write_text(json.dumps(content))
    converted("omi-db", root, target)
    assert {side: value for (_, side), value in labels_of(target).items()}["R"] == label


@pytest.mark.parametrize("has_files", [True, False])
def test_embed_s_boxes_are_not_placed_by_a_column_that_lacks(has_files: bool, tmp_path: Path) -> None:
    """Without PatientOrientation every box was taken as it stood, those of right breasts on the wrong edge."""
    root, target = tmp_path / "set", tmp_path / "out"
    make("embed", root)
    table = root / "tables" / "EMBED_OpenData_metadata.csv"
    spoil(table, ",0,(),(),", ',1,"((10, 5, 30, 25),)",(1),')
    spoil(table, "PatientOrientation,Rows,Columns", "of another release,Rows,of another")
    if not has_files:
        shutil.rmtree(root / "images")
    report = converted("embed", root, target)
    assert {(each["left"], each["right"]) for each in written(target)["lesions"]} == (
        {(5, 25), (55, 75)} if has_files else set()
    )
    assert report["faults"].get("box of a picture that may have been mirrored: not used", 0) == (0 if has_files else 4)


def test_a_download_that_is_still_packed_is_said(tmp_path: Path) -> None:
    """Nothing is read out of archives, and the sentence says that they are there."""
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "vindr-mammo-1.0.0.ZIP").write_bytes(b"PK")
    with pytest.raises(DatasetError, match=r"1 of them archives.*unpack"):
        converted("vindr-mammo", tmp_path / "set", tmp_path / "out")
