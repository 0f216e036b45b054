"""Every file and folder that a person names: a path that leads nowhere is a sentence, not a traceback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deployments.commands.backup import backup, restore
from deployments.commands.doctor import examine
from deployments.commands.prune import prune
from deployments.configuration import load_config, load_service
from deployments.server.registration import secret_of
from schemas.config.run import RunConfig
from schemas.errors import ConfigError, MammoError
from tasks.adapters.inbox.batches import require_folder
from tasks.adapters.labels.named_inputs import require_inputs
from tasks.adapters.models.checkpoints import load_checkpoint
from tasks.adapters.models.model_files import read_ensemble
from tasks.adapters.models.start_files import import_weights, open_start
from tasks.adapters.pseudonyms import open_key
from tasks.adapters.scoring.reader_study_file import read_reader_study
from tasks.adapters.store.exam_store import open_store

NAMED = ("workspace_dir", "store_dir", "checkpoint", "ingest.source_dir", "ingest.labels_csv", "ingest.masks_dir",
         "ingest.boxes_csv", "evaluate.ensemble", "train.start.patches")  # fmt: skip


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Path]:
    """Two links that name each other."""
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    return tmp_path / "one"


def config_with(folder: Path, **changes: Path) -> Path:
    """A config file that names these paths."""
    lines = {"workspace_dir": folder / "work", "ingest.source_dir": folder, **changes}
    path = folder / "config.yaml"
    path.write_text(
        "\n".join(f"{name}: {where}" for name, where in lines.items() if "." not in name)
        + "\ningest: {"
        + ", ".join(f"{name.partition('.')[2]}: {where}" for name, where in lines.items() if name.startswith("ingest."))
        + "}\n"
        + "".join(f"evaluate: {{ensemble: {where}}}\n" for name, where in lines.items() if name.startswith("evaluate."))
        + "".join(f"train: {{start: {{patches: {where}}}}}\n" for name, where in lines.items() if name.startswith("train."))
    )
    return path


@pytest.mark.parametrize("name", NAMED)
def test_a_loop_of_links_in_a_config_is_a_sentence(name: str, tmp_path: Path, loop: Path) -> None:
    """Each key that names a file or folder; also where the loop is a folder above it."""
    for path in (loop, loop / "below"):
        with pytest.raises(ConfigError, match="cannot be followed"):
            load_config(config_with(tmp_path, **{name: path}))


def _inputs(config: RunConfig, path: Path) -> object:
    for name in ("labels_csv", "masks_dir", "boxes_csv"):
        with pytest.raises(MammoError):
            require_inputs(config.ingest.model_copy(update={name: path}))
    raise ConfigError("as it should be")


OPENED: dict[str, Callable[[RunConfig, Path], object]] = {
    "config": lambda config, path: load_config(path),
    "service": lambda config, path: load_service(path),
    "prune's config": lambda config, path: prune(path),
    "secret": lambda config, path: secret_of(path),
    "source_dir": lambda config, path: require_folder(path),
    "labels, boxes, masks": _inputs,
    "checkpoint": lambda config, path: load_checkpoint(path),
    "ensemble": lambda config, path: read_ensemble(path),
    "released weights": lambda config, path: import_weights(path, config.workspace_dir / "imported"),
    "weights to begin with": lambda config, path: open_start(path),
    "key": lambda config, path: open_key(path),
    "store_dir": lambda config, path: open_store(path),
    "reader study": lambda config, path: read_reader_study(path),
    "archive": lambda config, path: restore(path, config.workspace_dir),
    "workspace to back up": lambda config, path: backup(path, config.workspace_dir / "day.tar"),
    "workspace to restore": lambda config, path: restore(config.workspace_dir / "day.tar", path),
}  # fmt: skip


@pytest.mark.parametrize("opened", list(OPENED))
def test_what_cannot_be_opened_is_a_sentence(opened: str, tmp_path: Path, loop: Path) -> None:
    """A loop of links, a name that is too long, a file where a folder should be: what fails says so in our words."""
    config = load_config(config_with(tmp_path))
    file = tmp_path / "file"
    file.write_bytes(b"\0no input\n")
    for path in (loop, loop / "below", tmp_path / ("a" * 300), file / "below"):
        with pytest.raises(MammoError):
            OPENED[opened](config, path)


def test_the_doctor_is_not_taken_ill(tmp_path: Path) -> None:
    """A workspace whose name is too long is a finding."""
    config = load_config(config_with(tmp_path))
    ill = config.model_copy(update={"workspace_dir": tmp_path / ("a" * 300)})
    assert any(finding.check == "disk" for finding in examine(ill))
