"""A training process: reads one request, trains, and says how it goes in lines of JSON. Started by ``process.py``.

What crosses is in ``request.py``; no Prefect here.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal, NoReturn

from gmic_model.devices import choose_device
from gmic_model.learning.first_weights import fresh_names, take_weights
from gmic_model.learning.learner import Learner, new_learner, random_state, set_random_state
from gmic_model.learning.pretraining import PRETRAINING_PLACES, new_pretraining_learner
from gmic_model.learning.processes import Processes, joined_processes
from gmic_model.learning.steps import step_parts, train_steps
from gmic_model.networks.registry import part_places, require_trainable
from schemas.config.recipe import StartPart
from schemas.config.training import PretrainConfig
from schemas.errors import MammoError, TrainingError
from schemas.exam import Finding
from schemas.reports.training import EpochRecord, PretrainEpoch, StartedPart, StartedWeights
from tasks.adapters.allocator import keep_freed_memory
from tasks.adapters.lock import held_lock
from tasks.adapters.models.checkpoints import delete_checkpoints, flatten_training, latest_checkpoint, save_checkpoint
from tasks.adapters.models.model_files import IMAGE_REFERENCE, kept_terms
from tasks.adapters.models.start_files import open_start, require_same_images
from tasks.adapters.training.loop import Epoch, EpochFacts, Tell, Training, planned_epoch, remeasure_batches, run_training_loop
from tasks.adapters.training.request import MARK, Measured, Purpose, TrainingRequest, judged_pretraining
from tasks.adapters.training.tensorboard_log import Tracker
from tasks.adapters.training.training_data import TrainingData, judges_seen, pretraining_data, training_data
from tasks.adapters.training.tuning import TuningResult, can_choose, measure_findings, measure_pretraining

_STEPS_A_FORECAST_IS_WORTH: Final = 25
"""A training of fewer steps than so many for each that is measured is over nearly as soon as its forecast."""

_ONE_VALUE: Final = "Expected more than 1 value per channel"
"""How torch's batch normalisation begins what it says of a single image, or patch, of a single cell."""

_NOTHING_TO_RUN_ON: Final = (
    "recipe.batch_norm: running keeps the statistics that a network began with, and this one begins from random weights, "
    "which have none: nothing is normalised. Name train.start, or take batch or remeasured"
)

_NOTHING_TO_CHOOSE_BY: Final = (
    "Nothing in the tuning split can choose an epoch: it has no malignant breast, or no other that is known (where "
    "recipe.best_by is loss, of benign ones too). The last epoch will be kept, and no training ends early or slows down. Raise "
    "split.tuning_fraction, or add labelled exams"
)

_JUDGES_SEEN: Final = (
    "{source} has seen {who} of this division. `mammo evaluate` will refuse to judge by them what begins with it, or leave "
    "them out (evaluate.leave_out_seen). Begin with other weights, or divide the patients as for these"
)


def main(request_path: str) -> None:
    """Runs one request to its end; the exit code is that of the error."""
    keep_freed_memory()
    request = TrainingRequest.model_validate_json(Path(request_path).read_bytes())
    try:
        on_gpu = choose_device(request.fit).type == "cuda"
        with joined_processes(processes=request.fit.processes, on_gpu=on_gpu) as processes:
            serve(request, processes)
    except MammoError as error:  # said while the group of processes still stands: see joined_processes
        _end_with(error)
    except ValueError as error:
        if not str(error).startswith(_ONE_VALUE):
            raise
        section = "pretrain" if request.purpose is Purpose.PRETRAIN else "train"
        _end_with(
            TrainingError(
                "A part of a step holds one image or patch, of which batch normalisation can tell no spread",
                expected="two or more images, and patches, in each part of a step",
                remedy=f"raise {section}.batch_exams, lower {section}.accumulation, give a larger window or patch, or set "
                f"{section}.recipe.batch_norm: running",
            )
        )


def _end_with(error: MammoError) -> NoReturn:
    say({"kind": "error", "type": type(error).__name__, "message": str(error)})
    sys.exit(error.exit_code)


