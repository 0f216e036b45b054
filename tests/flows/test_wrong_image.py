"""The page docs/how-to/when-a-wrong-image-was-published.md, followed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from schemas.config.run import RunConfig
from tasks.adapters.lock import held_lock
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import read_manifest
from tasks.adapters.workspace import Workspace

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "when-a-wrong-image-was-published.md"
Mammo = Callable[..., Any]


def test_an_exam_of_the_wrong_patient_is_withdrawn(
    tmp_path: Path, two_exams: Path, make_config: Callable[..., RunConfig], mammo: Mammo, read_here: dict[str, str]
) -> None:
    """Each command of the page, in its order, with what it says of it; the page's codes; no path or name in the log."""
    text = PAGE.read_text()
    commands = [
        line.split()[1:] for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines() if line
    ]
    changes = {
        "ingest.labels_csv": None,
        "ingest.masks_dir": None,
        "ingest.max_withdrawn_fraction": 0.0,
        "ingest.dask": read_here,
    }
    config = make_config(tmp_path / "workspace", two_exams, **changes)
    files, path = Workspace(config.workspace_dir), tmp_path / "config.yaml"
    path.write_text(config.model_dump_json())
    assert mammo("ingest", path).code == 0
    known = {"CONFIG": path, "DICOM-FILE": sorted((two_exams / "dicom").rglob("*.dcm"))[0]}

    def published() -> int:
        return len(read_manifest(open_store(files.store_dir)))

    said = []
    for command in commands:
        if command[0] == "withdraw" and len(said) == 1:
            with held_lock(files.store_dir, purpose="ingest"):
                busy = mammo(*(known.get(word, word) for word in command))
            assert busy.code == 75 and "is in use" in busy.message and published() == 8
        answer = mammo(*(known.get(word, word) for word in command))
        assert answer.code == 0, answer.stderr
        said.append(answer.stdout)
        assert published() == (8 if len(said) == 1 else 4)
    assert [command[0] for command in commands] == ["withdraw", "withdraw", "ingest", "scrub", "withdraw"]
    assert "would go, 4 images of 1 exams" in said[0] and "withdrawn, 4 images of 1 exams" in said[1]
    assert "wrong-patient" in said[4] and "CANARY" not in "".join(said) + files.store.withdrawn_path.read_text()
    assert mammo("withdraw", path, "CANARY", "--reason", "none").code == 2
    shutil.copy(known["DICOM-FILE"], two_exams / "dicom" / "again.dcm")
    assert '"files_withdrawn": 5' in mammo("ingest", path, "--json").stdout and published() == 4
