"""The inbox as other systems fill it: whole or not at all, once, and named so that nobody is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from mammo_tests.other_systems import arrived, data_set_bytes, unfinished, write_exam
from tasks.adapters.gate.source_file import is_unfinished
from tasks.adapters.pacs.arrivals import FETCHED, PUSHED, Arrivals
from tasks.adapters.pacs.encoded_object import Incomplete, name_of

EXPLICIT = "1.2.840.10008.1.2.1"


def _fetched(arrivals: Arrivals, path: Path, content: bytes) -> bool:
    with arrivals.aside() as (file, aside):
        assert is_unfinished(aside.name)
        file.write(content)
        return arrivals.adopt(file, aside, sop_uid=f"2.25.83{int(path.stem.split('-')[0]):05}00")


def test_one_image_is_one_file_whichever_way_it_comes(tmp_path: Path) -> None:
    """Pushed and fetched it has one name, which is its content's; both ways it is there once, and is held."""
    (path,) = write_exam(tmp_path / "exam", 1)
    pushed, fetched = (Arrivals(tmp_path / "inbox", writer) for writer in (PUSHED, FETCHED))
    assert pushed.sweep() == 0
    content = memoryview(data_set_bytes(path))
    assert pushed.take(name_of(content, EXPLICIT), b"\0" * 128 + b"DICM", content) is True
    assert _fetched(fetched, path, path.read_bytes()) is False
    assert len(arrived(tmp_path / "inbox")) == 1 and unfinished(tmp_path / "inbox") == []
    assert fetched.held({"2.25.830000100", "2.25.830000200"}) == {"2.25.830000100"}
    assert pushed.size_bytes() == 132 + len(content)


def test_what_is_not_whole_or_not_asked_for_leaves_nothing(tmp_path: Path) -> None:
    """An empty file, a cut one, another object."""
    path, other = write_exam(tmp_path / "exam", 1) + write_exam(tmp_path / "exam", 2)
    arrivals = Arrivals(tmp_path / "inbox", FETCHED)
    arrivals.sweep()
    for content, why in ((b"", "empty"), (path.read_bytes()[:-9], "ends in"), (other.read_bytes(), "Another object")):
        with pytest.raises(Incomplete, match=why):
            _fetched(arrivals, path, content)
    assert list((tmp_path / "inbox").rglob("*")) == []


def test_each_writer_sweeps_what_its_own_earlier_life_left(tmp_path: Path) -> None:
    """And nothing of the other's, who may be writing; nor what people copy."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for name in (".1.push.part", ".2.fetch.part", "theirs.part"):
        (inbox / name).touch()
    assert Arrivals(inbox, PUSHED).sweep() == 1
    assert sorted(path.name for path in inbox.iterdir()) == [".2.fetch.part", "theirs.part"]
    assert Arrivals(inbox, FETCHED).sweep() == 1