def serve(request: TrainingRequest, processes: Processes) -> None:
    """Does what is asked, as one of the processes of a training.

    Raises:
        ConfigError: The network cannot be trained as it is configured.
        TrainingError: There is nothing to train on, or the loss left the finite numbers.
        CheckpointError: The checkpoints in the folder are of another training, or a new one cannot be written.
        StoreError: The store is of another preprocessing.
        StoreBusy: Another process trains in the folder.
    """
    if request.purpose is not Purpose.PRETRAIN:
        require_trainable(request.config.model)
    if request.purpose is Purpose.MEASURE:
        began = time.monotonic()
        _say_measured(request, training_data(request.config, request.splits), processes, began)
        return
    training = _pretraining(request, processes) if request.purpose is Purpose.PRETRAIN else _training(request, processes)
    if not processes.is_leader:
        processes.wait_for_all()  # the leader may have checkpoints to delete
        _measure_first(request, training.data, processes)
        run_training_loop(training)
        return
    with held_lock(request.run_dir, purpose=request.purpose.value):
        if request.is_forced:
            delete_checkpoints(request.run_dir)
        processes.wait_for_all()
        _measure_first(request, training.data, processes)
        run_training_loop(training)


def say(message: Mapping[str, Any]) -> None:
    """One line to the parent."""
    sys.stdout.write(f"{MARK}{json.dumps(message)}\n")
    sys.stdout.flush()


def epoch_record(
    facts: EpochFacts,
    result: TuningResult,
    before: Sequence[EpochRecord],
    *,
    best_of_epochs: int = 1,
    best_by: Literal["auroc", "loss"] = "auroc",
) -> EpochRecord:
    """The epoch's line of the curve: the best one is chosen by malignant AUROC or loss, the one that points best by F1.

    Args:
        facts: What training knows of the epoch.
        result: What tuning says of it.
        before: The epochs before it.
        best_of_epochs: Epochs up to each whose mean chooses; while there are fewer, the mean of those there are.
        best_by: Highest tuning AUROC, or lowest tuning loss.
    """
    malignant, f1 = result.auroc[Finding.MALIGNANT], result.malignant_f1
    if best_by == "loss":
        chooses, curve = result.loss, [-(record.tuning_loss or 0.0) for record in before] + [-(result.loss or 0.0)]
    else:
        chooses, curve = malignant, [record.tuning_malignant_auroc or 0.0 for record in before] + [malignant or 0.0]
    means = [_mean_of_last(curve[: count + 1], best_of_epochs) for count in range(len(curve))]
    best_f1 = max((record.tuning_malignant_f1 or 0.0 for record in before), default=-1.0)
    return EpochRecord(
        epoch=facts.epoch,
        train_loss=facts.train_loss,
        tuning_malignant_auroc=malignant,
        tuning_benign_auroc=result.auroc[Finding.BENIGN],
        tuning_localization_f1=result.localization_f1,
        tuning_malignant_f1=f1,
        images_per_s=facts.images_per_s,
        memory_mib=facts.memory_mib,
        # Without tuning positives there is nothing to choose by: the last epoch is then the best.
        is_best=chooses is None or means[-1] == max(means),
        is_best_localization=f1 is not None and f1 >= best_f1,
        tuning_loss=result.loss,
    )


# ---------------------------------------------------------------------------------------------------------------------


def _mean_of_last(curve: Sequence[float], epochs: int) -> tuple[bool, float]:
    """Any mean of as many epochs as are wanted goes before one of fewer, which is more luck."""
    last = curve[-epochs:]
    return len(last) == epochs, sum(last) / len(last)


def _training(request: TrainingRequest, processes: Processes) -> Training:
    config = request.config
    begun = latest_checkpoint(request.run_dir) if request.only_seen else None
    data = training_data(config, request.splits, begun=None if begun is None else begun.folder)
    learner = new_learner(config.model, config.train, processes=processes)
    tell = _told_by(processes)
    data, about = _begun(request, learner, data, part_places(config.model), tell)
    if not can_choose(data.tuning, config.train.recipe.best_by):
        tell({"kind": "warning", "text": _NOTHING_TO_CHOOSE_BY})

    def measure_epoch(facts: EpochFacts, before: Sequence[EpochRecord], curves: Tracker) -> EpochRecord:
        result = measure_findings(
            learner,
            data.tuning,
            data.views,
            config=config.train,
            processes=processes,
            batch_images=config.evaluate.batch_images,
        )
        curves.tuning(result, facts.epoch)
        recipe = config.train.recipe
        return epoch_record(facts, result, before, best_of_epochs=recipe.best_of_epochs, best_by=recipe.best_by)

    return _prepared(request, processes, data, learner, measure_epoch, EpochRecord, about)


