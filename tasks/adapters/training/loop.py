"""Epoch after epoch, from the newest checkpoint to the last: what every training process does. No Prefect here.

The caller says where to write and what to be told; ``process_main.py`` is that caller.
"""

from __future__ import annotations

import logging
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gmic_model.devices import quickest_kernels
from gmic_model.learning.exam_loader import ExamViews, loaded
from gmic_model.learning.learner import Learner, memory_mib, random_state, remeasure, set_random_state
from gmic_model.learning.processes import Processes
from gmic_model.learning.schedule import is_over, step_factors
from gmic_model.learning.step_plan import ImageBound, PlannedStep, plan_steps
from gmic_model.learning.steps import Step, step_parts, train_steps
from schemas.config.network import NetworkConfig
from schemas.config.training import FitConfig
from schemas.errors import CheckpointError, TrainingError
from schemas.reports.training import EpochRecord, PretrainEpoch
from tasks.adapters.cards import unused_card
from tasks.adapters.models.checkpoints import (
    Checkpoint,
    epoch_dir,
    flatten_training,
    latest_checkpoint,
    load_checkpoint,
    partial_dir,
    prune_checkpoints,
    prune_partials,
    restore_training,
    save_checkpoint,
    trained_weights,
)
from tasks.adapters.training.mlflow_log import RunFacts, experiment_run, former_training_key, training_key
from tasks.adapters.training.tensorboard_log import Tracker, tracker
from tasks.adapters.training.training_data import TrainingData

logger = logging.getLogger(__name__)

Epoch = EpochRecord | PretrainEpoch
Tell = Callable[[Mapping[str, Any]], None]

_SECONDS_BETWEEN_WORDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochFacts:
    """What training itself knows of an epoch."""

    epoch: int
    train_loss: float
    images_per_s: float
    memory_mib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One training: what is learnt, from what, and where it is kept.

    Attributes:
        name: What people call it: its folder below the workspace.
        model: The network that the checkpoints say they are for.
        identity: Digest of all that the curve depends on; a checkpoint of another identity is refused.
        about: What every checkpoint says of itself: provenance, preprocessing.
        measure_epoch: Called by every process after each epoch; makes its line of the curve.
        record_type: Type of those lines.
    """

    name: str
    config: FitConfig
    model: NetworkConfig
    data: TrainingData
    learner: Learner
    processes: Processes
    run_dir: Path
    identity: str
    about: Mapping[str, Any]
    measure_epoch: Callable[[EpochFacts, Sequence[Any], Tracker], Epoch]
    record_type: type[Epoch]
    tell: Tell


@dataclass(slots=True)
class _Progress:
    """How far the epoch is; a partial checkpoint brings it back.

    Attributes:
        steps: Those that were begun.
        loss_sum: Of the images of all that are counted.
        images: Of all that were begun.
        open: The newest step, which a GPU may still be at: it is counted when it is asked for.
    """

    steps: int = 0
    loss_sum: float = 0.0
    images: int = 0
    open: Step | None = None

    def begin(self, step: Step) -> None:
        """A step was begun, and the one before it is done."""
        self.close()
        self.steps += 1
        self.images += step.images
        self.open = step

    def close(self) -> None:
        """Counts the newest step: waits until the device is done with it."""
        if self.open is not None:
            self.loss_sum += self.open.loss * self.open.images
            self.open = None


def run_training_loop(training: Training) -> None:
    """Trains to the last epoch, from the newest checkpoint in the folder if there is one.

    Raises:
        TrainingError: The loss left the finite numbers, or the run has more epochs than are asked for.
        CheckpointError: The checkpoints there are of another training, or a new one cannot be written.
    """
    records, at = _restore(training)
    if len(records) > training.config.epochs:
        raise TrainingError(
            "This training has gone on to more epochs than are asked for",
            expected=f"train.epochs: {len(records)} or more",
            got=training.config.epochs,
            remedy="restore the number, or train anew with --force train; nothing was changed",
        )
    device = training.learner.device
    training.tell({"kind": "start", "epochs_done": len(records), "epochs": training.config.epochs, "device": str(device)})
    if unused := unused_card(training.config, device):
        _warner(training)(unused)
    is_leader = training.processes.is_leader
    silent = {"tensorboard": False, "mlflow": None}
    tracking = training.config.tracking if is_leader else training.config.tracking.model_copy(update=silent)
    folder = training.run_dir / "tensorboard"
    with (
        quickest_kernels(device),
        tracker(tracking, folder, first_epoch=len(records), first_step=training.learner.steps_done + 1) as curves,
        experiment_run(tracking.mlflow, _run_facts(training), _warner(training)) as experiment,
    ):
        experiment.show([_curve_points(record) for record in records])
        for epoch in range(len(records), training.config.epochs):
            if is_over(training.config.recipe, [record.is_best for record in records]):
                break
            facts = _train_epoch(training, epoch, at, records, curves)
            record = training.measure_epoch(facts, records, curves)
            records.append(record)
            curves.scalars(_curve_points(record), epoch)  # before the checkpoint: what is written again is taken back
            _save(training, epoch_dir(training.run_dir, epoch), records, _Progress())
            if is_leader:
                best = {epoch_dir(training.run_dir, kept) for kept in kept_epochs(records)}
                prune_checkpoints(training.run_dir, keep_last=training.config.keep_checkpoints, keep_also=best)
                experiment.show([_curve_points(each) for each in records])
            training.tell({"kind": "epoch", "record": record.model_dump(mode="json")})
            at = _Progress()
        if tracking.mlflow is not None:
            best_epoch = max(record.epoch for record in records if record.is_best)
            kept = load_checkpoint(epoch_dir(training.run_dir, best_epoch))
            experiment.finish(best_epoch, {"checkpoint": kept.folder.name, "checkpoint_sha256": kept.sha256})


def planned_epoch(exams: Sequence[int], views: ExamViews, config: FitConfig, processes: Processes) -> list[PlannedStep]:
    """The steps of an epoch's exams, as the config divides them."""
    bound = None
    if config.part_images is not None:
        bound = ImageBound(images_E=[len(rows) for rows in views.rows_of_exam], most=config.part_images)
    return plan_steps(exams, batch_exams=config.batch_exams, processes=processes.size, parts=config.accumulation, bound=bound)


