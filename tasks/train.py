"""Train: fit GMIC on the training split, choose by tuning malignant AUROC, keep what is needed to continue after any stop."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from prefect import task

from gmic_model.dataset import Batch, ExamViews
from gmic_model.fit import (
    Learner,
    breast_auroc,
    exam_batches,
    new_learner,
    predict_batches,
    random_state,
    set_random_state,
    train_steps,
    view_batches,
)
from gmic_model.preprocess import preprocess_version
from gmic_model.sampling import EpochSampler
from schemas.config import RunConfig, Stage
from schemas.errors import CheckpointError
from schemas.exam import FINDINGS, Finding, Split
from schemas.reports import EpochRecord, Provenance, SplitReport, TrainReport
from tasks.adapters.checkpoints import (
    Checkpoint,
    delete_checkpoints,
    flatten_training,
    latest_checkpoint,
    load_checkpoint,
    prune_checkpoints,
    restore_training,
    save_checkpoint,
)
from tasks.adapters.exam_store import ExamStore, StoredViews, lines_of, open_store, read_manifest, stored_views
from tasks.adapters.workspace import Workspace, held_lock
from tasks.artifacts import progress, show_table
from tasks.split import exam_records, manifest_with_splits
from tasks.stages import save_report, stage_key

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingData:
    """The two splits training sees.

    Attributes:
        sampler: Which training exams an epoch takes; its indices are the items of ``train``.
        train: The training exams' views with jitter.
        tuning: Tuning lines of the manifest, each view's line once.
        views: Reader of both.
    """

    sampler: EpochSampler
    train: ExamViews
    tuning: pd.DataFrame
    views: StoredViews


@task(
    name="train",
    persist_result=True,
    cache_key_fn=stage_key(
        Stage.TRAIN,
        1,
        ("preprocess", "model", "train"),
        lambda given: (given["splits"].data_version, _file_sha256(given["splits"].splits_path)),
    ),
)
def train(config: RunConfig, splits: SplitReport) -> TrainReport:
    """Trains to the last epoch, from the newest checkpoint of this very run if there is one; anew if the stage is forced.

    Raises:
        TrainingError: There is nothing to train on, or the loss left the finite numbers.
        CheckpointError: The best epoch's checkpoint is gone.
        StoreBusy: Another process trains in the same folder.
    """
    store = open_store(Workspace(config.workspace_dir).store_dir)
    data = training_data(config, store, splits)
    run_dir = training_dir(config, splits)
    with held_lock(run_dir, purpose="train"):
        if Stage.TRAIN in config.force:
            delete_checkpoints(run_dir)
        records = _run_epochs(config, data, run_dir)
    best = max((record for record in records if record.is_best), key=lambda record: record.epoch)
    checkpoint = run_dir / f"epoch-{best.epoch:04d}"
    if not checkpoint.exists():
        raise CheckpointError(
            "The best epoch's checkpoint is gone",
            expected=checkpoint,
            remedy="restore it from a backup, or train anew with --force train",
        )
    report = TrainReport(
        checkpoint_path=checkpoint,
        checkpoint_sha256=load_checkpoint(checkpoint).sha256,
        run_dir=run_dir,
        epochs=tuple(records),
        best_epoch=best.epoch,
        train_exams=len(data.train),
        provenance=provenance(config, splits.data_version, seed=config.train.seed),
    )
    show_table("training-curve", [record.model_dump() for record in records], f"{len(records)} epochs, best {best.epoch}")
    return save_report(config, Stage.TRAIN, report)


def training_dir(config: RunConfig, splits: SplitReport) -> Path:
    """A run's folder is named by everything its curve depends on, so another config never continues it."""
    parts = [
        config.preprocess.sha256(),
        config.model.sha256(),
        config.train.sha256(),
        splits.data_version,
        _file_sha256(splits.splits_path),
    ]
    name = hashlib.sha256("".join(parts).encode()).hexdigest()[:12]
    return Workspace(config.workspace_dir).stage_dir(Stage.TRAIN.value) / name


def training_data(config: RunConfig, store: ExamStore, splits: SplitReport) -> TrainingData:
    """Reads which exams train and tune.

    Raises:
        TrainingError: No training exam has a finding.
    """
    manifest = manifest_with_splits(splits, read_manifest(store))
    training = manifest[manifest["split"] == Split.TRAIN.value]
    exams = exam_records(training)
    sampler = EpochSampler(exams, seed=config.train.seed, negatives_per_positive=config.train.negatives_per_positive)
    rows_by_exam = {exam_id: tuple(int(row) for row in lines["row"]) for exam_id, lines in training.groupby("exam_id")}
    views = stored_views(store, manifest, config.preprocess.window_px)
    labels = {int(line["row"]): (int(line["benign"]), int(line["malignant"])) for line in lines_of(training)}
    train = ExamViews(
        rows_of_exam=[rows_by_exam[exam.exam_id] for exam in exams],
        label_by_row=labels,
        read_view=views,
        jitter=config.preprocess,
        seed=config.train.seed,
    )
    return TrainingData(sampler, train, manifest[manifest["split"] == Split.TUNING.value], views)


