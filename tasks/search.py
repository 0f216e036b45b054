"""Search: trials of the paper's random search, each a task that goes on from its own checkpoint (paper section 3.1)."""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, as_completed

from schemas.config.run import RunConfig, Stage
from schemas.config.training import GpuWorkers
from schemas.reports.data import SplitReport
from schemas.reports.training import PretrainReport, SearchForecast, SearchReport
from tasks.adapters.lock import reading
from tasks.adapters.pages.search_page import write_search_page
from tasks.adapters.provenance import now
from tasks.adapters.training.forecast import forecast_text, refuse_search, search_forecast, search_report, worker_slots
from tasks.adapters.training.process import run_training
from tasks.adapters.training.request import Measured, Purpose, training_request
from tasks.adapters.training.search_study import (
    SearchStudy,
    common_identities,
    run_claimed_trial,
    trial_config,
)
from tasks.adapters.workspace import Workspace
from tasks.artifacts import duration, progress, show_link, show_table
from tasks.stage import GPU_TAG, save_report, workspaces_elsewhere

logger = logging.getLogger(__name__)


@task(name="forecast-search", cache_policy=NO_CACHE, persist_result=False)
def forecast_search(config: RunConfig, splits: SplitReport, pretrained: PretrainReport | None) -> SearchForecast | None:
    """Opens the study, measures a few steps and says what the search will take; None = every trial has ended.

    Raises:
        ConfigError: The study belongs to another config, or the forecast is above ``search.confirm_above_hours``.
        TrainingError: The tuning split has no malignant breast to choose by, or the disk is too small.
    """
    study = search_study(config)
    study.prepare(*common_identities(config, splits, pretrained))
    trials = study.remaining()
    if not trials:
        return None
    request = training_request(config, splits, None, study.folder / "measure").model_copy(update={"purpose": Purpose.MEASURE})
    told: dict[str, Any] = {}
    started = time.monotonic()
    run_training(request, told.update, gpu=worker_slots(config)[0])
    measured = Measured.model_validate(told["measured"])
    begin_s = time.monotonic() - started - measured.measuring_seconds
    forecast = search_forecast(config, measured, trials, study.folder, begin_s=begin_s)
    said = forecast_text(forecast, duration)
    logger.info("%s", said)
    refuse_search(config, measured, forecast, said=said)
    return forecast


@task(name="trial", cache_policy=NO_CACHE, persist_result=False)
def run_trial(config: RunConfig, splits: SplitReport, pretrained: PretrainReport | None, gpu: int | None) -> str:
    """Runs one trial to its end: one that a lost worker left, from its checkpoint, or the next. Returns how it ended."""
    with reading(workspaces_elsewhere(config)), search_study(config).claimed_trial() as trial:
        if trial is None:
            return "nothing left"
        logger.info("trial %d %s: %s", trial.number, "goes on" if trial.is_resumed else "begins", trial.in_words())
        request = training_request(trial_config(config, trial), splits, pretrained, trial.folder / "run")
        return run_claimed_trial(trial, request, gpu)


def run_trials(config: RunConfig, splits: SplitReport, pretrained: PretrainReport | None, trials: int) -> None:
    """Keeps every worker busy with a trial task until ``trials`` have been started and all have ended."""
    run = run_trial.with_options(tags=[GPU_TAG]) if isinstance(config.search.workers, GpuWorkers) else run_trial
    free, running = deque(worker_slots(config)), dict[PrefectFuture[str], int | None]()
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
    report = search_report(config, study, records, forecast)
    write_search_page(report.page_path, config.name, records, report, now(), config.search)
    rows = [
        {
            "trial": model.trial,
            "tuning_malignant_auroc": model.tuning_malignant_auroc,
            "weights": model.checkpoint_sha256[:12],
            **model.parameters,
        }
        for model in report.best
    ]
    show_table("search-best", rows, f"Best {len(rows)} of {report.trials_complete} trials")
    show_link("search-page", report.page_path, "All trials")
    logger.info("evaluate them: %s", report.next_command)
    return save_report(config, Stage.SEARCH, report)


def search_study(config: RunConfig) -> SearchStudy:
    """The study of a config, in its folder of the workspace."""
    return SearchStudy(config.search, Workspace(config.workspace_dir).stage_dir(Stage.SEARCH.value) / config.search.study)
