"""What a task tells a training process, how the process marks what it answers, and what it leaves in its folder.

Each line that is meant for the task has ``MARK`` before it; anything else on standard output is some library talking.
Checkpoints bring torch, and are imported when one is read: a task whose training is finished reads none.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

from schemas.config.run import RunConfig, Stage
from schemas.config.section import Config
from schemas.config.training import FitConfig, PretrainConfig
from schemas.errors import CheckpointError
from schemas.reports.data import SplitReport
from schemas.reports.training import EpochRecord, PretrainEpoch, PretrainReport, StartedWeights, TrainReport
from tasks.adapters.models.model_files import SIDECAR, read_sidecar
from tasks.adapters.models.start_files import start_digest
from tasks.adapters.provenance import file_sha256, provenance

logger = logging.getLogger(__name__)

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
        only_seen: Only patients whom the newest checkpoint in ``run_dir`` has seen: the others came after it was begun.
        is_measured_first: Before the first epoch of a long training it is to say what an epoch takes.
    """

    purpose: Purpose
    config: RunConfig
    splits: SplitReport
    run_dir: Path
    identity: str
    about: dict[str, Any]
    pretrained: Path | None = None
    is_forced: bool = False
    only_seen: bool = False
    is_measured_first: bool = False

    @property
    def name(self) -> str:
        """Its folder below the workspace, wherever that lies: how people find it."""
        root = self.config.workspace_dir
        return self.run_dir.relative_to(root).as_posix() if self.run_dir.is_relative_to(root) else self.run_dir.name

    def going_on(self, run: Run) -> TrainingRequest:
        """The same for a run that may have been begun by another config, or on other data."""
        about = {**self.about, "began_on": list(run.began_on)}
        only_seen = run.began_on != data_of(self.splits)
        return self.model_copy(update={"identity": run.identity, "about": about, "only_seen": only_seen})

    @property
    def fit(self) -> FitConfig:
        """The section that says how to optimise."""
        if self.purpose is Purpose.PRETRAIN:
            return self.config.pretrain or PretrainConfig()
        return self.config.train


class Measured(Config):
    """What a little of an epoch took, of each thing that an epoch does; it crosses as JSON too.

    Attributes:
        remeasure_seconds: Batch statistics of an epoch, measured anew.
        reading_seconds: From the start to the first step: who trains, and the network.
        measuring_seconds: All of it, by the clock.
    """

    device: str
    seconds_per_image: float
    images_per_epoch: int
    tuning_seconds_per_image: float
    tuning_images: int
    tuning_malignant: int
    remeasure_seconds: float
    checkpoint_seconds: float
    checkpoint_bytes: int
    reading_seconds: float
    measuring_seconds: float

    @property
    def epoch_seconds(self) -> float:
        """Steps, statistics measured anew, tuning and the checkpoint of one epoch."""
        steps_s = self.images_per_epoch * self.seconds_per_image
        return steps_s + self.remeasure_seconds + self.tuning_images * self.tuning_seconds_per_image + self.checkpoint_seconds


def training_request(
    config: RunConfig, splits: SplitReport, pretrained: PretrainReport | None, run_dir: Path, *, is_forced: bool = False
) -> TrainingRequest:
    """What the training process is told."""
    here = data_of(splits)
    return TrainingRequest(
        purpose=Purpose.TRAIN,
        config=config,
        splits=splits,
        run_dir=run_dir,
        identity=_kept_identity(run_dir, config, here, pretrained),
        about=checkpoint_about(config, splits, seed=config.train.seed),
        pretrained=None if pretrained is None else pretrained.checkpoint_path,
        is_forced=is_forced,
    )


class RunData(NamedTuple):
    """Digests of what a run began on: the published images with their labels, and who trains."""

    data_version: str
    splits_sha256: str


class Run(NamedTuple):
    """A training's folder, and whose it is.

    Attributes:
        began_on: The data of its first epoch.
        other: Folder of a run of this config on other data; None = there is none, or it is this one.
    """

    identity: str
    folder: Path
    began_on: RunData
    other: Path | None = None


