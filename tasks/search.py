"""Search: trials of the paper's random search, each a task that goes on from its own checkpoint (paper section 3.1)."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, as_completed

from schemas.config.run import RunConfig, Stage
from schemas.config.training import GpuWorkers
from schemas.errors import ConfigError, TrainingError
from schemas.reports.data import SplitReport
from schemas.reports.training import EnsembleMember, PretrainReport, SearchedModel, SearchForecast, SearchReport
from tasks.adapters.models.checkpoints import delete_checkpoints
from tasks.adapters.models.model_files import write_ensemble
from tasks.adapters.pages.search_page import write_search_page
from tasks.adapters.provenance import now
from tasks.adapters.training.mlflow_log import mark_stopped, training_key
from tasks.adapters.training.process import run_training
from tasks.adapters.training.request import Purpose, TrainingRequest
from tasks.adapters.training.search_study import ClaimedTrial, SearchStudy, TrialRecord
from tasks.adapters.workspace import Workspace, write_atomically
from tasks.artifacts import progress, show_link, show_table
from tasks.stage import GPU_TAG, save_report
from tasks.train import training_identity, training_report, training_request

logger = logging.getLogger(__name__)


@task(name="forecast-search", cache_policy=NO_CACHE, persist_result=False)
def forecast_search(config: RunConfig, splits: SplitReport, pretrained: PretrainReport | None) -> SearchForecast | None:
    """Opens the study, measures a few steps and says what the search will take; None = every trial has ended.

    Raises:
        ConfigError: The study belongs to another config, or the forecast is above ``search.confirm_above_hours``.
        TrainingError: The tuning split has no malignant breast to choose by, or the disk is too small.
    """
    study = search_study(config)
    study.prepare(_common_identity(config, splits, pretrained))
    trials = study.remaining()
    if not trials:
        return None
    request = training_request(config, splits, None, study.folder / "measure").model_copy(update={"purpose": Purpose.MEASURE})
    measured: dict[str, Any] = {}
    run_training(request, measured.update, gpu=_slots(config)[0])
    forecast = _forecast(config, measured, trials, study.folder)
    logger.info("%s", forecast_text(forecast))
    _refuse(config, measured, forecast)
    return forecast


@task(name="trial", cache_policy=NO_CACHE, persist_result=False)
def run_trial(config: RunConfig, splits: SplitReport, pretrained: PretrainReport | None, gpu: int | None) -> str:
    """Runs one trial to its end: one that a lost worker left, from its checkpoint, or the next. Returns how it ended."""
    with search_study(config).claimed_trial() as trial:
        if trial is None:
            return "nothing left"
        logger.info("trial %d %s: %s", trial.number, "goes on" if trial.is_resumed else "begins", _words(trial.parameters))
        request = training_request(trial_config(config, trial), splits, pretrained, trial.folder / "run")
        return _run_claimed(trial, request, gpu)


def run_trials(config: RunConfig, splits: SplitReport, pretrained: PretrainReport | None, trials: int) -> None:
    """Keeps every worker busy with a trial task until ``trials`` have been started and all have ended."""
    run = run_trial.with_options(tags=[GPU_TAG]) if isinstance(config.search.workers, GpuWorkers) else run_trial
    free, running = deque(_slots(config)), dict[PrefectFuture[str], int | None]()
    started = ended = 0
    with progress("search", trials, "trials") as tracker:
        while started < trials or running:
            while free and started < trials:
                gpu = free.popleft()
                running[run.submit(config, splits, pretrained, gpu)] = gpu
                started += 1
            finished = next(iter(as_completed(list(running))))
            free.append(running.pop(finished))
            how = finished.result()
            ended += 1
            tracker.advance_to(ended, how)


@task(name="summarise-search", cache_policy=NO_CACHE, persist_result=False)
def summarise_search(config: RunConfig, forecast: SearchForecast | None) -> SearchReport:
    """The best trials as an ensemble, a page about all of them, and the command that evaluates.

    Raises:
        TrainingError: No trial ended well.
    """
    study = search_study(config)
    records = study.records()
    best = sorted((record for record in records if record.auroc is not None), key=lambda record: -(record.auroc or 0.0))
    if not best:
        raise TrainingError(
            "No trial of the search ended well",
            got=f"{len(records)} trials: {', '.join(sorted({record.state for record in records}))}",
            remedy="see their errors above; narrow the ranges of the learning rate if all of them diverged",
        )
    models = tuple(_model(record) for record in best[: config.search.ensemble_size])
    ensemble_path = study.folder / "ensemble.json"
    importance = study.importance()
    report = SearchReport(
        study_dir=study.folder,
        ensemble_path=ensemble_path,
        page_path=study.folder / "search.html",
        best=models,
        trials_complete=len(best),
        trials_pruned=sum(record.state == "pruned" for record in records),
        trials_failed=sum(record.state == "fail" for record in records),
        importance=importance,
        forecast=forecast,
        next_command=f"mammo evaluate {study.folder / 'evaluate.yaml'}",
    )
    members = [
        EnsembleMember(
            path=model.checkpoint_path, sha256=model.checkpoint_sha256, tuning_malignant_auroc=model.tuning_malignant_auroc
        )
        for model in models
    ]
    write_ensemble(ensemble_path, members)
    evaluated = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"ensemble": ensemble_path})})
    write_atomically(study.folder / "evaluate.yaml", evaluated.model_dump_json(indent=1).encode())  # JSON is YAML
    write_search_page(report.page_path, config.name, records, report, now())
    rows = [
        {"trial": model.trial, "tuning_malignant_auroc": model.tuning_malignant_auroc, **model.parameters} for model in models
    ]
    show_table("search-best", rows, f"Best {len(rows)} of {len(best)} trials")
    show_link("search-page", report.page_path, "All trials")
    logger.info("evaluate them: %s", report.next_command)
    return save_report(config, Stage.SEARCH, report)


def search_study(config: RunConfig) -> SearchStudy:
    """The study of a config, in its folder of the workspace."""
    return SearchStudy(config.search, Workspace(config.workspace_dir).stage_dir(Stage.SEARCH.value) / config.search.study)


def trial_config(config: RunConfig, trial: ClaimedTrial) -> RunConfig:
    """The run config with a trial's parameters; its seed is the config's plus the trial's number."""
    found = trial.parameters
    train = {
        "learning_rate": found["learning_rate"],
        "saliency_weight": found["saliency_weight"],
        "saliency_exponent": found["saliency_exponent"],
        "seed": config.train.seed + trial.number,
        "keep_checkpoints": 1,
    }
    return config.model_copy(
        update={
            "train": config.train.model_copy(update=train),
            "model": config.model.model_copy(update={"top_t": found["top_t"]}),
        }
    )


