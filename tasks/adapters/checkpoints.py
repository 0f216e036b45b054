"""Model files: safetensors with a sha256 sidecar, written so that a crash leaves the last good one. Nothing is unpickled.

    run_dir/
      epoch-0003/weights.safetensors     the network, ours to share
      epoch-0003/training.safetensors    optimiser moments and random states, to continue bit for bit
      epoch-0003/checkpoint.json         sha256 of both, model config, provenance, training curve

A checkpoint folder is filled aside and renamed; loaders check both digests (a flipped bit loads silently otherwise).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from gmic_model.weights import from_nyu_state_dict
from schemas.config import GMICConfig
from schemas.errors import CheckpointError
from tasks.adapters.workspace import sync, write_atomically

logger = logging.getLogger(__name__)

WEIGHTS = "weights.safetensors"
TRAINING = "training.safetensors"
SIDECAR = "checkpoint.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A verified checkpoint.

    Attributes:
        weights: State dict of the network.
        training: Flat tensors of optimiser and random states; empty if only weights are kept.
        sidecar: What ``checkpoint.json`` says.
    """

    folder: Path
    weights: dict[str, Tensor]
    training: dict[str, Tensor]
    sidecar: dict[str, Any]

    @property
    def model_config(self) -> GMICConfig:
        """The network's config.

        Raises:
            CheckpointError: The sidecar holds none that this version knows.
        """
        try:
            return GMICConfig(**self.sidecar["model"])
        except (KeyError, TypeError, ValueError) as unknown:
            raise CheckpointError(
                f"{self.folder / SIDECAR} describes no network of this version",
                expected="the model section that training wrote",
                got=type(unknown).__name__,
                remedy="use the version of the code that is named in its provenance, or another checkpoint",
            ) from unknown

    @property
    def sha256(self) -> str:
        """Digest of the weights file."""
        return str(self.sidecar["sha256"][WEIGHTS])


def save_checkpoint(
    folder: Path, *, weights: Mapping[str, Tensor], training: Mapping[str, Tensor], model: GMICConfig, about: Mapping[str, Any]
) -> str:
    """Writes a checkpoint folder aside and renames it; returns the weights' sha256.

    A folder that stands there (of a damaged checkpoint, say) is moved away first and deleted last.

    Raises:
        OSError: No room on the disk; nothing appears under ``folder`` then.
    """
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    replaced = folder.with_name(f".{folder.name}.{os.getpid()}.old.part")
    for leftover in (aside, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    aside.mkdir(parents=True, mode=0o700)
    try:
        digests = {}
        for name, tensors in ((WEIGHTS, weights), (TRAINING, training)):
            if tensors:
                save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, aside / name)
                digests[name] = _synced_sha256(aside / name)
        sidecar = {"sha256": digests, "model": model.model_dump(mode="json"), **about}
        write_atomically(aside / SIDECAR, json.dumps(sidecar, indent=1).encode())
        if folder.exists():
            folder.rename(replaced)
        aside.rename(folder)
        sync(folder.parent)
    except SafetensorError as full:
        raise OSError(f"cannot write the checkpoint {folder}: {full}") from full
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    shutil.rmtree(replaced, ignore_errors=True)
    return digests[WEIGHTS]


