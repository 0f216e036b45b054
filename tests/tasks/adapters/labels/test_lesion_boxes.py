"""The boxes file: edges in source pixels, by pseudonym; what is no box is refused without quoting it."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import LabelError
from schemas.exam import Finding, LesionBox
from tasks.adapters.labels.lesion_boxes import box_texts, clipped, read_boxes
from tasks.adapters.pseudonyms import Pseudonyms

PSEUDONYMS = Pseudonyms(b"k" * 32)
HEADER = "sop_instance_uid,finding,xmin,ymin,xmax,ymax"


def read(folder: Path, *lines: str, header: str = HEADER) -> dict[str, tuple[LesionBox, ...]]:
    """The boxes of a file with these lines."""
    path = folder / "boxes.csv"
    path.write_text("\n".join((header, *lines)) + "\n")
    return read_boxes(path, PSEUDONYMS)


def test_a_line_is_a_box_of_its_image(tmp_path: Path) -> None:
    """Columns are x, rows y; fractions of a pixel are inside; an image may have several boxes; no finding is any."""
    boxes = read(tmp_path, "1.2.3,malignant,10.5,20,30,40.2", "1.2.3,,0,0,5,6", "1.2.4,benign,1,2,3,4")
    assert set(boxes) == {PSEUDONYMS.image_id("1.2.3"), PSEUDONYMS.image_id("1.2.4")}
    first, second = boxes[PSEUDONYMS.image_id("1.2.3")]
    assert first == LesionBox(finding=Finding.MALIGNANT, top_px=20, bottom_px=41, left_px=10, right_px=30)
    assert second.finding is None


def test_the_manifests_text_reads_back(tmp_path: Path) -> None:
    """What the manifest keeps gives the same boxes; an image without a box keeps nothing."""
    boxes = read(tmp_path, "1.2.3,malignant,10,20,30,40", "1.2.3,,0,0,5,6")
    image_id = PSEUDONYMS.image_id("1.2.3")
    text = box_texts(boxes, image_id, (100, 100))
    assert text == "malignant 20 40 10 30; any 0 6 0 5"
    assert tuple(LesionBox.of_text(part) for part in text.split("; ")) == boxes[image_id]
    assert box_texts(boxes, "another", (100, 100)) is None


def test_a_box_that_leaves_its_image_is_clipped_at_each_edge(tmp_path: Path) -> None:
    """As 42 of VinDr-Mammo's 2,254 do, at all four: the part inside is kept. One that touches an edge stays as it is."""
    lines = ("1.2.3,,-3.5,2,3,4", "1.2.3,,1,-0.2,3,4", "1.2.3,benign,95,2,120.5,4", "1.2.3,,1,70,3,81", "1.2.3,,0,0,100,80")
    image_id = PSEUDONYMS.image_id("1.2.3")
    boxes = read(tmp_path, *lines)
    assert box_texts(boxes, image_id, (80, 100)) == (
        "any 2 4 0 3; any 0 4 1 3; benign 2 4 95 100; any 70 80 1 3; any 0 80 0 100"
    )
    assert [clipped(box, (80, 100)) == box for box in boxes[image_id]] == [False, False, False, False, True]


@pytest.mark.parametrize(
    "line",
    [
        "CANARY,malign,1,2,3,4",
        "CANARY,,5,2,3,4",
        "CANARY,,x,2,3,4",
        "CANARY,,-3,2,-1,4",
        "CANARY,,nan,2,3,4",
        ",,1,2,3,4",
        "CANARY,,1,2,inf,4",
        "CANARY,,-inf,2,3,4",
        "CANARY,,1",
    ],
)
def test_what_is_no_box_is_refused_by_line(tmp_path: Path, line: str) -> None:
    """The line's number is given, never what it holds."""
    with pytest.raises(LabelError, match=r"Boxes line 3") as refused:
        read(tmp_path, "1.2.3,,1,2,3,4", line)
    assert "CANARY" not in str(refused.value)


def test_a_decimal_comma_makes_no_box_of_other_numbers(tmp_path: Path) -> None:
    """10,5 in a file that is separated by commas is two fields: the edges were 10, 5, 20 and 25, the rest was dropped.

    Separators alone at a line's end, as spreadsheets leave them, are nothing.
    """
    with pytest.raises(LabelError, match="line 3 has more fields than the header") as refused:
        read(tmp_path, "1.2.3,,1,2,3,4", "CANARY,,10,5,20,25,30,5,40,5")
    assert "CANARY" not in str(refused.value)
    assert len(read(tmp_path, "1.2.3,,1,2,3,4,, ,")) == 1


def test_a_box_of_another_frame_is_refused(tmp_path: Path) -> None:
    """Boxes of a resized copy would be measured in the wrong place."""
    boxes = read(tmp_path, "1.2.3,,10,20,30,40")
    with pytest.raises(LabelError, match="outside its image"):
        box_texts(boxes, PSEUDONYMS.image_id("1.2.3"), (20, 100))


def test_missing_columns_and_files_are_named(tmp_path: Path) -> None:
    """A file that is not there, or not of this layout, is one message."""
    with pytest.raises(LabelError, match="lacks columns"):
        read(tmp_path, header="image,xmin,ymin,xmax,ymax")
    with pytest.raises(LabelError, match="cannot be read"):
        read_boxes(tmp_path / "none.csv", PSEUDONYMS)


def test_a_lesion_may_have_a_name_in_all_images(tmp_path: Path) -> None:
    """The optional column says which boxes of a breast show one lesion, and reads back; a longer text is refused unquoted."""
    boxes = read(tmp_path, "1.2.3,malignant,10,20,30,40,L1", "1.2.3,,0,0,5,6,", header=f"{HEADER},lesion")
    image_id = PSEUDONYMS.image_id("1.2.3")
    assert [box.lesion for box in boxes[image_id]] == ["L1", None]
    text = box_texts(boxes, image_id, (100, 100))
    assert text == "malignant 20 40 10 30 L1; any 0 6 0 5"
    assert tuple(LesionBox.of_text(part) for part in text.split("; ")) == boxes[image_id]
    with pytest.raises(LabelError, match="line 2, column lesion") as refused:
        read(tmp_path, "1.2.3,malignant,10,20,30,40,CANARY NAME", header=f"{HEADER},lesion")
    assert "CANARY" not in str(refused.value)
