"""A model as a site uses it: one network, or an ensemble that scores as one; what lies beside it is its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gmic_model.networks.mean_network import as_one
from gmic_model.networks.network import FindingsNetwork
from schemas.reports.training import EnsembleMember
from tasks.adapters.models.checkpoints import load_checkpoint
from tasks.adapters.models.model_files import (
    SIDECAR,
    WEIGHTS,
    ensemble_file,
    ensemble_sha256,
    kept_terms,
    members_of,
    read_ensemble,
)
from tasks.adapters.models.networks import member_network, require_member, require_preprocessing


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeModel:
    """A model that was loaded.

    Attributes:
        folder: Where its thresholds and its recalibration lie: the checkpoint's folder, or that of ``ensemble.json``.
        sha256: Of the weights; of several, of their digests in order.
        network: Scores as one network.
        networks: How many it is made of.
        terms: What the terms of the training data forbid.
    """

    folder: Path
    sha256: str
    network: FindingsNetwork
    networks: int
    terms: tuple[str, ...]


def model_members(source: Path) -> tuple[EnsembleMember, ...]:
    """The weights of a checkpoint folder, or those that an ensemble's file, or the folder that it lies in, names.

    Raises:
        CheckpointError: It is neither.
    """
    file = ensemble_file(source)
    return members_of([source]) if file is None else read_ensemble(file)


def load_model(source: Path, *, window_px: tuple[int, int] | None = None, preprocessing: str | None = None) -> WholeModel:
    """The network of a checkpoint, or the mean of those of an ensemble.

    Args:
        source: A checkpoint folder, an ``ensemble.json``, or the folder that it lies in.
        window_px: The size of the images to come; None = any.
        preprocessing: Of the images to come, as ``store_preprocessing`` names it; None = any.

    Raises:
        CheckpointError: Weights are gone, were altered, or are of images of another size or preprocessing.
    """
    members = model_members(source)
    networks, terms = list[FindingsNetwork](), list[str]()
    for member in members:
        checkpoint = load_checkpoint(member.path)
        networks.append(member_network(checkpoint, member, window_px=window_px, preprocessing=preprocessing))
        terms += kept_terms(checkpoint.sidecar)
    return WholeModel(
        folder=home_of(source),
        sha256=ensemble_sha256(members),
        network=as_one(networks),
        networks=len(networks),
        terms=tuple(dict.fromkeys(terms)),
    )


def require_model(source: Path, *, preprocessing: str) -> None:
    """Reads every byte of a model's weights, and builds no network.

    Raises:
        CheckpointError: Weights are gone, were altered, or are of images of another preprocessing.
    """
    for member in model_members(source):
        checkpoint = load_checkpoint(member.path)
        require_member(checkpoint, member)
        require_preprocessing(checkpoint, preprocessing)


def home_of(source: Path) -> Path:
    """The folder of a model that is named by its folder, or by its ``ensemble.json``."""
    return source if source.is_dir() else source.parent


def model_files(source: Path) -> tuple[Path, ...]:
    """Whose change is a change of the model.

    Raises:
        CheckpointError: It is no model.
    """
    return tuple(member.path / name for member in model_members(source) for name in (WEIGHTS, SIDECAR))