def provenance(config: RunConfig, data_version: str, *, seed: int) -> Provenance:
    """What every result carries."""
    return Provenance(
        code_version=version("mammography-gmic"),
        config_sha256=config.sha256(),
        data_version=data_version,
        preprocess_version=f"{config.preprocess.crop_mode.value}-{preprocess_version(config.preprocess)}",
        seed=seed,
        created_utc=now().isoformat(timespec="seconds"),
    )


def now() -> datetime:
    """The clock of every report, UTC."""
    return datetime.now(UTC)


# ---------------------------------------------------------------------------------------------------------------------


def _run_epochs(config: RunConfig, data: TrainingData, run_dir: Path) -> list[EpochRecord]:
    learner = new_learner(config.model, config.train)
    records = _restore(learner, latest_checkpoint(run_dir))
    if records:
        logger.info("continuing after epoch %d", records[-1].epoch)
    with progress("train", config.train.epochs, "epochs") as tracker:
        for epoch in range(len(records), config.train.epochs):
            record = _run_epoch(config, data, learner, epoch, records)
            records.append(record)
            save_checkpoint(
                run_dir / f"epoch-{epoch:04d}",
                weights=learner.network.state_dict(),
                training=flatten_training(learner.optimizer, random_state()),
                model=config.model,
                about={
                    "provenance": provenance(config, "", seed=config.train.seed).model_dump(),
                    "preprocess": config.preprocess.model_dump(mode="json"),
                    "epochs": [done.model_dump() for done in records],
                },
            )
            best = max(done.epoch for done in records if done.is_best)
            prune_checkpoints(run_dir, keep_last=config.train.keep_checkpoints, keep_also=run_dir / f"epoch-{best:04d}")
            tracker.advance_to(epoch + 1, _in_words(record))
    return records


def _restore(learner: Learner, checkpoint: Checkpoint | None) -> list[EpochRecord]:
    if checkpoint is None:
        return []
    learner.network.load_state_dict(checkpoint.weights)
    set_random_state(restore_training(learner.optimizer, checkpoint.training))
    return [EpochRecord(**record) for record in checkpoint.sidecar["epochs"]]


def _run_epoch(
    config: RunConfig, data: TrainingData, learner: Learner, epoch: int, before: Sequence[EpochRecord]
) -> EpochRecord:
    started = time.monotonic()
    loss_sum, images = 0.0, 0
    batches = _batches(config, data, epoch)
    for step in train_steps(learner.network, learner.optimizer, batches, config.train, learner.device):
        loss_sum += step.loss * step.images
        images += step.images
    images_per_s = images / (time.monotonic() - started)
    tuning = _tuning_auroc(config, data, learner)
    best_before = max((record.tuning_malignant_auroc or 0.0 for record in before), default=-1.0)
    malignant = tuning[Finding.MALIGNANT]
    return EpochRecord(
        epoch=epoch,
        train_loss=loss_sum / images,
        tuning_malignant_auroc=malignant,
        tuning_benign_auroc=tuning[Finding.BENIGN],
        images_per_s=images_per_s,
        # Without tuning positives there is nothing to choose by: the last epoch is then the best.
        is_best=malignant is None or malignant >= best_before,
    )


def _batches(config: RunConfig, data: TrainingData, epoch: int) -> Iterator[Batch]:
    data.sampler.set_epoch(epoch)
    return exam_batches(replace(data.train, epoch=epoch), data.sampler, config.train)


def _tuning_auroc(config: RunConfig, data: TrainingData, learner: Learner) -> dict[Finding, float | None]:
    if data.tuning.empty:
        return dict.fromkeys(FINDINGS)
    lines = data.tuning.reset_index(drop=True)
    label_NC = lines[[finding.value for finding in FINDINGS]].to_numpy(np.int64)
    views = ExamViews(
        rows_of_exam=[(int(row),) for row in lines["row"]],
        label_by_row={int(row): tuple(label) for row, label in zip(lines["row"], label_NC.tolist(), strict=True)},
        read_view=data.views,
    )
    outputs = predict_batches(learner.network, view_batches(views, config.evaluate.batch_images), learner.device)
    score_NC = np.concatenate([output.y_NC.double().numpy() for _, output in outputs])
    by_finding = breast_auroc(score_NC, label_NC, lines["exam_id"].to_numpy(str), lines["laterality"].to_numpy(str))
    return dict(zip(FINDINGS, by_finding, strict=True))


def _in_words(record: EpochRecord) -> str:
    auroc = "undefined" if record.tuning_malignant_auroc is None else f"{record.tuning_malignant_auroc:.3f}"
    return f"loss {record.train_loss:.3f}, tuning malignant AUROC {auroc}, {record.images_per_s:.1f} images/s"


def _file_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