def _pretraining(request: TrainingRequest, processes: Processes) -> Training:
    config, fit = request.config, request.config.pretrain or PretrainConfig()
    data = pretraining_data(config, fit, request.splits)
    learner = new_pretraining_learner(fit, processes=processes)
    data, about = _begun(request, learner, data, PRETRAINING_PLACES, _told_by(processes))

    def measure_epoch(facts: EpochFacts, before: Sequence[PretrainEpoch], curves: Tracker) -> PretrainEpoch:
        result = measure_pretraining(
            learner, data.tuning, data.views, config=fit, processes=processes, batch_images=config.evaluate.batch_images
        )
        best = min((record.tuning_loss for record in before if record.tuning_loss is not None), default=float("inf"))
        return PretrainEpoch(
            epoch=facts.epoch,
            train_loss=facts.train_loss,
            tuning_loss=result.loss,
            tuning_accuracy=result.accuracy,
            images_per_s=facts.images_per_s,
            memory_mib=facts.memory_mib,
            is_best=result.loss is None or result.loss <= best,
            tuning_auroc=result.auroc,
            baseline_loss=result.baseline_loss,
            baseline_accuracy=result.baseline_accuracy,
        )

    return _prepared(request, processes, data, learner, measure_epoch, PretrainEpoch, about)


def _begun(
    request: TrainingRequest, learner: Learner, data: TrainingData, places: Mapping[str, str], tell: Tell
) -> tuple[TrainingData, Mapping[str, Any]]:
    """Gives the network the weights that it is to begin with; the data with whom they have seen, and what is said of them."""
    start = request.fit.start
    files = [(part, path, start.digests.get(part, "")) for part, path in start.files()]
    if request.pretrained is not None:
        files.append((StartPart.LOCALIZATION, request.pretrained, ""))
    parts, taken, seen, terms = [], [], data.seen, list(data.terms)
    for part, path, sha256 in files:
        opened = open_start(path, expected_sha256=sha256)
        require_same_images(opened.sidecar, request.config.preprocess, opened.source)
        taken.append(take_weights(learner, part, opened.weights, places))
        seen = opened.joined_with(seen)
        terms += kept_terms(opened.sidecar)
        if opened.seen is not None and (who := judges_seen(request.config, request.splits, opened.seen)):
            tell({"kind": "warning", "text": _JUDGES_SEEN.format(source=opened.source, who=who)})
        parts.append(
            StartedPart(
                part=part.value,
                source=opened.source,
                sha256=opened.sha256,
                form=opened.form,
                taken=taken[-1].taken,
                left=(*taken[-1].left, *opened.left),
                judged=_judged(opened.sidecar),
            )
        )
    about: Mapping[str, Any] = request.about
    if terms:
        about = {**about, "provenance": {**about["provenance"], "terms": list(dict.fromkeys(terms))}}
    if not parts:
        return data, about
    started = StartedWeights(parts=tuple(parts), fresh=fresh_names(learner, taken))
    return replace(data, seen=seen), {**about, "start": started.model_dump(mode="json")}


def _judged(sidecar: Mapping[str, Any]) -> str | None:
    """Of a checkpoint of pre-training, whose last epoch is its own, what tuning said of it."""
    *_, last = sidecar.get("epochs") or [{}]
    return judged_pretraining(PretrainEpoch(**last))[1] if "baseline_loss" in last else None


def _prepared(
    request: TrainingRequest,
    processes: Processes,
    data: TrainingData,
    learner: Learner,
    measure_epoch: Callable[[EpochFacts, Sequence[Any], Tracker], Epoch],
    record_type: type[Epoch],
    about: Mapping[str, Any],
) -> Training:
    tell = _told_by(processes)
    if request.fit.recipe.batch_norm == "running" and "start" not in about:
        tell({"kind": "warning", "text": _NOTHING_TO_RUN_ON})
    if data.images is not None:
        about = {**about, IMAGE_REFERENCE: data.images.model_dump(mode="json")}
    return Training(
        name=request.name,
        config=request.fit,
        model=request.config.model,
        data=data,
        learner=learner,
        processes=processes,
        run_dir=request.run_dir,
        identity=request.identity,
        about=about,
        measure_epoch=measure_epoch,
        record_type=record_type,
        tell=tell,
    )


