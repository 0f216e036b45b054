"""A worklist is read as people and spreadsheets write it, and no value of it is ever quoted."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import ConfigError
from tasks.adapters.pacs.worklist import WantedExam, read_worklist


def test_either_column_names_an_exam(tmp_path: Path) -> None:
    """A UID wins over the number beside it; blanks, empty lines, other columns, repetitions and a byte mark do not matter."""
    path = tmp_path / "worklist.csv"
    path.write_bytes(b"\xef\xbb\xbfname,accession_number,study_instance_uid\r\nA, 17 ,\r\n,,\r\nB,18,2.25.1\r\nC,17,\r\n")
    assert read_worklist(path) == [WantedExam("17"), WantedExam("", "2.25.1")]
    assert "17" not in repr(read_worklist(path))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"number\n17\n", "neither column"),
        (b"", "neither column"),
        (b"accession_number\n\n", "names no exam"),
        (b"accession_number\nCANARY*\n", "line 2 holds a pattern"),
        (b"study_instance_uid\n1.2\n1.2/../CANARY\n", "line 3 holds no UID"),
        (b"accession_number\n\xff\xfe\n", "not UTF-8"),
        (b"accession_number,name\n17,CANARY,CANARY\n", "line 2 has more fields than the header"),
        (None, "No such file"),
    ],
)
def test_what_cannot_be_asked_for_is_a_sentence(tmp_path: Path, content: bytes | None, why: str) -> None:
    """With the line's number, and none of its values."""
    path = tmp_path / "worklist.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=why) as refused:
        read_worklist(path)
    assert "CANARY" not in str(refused.value)