def run_of(folder: Path, config: RunConfig, splits: SplitReport, pretrained: PretrainReport | None) -> Run:
    """The run that a config goes on with, or begins.

    That of the same identity, as this release or a former one takes it; else one that was to have fewer epochs, of several the
    longest. A forced run is of its own identity. Where other images were published, or the patients divided otherwise, since a
    run of this config began, ``train.continues`` takes that run; without it, it is named.
    """
    here = data_of(splits)
    own = training_identity(config, splits, pretrained)
    new = Run(own, folder / own[:12], here)
    if Stage.TRAIN in config.force:
        return new
    for identity in identities(config, here, pretrained):
        if (folder / identity[:12]).is_dir():
            return Run(identity, folder / identity[:12], here)
    other = _run_on_other_data(folder, config, pretrained)
    if other is None:
        return new
    return other if config.train.continues else new._replace(other=other.folder)


def training_identity(config: RunConfig, splits: SplitReport, pretrained: PretrainReport | None) -> str:
    """Digest of everything that a run's curve depends on: another config never continues it."""
    return next(identities(config, data_of(splits), pretrained))


def identities(config: RunConfig, data: RunData, pretrained: PretrainReport | None) -> Iterator[str]:
    """Of a config, and of runs that it goes on with: first as this release takes it, then as former ones, then of fewer epochs.

    A learning rate that follows a cosine depends on the number of epochs: such a run has no other to go on with.
    """
    begin, end = config.preprocess.sha256() + config.model.sha256(), start_digest(config.train.start)
    end = "".join([*data, "" if pretrained is None else pretrained.checkpoint_sha256, end])
    fewest = None if config.train.recipe.schedule == "cosine" else 1
    for of_fit in config.train.identities(fewest):
        yield hashlib.sha256(f"{begin}{of_fit}{end}".encode()).hexdigest()


def said_in(line: str) -> Mapping[str, Any] | None:
    """The message that a line of a training process holds.

    Args:
        line: From its standard output. What some library had begun to write may stand before the mark.

    Returns:
        The message; None where there is none, or where the process was killed in the midst of it.
    """
    _before, mark, text = line.rpartition(MARK)
    try:
        message: Mapping[str, Any] | None = json.loads(text) if mark else None
    except ValueError:
        return None
    return message


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


def judged_pretraining(record: PretrainEpoch) -> tuple[bool, str]:
    """Whether an epoch of pre-training is worth beginning a training with, as far as tuning can tell; and why."""
    loss, baseline = record.tuning_loss, record.baseline_loss
    if loss is None or baseline is None:
        return False, "no tuning view can say whether it has learnt anything"
    said = f"tuning loss {loss:.3f}, of who has learnt nothing {baseline:.3f}"
    if record.tuning_auroc is not None:
        said += f"; AUROC {record.tuning_auroc:.3f}, of chance 0.5"
    if loss < baseline:
        return True, said
    return False, f"{said}: by its loss it has learnt nothing that a training could begin with"


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


# ---------------------------------------------------------------------------------------------------------------------


def data_of(splits: SplitReport) -> RunData:
    """What a training that begins now begins on."""
    return RunData(splits.data_version, file_sha256(splits.splits_path))


def _kept_identity(run_dir: Path, config: RunConfig, data: RunData, pretrained: PretrainReport | None) -> str:
    """The config's own; or what a former release took for it, where the folder's checkpoints are of that."""
    own, former = itertools.islice(identities(config, data, pretrained), 2)
    kept = next(_undamaged(run_dir.glob(f"epoch-*/{SIDECAR}")), None)
    return former if kept is not None and kept[1].get("identity") == former else own


def _run_on_other_data(folder: Path, config: RunConfig, pretrained: PretrainReport | None) -> Run | None:
    """The latest run whose checkpoint says that it is of this very config; by its digest, for it does not keep the config."""
    seen = set[tuple[str, RunData]]()
    for checkpoint, sidecar in _undamaged(sorted(folder.glob(f"*/epoch-*/{SIDECAR}"), key=_modified_ns, reverse=True)):
        provenance = sidecar.get("provenance", {})
        began_on = sidecar.get("began_on") or [provenance.get("data_version", ""), provenance.get("splits_sha256", "")]
        data = RunData(*began_on)
        identity = str(sidecar.get("identity", ""))
        if (identity, data) in seen:
            continue
        seen.add((identity, data))
        if identity in identities(config, data, pretrained):
            return Run(identity, checkpoint.parent, data)
    return None


def _undamaged(sidecars: Iterable[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Checkpoints, and what stands beside them; a damaged one of another run is named in the log, and hinders no training."""
    for path in sidecars:
        try:
            content = read_sidecar(path.parent)
        except CheckpointError as damage:
            logger.warning("%s", damage)
            continue
        yield path.parent, content


def _modified_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:  # another training has just taken its older epochs away
        return 0