def _told_by(processes: Processes) -> Tell:
    return say if processes.is_leader else _say_nothing


def _say_nothing(message: Mapping[str, Any]) -> None:
    """Only the leader speaks."""


def _measure_first(request: TrainingRequest, data: TrainingData, processes: Processes) -> None:
    """Says what an epoch takes before the first one of a long training, if that was asked for.

    It is measured with a network of its own: the one that is to learn has not moved, and draws what it would have drawn. One
    that is compiled would be so twice, which takes longer than a forecast is worth.
    """
    if not request.is_measured_first:
        return
    config, views = request.config, data.train.of_epoch(0)
    device = choose_device(request.fit, rank=processes.rank)
    steps = request.fit.epochs * len(planned_epoch(data.sampler.draw(0), views, request.fit, processes))
    is_long = steps >= _STEPS_A_FORECAST_IS_WORTH * (config.search.forecast_steps + 1)
    if not is_long or request.fit.compile or latest_checkpoint(request.run_dir):
        return
    before = random_state(device)
    _say_measured(request, data, processes, time.monotonic())
    set_random_state(before, device)


def _say_measured(request: TrainingRequest, data: TrainingData, processes: Processes, began: float) -> None:
    """Times a little of all that an epoch of the request's training does; leaves nothing behind."""
    config, recipe = request.config, request.config.train.recipe
    learner = new_learner(config.model, config.train, processes=processes)
    exams, views = data.sampler.draw(0), data.train.of_epoch(0)
    plan = planned_epoch(exams, views, config.train, processes)
    steps = config.search.forecast_steps + 1
    reading_s = time.monotonic() - began
    times_s, images = [time.monotonic()], list[int]()
    parts = step_parts(views, plan[:steps], config.train, learner.device, processes=processes)
    for step in train_steps(learner, parts, config.train):
        images.append(step.settled().images)
        times_s.append(time.monotonic())
    # The first step warms up; where there is only one step in an epoch, it has to do.
    skipped = min(1, len(images) - 1)
    step_s = (times_s[-1] - times_s[skipped]) / max(sum(images[skipped:]), 1)
    remeasured = exams[: recipe.remeasured_exams] if recipe.batch_norm == "remeasured" else []
    shown = remeasured[: config.train.batch_exams * config.search.forecast_steps]
    started = time.monotonic()
    if shown:
        remeasure_batches(learner, data.train, shown, config.train)
    remeasure_s = (time.monotonic() - started) * len(remeasured) / max(len(shown), 1)
    tuning_images = min(len(data.tuning), config.evaluate.batch_images * config.search.forecast_steps)
    started = time.monotonic()
    measure_findings(
        learner,
        data.tuning.head(tuning_images),
        data.views,
        config=config.train,
        processes=processes,
        batch_images=config.evaluate.batch_images,
    )
    tuning_s = (time.monotonic() - started) / max(tuning_images, 1)
    weights_bytes = sum(weight.nbytes for weight in learner.network.state_dict().values())
    if processes.is_leader:
        measured = Measured(
            device=learner.device.type,
            seconds_per_image=step_s,
            images_per_epoch=sum(len(views.rows_of_exam[exam]) for exam in exams),
            tuning_seconds_per_image=tuning_s,
            tuning_images=len(data.tuning),
            tuning_malignant=int((data.tuning["malignant"] == 1).sum()),
            remeasure_seconds=remeasure_s,
            checkpoint_seconds=_checkpoint_seconds(request, learner),
            # Weights and Adam's two moments, and beside a mean of the weights those that are trained.
            checkpoint_bytes=(3 if learner.averaged is None else 4) * weights_bytes,
            reading_seconds=reading_s,
            measuring_seconds=time.monotonic() - began,
        )
        say({"kind": "measured", "measured": measured.model_dump(mode="json")})


def _checkpoint_seconds(request: TrainingRequest, learner: Learner) -> float:
    """What an epoch's checkpoint takes to write, of a network that was moved."""
    folder = request.run_dir / "written"
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed here
    started = time.monotonic()
    trained = None if learner.averaged is None else learner.network.state_dict()
    save_checkpoint(
        folder,
        weights=learner.weights(),
        training=flatten_training(learner.optimizer, [random_state(learner.device)], trained),
        model=request.config.model,
        about={},
    )
    took_s = time.monotonic() - started
    shutil.rmtree(folder)
    return took_s
