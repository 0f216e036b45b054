"""What a task tells a training process, how the process marks what it answers, and what it leaves in its folder.

Each line that is meant for the task begins with ``MARK``; anything else on standard output is some library talking. Checkpoints
bring torch, and are imported when one is read: a task whose training is finished reads none.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from schemas.config.run import RunConfig
from schemas.config.section import Config
from schemas.config.training import FitConfig, PretrainConfig
from schemas.errors import CheckpointError
from schemas.reports.data import SplitReport
from schemas.reports.training import EpochRecord, PretrainReport, StartedWeights, TrainReport
from tasks.adapters.models.start_files import start_digest
from tasks.adapters.provenance import file_sha256, provenance

MARK: Final = "@mammo "


class Purpose(StrEnum):
    """What a training process is for."""

    TRAIN = "train"
    PRETRAIN = "pretrain"
    MEASURE = "measure"


class TrainingRequest(Config):
    """All that a training process is told; it crosses as a JSON file.

    Attributes:
        identity: Digest of all that the curve depends on.
        about: What each checkpoint says of itself.
        pretrained: Checkpoint of BI-RADS pre-training to begin with.
    """

    purpose: Purpose
    config: RunConfig
    splits: SplitReport
    run_dir: Path
    identity: str
    about: dict[str, Any]
    pretrained: Path | None = None
    is_forced: bool = False

    @property
    def name(self) -> str:
        """Its folder below the workspace, wherever that lies: how people find it."""
        root = self.config.workspace_dir
        return self.run_dir.relative_to(root).as_posix() if self.run_dir.is_relative_to(root) else self.run_dir.name

    @property
    def fit(self) -> FitConfig:
        """The section that says how to optimise."""
        if self.purpose is Purpose.PRETRAIN:
            return self.config.pretrain or PretrainConfig()
        return self.config.train


def training_request(
    config: RunConfig, splits: SplitReport, pretrained: PretrainReport | None, run_dir: Path, *, is_forced: bool = False
) -> TrainingRequest:
    """What the training process is told."""
    return TrainingRequest(
        purpose=Purpose.TRAIN,
        config=config,
        splits=splits,
        run_dir=run_dir,
        identity=training_identity(config, splits, pretrained),
        about=checkpoint_about(config, splits, seed=config.train.seed),
        pretrained=None if pretrained is None else pretrained.checkpoint_path,
        is_forced=is_forced,
    )


def training_identity(config: RunConfig, splits: SplitReport, pretrained: PretrainReport | None) -> str:
    """Digest of everything that a run's curve depends on: another config never continues it."""
    parts = [
        config.preprocess.sha256(),
        config.model.sha256(),
        config.train.identity(),
        splits.data_version,
        file_sha256(splits.splits_path),
        "" if pretrained is None else pretrained.checkpoint_sha256,
        start_digest(config.train.start),
    ]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def training_report(request: TrainingRequest) -> TrainReport:
    """What a finished training left in its folder.

    Raises:
        CheckpointError: The best epoch's checkpoint is gone.
    """
    from tasks.adapters.models.checkpoints import epoch_dir

    records = finished_epochs(request.run_dir)
    best = max(record.epoch for record in records if record.is_best)
    pointed = [record.epoch for record in records if record.is_best_localization]
    checkpoint = epoch_dir(request.run_dir, best)
    return TrainReport(
        checkpoint_path=checkpoint,
        checkpoint_sha256=kept_checkpoint_sha256(checkpoint),
        run_dir=request.run_dir,
        epochs=records,
        best_epoch=best,
        train_exams=request.splits.counts["train"].exams,
        splits_sha256=file_sha256(request.splits.splits_path),
        provenance=provenance(request.config, request.splits, seed=request.config.train.seed),
        localization_checkpoint_path=epoch_dir(request.run_dir, max(pointed)) if pointed else None,
        start=started_weights(request.run_dir),
    )


def finished_epochs(run_dir: Path) -> tuple[EpochRecord, ...]:
    """The training curve so far."""
    from tasks.adapters.models.checkpoints import latest_checkpoint

    checkpoint = latest_checkpoint(run_dir)
    return () if checkpoint is None else tuple(EpochRecord(**record) for record in checkpoint.sidecar["epochs"])


def started_weights(run_dir: Path) -> StartedWeights | None:
    """What the training of a folder began with, as its newest checkpoint says; None = random weights, or a former release."""
    from tasks.adapters.models.checkpoints import latest_checkpoint

    checkpoint = latest_checkpoint(run_dir)
    started = None if checkpoint is None else checkpoint.sidecar.get("start")
    return None if started is None else StartedWeights.model_validate(started)


def kept_checkpoint_sha256(checkpoint: Path) -> str:
    """Digest of the best epoch's weights.

    Raises:
        CheckpointError: They are gone.
    """
    from tasks.adapters.models.checkpoints import load_checkpoint

    if not checkpoint.exists():
        raise CheckpointError(
            "The best epoch's checkpoint is gone",
            expected=checkpoint,
            remedy="restore it from a backup, or train anew with --force train",
        )
    return load_checkpoint(checkpoint).sha256


def checkpoint_about(config: RunConfig, splits: SplitReport, *, seed: int) -> dict[str, Any]:
    """What every checkpoint says of itself."""
    return {
        "provenance": provenance(config, splits, seed=seed).model_dump(),
        "preprocess": config.preprocess.model_dump(mode="json"),
    }
