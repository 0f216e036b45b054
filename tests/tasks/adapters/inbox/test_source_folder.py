"""The inbox: arrivals are told once, when they are complete, and names or contents are not looked at."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from mammo_tests.mammograms import PSEUDONYMS
from tasks.adapters.inbox.source_folder import InboxState, InboxWatch, inbox_state, source_files


def test_a_state_counts_what_ingest_would_read(tmp_path: Path) -> None:
    """Subfolders count, half-written and hidden files do not, links are not followed; no folder is an empty one."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "1.dcm").write_bytes(b"12345")
    (tmp_path / "a" / "b" / "2.dcm").write_bytes(b"123")
    for name in ("3.dcm.part", "4.tmp", ".5.dcm"):
        (tmp_path / name).write_bytes(b"1")
    (tmp_path / "loop").symlink_to(tmp_path)
    state = inbox_state(tmp_path)
    assert (state.files, state.size_bytes) == (3, 8 + (tmp_path / "loop").lstat().st_size)
    assert inbox_state(tmp_path / "nothing") == InboxState(0, 0, 0)


def test_a_file_moved_in_is_a_change(tmp_path: Path) -> None:
    """A move keeps the old modification time: the newest time of the folder changes all the same."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1").write_text("x")
    before = inbox_state(tmp_path / "in")
    old = tmp_path / "old"
    old.write_text("y")
    os.utime(old, (1, 1))
    (tmp_path / "in" / "1").unlink()
    old.rename(tmp_path / "in" / "2")
    after = inbox_state(tmp_path / "in")
    assert (after.files, after.size_bytes) == (before.files, before.size_bytes) and after != before


def test_an_arrival_is_told_once_and_when_it_is_over() -> None:
    """Growing for 2 s, at rest for 5 s: told at second 7, and never again."""
    watch = InboxWatch(settle_s=5, longest_wait_s=60)
    told = [second for second in range(30) if watch.arrived(InboxState(1, min(second, 2), 9), second)]
    assert told == [7]


def test_an_inbox_that_never_rests_is_told_of_all_the_same() -> None:
    """A scanner that sends all day: every ``longest_wait_s``."""
    watch = InboxWatch(settle_s=5, longest_wait_s=60)
    told = [second for second in range(200) if watch.arrived(InboxState(second + 1, 0, 9), second)]
    assert told == [60, 121, 182]


def test_what_lies_there_at_the_start_is_told_and_an_empty_inbox_is_not() -> None:
    """A restart reports once more, which changes nothing downstream; emptying the inbox is no arrival."""
    watch = InboxWatch(settle_s=1, longest_wait_s=60)
    assert [watch.arrived(InboxState(4, 4, 9), second) for second in range(4)] == [False, True, False, False]
    assert not any(watch.arrived(InboxState(0, 0, 0), second) for second in range(4, 9))


def test_a_path_that_is_too_long_is_counted_and_not_named(tmp_path: Path) -> None:
    """Folders that another system nested deeper than a path may be long: the rest is listed, the watch goes on."""
    source_dir = tmp_path / "in"
    source_dir.mkdir()
    (source_dir / "a.dcm").write_text("x")
    here = os.open(source_dir, os.O_RDONLY)
    for _ in range(25):
        os.mkdir("JANE" * 50, dir_fd=here)
        deeper = os.open("JANE" * 50, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    try:
        listing = source_files(source_dir, PSEUDONYMS)
        assert [file.path.name for file in listing.files] == ["a.dcm"]
        assert listing.unreadable == {"ENAMETOOLONG": 1}
        assert inbox_state(source_dir).files == 1
    finally:
        subprocess.run(["rm", "-rf", str(source_dir)], check=True)  # shutil cannot, for the same reason


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user whom a folder keeps out")
def test_a_folder_without_permission_is_counted_and_not_named() -> None:
    """As `lost+found` on a disk of its own: what is beside it is listed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "a.dcm").write_text("x")
        (folder / "lost+found").mkdir(mode=0o700)
        os.seteuid(65534)
        try:
            listing = source_files(folder, PSEUDONYMS)
        finally:
            os.seteuid(0)
    assert [file.path.name for file in listing.files] == ["a.dcm"] and listing.unreadable == {"EACCES": 1}
