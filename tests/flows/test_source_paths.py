"""What a path of the source folder spells stays there: it reaches neither the server's database nor a log nor a terminal."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mammo_tests.kept_bytes import kept_bytes
from schemas.config.run import RunConfig
from tasks.adapters.inbox import source_folder

Mammo = Callable[..., Any]
NAME = "NONESUCH^JANE"


@pytest.fixture
def source_dir(tmp_path: Path, cohort_dir: Path) -> Iterator[Path]:
    """One exam in a folder that spells a name, among all that an inbox may hold and nobody can read, named alike."""
    folder = tmp_path / "cohort" / "dicom"
    exam = next(path for path in sorted((cohort_dir / "dicom").iterdir()) if path.is_dir())
    shutil.copytree(exam, folder / NAME)
    for number, path in enumerate(sorted((folder / NAME).glob("*.dcm"))):
        path.rename(path.with_name(f"{NAME}-{number}.dcm"))
    (folder / f"{NAME}.txt").write_text(f"Dear {NAME}, " * 300)
    (folder / f"dangling-{NAME}").symlink_to(folder / f"{NAME}-gone")
    (folder / f"loop-{NAME}").symlink_to(folder / f"loop-{NAME}")
    (folder / f"socket\n{NAME}\x1b[2J").mkdir()
    os.mkfifo(folder / f"pipe-{NAME}")
    odd = Path(os.fsdecode(os.fsencode(folder) + b"/\xff" + NAME.encode()))
    odd.mkdir()
    shutil.copy(sorted((folder / NAME).glob("*.dcm"))[0], odd / "a.dcm")
    (folder / "lost+found" / NAME).mkdir(parents=True)
    here = os.open(folder, os.O_RDONLY)
    for _ in range(25):
        os.mkdir(NAME * 15, dir_fd=here)
        deeper = os.open(NAME * 15, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    yield folder
    subprocess.run(["rm", "-rf", str(folder)], check=True)  # shutil cannot go down so deep


def test_no_name_of_a_path_is_kept_or_said(
    source_dir: Path,
    tmp_path: Path,
    make_config: Callable[..., RunConfig],
    mammo: Mammo,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An ingest that meets a loop, a dangling link, a pipe, odd bytes, a path too long and a `lost+found`: counted, not named.

    Looked for in the bytes of the server's database and of the whole workspace, and in all that the command says. The kernel's
    refusal of `lost+found` is put in its place at the call that meets it: root is refused nothing.
    """
    asked = os.scandir

    def refused(path: Any) -> Any:
        if isinstance(path, Path) and path.name == "lost+found":
            raise PermissionError(13, "Permission denied", str(path / NAME))
        return asked(path)

    monkeypatch.setattr(source_folder.os, "scandir", refused)
    changes = {
        "ingest.labels_csv": None,
        "ingest.masks_dir": None,
        "ingest.max_failed_fraction": 1.0,
    }
    path = tmp_path / "config.yaml"
    path.write_text(make_config(tmp_path / "workspace", source_dir.parent, **changes).model_dump_json())
    done = mammo("ingest", path, "--json")
    assert done.code == 0 and '"EACCES": 1' in done.stdout and '"ENAMETOOLONG": 1' in done.stdout
    listed = mammo("quarantine", "list", path)
    again = mammo("ingest", path)
    said = [text for answer in (done, listed, again) for text in (answer.stdout, answer.stderr)]
    database = Path(os.environ["PREFECT_HOME"]) / "prefect.db"
    assert _logged("2 folders or files could not be looked at"), "the logs have not arrived: nothing is proven"
    kept = kept_bytes(tmp_path / "workspace", server_home=database.parent)
    assert database in kept and len(kept) > 10
    assert [file for file, content in kept.items() if b"NONESUCH" in content] == []
    assert not any("NONESUCH" in text for text in said)


def _logged(message: str) -> bool:
    """True when the server has this message; it gets logs some time after they were written.

    The newest warnings are asked for: the server of all tests holds thousands of messages, and gets more meanwhile.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import LogFilter, LogFilterLevel
    from prefect.client.schemas.sorting import LogSort

    warnings = LogFilter(level=LogFilterLevel(ge_=logging.WARNING))
    with get_client(sync_client=True) as client:
        for _ in range(300):
            found = client.read_logs(log_filter=warnings, limit=200, sort=LogSort.TIMESTAMP_DESC)
            if any(message in log.message for log in found):
                return True
            time.sleep(0.2)
    return False
