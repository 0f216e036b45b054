"""Opening a file of the source folder: that file or none, whatever is put in its place meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from mammo_tests.mammograms import PSEUDONYMS
from schemas.config.ingest import GateLimits, IngestConfig
from schemas.errors import FileDeferred, GateRejection
from tasks.adapters.gate.child import GateChild
from tasks.adapters.gate.gate_settings import GateSettings
from tasks.adapters.gate.messages import DrawThumbnail, InspectHeader
from tasks.adapters.gate.opening import in_time, open_below, open_source, open_step_by_step
from tasks.adapters.inbox.source_folder import source_files
from tasks.adapters.inbox.sources.exam_source import source_digests
from tasks.adapters.pseudonyms import open_key

WriteSound = Callable[..., Path]
Open = Callable[[Path, tuple[str, ...]], int]


def by_hand(folder: Path, parts: tuple[str, ...]) -> int:
    """As ``open_below`` where the kernel does not know openat2."""
    top = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        return open_step_by_step(top, parts)
    finally:
        os.close(top)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A source folder with files, and links of every kind in and out of it."""
    source = tmp_path / "source"
    (source / "a" / "b").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    for place in (source / "a" / "b", source / "a", tmp_path / "outside"):
        (place / "x.dcm").write_text(place.name)
    (source / "out").symlink_to(tmp_path / "outside")
    (source / "in").symlink_to("a")
    (source / "file").symlink_to("a/x.dcm")
    (tmp_path / "way").symlink_to("source")
    return source


@pytest.mark.parametrize("opens", [open_below, by_hand])
def test_no_link_is_followed_below_the_folder(folder: Path, opens: Open) -> None:
    """Neither in a file's place nor in a folder's, neither out nor back in; the folder itself may be reached by one."""
    for top in (folder, folder.with_name("way")):
        for parts, content in ((("a", "b", "x.dcm"), "b"), (("a", "x.dcm"), "a")):
            with os.fdopen(opens(top, parts)) as file:
                assert file.read() == content
    for parts in (("out", "x.dcm"), ("in", "x.dcm"), ("in", "b", "x.dcm"), ("file",)):
        with pytest.raises(OSError, match="symbolic links"):
            opens(folder, parts)
    for parts, error in ((("a", "gone"), FileNotFoundError), (("a", "x.dcm", "y"), NotADirectoryError)):
        with pytest.raises(error):
            opens(folder, parts)
    assert descriptors_below(folder.parent) == 0


def descriptors_below(folder: Path) -> int:
    """How many of this process's descriptors are of something there."""
    targets = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            targets.append(entry.readlink())
        except OSError:  # the descriptor of this listing
            continue
    return sum(target.is_relative_to(folder) for target in targets)


def test_a_path_that_leaves_the_folder_is_refused(folder: Path) -> None:
    """By its words: another folder's, one that goes up, and the folder itself."""
    for path in (folder.parent / "outside" / "x.dcm", folder / ".." / "outside" / "x.dcm", folder / "a" / ".." / "x", folder):
        with pytest.raises(GateRejection) as caught:
            open_source(path, folder)
        assert caught.value.reason_codes == ("F01",)
    assert descriptors_below(folder.parent) == 0


@pytest.mark.parametrize("leads", ["out", "back in"])
@pytest.mark.parametrize("swapped", ["file", "folder"])
def test_what_is_swapped_between_scan_and_read_is_not_read(
    tmp_path: Path, write_sound: WriteSound, swapped: str, leads: str
) -> None:
    """A link in the place of the file or of its folder is F01, for picture and digest too: what it leads to is safe."""
    inbox, other = tmp_path / "inbox", tmp_path / ("other" if leads == "out" else "inbox/other")
    (inbox / "exam").mkdir(parents=True)
    other.mkdir()
    write_sound(inbox / "exam" / "a.dcm", 1)
    write_sound(other / "a.dcm", 2)
    open_key(tmp_path / "key", creates=True)
    (found,) = (file for file in source_files(inbox, PSEUDONYMS).files if file.path.parent.name == "exam")
    gate = GateSettings(source_dir=inbox, profile="phantom", key_path=tmp_path / "key")
    place = found.path if swapped == "file" else found.path.parent
    place.rename(tmp_path / "kept")
    place.symlink_to(other / "a.dcm" if swapped == "file" else other)
    with GateChild(GateLimits()) as child:
        for ask in (
            partial(child.inspect, InspectHeader(path=found.path, gate=gate)),
            partial(child.thumbnail, DrawThumbnail(path=found.path, source_dir=inbox, side_px=8)),
        ):
            with pytest.raises(GateRejection) as caught:
                ask()
            assert caught.value.reason_codes == ("F01",)
        assert child.pid is None, "what is no file of the folder is not even shown to the child"
    assert source_digests(IngestConfig(source_dir=inbox), [found.file_id], PSEUDONYMS) == {}


def test_an_opening_that_hangs_is_left_behind(tmp_path: Path) -> None:
    """A pipe without a writer hangs as a share does: deferred in time; what is opened one day is closed."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileDeferred) as caught:
        in_time(lambda: os.open(tmp_path / "pipe", os.O_RDONLY), 0.05)
    assert caught.value.reason == "time-out"
    writer = os.open(tmp_path / "pipe", os.O_WRONLY)  # waits for the reader, which is the thread that was left behind
    with pytest.raises(BrokenPipeError):
        while True:
            os.write(writer, b"x")
    os.close(writer)
