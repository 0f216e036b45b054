"""Model files: safetensors with a sha256 sidecar, written so that a crash leaves the last good one. Nothing is unpickled.

    run_dir/
      epoch-0003/weights.safetensors     the network, ours to share
      epoch-0003/training.safetensors    optimiser moments and random states, to continue bit for bit
      epoch-0003/patients.json           whom the network was trained and tuned on, as digests (``seen_patients``)
      epoch-0003/checkpoint.json         sha256 of these and of itself, model config, provenance, training curve
      partial-0004-000120/               the same after 120 steps of epoch 4 (train.checkpoint_steps)

A checkpoint folder is filled aside and renamed; loaders check both digests (a flipped bit loads silently otherwise).
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import shutil
import warnings
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from schemas.config.network import NetworkConfig
from schemas.errors import CheckpointError, error_name
from schemas.reports.training import SeenPatients
from tasks.adapters.models.model_files import PATIENTS, SIDECAR, WEIGHTS, read_sidecar, sealed
from tasks.adapters.workspace import UNFINISHED, aside_of, sync, write_atomically

logger = logging.getLogger(__name__)

TRAINING = "training.safetensors"

_FETCH_AGAIN: Final = "use the weights as published, whole and unaltered; fetch them again"
_SAVE_PLAIN: Final = "where it was made, save the state dict alone: torch.save(network.state_dict(), FILE)"

_NETWORK = TypeAdapter[NetworkConfig](NetworkConfig)


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
    def model_config(self) -> NetworkConfig:
        """The network's config.

        Raises:
            CheckpointError: The sidecar holds none that this version knows.
        """
        try:
            network: NetworkConfig = _NETWORK.validate_python(self.sidecar["model"])
            return network
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
    folder: Path,
    *,
    weights: Mapping[str, Tensor],
    training: Mapping[str, Tensor],
    model: NetworkConfig | None,
    about: Mapping[str, Any],
    patients: SeenPatients | None = None,
) -> str:
    """Writes a checkpoint folder aside and renames it; returns the weights' sha256. Parts of a network have no ``model``.

    A folder that stands there (of a damaged checkpoint, say) is moved away first and deleted last.

    Raises:
        CheckpointError: No room on the disk, or it cannot be written; nothing appears under ``folder`` then.
    """
    aside = aside_of(folder, os.getpid())
    replaced = aside_of(folder, f"{os.getpid()}.old")
    for leftover in (aside, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    aside.mkdir(parents=True, mode=0o700)
    try:
        digests = {}
        for name, tensors in ((WEIGHTS, weights), (TRAINING, training)):
            if tensors:
                save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, aside / name)
                digests[name] = _synced_sha256(aside / name)
        if patients is not None:
            content = patients.model_dump_json().encode()
            write_atomically(aside / PATIENTS, content)
            digests[PATIENTS] = hashlib.sha256(content).hexdigest()
        sidecar = {"sha256": digests, **({} if model is None else {"model": model.model_dump(mode="json")}), **about}
        write_atomically(aside / SIDECAR, sealed(sidecar))
        if folder.exists():
            folder.rename(replaced)
        aside.rename(folder)
        sync(folder.parent)
    except (OSError, SafetensorError) as full:
        size = sum(tensor.nbytes for tensors in (weights, training) for tensor in tensors.values())
        raise CheckpointError(
            f"The checkpoint {folder} cannot be written",
            expected=f"room for {size / 2**20:.0f} MiB",
            got=str(full),
            remedy="make room and run the same command again: it goes on after the last kept checkpoint, which is untouched",
        ) from full
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
        sidecar = read_sidecar(folder)
        digests = {str(name): str(digest) for name, digest in sidecar["sha256"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as missing:
        raise CheckpointError(
            f"{folder} is not a checkpoint",
            expected=f"a folder with {SIDECAR} and {WEIGHTS}",
            remedy="name the checkpoint folder that `mammo train` printed",
        ) from missing
    weights = _verified(folder / WEIGHTS, digests.get(WEIGHTS, "none"))
    training = _verified(folder / TRAINING, digests[TRAINING]) if with_training and TRAINING in digests else {}
    return Checkpoint(folder=folder, weights=weights, training=training, sidecar=sidecar)


def epoch_dir(run_dir: Path, epoch: int) -> Path:
    """Folder of a finished epoch."""
    return run_dir / f"epoch-{epoch:04d}"


def partial_dir(run_dir: Path, epoch: int, steps: int) -> Path:
    """Folder of an epoch's first steps."""
    return run_dir / f"partial-{epoch:04d}-{steps:06d}"


def latest_checkpoint(run_dir: Path) -> Checkpoint | None:
    """The checkpoint that training got furthest with and that verifies; a damaged one is named in the log and passed over."""
    folders = [*run_dir.glob("epoch-*"), *run_dir.glob("partial-*")]
    for folder in sorted(folders, key=_position, reverse=True):
        try:
            return load_checkpoint(folder, with_training=True)
        except CheckpointError as damage:
            logger.warning("%s", damage)
    return None


def prune_checkpoints(run_dir: Path, *, keep_last: int, keep_also: Collection[Path]) -> None:
    """Deletes all but the last few epochs and the best ones, partial epochs, and leftovers of killed writers."""
    for folder in sorted(run_dir.glob("epoch-*"))[:-keep_last]:
        if folder not in keep_also:
            shutil.rmtree(folder)
    prune_partials(run_dir)


def prune_partials(run_dir: Path, *, keep: Path | None = None) -> None:
    """Deletes partial epochs but one, and leftovers of killed writers."""
    for folder in run_dir.glob("partial-*"):
        if folder != keep:
            shutil.rmtree(folder)
    for leftover in (*run_dir.glob(f".epoch-*{UNFINISHED}"), *run_dir.glob(f".partial-*{UNFINISHED}")):
        shutil.rmtree(leftover)


