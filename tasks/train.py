"""Train: fit GMIC on the training split, choose by tuning malignant AUROC, keep what is needed to continue after any stop."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from prefect import task
from torch.utils.data import DataLoader

from gmic_model.dataset import Batch, ExamViews, join_exams
from gmic_model.fit import breast_auroc, predict_batches, train_steps
from gmic_model.model import GMIC
from gmic_model.preprocess import PREPROCESS_VERSION
from gmic_model.sampling import EpochSampler
from schemas.config import RunConfig, Stage
from schemas.errors import TrainingError
from schemas.exam import FINDINGS, ExamRecord, Finding, Split
from schemas.reports import EpochRecord, Provenance, SplitReport, TrainReport
from tasks.adapters.checkpoints import (
    Checkpoint,
    flatten_training,
    latest_checkpoint,
    prune_checkpoints,
    restore_training,
    save_checkpoint,
)
from tasks.adapters.exam_store import ExamStore, StoredViews, lines_of, open_store, read_manifest, stored_views
from tasks.adapters.workspace import Workspace, held_lock
from tasks.artifacts import progress, show_table
from tasks.scoring import choose_device
from tasks.split import exam_records, manifest_with_splits
from tasks.stages import save_report, stage_key

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingData:
    """The two splits training sees.

    Attributes:
        exams: Training exams, in the sampler's order.
        train: Their views with jitter.
        tuning: Tuning lines of the manifest, each view's line once.
        views: Reader of both.
    """

    exams: list[ExamRecord]
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
    """Trains to the last epoch, from the newest checkpoint of this very run if there is one.

    Raises:
        TrainingError: There is nothing to train on, or the loss left the finite numbers.
        StoreBusy: Another process trains in the same folder.
    """
    store = open_store(Workspace(config.workspace_dir).store_dir)
    data = training_data(config, store, splits)
    run_dir = training_dir(config, splits)
    with held_lock(run_dir, purpose="train"):
        records = _run_epochs(config, data, run_dir)
    best = max((record for record in records if record.is_best), key=lambda record: record.epoch)
    checkpoint = run_dir / f"epoch-{best.epoch:04d}"
    report = TrainReport(
        checkpoint_path=checkpoint,
        checkpoint_sha256=json.loads((checkpoint / "checkpoint.json").read_text())["sha256"]["weights.safetensors"],
        run_dir=run_dir,
        epochs=tuple(records),
        best_epoch=best.epoch,
        train_exams=len(data.exams),
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
        TrainingError: The training split holds no exam with a finding.
    """
    manifest = manifest_with_splits(splits, read_manifest(store))
    training = manifest[manifest["split"] == Split.TRAIN.value]
    exams = exam_records(training)
    if not any(exam.has_finding for exam in exams):
        raise TrainingError(
            "The training split holds no exam with a finding",
            expected="at least one benign or malignant breast",
            got=f"{len(exams)} exams without one",
            remedy="check ingest.labels_csv, or lower split.test_fraction",
        )
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
    return TrainingData(exams, train, manifest[manifest["split"] == Split.TUNING.value], views)


def provenance(config: RunConfig, data_version: str, *, seed: int) -> Provenance:
    """What every result carries."""
    return Provenance(
        code_version=version("mammography-gmic"),
        config_sha256=config.sha256(),
        data_version=data_version,
        preprocess_version=f"{config.preprocess.crop_mode.value}-{PREPROCESS_VERSION}",
        seed=seed,
        created_utc=now().isoformat(timespec="seconds"),
    )


def now() -> datetime:
    """The clock of every report, UTC."""
    return datetime.now(UTC)


# ---------------------------------------------------------------------------------------------------------------------


def _run_epochs(config: RunConfig, data: TrainingData, run_dir: Path) -> list[EpochRecord]:
    device = choose_device(config.train)
    torch.manual_seed(config.train.seed)
    network = GMIC(config.model).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.train.learning_rate)
    records = _restore(network, optimizer, latest_checkpoint(run_dir))
    if records:
        logger.info("continuing after epoch %d", records[-1].epoch)
    with progress("train", config.train.epochs, "epochs") as tracker:
        for epoch in range(len(records), config.train.epochs):
            record = _run_epoch(config, data, network, optimizer, epoch, records, device)
            records.append(record)
            save_checkpoint(
                run_dir / f"epoch-{epoch:04d}",
                weights=network.state_dict(),
                training=flatten_training(optimizer, torch.get_rng_state()),
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


def _restore(network: GMIC, optimizer: torch.optim.Optimizer, checkpoint: Checkpoint | None) -> list[EpochRecord]:
    if checkpoint is None:
        return []
    network.load_state_dict(checkpoint.weights)
    torch.set_rng_state(restore_training(optimizer, checkpoint.training))
    return [EpochRecord(**record) for record in checkpoint.sidecar["epochs"]]


def _run_epoch(
    config: RunConfig,
    data: TrainingData,
    network: GMIC,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    before: Sequence[EpochRecord],
    device: torch.device,
) -> EpochRecord:
    started = time.monotonic()
    loss_sum, images = 0.0, 0
    for step in train_steps(network, optimizer, _batches(config, data, epoch), config.train, device):
        loss_sum += step.loss * step.images
        images += step.images
    images_per_s = images / (time.monotonic() - started)
    tuning = _tuning_auroc(config, data, network, device)
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
    sampler = EpochSampler(data.exams, seed=config.train.seed, negatives_per_positive=config.train.negatives_per_positive)
    sampler.set_epoch(epoch)
    views = ExamViews(
        rows_of_exam=data.train.rows_of_exam,
        label_by_row=data.train.label_by_row,
        read_view=data.train.read_view,
        jitter=data.train.jitter,
        seed=data.train.seed,
        epoch=epoch,
    )
    loader = DataLoader(
        views,
        batch_size=config.train.batch_exams,
        sampler=sampler,
        collate_fn=join_exams,
        num_workers=config.train.loader_workers,
        multiprocessing_context="forkserver" if config.train.loader_workers else None,
    )
    yield from loader


def _tuning_auroc(config: RunConfig, data: TrainingData, network: GMIC, device: torch.device) -> dict[Finding, float | None]:
    if data.tuning.empty:
        return dict.fromkeys(FINDINGS)
    lines = data.tuning.reset_index(drop=True)
    label_NC = lines[[finding.value for finding in FINDINGS]].to_numpy(np.int64)
    views = ExamViews(
        rows_of_exam=[(int(row),) for row in lines["row"]],
        label_by_row={int(row): tuple(label) for row, label in zip(lines["row"], label_NC.tolist(), strict=True)},
        read_view=data.views,
    )
    loader = DataLoader(views, batch_size=config.evaluate.batch_images, collate_fn=join_exams)
    score_NC = np.concatenate([output.y_NC.double().numpy() for _, output in predict_batches(network, loader, device)])
    by_finding = breast_auroc(score_NC, label_NC, lines["exam_id"].to_numpy(str), lines["laterality"].to_numpy(str))
    return dict(zip(FINDINGS, by_finding, strict=True))


def _in_words(record: EpochRecord) -> str:
    auroc = "undefined" if record.tuning_malignant_auroc is None else f"{record.tuning_malignant_auroc:.3f}"
    return f"loss {record.train_loss:.3f}, tuning malignant AUROC {auroc}, {record.images_per_s:.1f} images/s"


def _file_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
