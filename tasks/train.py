"""Train: a training process fits GMIC; this task starts it, shows how it goes and reports what it made."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.config.run import RunConfig, Stage
from schemas.errors import CheckpointError
from schemas.reports.data import SplitReport
from schemas.reports.training import EpochRecord, PretrainReport, TrainReport
from tasks.adapters.models.checkpoints import epoch_dir, latest_checkpoint, load_checkpoint
from tasks.adapters.provenance import file_sha256, provenance
from tasks.adapters.training.process import run_training
from tasks.adapters.training.request import Purpose, TrainingRequest
from tasks.adapters.workspace import Workspace
from tasks.artifacts import Progress, progress, show_table
from tasks.stage import GPU_TAG, stage

logger = logging.getLogger(__name__)


@stage(
    Stage.TRAIN,
    version=2,
    sections=("preprocess", "model", "train"),
    reads=lambda config, splits, pretrained: (
        splits.data_version,
        file_sha256(splits.splits_path),
        "" if pretrained is None else pretrained.checkpoint_sha256,
    ),
    tags=(GPU_TAG,),
)
def train_network(config: RunConfig, splits: SplitReport, pretrained: PretrainReport | None) -> TrainReport:
    """Trains to the last epoch, from the newest checkpoint of this very run if there is one; anew if the stage is forced.

    Raises:
        TrainingError: There is nothing to train on, or the loss left the finite numbers.
        CheckpointError: The best epoch's checkpoint is gone.
        StoreBusy: Another process trains in the same folder.
    """
    identity = training_identity(config, splits, pretrained)
    run_dir = Workspace(config.workspace_dir).stage_dir(Stage.TRAIN.value) / identity[:12]
    request = training_request(config, splits, pretrained, run_dir, is_forced=Stage.TRAIN in config.force)
    with progress("train", config.train.epochs, "epochs") as tracker:
        run_training(request, lambda message: show_message(tracker, message))
    report = training_report(request)
    rows = [record.model_dump() for record in report.epochs]
    show_table("training-curve", rows, f"{len(rows)} epochs, best {report.best_epoch}")
    return report


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
    ]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def training_report(request: TrainingRequest) -> TrainReport:
    """What a finished training left in its folder.

    Raises:
        CheckpointError: The best epoch's checkpoint is gone.
    """
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
        provenance=provenance(request.config, request.splits.data_version, seed=request.config.train.seed),
        localization_checkpoint_path=epoch_dir(request.run_dir, max(pointed)) if pointed else None,
    )


def finished_epochs(run_dir: Path) -> tuple[EpochRecord, ...]:
    """The training curve so far."""
    checkpoint = latest_checkpoint(run_dir)
    return () if checkpoint is None else tuple(EpochRecord(**record) for record in checkpoint.sidecar["epochs"])


def kept_checkpoint_sha256(checkpoint: Path) -> str:
    """Digest of the best epoch's weights.

    Raises:
        CheckpointError: They are gone.
    """
    if not checkpoint.exists():
        raise CheckpointError(
            "The best epoch's checkpoint is gone",
            expected=checkpoint,
            remedy="restore it from a backup, or train anew with --force train",
        )
    return load_checkpoint(checkpoint).sha256


def show_message(tracker: Progress, message: Mapping[str, Any]) -> None:
    """One message of the training process as a line and a step of the progress bar."""
    if message["kind"] == "start" and message["epochs_done"]:
        logger.info("continuing after %d of %d epochs", message["epochs_done"], message["epochs"])
        tracker.begin_at(message["epochs_done"])
    elif message["kind"] == "step":
        left_min = (message["of"] - message["images"]) / max(message["images_per_s"], 1e-6) / 60
        logger.info(
            "epoch %d: %d of %d images, %.1f images/s, %.0f min of the epoch left",
            message["epoch"],
            message["images"],
            message["of"],
            message["images_per_s"],
            left_min,
        )
    elif message["kind"] == "epoch":
        tracker.advance_to(message["record"]["epoch"] + 1, _in_words(message["record"], message["left_s"]))


def checkpoint_about(config: RunConfig, splits: SplitReport, *, seed: int) -> dict[str, Any]:
    """What every checkpoint says of itself."""
    return {
        "provenance": provenance(config, splits.data_version, seed=seed).model_dump(),
        "preprocess": config.preprocess.model_dump(mode="json"),
    }


# ---------------------------------------------------------------------------------------------------------------------


def _in_words(record: Mapping[str, Any], left_s: float) -> str:
    words = [f"loss {record['train_loss']:.3f}"]
    for name, label in (
        ("tuning_malignant_auroc", "tuning malignant AUROC"),
        ("tuning_localization_f1", "tuning localisation F1"),
        ("tuning_loss", "tuning loss"),
        ("tuning_accuracy", "tuning accuracy"),
    ):
        if record.get(name) is not None:
            words.append(f"{label} {record[name]:.3f}")
    return ", ".join(
        [*words, f"{record['images_per_s']:.1f} images/s", f"{record['memory_mib']:.0f} MiB", f"{_duration(left_s)} left"]
    )


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.0f} min"
