"""Files that first weights come from: opened, refused, described, and made ours. What of them is taken: ``gmic_model``.

A path is a checkpoint's folder, or a file that others made. Looking whether files are there needs no torch; opening them does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.config.ingest import PreprocessConfig
from schemas.config.network import GMICConfig
from schemas.config.recipe import StartConfig, StartPart
from schemas.config.run import RunConfig, Stage
from schemas.errors import CheckpointError, ConfigError
from schemas.exam import NOT_KNOWN
from schemas.reports.training import SeenPatients
from tasks.adapters.models.model_files import (
    ensemble_file,
    kept_terms,
    read_ensemble,
    read_sidecar,
    require_new_folder,
    said_preprocessing,
    weights_sha256,
)
from tasks.adapters.models.seen_patients import joined, read_seen_patients
from tasks.adapters.provenance import config_preprocessing, file_sha256

IMAGENET_RESNET18 = "https://download.pytorch.org/models/resnet18-f37072fd.pth"
"""Where torchvision's ResNet-18 is to be had; BSD licence, the weights of ``ResNet18_Weights.IMAGENET1K_V1``."""

_HAD_FROM = {
    StartPart.NETWORK: "a checkpoint is the folder that `mammo train` printed",
    StartPart.LOCALIZATION: "this backbone is in the folders that `mammo pretrain` and `mammo train` printed",
    StartPart.PATCHES: f"torchvision's ResNet-18 is at {IMAGENET_RESNET18}",
}

