"""A table that a person gives says the same whatever separates its columns: a spreadsheet's language decides that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.adapters.datasets.named_subjects import read_subjects
from tasks.adapters.labels.labels_file import read_labels
from tasks.adapters.labels.lesion_boxes import read_boxes
from tasks.adapters.labels.split_file import given_splits
from tasks.adapters.pacs.worklist import read_worklist
from tasks.adapters.pseudonyms import Pseudonyms
from tasks.adapters.scoring.reader_study_file import read_reader_study
from tasks.adapters.separators import csv_rows, separator_of

PSEUDONYMS = Pseudonyms(b"k" * 32)
PATIENT = PSEUDONYMS.patient_id("0017")

Read = Callable[[Path], object]
TABLES: dict[str, tuple[Read, tuple[tuple[str, ...], ...]]] = {
    "labels": (
        lambda path: [*read_labels(path, PSEUDONYMS, exams_by_day={}, exams_by_accession={})],
        (("patient_id", "study_instance_uid", "laterality", "benign", "malignant", "label_source"),
         ("0017", "1.2.3", "R", "0", "1", "biopsy")),
    ),
    "split file": (
        lambda path: given_splits(path, PSEUDONYMS, {(PATIENT, None)}, {}).by_patient,
        (("patient_id", "split"), ("0017", "test")),
    ),
    "boxes": (
        lambda path: read_boxes(path, PSEUDONYMS),
        (("sop_instance_uid", "finding", "xmin", "ymin", "xmax", "ymax"), ("1.2.3.4", "malignant", "1", "2", "30", "40")),
    ),
    "subjects": (
        read_subjects,
        (("path", "patient_id", "exam", "laterality", "view"), ("a/1.dcm", "0017", "1.2.3", "R", "CC")),
    ),
    "worklist": (read_worklist, (("name", "accession_number"), ("A", "17"))),
    "reader study": (
        lambda path: {name: values.tolist() for name, values in read_reader_study(path).study.reader_JB.items()},
        (("case_ID", "side", "label", "Reader1_POM", "AI_net_POM"),
         ("1", "L", "1", "0.9", "0.8"), ("1", "R", "0", "0.2", "0.1")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_a_spreadsheet_of_any_language_is_read(name: str, tmp_path: Path) -> None:
    """Commas, semicolons and tabs, with a byte mark before the header."""
    read, rows = TABLES[name]
    said = []
    for number, separator in enumerate(",;\t"):
        path = tmp_path / str(number) / "table.csv"
        path.parent.mkdir()
        path.write_text("\n".join(map(separator.join, rows)) + "\n", encoding="utf-8-sig")
        said.append(read(path))
    assert said[0] and said[0] == said[1] == said[2]


def test_a_header_of_one_column_has_no_separator_to_find(tmp_path: Path) -> None:
    """It is read all the same; and lines are counted from the header on."""
    path = tmp_path / "table.csv"
    path.write_text("accession_number\n17\n")
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv_rows(file)
        assert [(row["accession_number"], rows.line_num) for row in rows] == [("17", 2)]
    assert separator_of("a,b;c;d") == ";" and separator_of("") == ","
