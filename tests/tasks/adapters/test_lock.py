"""The lock: one writer a folder whatever happens to it, and nothing to delete afterwards."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import StoreBusy, StoreError
from tasks.adapters.lock import held_lock, reading, without_readers

REPOSITORY = Path(__file__).parents[3]

_HOLDER = """
import sys, time
sys.path[:0] = [sys.argv[1]]
from pathlib import Path
from tasks.adapters.lock import held_lock
with held_lock(Path(sys.argv[2]), purpose="ingest"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds ``tmp_path / "store"``."""
    command = [sys.executable, "-c", _HOLDER, str(REPOSITORY), str(tmp_path / "store")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_writer_is_refused_and_told_who_holds_the_folder(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    """The message names pid, host, purpose and start of the holder, and what to do; exit code 75 is EX_TEMPFAIL."""
    who = rf"ingest by pid {holder.pid} on {re.escape(socket.gethostname())} since \d{{4}}-\d\d-\d\dT.*Remedy: wait"
    with pytest.raises(StoreBusy, match=who) as refused, held_lock(tmp_path / "store", purpose="train"):
        pass
    assert refused.value.exit_code == 75


def test_the_lock_of_a_killed_process_is_free(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    """SIGKILL leaves no lock behind that somebody would have to delete."""
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with held_lock(tmp_path / "store", purpose="train"):
        assert json.loads((tmp_path / "store" / "lock").read_text())["purpose"] == "train"


def test_the_lock_is_free_after_the_block_and_after_an_error_in_it(tmp_path: Path) -> None:
    """However the block ends, the next one can start; inside it a second one cannot, in the same process neither."""
    with pytest.raises(ZeroDivisionError), held_lock(tmp_path, purpose="one"):
        _ = 1 / 0
    with held_lock(tmp_path, purpose="two"), pytest.raises(StoreBusy, match=f"two by pid {os.getpid()}"):  # noqa: SIM117
        with held_lock(tmp_path, purpose="three"):
            pass
    with held_lock(tmp_path, purpose="four"):
        pass


def test_a_holder_that_has_not_written_its_name_yet_still_holds(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    """Between taking the lock and naming itself the file is empty: refused all the same."""
    (tmp_path / "store" / "lock").write_text("")
    with pytest.raises(StoreBusy, match="has not named itself"), held_lock(tmp_path / "store", purpose="train"):
        pass
    assert holder.poll() is None


def test_the_folder_and_its_lock_are_the_owners_alone(tmp_path: Path) -> None:
    """0700 and 0600."""
    with held_lock(tmp_path / "store", purpose="ingest"):
        assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "store" / "lock").stat().st_mode) == 0o600


def test_nothing_is_taken_away_from_those_who_read_and_nobody_reads_what_goes(tmp_path: Path) -> None:
    """Any number may read at once, also two workspaces; the one who takes away is alone, and names itself."""
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    reader = [sys.executable, "-c", _READER, str(here), str(there)]
    with subprocess.Popen(reader, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "reads\n"
        for folder in (here, there):
            with reading([folder]), reading([folder]):
                pass
            with pytest.raises(StoreBusy, match="is being read"), without_readers(folder, purpose="withdraw"):
                pass
        process.communicate()
    with without_readers(there, purpose="prune"):
        with pytest.raises(StoreBusy, match=rf"is being taken away.*prune by pid {os.getpid()}"), reading([here, there]):
            pass
        with reading([here]):
            pass
    assert stat.S_IMODE((there / "readers.lock").stat().st_mode) == 0o600
    with reading([tmp_path / "gone"]), without_readers(tmp_path / "gone", purpose="prune"):
        assert not (tmp_path / "gone").exists(), "what is not there is not made"


def test_a_second_writer_can_wait_for_its_turn(tmp_path: Path) -> None:
    """With ``wait_s`` it gets the lock as soon as the first has ended, and gives up when that takes too long."""
    command = [sys.executable, "-c", _HOLD, str(tmp_path / "store")]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdin is not None and holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(StoreBusy), held_lock(tmp_path / "store", purpose="train", wait_s=0.2):
        pass
    threading.Timer(0.5, holder.stdin.close).start()
    with held_lock(tmp_path / "store", purpose="train", wait_s=60):
        assert holder.wait(timeout=90) == 0


_HOLD = """
import sys
from pathlib import Path
from tasks.adapters.lock import held_lock
with held_lock(Path(sys.argv[1]), purpose="ingest"):
    print("held", flush=True)
    sys.stdin.read()
"""
_READER = """
import sys
from pathlib import Path
from tasks.adapters.lock import reading
with reading([Path(name) for name in sys.argv[1:]]):
    print("reads", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("name", ["ENOLCK", "ENOTSUP"])
def test_a_share_that_knows_no_locks_is_a_sentence(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS without its lock service, and some FUSE: no traceback, and nobody writes or reads unlocked."""

    def refuses(descriptor: int, kind: int) -> None:
        raise OSError(getattr(errno, name), "raw")

    monkeypatch.setattr("fcntl.flock", refuses)
    with pytest.raises(StoreError, match=f"locks no files.*{name}"), held_lock(tmp_path, purpose="ingest"):
        pytest.fail("it is held")
    with pytest.raises(StoreError, match="locks no files"), reading([tmp_path]):
        pytest.fail("it is read")


def test_a_share_that_is_away_is_not_said_to_know_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own error goes on to who has the sentence for it: to mount it otherwise would be no remedy."""

    def is_away(descriptor: int, kind: int) -> None:
        raise OSError(errno.ESTALE, "raw")

    monkeypatch.setattr("fcntl.flock", is_away)
    with pytest.raises(OSError, match="raw") as told, held_lock(tmp_path, purpose="ingest"):
        pytest.fail("it is held")
    assert told.value.errno == errno.ESTALE
