"""Train: a training process fits GMIC; this task starts it, shows how it goes and reports what it made."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from schemas.config.run import RunConfig, Stage
from schemas.reports.data import SplitReport
from schemas.reports.training import PretrainReport, TrainReport
from tasks.adapters.lifecycle.in_use import register_candidate
from tasks.adapters.models.start_files import start_digest
from tasks.adapters.provenance import file_sha256
from tasks.adapters.training.process import run_training
from tasks.adapters.training.request import Measured, run_of, training_report, training_request
from tasks.adapters.workspace import Workspace
from tasks.artifacts import Progress, duration, progress, show_table
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
        *filter(None, (start_digest(config.train.start),)),
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
    run = run_of(Workspace(config.workspace_dir).stage_dir(Stage.TRAIN.value), config, splits, pretrained)
    if run.other is not None:
        logger.warning(
            "Images, labels or splits are others than those that %s began on: the training begins anew. "
            "`mammo train CONFIG.yaml --continue` goes on with it and with the patients that it has seen",
            run.other.name,
        )
    request = training_request(config, splits, pretrained, run.folder, is_forced=Stage.TRAIN in config.force)
    request = request.going_on(run).model_copy(update={"is_measured_first": True})
    with progress("train", config.train.epochs, "epochs") as tracker:
        run_training(request, lambda message: show_message(tracker, message))
    report = training_report(request)
    register_candidate(Workspace(config.workspace_dir), report.checkpoint_path, report.checkpoint_sha256, source="train")
    rows = [record.model_dump() for record in report.epochs]
    show_table("training-curve", rows, f"{len(rows)} epochs, best {report.best_epoch}, weights {report.checkpoint_sha256[:12]}")
    return report


def show_message(tracker: Progress, message: Mapping[str, Any]) -> None:
    """One message of the training process as a line and a step of the progress bar."""
    if message["kind"] == "start":
        logger.info("training on %s", message["device"])
        tracker.begin_at(message["epochs_done"])
        if message["epochs_done"]:
            logger.info("continuing after %d of %d epochs", message["epochs_done"], message["epochs"])
    elif message["kind"] == "measured":
        epoch_s = Measured.model_validate(message["measured"]).epoch_seconds
        text = "forecast from a few steps: %d epochs will take about %s, each %s"
        logger.info(text, tracker.total, duration(tracker.total * epoch_s), duration(epoch_s))
    elif message["kind"] == "step":
        left_s = (message["of"] - message["images"]) / max(message["images_per_s"], 1e-6)
        logger.info(
            "epoch %d: %d of %d images, %.1f images/s, %s of the epoch left",
            message["epoch"],
            message["images"],
            message["of"],
            message["images_per_s"],
            duration(left_s),
        )
    elif message["kind"] == "epoch":
        tracker.advance_to(message["record"]["epoch"] + 1, _in_words(message["record"]))


# ---------------------------------------------------------------------------------------------------------------------


def _in_words(record: Mapping[str, Any]) -> str:
    words = [f"loss {record['train_loss']:.3f}"]
    for name, label in (
        ("tuning_malignant_auroc", "tuning malignant AUROC"),
        ("tuning_localization_f1", "tuning localisation F1"),
        ("tuning_malignant_f1", "of malignant findings"),
        ("tuning_loss", "tuning loss"),
        ("baseline_loss", "of who learnt nothing"),
        ("tuning_accuracy", "tuning accuracy"),
        ("baseline_accuracy", "of always naming the commonest"),
        ("tuning_auroc", "tuning AUROC"),
    ):
        if record.get(name) is not None:
            words.append(f"{label} {record[name]:.3f}")
    return ", ".join([*words, f"{record['images_per_s']:.1f} images/s", f"{record['memory_mib']:.0f} MiB"])
