"""Tables as they are published: every cell is text, whatever the program that saved them thinks of it."""

from __future__ import annotations

import csv
import datetime as dt
from pathlib import Path

import pytest

from mammo_tests.excerpts import write_xlsx
from schemas.errors import DatasetError
from tasks.adapters.datasets.published.tables import Table, cell_text, read_json, read_plist


def rows(path: Path, *columns: str, texts: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The cells of some columns."""
    return [tuple(row.values()) for row in Table(path=path, columns=columns, texts=texts, get="its publisher")]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_any_separator_and_line_ending_is_read(separator: str, ending: str, tmp_path: Path) -> None:
    """A byte order mark, blanks round a heading, a line break inside a field and one in a heading are no obstacle."""
    path = tmp_path / "a.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        out = csv.writer(file, delimiter=separator, lineterminator=ending)
        out.writerows([[" Id ", "Long\n heading"], ["0017", "a/b\n"], ["", ""], ["9000000000000001", "0.0"]])
    assert rows(path, "id", "long heading") == [("0017", "a/b"), ("9000000000000001", "0.0")]


def test_a_spreadsheets_cells_are_texts(tmp_path: Path) -> None:
    """Whole numbers have no point, empty cells are "", and headings keep no line break."""
    path = tmp_path / "a.xlsx"
    write_xlsx(path, {"one": [["File\nName", "birads", "none"], [22670094, "4a", None], [1.5, 5, "x"]]})
    assert rows(path, "File Name", "birads", "none") == [("22670094", "4a", ""), ("1.5", "5", "x")]
    assert [cell_text(cell) for cell in (3.0, 2.5, None, dt.datetime(2012, 1, 10), True)] == [
        "3",
        "2.5",
        "",
        "2012-01-10",
        "True",
    ]


def test_the_sheet_that_holds_the_table_is_found(tmp_path: Path) -> None:
    """By its name, or by its columns where somebody has put notes before it; without either, the first sheet is refused."""
    path = tmp_path / "a.xlsx"
    write_xlsx(path, {"Notes": [["hello"]], "Plan1": [[None, None], ["id", "n"], ["17", 1]], "old": [["id", "n"], ["18", 1]]})
    assert rows(path, "id") == [("17",)]
    named = Table(path=path, columns=("id",), sheet="old", get="its publisher")
    assert [row["id"] for row in named] == ["18"]
    with pytest.raises(DatasetError, match="no other"):
        rows(path, "other")


@pytest.mark.parametrize("spoiled", ["9.00E+15", "9,00E+15", "9000000000000001.0"])
def test_a_rounded_identifier_is_refused(spoiled: str, tmp_path: Path) -> None:
    """Sixteen digits that a program has read as a number are two exams in one."""
    path = tmp_path / "a.csv"
    path.write_text(f"acc_anon;n\n{spoiled};1.0\n")
    with pytest.raises(DatasetError, match=r"a\.csv holds rounded identifiers, in line 2, column acc_anon"):
        rows(path, "acc_anon", texts=("acc_anon",))
    assert rows(path, "n", texts=("n",)) == [("1",)]  # a number that is still exact
    assert rows(path, "n") == [("1.0",)]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"", "lacks columns"),
        ("a.csv", b"other,columns\n1,2\n", "no id"),
        ("a.csv", b"id\n\xff\xfe\n", "another encoding"),
        ("a.xlsx", b"PK no spreadsheet", "a spreadsheet"),
        ("gone.csv", None, "No such file"),
        ("a.csv", b"", "no id"),
        ("a.csv", b"id,n\n", "holds no rows"),
        ("a.csv", b"\n,\nid,n\n,\n\n", "holds no rows"),
        ("a.csv", b"id;n\n1,5;x\n", "with a decimal comma, in line 2, column id"),
        ("a.csv", b"id,n,m\n0017,1,2\n0018,1", "its last line is cut off"),
    ],
)
def test_what_is_no_table_is_said(name: str, content: bytes | None, said: str, tmp_path: Path) -> None:
    """The file is named, and where it is got."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError) as refused:
        rows(tmp_path / name, "id")
    assert said in str(refused.value)
    assert name in str(refused.value) and "its publisher" in str(refused.value)


def test_a_line_that_stands_twice_is_read_once_and_counted(tmp_path: Path) -> None:
    """Unless the table's own rows may be equal; empty lines before the heading, and no break at the end, are nothing."""
    path = tmp_path / "a.csv"
    path.write_text("\n \nid,n\n17,1\n17,1\n18,1\n17,1\n18,2")
    table = Table(path=path, columns=("id",))
    assert [row["id"] for row in table] == ["17", "18", "18"]
    assert table.repeated == {"a.csv": 2}
    assert len(list(Table(path=path, columns=("id",), may_repeat=True))) == 5


def test_what_is_no_json_or_plist_is_said(tmp_path: Path) -> None:
    """Neither parser's message leaves the border; a property list that names entities is none."""
    path = tmp_path / "a.xml"
    path.write_text('<?xml version="1.0"?><!DOCTYPE plist [<!ENTITY a "b">]><plist><string>&a;</string></plist>')
    for read in (read_json, read_plist):
        with pytest.raises(DatasetError, match=r"a\.xml cannot be read"):
            read(path, get="its publisher")