_NAMED_DIGEST = re.compile(r"-([0-9a-f]{8,64})\.(?:pth|pt|p|safetensors)$")
"""Torch hub's way: a file's name ends with the first digits of its SHA-256."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFile:
    """An opened file of weights.

    Attributes:
        form: What it holds.
        source: Its name, without its place.
        sha256: Of the file; of a checkpoint's weights.
        weights: Tensors by the names that they have in the whole network.
        left: Names in the file of what nothing of ours reads.
        sidecar: What a checkpoint says of itself; empty for others' files.
        has_seen_patients: False if it is known that no patient was seen.
        seen: Whom a checkpoint was trained and tuned on; None = not known, or nobody.
    """

    form: str
    source: str
    sha256: str
    weights: Mapping[str, Any]
    left: tuple[str, ...]
    sidecar: Mapping[str, Any]
    has_seen_patients: bool | None
    seen: SeenPatients | None

    def joined_with(self, others: SeenPatients | None) -> SeenPatients | None:
        """Whom a training that begins with the file has seen, beside its own patients; None = nobody knows."""
        return others if self.has_seen_patients is False else joined(others, self.seen)


def require_start(start: StartConfig, *, section: str = "train") -> None:
    """Says at once that a file of first weights is not there, before hours of other work.

    Raises:
        ConfigError: A file that the config names is not there.
        CheckpointError: It is an ensemble.
    """
    for part, path in start.files():
        if not os.path.lexists(path):
            raise ConfigError(
                f"There is no file {path} to begin the {part.value} with",
                expected=f"the weights that {section}.start.{part.value} names",
                got="nothing of that name",
                remedy=f"{_HAD_FROM[part]}; put it there, or name another file; --from-scratch "
                f"({section}.start.from_scratch) begins with random weights, and without pre-training",
            )
        _require_one_network(path)


def require_starts(config: RunConfig) -> None:
    """``require_start`` for all that a run trains, and what else can be told before images are read.

    Of what has a digest, that it is whole and the file that is meant; of a checkpoint, that these images are like its own.

    Raises:
        ConfigError: A file that the config names is not there; or a pre-training is forced and there is none.
        CheckpointError: It is an ensemble, no checkpoint, cut off, another one, or of images of another preprocessing.
        StoreError: It cannot be read.
    """
    begun = {"train": config.train.start}
    if config.pretrain is not None and not config.train.start.from_scratch:
        begun["pretrain"] = config.pretrain.start
    elif Stage.PRETRAIN in config.force:
        raise ConfigError(
            "This run does not pre-train, so it cannot do that again",
            expected="a section pretrain, and weights that begin with it",
            got="no section pretrain" if config.pretrain is None else "train.start.from_scratch",
            remedy="leave pretrain out of what is forced, or "
            + ("add a section `pretrain: {}`, for the defaults" if config.pretrain is None else "leave out from_scratch"),
        )
    for section, start in begun.items():
        require_start(start, section=section)
        for part, path in start.files():
            if wanted := _wanted_digest(path, start.digests.get(part, "")):
                _require_digest(path, _sha256_of(path), wanted)
            if _is_folder(path):
                require_same_images(read_sidecar(path), config.preprocess, path.name)


def require_same_images(sidecar: Mapping[str, Any], config: PreprocessConfig, source: str) -> None:
    """Refuses to begin a training with weights of images that were made otherwise; others' weights say nothing of theirs.

    Raises:
        CheckpointError: Crop mode, version, VOI transform, common pixel spacing or what is done with large breasts differ.
    """
    wanted = f"{config_preprocessing(config)}{config.fitting}"
    trained_on = said_preprocessing(sidecar, wanted)
    if trained_on != wanted:
        raise CheckpointError(
            f"{source} was trained on images of another preprocessing than this store's",
            expected=f"crop mode, version, VOI transform, common spacing and fitting {trained_on}, as these weights know them",
            got=wanted,
            remedy="leave the preprocess section out of the config: it is then that of train.start.network, and ingest into a "
            "new workspace_dir; or begin with other weights",
        )


def start_digest(start: StartConfig, *, section: str = "train") -> str:
    """Names what a training begins with, for its identity: the same wherever the files lie; empty = random weights.

    Raises:
        ConfigError: A file is not there.
        CheckpointError: A folder is no checkpoint.
        StoreError: A file cannot be read.
    """
    require_start(start, section=section)
    return "\n".join(f"{part.value} {_sha256_of(path)}" for part, path in start.files())


def open_start(path: Path, *, expected_sha256: str = "") -> StartFile:
    """Opens a file or checkpoint folder.

    Args:
        path: The file or folder.
        expected_sha256: First digits that its digest must have; empty = those that its name ends with, if it ends so.

    Raises:
        CheckpointError: It is not there, cut off, altered, an ensemble, or holds no weights of a form that is known.
    """
    from gmic_model.weights import our_weights
    from tasks.adapters.models.checkpoints import load_checkpoint, read_tensors

    _require_one_network(path)
    sidecar: Mapping[str, Any] = {}
    seen = None
    if _is_folder(path):
        checkpoint = load_checkpoint(path)
        state, sha256, sidecar, seen = checkpoint.weights, checkpoint.sha256, checkpoint.sidecar, read_seen_patients(path)
    else:
        state, sha256 = read_tensors(path)
    _require_digest(path, sha256, _wanted_digest(path, expected_sha256))
    try:
        ours = our_weights(state)
    except CheckpointError as misfit:
        raise CheckpointError(f"{path.name} holds no weights to begin with: {misfit}") from misfit
    return StartFile(
        form=sidecar.get("form", ours.form.value),
        source=path.name,
        sha256=sha256,
        weights=ours.weights,
        left=ours.left,
        sidecar=sidecar,
        has_seen_patients=sidecar.get("has_seen_patients", ours.has_seen_patients),
        seen=seen,
    )


def import_weights(source: Path, folder: Path, *, top_t: float | None = None) -> StartFile:
    """Makes a file of weights ours: a checkpoint folder, safetensors with their digests, under our names.

    A released GMIC becomes a network that can be evaluated; others become parts, or weights without their config, which can
    begin a training.

    Args:
        source: The file.
        folder: The checkpoint folder to make.
        top_t: Pooled fraction t of a released GMIC, which its file does not say.

    Raises:
        CheckpointError: The file is no state dict of a known form, or is a checkpoint of ours already.
        ConfigError: A released GMIC's t is not given, or there is something under the folder's name.
    """
    from gmic_model.weights import WeightsForm
    from tasks.adapters.models.checkpoints import save_checkpoint

    if _is_folder(source):
        raise CheckpointError(
            f"{source.name} is a folder", expected="a file of weights", remedy="a checkpoint is ours already: name its folder"
        )
    require_new_folder(folder)
    opened = open_start(source)
    model = None
    if opened.form == WeightsForm.RELEASED and top_t is not None:
        model = GMICConfig.released(top_t=top_t)
    elif opened.form == WeightsForm.RELEASED:
        raise ConfigError(
            "A released GMIC does not say its pooled fraction t",
            expected="--top-t",
            remedy=".02 .03 .03 .05 .10 for models 1 to 5",
        )
    about = {
        "source": opened.source,
        "source_sha256": opened.sha256,
        "form": opened.form,
        **({} if opened.has_seen_patients is None else {"has_seen_patients": opened.has_seen_patients}),
    }
    save_checkpoint(folder, weights=opened.weights, training={}, model=model, about=about)
    return open_start(folder)


def described(opened: StartFile) -> list[str]:
    """What a file holds, in lines for people: its form, its digest, and the tensors of each module."""
    lines = [f"{opened.source}: {opened.form}, sha256 {opened.sha256}"]
    modules: dict[str, list[Any]] = {}
    for name, value in opened.weights.items():
        modules.setdefault(".".join(name.split(".")[:2]), []).append(value)
    for module, values in sorted(modules.items()):
        numbers = sum(value.numel() for value in values)
        lines.append(f"  {module:<24} {len(values):>4} tensors {numbers:>12,} numbers")
    if opened.left:
        lines.append(f"  not ours, left           {len(opened.left):>4} tensors: {', '.join(opened.left)}")
    begins = [part.value for part, module in _BEGINS if module is None or module in modules]
    lines.append(f"It can begin: {', '.join(begins)}")
    made = opened.sidecar.get("provenance", {})
    if made.get("preprocess_version"):
        lines.append(
            f"Trained on images of preprocessing {made['preprocess_version']}, data {str(made.get('data_version'))[:12]}"
        )
    if opened.sidecar.get("source"):
        lines.append(f"Imported from {opened.sidecar['source']}, sha256 {opened.sidecar.get('source_sha256')}")
    knows = "no patient" if opened.has_seen_patients is False else "those on its list" if opened.seen else NOT_KNOWN
    lines.append(f"Patients it has seen: {knows}")
    lines += kept_terms(opened.sidecar)
    return lines


def _sha256_of(path: Path) -> str:
    return weights_sha256(path) if _is_folder(path) else file_sha256(path)


def _wanted_digest(path: Path, expected_sha256: str) -> str:
    found = _NAMED_DIGEST.search(path.name)
    return expected_sha256 or (found[1] if found else "")


def _require_digest(path: Path, sha256: str, wanted: str) -> None:
    if not sha256.startswith(wanted):
        raise CheckpointError(
            f"{path.name} was altered or damaged, or is another file than was meant",
            expected=f"sha256 {wanted}...",
            got=f"{sha256[:12]}...",
            remedy="fetch it again from where it was published",
        )


def _require_one_network(path: Path) -> None:
    file = ensemble_file(path)
    if file is not None:
        folders = [str(member.path) for member in read_ensemble(file)]
        raise CheckpointError(
            f"{path.name} names the networks of an ensemble, and no weights of its own",
            expected="a checkpoint's folder, or a file of weights",
            got=f"an ensemble of {len(folders)}",
            remedy=f"name one of its networks: {', '.join(folders)}",
        )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long, a loop: whoever opens it says so
        return False


_BEGINS = (
    (StartPart.NETWORK, None),
    (StartPart.LOCALIZATION, "localization.backbone"),
    (StartPart.PATCHES, "mil.patch_network"),
)
