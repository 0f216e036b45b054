"""What an archive holds and whose it is; the page that restores one is followed in ``test_pipeline.py``."""

from __future__ import annotations

import json
import shutil
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.config.run import RunConfig
from schemas.errors import StoreError
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import read_manifest
from tasks.adapters.workspace import Workspace

pytestmark = pytest.mark.e2e

MakeConfig = Callable[..., RunConfig]
Mammo = Callable[..., Any]


def test_an_archive_says_what_it_holds(
    tmp_path: Path, two_exams: Path, make_config: MakeConfig, mammo: Mammo, read_here: dict[str, str]
) -> None:
    """Splits are in it, pixels are not, and it says both. Without its files an image waits unpublished, and is not lost."""
    workspace, archive = tmp_path / "workspace", tmp_path / "day.tar"
    config = tmp_path / "config.yaml"
    config.write_text(make_config(workspace, two_exams, **{"ingest.dask": read_here}).model_dump_json())
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
    """Whatever the umask of the shell, here 0: store, reports, archive and what is restored are the owner's.

    So is the history, in a home of a server's own: ``tests/deployments/server/test_prefect_server.py``.
    """
    config = tmp_path / "config.yaml"
    config.write_text(make_config(tmp_path / "workspace", two_exams).model_dump_json())
    for command in (
        ("ingest", config),
        ("backup", tmp_path / "workspace", tmp_path / "day.tar"),
        ("restore", tmp_path / "day.tar", tmp_path / "restored"),
    ):
        ended = mammo(*command)
        assert ended.code == 0, ended.stderr
    assert _open_to_others(tmp_path / "workspace") == []
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
