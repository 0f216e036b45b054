"""Files that speak of weights and hold none: ``ensemble.json``, and ``recalibration.json`` beside a checkpoint's weights."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schemas.config.evaluation import EvaluateConfig
from schemas.config.ingest import PreprocessConfig
from schemas.config.section import content_sha256
from schemas.errors import CheckpointError, ConfigError
from schemas.reports.evaluation import EvaluationReport, RecalibrationFile, TemperatureFile
from schemas.reports.life.packs import PackedWeights
from schemas.reports.report import Anchor
from schemas.reports.training import EnsembleFile, EnsembleMember, TrainReport
from tasks.adapters.workspace import found_below, whole_path, write_atomically

WEIGHTS = "weights.safetensors"
"""Of a checkpoint; read and written by ``checkpoints``."""
SIDECAR = "checkpoint.json"
"""Beside the weights: what they are, and their digest."""
PATIENTS = "patients.json"
"""Beside the weights: see ``schemas.reports.training.SeenPatients``."""
IMAGE_REFERENCE = "image_reference"
"""Key in the sidecar: see ``tasks.adapters.models.image_reference``."""
ENSEMBLE = "ensemble.json"
"""In a search's folder: the models that it chose; in a cross-validation's: the network of each fold."""
RECALIBRATION = "recalibration.json"
"""See ``schemas.reports.evaluation.RecalibrationFile``."""
OPERATING_POINTS = "operating_points.json"
"""See ``schemas.reports.clinic.OperatingPointsFile``."""
_SEAL = "content_sha256"
"""Of all that a sidecar says beside it."""
TEMPERATURE = "temperature.json"
"""Of former releases: read where there is no ``recalibration.json``."""


def read_ensemble(path: Path) -> tuple[EnsembleMember, ...]:
    """The models that an ``ensemble.json`` names, with whole paths.

    Raises:
        CheckpointError: It cannot be read, or names no model.
    """
    try:
        file = EnsembleFile.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as unreadable:
        raise CheckpointError(
            f"{path} is no ensemble file",
            expected='{"checkpoints": [{"path": ..., "sha256": ..., "tuning_malignant_auroc": ...}, ...]}',
            got=type(unreadable).__name__,
            remedy="name the ensemble.json that `mammo search` or `mammo crossvalidate` wrote; "
            "docs/explanation/what-the-numbers-mean.md shows one",
        ) from unreadable
    return tuple(
        member.model_copy(update={"path": whole_path(found_below(path.parent, member.path))}) for member in file.checkpoints
    )


def ensemble_file(source: Path) -> Path | None:
    """The ``ensemble.json`` that is named, by itself or by its folder; None = it is none."""
    try:
        file = source / ENSEMBLE if source.is_dir() else source
        return file if file.name == ENSEMBLE and file.is_file() else None
    except OSError:  # a name that is too long, a loop: whoever opens it says so
        return None


def write_ensemble(path: Path, members: Iterable[EnsembleMember]) -> None:
    """Writes the file that ``read_ensemble`` reads; members below its folder are named relative to it."""
    anchor = Anchor(path.parent, aliases=(path.parent.resolve(),))
    write_atomically(path, EnsembleFile(checkpoints=tuple(members)).model_dump_json(indent=1, context=anchor).encode())


def evaluated_members(config: EvaluateConfig, trained: TrainReport | None) -> tuple[EnsembleMember, ...]:
    """The weights to evaluate: those that the config names, else those that training made.

    Raises:
        CheckpointError: A named checkpoint or ensemble file is not there.
    """
    if config.ensemble is not None:
        return read_ensemble(config.ensemble)
    if config.checkpoints:
        return members_of(config.checkpoints)
    if trained is None:
        raise ValueError("neither the config nor training names weights")
    tuning = next((epoch.tuning_malignant_auroc for epoch in trained.epochs if epoch.epoch == trained.best_epoch), None)
    return (EnsembleMember(path=trained.checkpoint_path, sha256=trained.checkpoint_sha256, tuning_malignant_auroc=tuning),)


def members_of(folders: Sequence[Path]) -> tuple[EnsembleMember, ...]:
    """Checkpoint folders with their weights' digests as the sidecars give them; loading checks the weights against these.

    Raises:
        CheckpointError: A folder is no checkpoint.
    """
    return tuple(_member(folder) for folder in folders)


def model_names(members: Sequence[EnsembleMember]) -> list[str]:
    """What tables and pages call the weights of an evaluation."""
    return [f"model-{index}" for index in range(1, len(members) + 1)] if len(members) > 1 else ["model"]


def drawn_members(evaluated: EvaluationReport, trained: TrainReport | None) -> tuple[EnsembleMember, ...]:
    """The weights whose maps, in the mean, stand beside an evaluation's numbers: first those whose patches do.

    These are, of several, those whose saliency the evaluation measured.

    Args:
        evaluated: The evaluation.
        trained: What the evaluation of a former release is of if it names no weights.

    Raises:
        CheckpointError: Nobody names the weights.
    """
    if evaluated.models:
        names = model_names(evaluated.models)
        first = names.index(evaluated.localization_model) if evaluated.localization_model in names else 0
        return evaluated.models[first], *evaluated.models[:first], *evaluated.models[first + 1 :]
    if trained is None:
        raise CheckpointError("The evaluation names no weights", remedy="run `mammo evaluate CONFIG.yaml` again")
    return (EnsembleMember(path=trained.checkpoint_path, sha256=trained.checkpoint_sha256),)


def ensemble_sha256(members: Sequence[EnsembleMember | PackedWeights]) -> str:
    """One model's digest; for an ensemble, SHA-256 of its members' digests in order."""
    if len(members) == 1:
        return members[0].sha256
    return hashlib.sha256("\n".join(member.sha256 for member in members).encode()).hexdigest()


def kept_terms(sidecar: Mapping[str, Any]) -> tuple[str, ...]:
    """What the terms of the data forbid that weights were trained on, as their sidecar says it; () = nothing."""
    return tuple(sidecar.get("provenance", {}).get("terms", ()))


def terms_of(members: Sequence[EnsembleMember]) -> tuple[str, ...]:
    """``kept_terms`` of several weights, each sentence once.

    Raises:
        CheckpointError: A folder is no checkpoint.
    """
    return tuple(dict.fromkeys(sentence for member in members for sentence in kept_terms(read_sidecar(member.path))))


def write_recalibration(folder: Path, kept: RecalibrationFile) -> None:
    """Leaves what was fitted in a folder. A former release's temperature stays beside it and is no longer read."""
    write_atomically(folder / RECALIBRATION, kept.model_dump_json(indent=1).encode())