def remeasure_batches(learner: Learner, views: ExamViews, exams: Sequence[int], config: FitConfig) -> None:
    """Every process looks at the same exams, as they are without augmentation: what tuning and test images are like."""
    size = config.batch_exams
    batches = [exams[start : start + size] for start in range(0, len(exams), size)]
    plain = replace(views, augment=None)
    remeasure(learner, loaded(plain, batches, learner.device, threads=config.loader_workers, ahead=config.prefetch_batches))


def kept_epochs(records: Sequence[Epoch]) -> set[int]:
    """The best epoch by each criterion."""
    chosen = [
        [record.epoch for record in records if record.is_best],
        [record.epoch for record in records if record.is_best_localization],
    ]
    return {max(epochs) for epochs in chosen if epochs}


# ---------------------------------------------------------------------------------------------------------------------


def _restore(training: Training) -> tuple[list[Epoch], _Progress]:
    checkpoint = latest_checkpoint(training.run_dir)
    if checkpoint is None:
        return [], _Progress()
    _refuse_other_training(training, checkpoint)
    learner = training.learner
    learner.network.load_state_dict(trained_weights(checkpoint))
    if learner.averaged is not None:
        learner.averaged = {name: value.to(learner.device) for name, value in checkpoint.weights.items()}
    state = restore_training(learner.optimizer, checkpoint.training, rank=training.processes.rank)
    set_random_state(state, learner.device)
    position = checkpoint.sidecar["position"]
    learner.steps_done = position["steps_done"]
    records = [training.record_type(**record) for record in checkpoint.sidecar["epochs"]]
    at = _Progress(position["steps"], position["loss_sum"] if training.processes.is_leader else 0.0, position["images"])
    logger.info("continuing after %d epochs and %d steps", len(records), at.steps)
    return records, at


def _refuse_other_training(training: Training, checkpoint: Checkpoint) -> None:
    if checkpoint.sidecar.get("identity") != training.identity:
        raise CheckpointError(
            f"{checkpoint.folder} is a checkpoint of another training",
            expected=f"the config, data and splits {training.identity[:12]}",
            got=str(checkpoint.sidecar.get("identity", "a checkpoint of an earlier version"))[:34],
            remedy="restore the config it was made with, or train anew with --force train; nothing was changed",
        )


