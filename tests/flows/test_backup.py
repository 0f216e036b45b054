"""Backup, delete, restore, ingest, scrub, evaluate: the page docs/how-to/restore-on-another-machine.md, followed."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.config.run import RunConfig
from schemas.errors import StoreError
from tasks.adapters.store.exam_store import open_store, read_row
from tasks.adapters.store.manifest import published_rows, read_manifest
from tasks.adapters.workspace import Workspace, place_secret

pytestmark = pytest.mark.e2e

MakeConfig = Callable[..., RunConfig]
Mammo = Callable[..., Any]
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "restore-on-another-machine.md"


def _commands() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return [line.split()[1:] for block in blocks for line in block.splitlines()]


def test_a_workspace_is_restored_on_another_machine(
    tmp_path: Path, cohort_dir: Path, make_config: MakeConfig, mammo: Mammo
) -> None:
    """Another place for all: same rows, pseudonyms, pixels, splits and numbers; the training is finished before."""
    old, new = tmp_path / "old", tmp_path / "new"
    changes = {"train.epochs": 1, "train.negatives_shortfall": 1.0}
    configs = {}
    for place in (old, new):
        configs[place] = place / "config.yaml"
        configs[place].parent.mkdir()
        made = make_config(place / "workspace", place / "cohort", **changes)
        configs[place].write_text(made.model_dump_json())
    shutil.copytree(cohort_dir, old / "cohort")
    place_secret(Workspace(old / "workspace").key_path, bytes(range(32)))  # the pseudonyms decide who is in which split
    for verb in ("ingest", "split", "train", "evaluate"):
        answer = mammo(verb, configs[old], "--json")
        assert answer.code == 0, answer.stderr
    evaluated = json.loads(answer.stdout)
    before = read_manifest(open_store(Workspace(old / "workspace").store_dir))
    splits = Workspace(old / "workspace").splits_path.read_bytes()

    def follow(command: list[str], place: Path) -> Any:
        known = {"WORKSPACE": place / "workspace", "CONFIG": configs[place], "day.tar": tmp_path / "day.tar"}
        done = mammo(*(known.get(word, word) for word in command))
        assert done.code == 0, done.stderr
        return done

    backup, *rest = _commands()
    assert (backup[0], [command[0] for command in rest]) == ("backup", ["restore", "ingest", "scrub", "train", "evaluate"])
    follow(backup, old)
    shutil.move(old / "cohort", new / "cohort")
    shutil.rmtree(old)
    said = {command[0]: follow(command, new) for command in rest}

    assert "32 of 32 images must be read again" in said["restore"].stdout
    assert "Finished before" in said["train"].stderr
    store = open_store(Workspace(new / "workspace").store_dir)
    assert read_manifest(store).drop(columns=["batch_date"]).equals(before.drop(columns=["batch_date"]))
    assert all(read_row(store, row).any() for row in published_rows(store).values())
    assert Workspace(new / "workspace").splits_path.read_bytes() == splits
    again = json.loads(mammo("evaluate", configs[new], "--json").stdout)
    assert again["by_finding"] == evaluated["by_finding"]


def test_an_archive_says_what_it_holds(tmp_path: Path, two_exams: Path, make_config: MakeConfig, mammo: Mammo) -> None:
    """Splits are in it, pixels are not, and it says both. Without its files an image waits unpublished, and is not lost."""
    workspace, archive = tmp_path / "workspace", tmp_path / "day.tar"
    config = tmp_path / "config.yaml"
    config.write_text(make_config(workspace, two_exams).model_dump_json())
    assert mammo("ingest", config).code == 0
    splits = Workspace(workspace).splits_path
    splits.parent.mkdir()
    splits.write_bytes(b"which patient is where")
    assert mammo("backup", workspace, archive).code == 0
    with tarfile.open(archive) as tar:
        names = tar.getnames()
        content = json.load(tar.extractfile("CONTENT.json"))  # type: ignore[arg-type]
    assert "split/splits.parquet" in content["holds"] and set(content["holds"]) <= set(names)
    assert "pixels" in content["not_in_it"][0] and not any("pixels" in name for name in names)

    store = Workspace(workspace).store
    before = read_manifest(open_store(store.root))
    shutil.rmtree(store.pixels_dir)
    with pytest.raises(StoreError, match="is gone"):
        open_store(store.root)
    hidden = next((two_exams / "dicom").rglob("*.dcm")).rename(tmp_path / "hidden")
    assert "8 of 8 images must be read again" in mammo("restore", archive, workspace).stdout
    assert mammo("ingest", config).code == 0
    assert len(read_manifest(open_store(store.root))) == 7
    shutil.copy2(hidden, two_exams / "dicom" / "found-again.dcm")
    assert mammo("ingest", config).code == 0
    assert set(read_manifest(open_store(store.root))["image_id"]) == set(before["image_id"])
    assert mammo("scrub", config).code == 0


def test_nothing_in_a_workspace_can_be_read_by_others(
    tmp_path: Path, two_exams: Path, make_config: MakeConfig, mammo: Mammo
) -> None:
    """Whatever the umask of the shell: store, history, reports, archive and what is restored are the owner's."""
    config = tmp_path / "config.yaml"
    config.write_text(make_config(tmp_path / "workspace", two_exams).model_dump_json())
    before = os.umask(0)
    try:
        for command in (("ingest", config), ("backup", tmp_path / "workspace", tmp_path / "day.tar")):
            ended = subprocess.run(
                [sys.executable, "-m", "deployments.cli", *map(str, command)],
                capture_output=True,
                text=True,
                check=False,
                env={name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"},
            )
            assert ended.returncode == 0, ended.stderr
        assert _open_to_others(tmp_path / "workspace") == []
        assert mammo("restore", tmp_path / "day.tar", tmp_path / "restored").code == 0
    finally:
        os.umask(before)
    assert _open_to_others(tmp_path / "restored") == []
    assert stat.S_IMODE((tmp_path / "day.tar").stat().st_mode) == 0o600


def _open_to_others(folder: Path) -> list[str]:
    made = [folder, *folder.rglob("*")]
    assert len(made) > 8
    return [str(path) for path in made if stat.S_IMODE(path.stat().st_mode) & 0o077]


def test_pixels_of_another_store_are_not_mixed_with_a_backup(
    tmp_path: Path, two_exams: Path, make_config: MakeConfig, mammo: Mammo
) -> None:
    """Refused before anything is replaced."""
    configs = {}
    for name in ("ours", "theirs"):
        made = make_config(tmp_path / name, two_exams)
        configs[name] = tmp_path / f"{name}.yaml"
        configs[name].write_text(made.model_dump_json())
        assert mammo("ingest", configs[name]).code == 0
    assert mammo("backup", tmp_path / "ours", tmp_path / "day.tar").code == 0
    before = Workspace(tmp_path / "theirs").store.settings_path.read_bytes()
    answer = mammo("restore", tmp_path / "day.tar", tmp_path / "theirs")
    assert answer.code == 5 and "belongs to another store" in answer.message
    assert Workspace(tmp_path / "theirs").store.settings_path.read_bytes() == before
    assert mammo("ingest", configs["theirs"]).code == 0
