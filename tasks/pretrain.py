"""Pretrain: the localisation network learns categories, or hidden tissue, before findings (paper section 3.1)."""

from __future__ import annotations

import hashlib
import logging

from schemas.config.run import RunConfig, Stage
from schemas.config.training import PretrainConfig
from schemas.errors import ConfigError
from schemas.reports.data import SplitReport
from schemas.reports.training import PretrainEpoch, PretrainReport
from tasks.adapters.models.start_files import start_digest
from tasks.adapters.provenance import file_sha256, provenance
from tasks.adapters.training.process import run_training
from tasks.adapters.training.request import (
    Purpose,
    TrainingRequest,
    checkpoint_about,
    judged_pretraining,
    kept_checkpoint_sha256,
    started_weights,
)
from tasks.adapters.workspace import Workspace
from tasks.artifacts import progress, show_table
from tasks.stage import GPU_TAG, stage
from tasks.train import show_message

logger = logging.getLogger(__name__)


@stage(
    Stage.PRETRAIN,
    version=1,
    sections=("preprocess", "pretrain"),
    reads=lambda config, splits: (splits.data_version, file_sha256(splits.splits_path), *filter(None, (_start(config),))),
    tags=(GPU_TAG,),
)
def pretrain_network(config: RunConfig, splits: SplitReport) -> PretrainReport:
    """Pre-trains to the last epoch, going on from a checkpoint if there is one; keeps the lowest tuning loss.

    Raises:
        ConfigError: The config has no pretrain section.
        TrainingError: No training exam has a category that the section asks for.
    """
    from tasks.adapters.models.checkpoints import epoch_dir, latest_checkpoint  # torch: a finished stage does without

    fit = _required(config)
    parts = (config.preprocess.sha256(), fit.identity(), splits.data_version, file_sha256(splits.splits_path), _start(config))
    identity = hashlib.sha256("".join(parts).encode()).hexdigest()
    request = TrainingRequest(
        purpose=Purpose.PRETRAIN,
        config=config,
        splits=splits,
        run_dir=Workspace(config.workspace_dir).stage_dir(Stage.PRETRAIN.value) / identity[:12],
        identity=identity,
        about=checkpoint_about(config, splits, seed=fit.seed),
        is_forced=Stage.PRETRAIN in config.force,
    )
    with progress("pretrain", fit.epochs, "epochs") as tracker:
        run_training(request, lambda message: show_message(tracker, message))
    checkpoint = latest_checkpoint(request.run_dir)
    records = [PretrainEpoch(**record) for record in checkpoint.sidecar["epochs"]] if checkpoint else []
    best = max(record.epoch for record in records if record.is_best)
    report = PretrainReport(
        checkpoint_path=epoch_dir(request.run_dir, best),
        checkpoint_sha256=kept_checkpoint_sha256(epoch_dir(request.run_dir, best)),
        run_dir=request.run_dir,
        epochs=tuple(records),
        best_epoch=best,
        train_exams=splits.counts["train"].exams,
        provenance=provenance(config, splits, seed=fit.seed),
        start=started_weights(request.run_dir),
    )
    is_worth_it, judged = judged_pretraining(records[best])
    logger.log(logging.INFO if is_worth_it else logging.WARNING, "pre-training, epoch %d kept: %s", best, judged)
    show_table(
        "pretraining-curve",
        [record.model_dump() for record in records],
        f"{len(records)} epochs, best {best}, weights {report.checkpoint_sha256[:12]}",
    )
    return report


def _start(config: RunConfig) -> str:
    return start_digest((config.pretrain or PretrainConfig()).start, section=Stage.PRETRAIN.value)


def _required(config: RunConfig) -> PretrainConfig:
    if config.pretrain is None:
        raise ConfigError(
            "There is nothing to pre-train", expected="a pretrain section", remedy="add `pretrain: {}` for the defaults"
        )
    return config.pretrain