def _train_epoch(training: Training, epoch: int, at: _Progress, records: Sequence[Epoch], curves: Tracker) -> EpochFacts:
    config, processes = training.config, training.processes
    exams = training.data.sampler.draw(epoch)
    views = training.data.train.of_epoch(epoch)
    plan = planned_epoch(exams, views, config, processes)
    factors = step_factors(
        config.recipe, epoch=epoch, epochs=config.epochs, steps=len(plan), was_best=[record.is_best for record in records]
    )
    training.learner.handling.begin_epoch(epoch, is_alone=processes.size == 1)
    images_total = sum(len(views.rows_of_exam[exam]) for exam in exams)
    started, spoken, images_before = time.monotonic(), time.monotonic(), at.images
    parts = step_parts(views, plan[at.steps :], config, training.learner.device, processes=processes)
    for step in train_steps(training.learner, parts, config, factors[at.steps :]):
        at.begin(step)
        now = time.monotonic()
        if now - spoken > _SECONDS_BETWEEN_WORDS:
            spoken = now
            rate = (at.images - images_before) / (now - started)
            training.tell(
                {"kind": "step", "epoch": epoch, "images": at.images, "of": images_total, "images_per_s": round(rate, 2)}
            )
        if training.learner.steps_done % config.tracking.scalar_steps == 0:
            curves.scalars({"step/loss": step.loss}, training.learner.steps_done)
        if config.checkpoint_steps and at.steps % config.checkpoint_steps == 0 and at.steps < len(plan):
            at.close()
            _save_partial(training, epoch, at, records)
    at.close()
    if config.recipe.batch_norm == "remeasured":
        shown = exams[: config.recipe.remeasured_exams]
        remeasure_batches(training.learner, replace(training.data.train, epoch=epoch), shown, config)
    return EpochFacts(
        epoch=epoch,
        train_loss=processes.total(at.loss_sum) / processes.size / at.images,
        images_per_s=(at.images - images_before) / (time.monotonic() - started),
        memory_mib=_memory_mib(training),
    )


def _save_partial(training: Training, epoch: int, at: _Progress, records: Sequence[Epoch]) -> None:
    folder = partial_dir(training.run_dir, epoch, at.steps)
    _save(training, folder, records, at)
    if training.processes.is_leader:
        prune_partials(training.run_dir, keep=folder)


def _save(training: Training, folder: Path, records: Sequence[Epoch], at: _Progress) -> None:
    """Every process gives its random state; the leader writes."""
    learner, processes = training.learner, training.processes
    random_by_rank = processes.gathered(random_state(learner.device))
    loss_sum = processes.total(at.loss_sum) if processes.size > 1 else at.loss_sum
    if not processes.is_leader:
        return
    trained = None if learner.averaged is None else learner.network.state_dict()
    save_checkpoint(
        folder,
        weights=learner.weights(),
        training=flatten_training(learner.optimizer, random_by_rank, trained),
        model=training.model,
        patients=training.data.seen,
        about={
            **training.about,
            "identity": training.identity,
            "position": {
                "steps": at.steps,
                "loss_sum": loss_sum,
                "images": at.images,
                "steps_done": learner.steps_done,
            },
            "epochs": [record.model_dump(mode="json") for record in records],
        },
    )


def _run_facts(training: Training) -> RunFacts:
    """Values of the config and provenance: no path, no identifier."""
    sections = {
        "fit": training.config.model_dump(mode="json", exclude={"tracking"}),
        "model": training.model.model_dump(mode="json"),
        "preprocess": training.about.get("preprocess", {}),
    }
    provenance = training.about.get("provenance", {})
    return RunFacts(
        key=training_key(training.identity, training.name),
        former_key=former_training_key(training.identity, training.run_dir),
        name=training.name,
        parameters={f"{section}.{name}": value for section, values in sections.items() for name, value in values.items()},
        tags={f"mammo.{name}": str(value) for name, value in provenance.items()},
    )


def _warner(training: Training) -> Callable[[str], None]:
    return lambda text: training.tell({"kind": "warning", "text": text})


def _memory_mib(training: Training) -> float:
    on_gpu = memory_mib(training.learner.device)
    return on_gpu if on_gpu is not None else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _curve_points(record: Epoch) -> dict[str, float | None]:
    values = record.model_dump(exclude={"epoch", "is_best", "is_best_localization"})
    return {name.replace("_", "/", 1) if name.startswith(("train_", "tuning_")) else name: values[name] for name in values}
