"""The inbox as other systems fill it: whole or not at all, once, and named so that nobody is named."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pydicom
import pytest

from mammo_tests.other_systems import arrived, data_set_bytes, unfinished, write_exam
from tasks.adapters.gate.source_file import is_unfinished
from tasks.adapters.pacs.arrivals import FETCHED, PUSHED, Arrivals
from tasks.adapters.pacs.encoded_object import Incomplete, name_of

EXPLICIT = "1.2.840.10008.1.2.1"


def _fetched(arrivals: Arrivals, path: Path, content: bytes) -> bool:
    with arrivals.aside() as aside:
        assert is_unfinished(aside.path.name)
        for start in range(0, len(content), 3000):
            aside.write(content[start : start + 3000])
        return arrivals.adopt(aside, sop_uid=f"2.25.83{int(path.stem.split('-')[0]):05}00")


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


@pytest.mark.parametrize("at_once", [1, 200, 3000, 100_000])
def test_a_name_tells_the_content_however_it_came(tmp_path: Path, at_once: int) -> None:
    """In any pieces the digest is that of the data set on the disk, also where the file's own head is long."""
    (path,) = write_exam(tmp_path / "exam", 1)
    read = pydicom.dcmread(path)
    read.file_meta.PrivateInformationCreatorUID, read.file_meta.PrivateInformation = "2.25.1", b"x" * 5000
    read.save_as(tmp_path / "long.dcm")
    for file in (path, tmp_path / "long.dcm"):
        content = file.read_bytes()
        arrivals = Arrivals(tmp_path / f"inbox-{file.stem}", FETCHED)
        arrivals.sweep()
        with arrivals.aside() as aside:
            for start in range(0, len(content), at_once):
                aside.write(content[start : start + at_once])
            arrivals.adopt(aside, sop_uid="2.25.830000100")
        (there,) = arrived(arrivals.root)
        assert there.read_bytes() == content
        assert there.stem.split("-")[1] == hashlib.sha256(data_set_bytes(file)).hexdigest()[:12]


def test_an_exam_s_folder_is_synced_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for each image: what was fetched has a durable name when the run has settled, though somebody took a folder away."""
    synced: list[Path] = []
    monkeypatch.setattr("tasks.adapters.pacs.arrivals.sync", lambda folder: synced.append(folder.resolve(strict=True)))
    arrivals = Arrivals(tmp_path / "inbox", FETCHED)
    arrivals.sweep()
    for number in (1, 2):
        for index, path in enumerate(write_exam(tmp_path / "exam", number, images=2)):
            with arrivals.aside() as aside:
                aside.write(path.read_bytes())
                arrivals.adopt(aside, sop_uid=f"2.25.83{number:05}{index:02}")
    assert synced == []
    gone, kept = sorted({path.parent for path in arrived(arrivals.root)})
    shutil.rmtree(gone)
    arrivals.settle()
    arrivals.settle()
    assert synced == [kept, arrivals.root]


def test_each_writer_sweeps_what_its_own_earlier_life_left(tmp_path: Path) -> None:
    """And nothing of the other's, who may be writing; nor what people copy."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for name in (".1.push.part", ".2.fetch.part", "theirs.part"):
        (inbox / name).touch()
    assert Arrivals(inbox, PUSHED).sweep() == 1
    assert sorted(path.name for path in inbox.iterdir()) == [".2.fetch.part", "theirs.part"]
    assert Arrivals(inbox, FETCHED).sweep() == 1