def load_checkpoint(folder: Path, *, with_training: bool = False) -> Checkpoint:
    """Reads a checkpoint folder and checks its digests.

    Raises:
        CheckpointError: It is missing, or its bytes are not those that were written.
    """
    try:
        sidecar = json.loads((folder / SIDECAR).read_text())
        digests = {str(name): str(digest) for name, digest in sidecar["sha256"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as missing:
        raise CheckpointError(
            f"{folder} is not a checkpoint",
            expected=f"a folder with {SIDECAR} and {WEIGHTS}",
            remedy="name the checkpoint folder that `mammo train` printed",
        ) from missing
    weights = _verified(folder / WEIGHTS, digests.get(WEIGHTS, "none"))
    training = _verified(folder / TRAINING, digests[TRAINING]) if with_training and TRAINING in digests else {}
    return Checkpoint(folder=folder, weights=weights, training=training, sidecar=sidecar)


def latest_checkpoint(run_dir: Path) -> Checkpoint | None:
    """The newest checkpoint that verifies; a damaged one is named in the log and passed over."""
    for folder in sorted(run_dir.glob("epoch-*"), reverse=True):
        try:
            return load_checkpoint(folder, with_training=True)
        except CheckpointError as damage:
            logger.warning("%s", damage)
    return None


def prune_checkpoints(run_dir: Path, *, keep_last: int, keep_also: Path) -> None:
    """Deletes all but the last few checkpoints and the best one, and leftovers of killed writers."""
    for folder in sorted(run_dir.glob("epoch-*"))[:-keep_last]:
        if folder != keep_also:
            shutil.rmtree(folder)
    for leftover in run_dir.glob(".epoch-*.part"):
        shutil.rmtree(leftover)


def delete_checkpoints(run_dir: Path) -> None:
    """Deletes every checkpoint of a run: it is to begin anew."""
    for folder in run_dir.glob("epoch-*"):
        shutil.rmtree(folder)


def import_released(source: Path, folder: Path, model: GMICConfig) -> str:
    """Turns a released ``.p`` state dict into a checkpoint of ours; returns its sha256.

    ``weights_only`` loading: a pickle that would run code is refused.

    Raises:
        CheckpointError: The file is no plain state dict, or its keys are not the released ones.
    """
    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as refused:  # torch raises pickle, zip, OS and runtime errors alike
        raise CheckpointError(
            f"{source.name} is not a plain state dict",
            expected="a file that torch.load(weights_only=True) accepts",
            got=type(refused).__name__,
            remedy="use the released weights as published",
        ) from refused
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(
            f"{source.name} is not a plain state dict",
            expected="tensors by name",
            got=type(state).__name__,
            remedy="use the released weights as published",
        )
    about = {"source": source.name, "source_sha256": hashlib.sha256(source.read_bytes()).hexdigest()}
    return save_checkpoint(folder, weights=from_nyu_state_dict(state), training={}, model=model, about=about)


# ------------------------------------------------------------------------------------------------------ training state


def flatten_training(optimizer: torch.optim.Optimizer, generator_state: Tensor) -> dict[str, Tensor]:
    """Optimiser moments and the random state as flat tensors."""
    tensors: dict[str, Tensor] = {"random": generator_state}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            tensors[f"optimizer.{index}.{name}"] = value if isinstance(value, Tensor) else torch.tensor(value)
    return tensors


def restore_training(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> Tensor:
    """Puts flat tensors back into the optimiser; returns the random state.

    Raises:
        CheckpointError: The checkpoint holds weights only.
    """
    if "random" not in tensors:
        raise CheckpointError(
            "Training cannot go on from this checkpoint",
            expected=f"a checkpoint with {TRAINING}",
            got="weights only",
            remedy="start the training anew",
        )
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            weight = weights[int(index)]
            # Files keep no memory layout, and Adam rounds otherwise where moments are laid out otherwise than their weights.
            is_moment = tensor.shape == weight.shape
            state.setdefault(int(index), {})[name] = torch.empty_like(weight).copy_(tensor) if is_moment else tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return tensors["random"]


def _verified(path: Path, digest: str) -> dict[str, Tensor]:
    try:
        content = path.read_bytes()
    except OSError as missing:
        raise CheckpointError(
            f"{path} cannot be read", got=type(missing).__name__, remedy="use another checkpoint of the run"
        ) from missing
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise CheckpointError(
            f"{path} was altered or damaged",
            expected=f"sha256 {digest[:12]}...",
            got=f"{found[:12]}...",
            remedy="restore it from a backup, name another checkpoint, or train anew with --force train",
        )
    return load(content)  # the very bytes that were checked


def _synced_sha256(path: Path) -> str:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()