def read_recalibration(folder: Path, sha256: str) -> RecalibrationFile | TemperatureFile:
    """What was fitted to these very weights: intercepts and slopes, or the temperatures of a former release.

    Raises:
        CheckpointError: Nothing is kept, it cannot be read, or it was fitted to other weights.
    """
    is_former = not (folder / RECALIBRATION).exists()
    name = TEMPERATURE if is_former else RECALIBRATION
    kept: RecalibrationFile | TemperatureFile
    try:
        text = (folder / name).read_bytes()
        kept = TemperatureFile.model_validate_json(text) if is_former else RecalibrationFile.model_validate_json(text)
    except (OSError, ValidationError) as missing:
        raise CheckpointError(
            f"No recalibration is kept in {folder}",
            expected=f"{RECALIBRATION} of a form that this release knows, or {TEMPERATURE} of a former one",
            got=f"{name}: {type(missing).__name__}",
            remedy="run `mammo evaluate` on these weights: it fits one on the tuning split, and leaves it here if it is known "
            "that they were not trained on its patients; or leave `calibrated` off",
        ) from missing
    if kept.checkpoint_sha256 != sha256:
        raise CheckpointError(
            f"The recalibration in {folder} was fitted to other weights",
            expected=f"sha256 {sha256[:12]}...",
            got=f"{kept.checkpoint_sha256[:12]}...",
            remedy="run `mammo evaluate` on these weights again",
        )
    return kept


def sealed(sidecar: Mapping[str, Any]) -> bytes:
    """What a sidecar's file holds: its content and a digest of it, so that nobody goes on with a changed one unawares."""
    content = json.loads(json.dumps({name: value for name, value in sidecar.items() if name != _SEAL}))
    return json.dumps({**content, _SEAL: content_sha256(content)}, indent=1).encode()


def read_sidecar(folder: Path) -> dict[str, Any]:
    """What stands beside a checkpoint's weights.

    Raises:
        CheckpointError: It is gone, is no JSON, or is not what was written; a former release's has no digest to tell by.
    """
    try:
        content = dict(json.loads((folder / SIDECAR).read_text()))
    except (OSError, ValueError, TypeError, RecursionError) as missing:
        raise _no_checkpoint(folder, missing) from missing
    seal = content.pop(_SEAL, None)
    if seal is not None and seal != content_sha256(content):
        raise CheckpointError(
            f"{folder / SIDECAR} was altered or damaged",
            expected=f"content of sha256 {str(seal)[:12]}...",
            got=f"{content_sha256(content)[:12]}...",
            remedy="restore it from a backup, or use another checkpoint of the run",
        )
    return content


def said_preprocessing(sidecar: Mapping[str, Any], wanted: str) -> str:
    """What a sidecar says of the images that its weights were trained on; as wanted, where it does not say."""
    version = sidecar.get("provenance", {}).get("preprocess_version")
    if version is None:
        return wanted
    oversize = sidecar.get("preprocess", {}).get("oversize", "cut")
    return f"{version}{PreprocessConfig(oversize=oversize).fitting}"


def require_new_folder(folder: Path) -> None:
    """Says that a folder to make has a name that is taken: what stands there is somebody's, and is never replaced.

    Raises:
        ConfigError: There is something under that name.
    """
    if os.path.lexists(folder):
        raise ConfigError(f"{folder} is there already", expected="a name for a new folder", remedy="give another")


def weights_sha256(folder: Path) -> str:
    """Of any checkpoint's weights, pre-training's too, as its sidecar gives it.

    Raises:
        CheckpointError: The folder is no checkpoint.
    """
    try:
        return str(read_sidecar(folder)["sha256"][WEIGHTS])
    except (KeyError, TypeError) as missing:
        raise _no_checkpoint(folder, missing) from missing


def _member(folder: Path) -> EnsembleMember:
    sha256 = weights_sha256(folder)
    try:
        best = [epoch["tuning_malignant_auroc"] for epoch in read_sidecar(folder).get("epochs", ())][-1:]
        return EnsembleMember(path=folder, sha256=sha256, tuning_malignant_auroc=best[0] if best else None)
    except KeyError as missing:
        raise CheckpointError(
            f"{folder} was not trained on findings",
            expected="the checkpoint of a training, each epoch with its AUROC of malignant findings",
            got="epochs without one, as a pre-training's",
            remedy="begin a training with it (`train.start.localization`) and name what that printed",
        ) from missing
    except (ValueError, TypeError, AttributeError) as missing:
        raise _no_checkpoint(folder, missing) from missing


def _no_checkpoint(folder: Path, missing: Exception) -> CheckpointError:
    return CheckpointError(
        f"{folder} is not a checkpoint",
        expected=f"a folder with {SIDECAR} and {WEIGHTS}",
        got=type(missing).__name__,
        remedy="name the checkpoint folder that `mammo train` printed",
    )
