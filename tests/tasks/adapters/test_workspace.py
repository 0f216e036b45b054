"""The workspace: its names have one home, and files are old or new, never half."""

from __future__ import annotations

import ast
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from schemas.errors import StoreError
from tasks.adapters.workspace import Workspace, place_secret, replaced, write_atomically

REPOSITORY = Path(__file__).parents[3]


def test_writing_makes_folders_and_replaces_what_was_there(tmp_path: Path) -> None:
    """The new content is there in full and nothing else is."""
    path = tmp_path / "a" / "b" / "report.json"
    write_atomically(path, b"a long first version")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    """The disk refuses after 4 KiB (file size limit): the old bytes are there, the new ones are nowhere."""
    path = tmp_path / "report.json"
    write_atomically(path, b"old")
    script = (
        "import resource, signal, sys; sys.path[:0] = [sys.argv[1]]\n"
        "from pathlib import Path\n"
        "from tasks.adapters.workspace import write_atomically\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n    write_atomically(Path(sys.argv[2]), b'n' * 100_000)\n"
        "except OSError as error:\n    sys.exit(error.errno)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(REPOSITORY), str(path)], check=False)
    assert ended.returncode == 27  # EFBIG
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_stands_in_the_way_of_a_file_is_named_and_stays(tmp_path: Path) -> None:
    """A folder where the file belongs, or a file where its folder does: a sentence, and neither is touched."""
    (tmp_path / "quarantine.csv" / "mine").mkdir(parents=True)
    (tmp_path / "reports").write_bytes(b"mine")
    for path, named in ((tmp_path / "quarantine.csv", "quarantine.csv"), (tmp_path / "reports" / "ingest.json", "reports")):
        with pytest.raises(StoreError, match=rf"{named} cannot be written[^/]*move it away"):
            write_atomically(path, b"ours")
    assert (tmp_path / "quarantine.csv" / "mine").is_dir() and (tmp_path / "reports").read_bytes() == b"mine"
    assert {path.name for path in tmp_path.iterdir()} == {"quarantine.csv", "reports"}


def test_a_writer_killed_before_the_rename_leaves_the_old_file(tmp_path: Path) -> None:
    """SIGKILL in the middle of writing: readers of the name see the old bytes."""
    path = tmp_path / "report.json"
    write_atomically(path, b"old")
    script = (
        "import os, signal, sys; sys.path[:0] = [sys.argv[1]]\n"
        "from pathlib import Path\n"
        "from tasks.adapters.workspace import write_atomically\n"
        "os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomically(Path(sys.argv[2]), b'new')\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(REPOSITORY), str(path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"


def test_threads_writing_one_file_leave_one_whole_version(tmp_path: Path) -> None:
    """Prefect runs tasks in threads: eight at once, no error, and the file is one of the eight."""
    path = tmp_path / "report.json"
    failures: list[BaseException] = []

    def write(content: bytes) -> None:
        try:
            for _ in range(20):
                write_atomically(path, content)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(bytes([65 + i]) * 10_000,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(set(path.read_bytes())) == 1
    assert len(path.read_bytes()) == 10_000


def test_stages_have_a_folder_each(tmp_path: Path) -> None:
    """Store, key and stages lie below the workspace and do not overlap."""
    workspace = Workspace(tmp_path)
    paths = {workspace.store_dir, workspace.key_path, workspace.stage_dir("split"), workspace.stage_dir("train")}
    assert len(paths) == 4
    assert {path.parent for path in paths} == {tmp_path}


def test_what_is_written_is_the_owners_alone_from_its_first_byte(tmp_path: Path) -> None:
    """Whatever the umask: a file that is replaced, one that was readable before, and a secret that is placed once."""
    before = os.umask(0)
    try:
        path = tmp_path / "folder" / "report.json"
        with replaced(path) as file:
            file.write(b"first")
            assert [stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()] == [0o600]
        path.chmod(0o644)
        write_atomically(path, b"second")
        place_secret(tmp_path / "key", b"first")
        place_secret(tmp_path / "key", b"second")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert (tmp_path / "key").read_bytes() == b"first"


NAMES = {
    *("exam_store", "store.json", "manifest.parquet", "ledger.sqlite", "quarantine.csv", "leakage.csv", "pixels.zarr"),
    *("pseudonym.key", "prefect.db", "splits.parquet", "report.json", "done", "contact_sheet.html"),
}


def test_the_names_of_a_workspace_have_one_home() -> None:
    """No other module spells a file or folder of a workspace: it asks ``Workspace``."""
    spelt = {
        f"{path.relative_to(REPOSITORY)}:{node.lineno}"
        for room in ("deployments", "flows", "gmic_model", "schemas", "tasks")
        for path in (REPOSITORY / room).rglob("*.py")
        if any(name in (text := path.read_text()) for name in NAMES)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and NAMES & set(node.value.split("/"))
    }
    assert {place.partition(":")[0] for place in spelt} == {"tasks/adapters/workspace.py"}, sorted(spelt)