def delete_checkpoints(run_dir: Path) -> None:
    """Deletes every checkpoint of a run: it is to begin anew."""
    for folder in (*run_dir.glob("epoch-*"), *run_dir.glob("partial-*")):
        shutil.rmtree(folder)


def read_tensors(source: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors of a file that others may have made, by name, and its SHA-256: of a state dict, or of safetensors.

    ``weights_only`` loading: a pickle that would run code is refused. An archive's own check sums are looked at.

    Raises:
        CheckpointError: It cannot be read, is cut off or damaged, or holds something else than tensors by name.
    """
    try:
        content = source.read_bytes()
    except (OSError, ValueError) as missing:
        raise CheckpointError(
            f"{source.name} cannot be read",
            expected="a file of weights",
            got=error_name(missing) if isinstance(missing, OSError) else type(missing).__name__,
            remedy="check the path, and that this user may read it",
        ) from missing
    try:
        state: object = load(content) if content[8:9] == b"{" else _unpickled(content)
    except Exception as refused:  # torch raises pickle, zip, OS and runtime errors alike
        got, remedy = _said_of(content, refused)
        raise _no_state_dict(
            source, "a whole file that torch.load(weights_only=True) or safetensors accepts", got, remedy=remedy
        ) from refused
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        wrapped = "save the state dict alone: tensors by name, in no other dict"
        raise _no_state_dict(source, "tensors by name", type(state).__name__, remedy=wrapped)
    return {str(name): value for name, value in state.items()}, hashlib.sha256(content).hexdigest()


# ------------------------------------------------------------------------------------------------------ training state


def flatten_training(
    optimizer: torch.optim.Optimizer,
    random_by_rank: Sequence[Mapping[str, Tensor]],
    trained: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Training state as flat tensors.

    Args:
        optimizer: Its moments are kept.
        random_by_rank: For each training process the states of its generators, by device kind.
        trained: The weights that training moves, where the checkpoint's own are their running mean.
    """
    tensors = {f"random.{rank}.{kind}": state for rank, states in enumerate(random_by_rank) for kind, state in states.items()}
    tensors |= {f"trained.{name}": tensor for name, tensor in (trained or {}).items()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            tensors[f"optimizer.{index}.{name}"] = value if isinstance(value, Tensor) else torch.tensor(value)
    return tensors


def restore_training(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], *, rank: int = 0) -> dict[str, Tensor]:
    """Puts flat tensors back into the optimiser; returns the random states of one process, of the first if it was not there.

    Raises:
        CheckpointError: The checkpoint holds weights only.
    """
    of_rank: dict[int, dict[str, Tensor]] = {}
    for key, state in tensors.items():
        if key.startswith("random."):
            _, of, kind = key.split(".")
            of_rank.setdefault(int(of), {})[kind] = state
    random_state = of_rank.get(rank) or of_rank.get(0)
    if random_state is None:
        raise CheckpointError(
            "Training cannot go on from this checkpoint",
            expected=f"a checkpoint with {TRAINING}",
            got="weights only",
            remedy="start the training anew with --force train",
        )
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            weight = weights[int(index)]
            # Files keep no memory layout, and Adam rounds otherwise where moments are laid out otherwise than their weights.
            is_moment = tensor.shape == weight.shape
            moments.setdefault(int(index), {})[name] = torch.empty_like(weight).copy_(tensor) if is_moment else tensor
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return random_state


def trained_weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The weights to go on training with."""
    moved = {key.removeprefix("trained."): value for key, value in checkpoint.training.items() if key.startswith("trained.")}
    return moved or checkpoint.weights


def _position(folder: Path) -> tuple[int, int]:
    """(epochs finished, steps of the next one)."""
    kind, epoch, *steps = folder.name.split("-")
    return (int(epoch) + 1, 0) if kind == "epoch" else (int(epoch), int(steps[0]))


def _unpickled(content: bytes) -> object:
    if content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if archive.testzip() is not None:
                raise zipfile.BadZipFile
    with warnings.catch_warnings():  # torch's words are for whoever wrote the file: ours say what to do with it
        warnings.simplefilter("ignore")
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _said_of(content: bytes, refused: Exception) -> tuple[str, str]:
    """What a file is that is no state dict, as far as its bytes tell, and what to do with it; nothing of it is run."""
    start = content[:512].lstrip().lower()
    called = re.search(r"GLOBAL (\S+)", str(refused))  # torch names it: what the pickle would call or build
    if not content:
        return "an empty file", _FETCH_AGAIN
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page", "fetch the file itself: this is what a server answered in its place"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer", "fetch what it points to: git lfs pull"
    if "TorchScript" in str(refused):
        return "a TorchScript program", _SAVE_PLAIN
    if content[:1] == b"\x08" and (b"pytorch" in start or b"onnx" in start):
        return "an ONNX model", _SAVE_PLAIN
    if called:
        return f"a pickle that would run {called[1]} when opened", f"open it nowhere unless you trust it; {_SAVE_PLAIN}"
    if content[:1] == b"\x80":
        return "a pickle that is cut off, or of more than tensors by name", f"{_FETCH_AGAIN}; or {_SAVE_PLAIN}"
    return type(refused).__name__, _FETCH_AGAIN


def _no_state_dict(source: Path, expected: str, got: str, *, remedy: str) -> CheckpointError:
    return CheckpointError(f"{source.name} is not a plain state dict", expected=expected, got=got, remedy=remedy)


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
