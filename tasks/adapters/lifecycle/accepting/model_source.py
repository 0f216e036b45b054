"""Which model is meant: a pack, a checkpoint folder, an ensemble, or one that is installed or registered here."""

from __future__ import annotations

from pathlib import Path

from schemas.config.run import RunConfig
from tasks.adapters.lifecycle.in_use import register_candidate, weights_to_predict_with
from tasks.adapters.lifecycle.model_registry import Registry
from tasks.adapters.lifecycle.pack_file import Pack, read_pack
from tasks.adapters.lifecycle.packing import Installed, install_pack
from tasks.adapters.models.model_files import ENSEMBLE
from tasks.adapters.models.whole_models import home_of
from tasks.adapters.workspace import Workspace


def model_folder(config: RunConfig, name: str, *, key: bytes | None = None) -> Path:
    """The folder of the model that is meant; a pack is installed first, which changes nothing of what is in use.

    Args:
        config: Of the workspace.
        name: A pack, a folder, an ``ensemble.json``, or the first digits of a digest; "" = what predicts here.
        key: A pack must be signed with it; None = whoever signed it, or nobody.

    Raises:
        ConfigError: None, or several, are named so.
        CheckpointError: It is damaged, or of another preprocessing.
    """
    if not name:
        return home_of(weights_to_predict_with(config))
    workspace, path = Workspace(config.workspace_dir), Path(name)
    if path.is_file() and path.name != ENSEMBLE:
        return install_model(workspace, read_pack(path, key=key)).folder
    if path.exists():
        return home_of(path)
    with Registry(workspace) as registry:
        return registry.folder_of(registry.named(name))


def install_model(workspace: Workspace, pack: Pack) -> Installed:
    """Installs a pack; its model becomes a candidate.

    Raises:
        CheckpointError: It does not fit here, or there is no room.
    """
    installed = install_pack(pack, workspace.models_dir)
    register_candidate(workspace, installed.folder, pack.manifest.sha256, source="pack")
    return installed