def forecast_text(forecast: SearchForecast) -> str:
    """One sentence for people."""
    kind = "GPU-hours" if forecast.device == "cuda" else "CPU process hours"
    return (
        f"{forecast.trials} trials will take about {forecast.total_hours:.1f} {kind} ({forecast.trial_hours:.2f} h each), "
        f"{forecast.wall_hours:.1f} h by the clock, and up to {forecast.disk_gib:.1f} GiB of {forecast.disk_free_gib:.0f} free"
    )


# ---------------------------------------------------------------------------------------------------------------------


class _Pruned(Exception):  # from the listener to the task, through the training that it ends
    """The study says that the trial is to end."""


def _run_claimed(trial: ClaimedTrial, request: TrainingRequest, gpu: int | None) -> str:
    def listen(message: Mapping[str, Any]) -> None:
        if message["kind"] != "epoch":
            return
        epoch, auroc = message["record"]["epoch"], message["record"]["tuning_malignant_auroc"]
        if auroc is not None and trial.report(epoch, auroc):
            raise _Pruned

    try:
        run_training(request, listen, gpu=gpu)
    except _Pruned:
        trial.prune()
        delete_checkpoints(request.run_dir)
        if request.fit.tracking.mlflow is not None:
            mark_stopped(request.fit.tracking.mlflow, training_key(request.identity, request.run_dir))
        return f"trial {trial.number} pruned"
    except TrainingError as failed:
        if "finite number" not in str(failed):
            raise  # not the parameters' fault: the trial stays open, a rerun goes on with it
        trial.fail(str(failed))
        return f"trial {trial.number} failed: {failed}"
    report = training_report(request)
    auroc = report.epochs[report.best_epoch].tuning_malignant_auroc or 0.0
    trial.complete(auroc, checkpoint=report.checkpoint_path, sha256=report.checkpoint_sha256)
    return f"trial {trial.number}: tuning malignant AUROC {auroc:.3f} in epoch {report.best_epoch}"


