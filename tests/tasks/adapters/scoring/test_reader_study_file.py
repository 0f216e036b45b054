"""The reader study's file: any site's layout is read, what cannot be used is refused with counts and without values."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import LabelError
from tasks.adapters.scoring.reader_study_file import PUBLIC_NOTE, read_reader_study

HEADER = "case_ID,side,label,ReaderMeier_POM,ReaderKhan_POM,comment,AI_net_POM"
LINES = ("SMITH-1,L,1,0.9,0.8,x,0.7", "SMITH-1,R,0,0.1,0.2,,0.3", "SMITH-2,L,,0.1,0,,0.2")


def _write(folder: Path, *lines: str, header: str = HEADER) -> Path:
    path = folder / "scores.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_any_sites_readers_and_models_are_read(tmp_path: Path) -> None:
    """Columns by their pattern, whatever the names; an empty label is not known; other columns are ignored."""
    file = read_reader_study(_write(tmp_path, *LINES))
    assert list(file.study.reader_JB) == ["ReaderMeier", "ReaderKhan"]
    assert list(file.study.model_MB) == ["net"] and file.default_model() == "net"
    assert file.study.label_B.tolist() == [1, 0, 255]
    assert file.study.exam_B.tolist() == ["SMITH-1", "SMITH-1", "SMITH-2"]
    assert file.study.reader_JB["ReaderMeier"].tolist() == [0.9, 0.1, 0.1]
    assert file.notes == () and len(file.source_sha256) == 64


def test_the_public_networks_age_is_told(tmp_path: Path) -> None:
    """A file with the public ensemble's column says that its scores are of the 2020 network."""
    file = read_reader_study(_write(tmp_path, *LINES, header=HEADER.replace("AI_net", "AI_GMIC_top5")))
    assert file.notes == (PUBLIC_NOTE,) and "2020" in PUBLIC_NOTE
    assert file.default_model() == "GMIC_top5"


@pytest.mark.parametrize(
    ("header", "lines", "said"),
    [
        (HEADER.replace("side", "breast"), LINES, "no side"),
        (HEADER.replace("Reader", "Rater"), LINES, "no Reader<name>_POM"),
        (HEADER.replace("AI_", "Model_"), LINES, "no AI_<name>_POM"),
        (HEADER, (), "holds no breast"),
        (HEADER, ("SMITH-1,links,1,0.9,0.8,,0.7",), "1 other sides"),
        (HEADER, (LINES[0], LINES[0]), "1 repeated lines"),
        (HEADER, ("SMITH-1,L,2,0.9,0.8,,0.7",), "1 other values among 1"),
        (HEADER, ("SMITH-1,L,yes,0.9,0.8,,0.7",), "1 other values among 1"),
        (HEADER, ("SMITH-1,L,1,,0.8,,0.7",), "Column ReaderMeier_POM of scores.csv is not complete"),
        (HEADER, ("SMITH-1,L,1,often,0.8,,0.7",), "1 empty or unreadable among 1"),
        (HEADER, ("SMITH-1,L,1,90,0.8,,0.7",), "divide percentages by 100"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, header: str, lines: tuple[str, ...], said: str) -> None:
    """Each message says what is wrong, and never whose breast it is."""
    with pytest.raises(LabelError) as refused:
        read_reader_study(_write(tmp_path, *lines, header=header))
    assert said in str(refused.value)
    assert "SMITH" not in str(refused.value)


def test_a_missing_or_binary_file_is_an_input_error(tmp_path: Path) -> None:
    """Exit code 3, not a stack trace."""
    for path, content in ((tmp_path / "none.csv", None), (tmp_path / "binary.csv", b"\x80\x04\x95\xff\x00")):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(LabelError, match="cannot be read as CSV") as refused:
            read_reader_study(path)
        assert refused.value.exit_code == 3
