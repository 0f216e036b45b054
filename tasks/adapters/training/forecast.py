"""A search before and after its trials: what it will take, whether it may begin, and the ensemble that it made."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from schemas.config.field_path import with_value
from schemas.config.run import RunConfig
from schemas.config.training import GpuWorkers, SearchedRange
from schemas.errors import ConfigError, TrainingError
from schemas.reports.training import EnsembleMember, SearchedModel, SearchForecast, SearchReport
from tasks.adapters.models.model_files import ENSEMBLE, write_ensemble
from tasks.adapters.training.request import Measured
from tasks.adapters.training.search_study import SearchStudy, TrialRecord
from tasks.adapters.workspace import write_atomically

logger = logging.getLogger(__name__)

_READ_BY_TRIALS: Final = ("train", "model")
"""Sections that a trial's training is made of, and that are not common to all trials."""
_WHOLE_NUMBERS_TRIED: Final = 100


def worker_slots(config: RunConfig) -> list[int | None]:
    """One per trial that runs at a time: a GPU's number, or None for a process that takes what there is."""
    workers = config.search.workers
    return list(workers.devices) if isinstance(workers, GpuWorkers) else [None] * workers.count


def search_forecast(
    config: RunConfig, measured: Measured, trials: int, folder: Path, *, begin_s: float = 0.0
) -> SearchForecast:
    """From a few measured steps to what all trials that are left will take, if none is stopped before its last epoch.

    Args:
        config: The run.
        measured: What a training process of purpose ``measure`` said.
        trials: Trials that have not ended.
        folder: The study's; its disk must hold their checkpoints.
        begin_s: What a training process takes before it reads its data.
    """
    trial_hours = (begin_s + measured.reading_seconds + config.train.epochs * measured.epoch_seconds) / 3600
    at_once = min(len(worker_slots(config)), trials)
    kept = 3  # the newest epoch and the best by two criteria
    return SearchForecast(
        device=measured.device,
        trials=trials,
        seconds_per_image=measured.seconds_per_image,
        tuning_seconds_per_image=measured.tuning_seconds_per_image,
        trial_hours=trial_hours,
        total_hours=trials * trial_hours,
        wall_hours=-(-trials // at_once) * trial_hours,
        disk_gib=(trials * kept + at_once) * measured.checkpoint_bytes / 2**30,
        disk_free_gib=shutil.disk_usage(folder).free / 2**30,
    )


def require_searchable(config: RunConfig) -> None:
    """Says before the first trial what trials would find out one by one, hours later, each stopping the search anew.

    Raises:
        ConfigError: No trial reads what a path leads to, or one may draw a number that its field, or the network, refuses.
    """
    for path, searched in config.search.ranges.items():
        section = path.partition(".")[0]
        if section not in _READ_BY_TRIALS:
            raise ConfigError(
                f"A search over {path} would give every trial the same training",
                expected=f"paths that begin with {' or '.join(f'{name}.' for name in _READ_BY_TRIALS)}",
                got=f"search.ranges.{path}",
                remedy="leave this path out: pre-training, store and splits are one for all trials",
            )
        for value in _ends_and_between(searched):
            drawn = with_value(config, path, value)
            if section == "model":
                _require_trainable(drawn)


def refuse_search(config: RunConfig, measured: Measured, forecast: SearchForecast, *, said: str) -> None:
    """Refuses a search that cannot choose, cannot be kept, or takes longer than was agreed to; warns of idle pruning.

    Args:
        config: The run.
        measured: What a training process of purpose ``measure`` said.
        forecast: What follows from it.
        said: The same in words.

    Raises:
        ConfigError: The forecast is above ``search.confirm_above_hours`` and not confirmed, or as of ``require_searchable``.
        TrainingError: The tuning split has no malignant breast to choose by, or the disk is too small.
    """
    require_searchable(config)
    if idle := idle_pruning(config):
        logger.warning("%s", idle)
    if not measured.tuning_malignant:
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
            got=said,
            remedy="run it with --yes, or lower search.trials or train.epochs",
        )


def idle_pruning(config: RunConfig) -> str:
    """Why the pruning that is asked for will end no trial; empty = it may, or none is asked for."""
    search, epochs = config.search, config.train.epochs
    if search.pruning == "none":
        return ""
    why = []
    if epochs <= search.pruning_warmup_epochs and "train.epochs" not in search.ranges:
        why.append(f"no trial is pruned in its first {search.pruning_warmup_epochs} epochs, and train.epochs is {epochs}")
    if search.trials <= search.pruning_startup_trials:
        why.append(f"{search.pruning_startup_trials} trials are completed first, and search.trials is {search.trials}")
    fields = "search.pruning_warmup_epochs and search.pruning_startup_trials"
    return f"search.pruning: {search.pruning} will end no trial: {'; '.join(why)}. Lower {fields} as needed" if why else ""


def forecast_text(forecast: SearchForecast, duration: Callable[[float], str]) -> str:
    """One sentence for people; ``duration`` says seconds as one reads them, for a search of a small cohort takes minutes."""
    kind = "GPU time" if forecast.device == "cuda" else "CPU process time"
    total, of_trial, wall = (
        duration(3600 * hours) for hours in (forecast.total_hours, forecast.trial_hours, forecast.wall_hours)
    )
    return (
        f"{forecast.trials} trials will take about {total} of {kind} ({of_trial} each), {wall} by the clock, "
        f"and up to {forecast.disk_gib:.1f} GiB of {forecast.disk_free_gib:.0f} free"
    )


def search_report(
    config: RunConfig, study: SearchStudy, records: Sequence[TrialRecord], forecast: SearchForecast | None
) -> SearchReport:
    """The best trials; leaves ``ensemble.json`` and a config that evaluates it in the study's folder.

    Raises:
        TrainingError: No trial ended well.
    """
    best = sorted((record for record in records if record.auroc is not None), key=lambda record: -(record.auroc or 0.0))
    if not best:
        raise TrainingError(
            "No trial of the search ended well",
            got=f"{len(records)} trials: {', '.join(sorted({record.state for record in records}))}",
            remedy="see their errors above; narrow the ranges of the learning rate if all of them diverged",
        )
    models = tuple(_model(record) for record in best[: config.search.ensemble_size])
    ensemble_path = study.folder / ENSEMBLE
    report = SearchReport(
        study_dir=study.folder,
        ensemble_path=ensemble_path,
        page_path=study.folder / "search.html",
        best=models,
        trials_complete=len(best),
        trials_pruned=sum(record.state == "pruned" for record in records),
        trials_failed=sum(record.state == "fail" for record in records),
        importance=study.importance(),
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
    return report


# ---------------------------------------------------------------------------------------------------------------------


def _ends_and_between(searched: SearchedRange) -> Sequence[float]:
    """Whole numbers, of few all; of others what lies just inside: an end that the field just excludes is never drawn."""
    low, high = searched.limits
    if searched.whole is None:
        return math.nextafter(low, high), math.nextafter(high, low)
    few, many = searched.whole
    return range(few, many + 1, max(1, (many - few) // _WHOLE_NUMBERS_TRIED))


def _require_trainable(config: RunConfig) -> None:
    from gmic_model.networks.registry import require_trainable  # late: torch takes a second, and few search the network

    require_trainable(config.model)


def _model(record: TrialRecord) -> SearchedModel:
    return SearchedModel(
        trial=record.number,
        tuning_malignant_auroc=record.auroc or 0.0,
        checkpoint_path=Path(record.checkpoint_path),
        checkpoint_sha256=record.sha256,
        parameters=dict(record.parameters),
    )