def _common_identity(config: RunConfig, splits: SplitReport, pretrained: PretrainReport | None) -> str:
    """Digest of what all trials have in common: the config without what a trial changes, data, splits and ranges."""
    ranges = config.search.model_dump(
        include={"learning_rate_log10", "saliency_weight_log10", "saliency_exponent_ln", "top_t_ln", "seed"}
    )
    fixed = config.model_copy(
        update={
            "train": config.train.model_copy(update={"learning_rate": 1.0, "saliency_weight": 1.0, "saliency_exponent": 1.0}),
            "model": config.model.model_copy(update={"top_t": 1.0}),
        }
    )
    return hashlib.sha256(f"{training_identity(fixed, splits, pretrained)}{sorted(ranges.items())}".encode()).hexdigest()


def _slots(config: RunConfig) -> list[int | None]:
    """One per trial that runs at a time: a GPU's number, or None for a process that takes what there is."""
    workers = config.search.workers
    return list(workers.devices) if isinstance(workers, GpuWorkers) else [None] * workers.count


def _forecast(config: RunConfig, measured: Mapping[str, Any], trials: int, folder: Path) -> SearchForecast:
    epoch_s = measured["images_per_epoch"] * measured["seconds_per_image"]
    epoch_s += measured["tuning_images"] * measured["tuning_seconds_per_image"]
    trial_hours = config.train.epochs * epoch_s / 3600
    at_once = min(len(_slots(config)), trials)
    kept = 3  # the newest epoch and the best by two criteria
    return SearchForecast(
        device=measured["device"],
        trials=trials,
        seconds_per_image=measured["seconds_per_image"],
        tuning_seconds_per_image=measured["tuning_seconds_per_image"],
        trial_hours=trial_hours,
        total_hours=trials * trial_hours,
        wall_hours=-(-trials // at_once) * trial_hours,
        disk_gib=(trials * kept + at_once) * measured["checkpoint_bytes"] / 2**30,
        disk_free_gib=shutil.disk_usage(folder).free / 2**30,
    )


def _refuse(config: RunConfig, measured: Mapping[str, Any], forecast: SearchForecast) -> None:
    if not measured["tuning_malignant"]:
        raise TrainingError(
            "The tuning split has no malignant breast: there is nothing to choose trials by",
            expected="at least one malignant and one other breast in the tuning split",
            remedy="raise split.tuning_fraction, or add labelled exams",
        )
    if forecast.disk_gib > forecast.disk_free_gib:
        raise TrainingError(
            "The disk is too small for the search",
            expected=f"{forecast.disk_gib:.1f} GiB",
            got=f"{forecast.disk_free_gib:.1f} GiB free",
            remedy="make room, lower search.trials, or set workspace_dir to a larger disk",
        )
    if forecast.total_hours > config.search.confirm_above_hours and not config.search.is_confirmed:
        raise ConfigError(
            "The search will take longer than search.confirm_above_hours",
            expected=f"at most {config.search.confirm_above_hours:g} hours of all workers",
            got=forecast_text(forecast),
            remedy="run it with --yes, or lower search.trials or train.epochs",
        )


def _model(record: TrialRecord) -> SearchedModel:
    return SearchedModel(
        trial=record.number,
        tuning_malignant_auroc=record.auroc or 0.0,
        checkpoint_path=Path(record.checkpoint_path),
        checkpoint_sha256=record.sha256,
        parameters=dict(record.parameters),
    )


def _words(parameters: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in parameters.items())
