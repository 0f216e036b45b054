"""Search: the paper's random search, its best models as an ensemble, and a page about all trials."""

from __future__ import annotations

from typing import Any, cast

from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows.pretrain import pretrained
from schemas.config.run import RunConfig
from schemas.reports.training import SearchReport
from tasks.adapters.models.start_files import require_starts
from tasks.artifacts import config_flow
from tasks.search import forecast_search, run_trials, summarise_search
from tasks.stage import load_splits

# A trial's thread only waits for its process; how many run at a time is search.workers.
_MOST_WORKERS = cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=64))


@config_flow(name="search", task_runner=_MOST_WORKERS)
def search(config: RunConfig) -> SearchReport:
    """Goes on where an earlier run, or another worker of the study, stopped."""
    require_starts(config)
    splits = load_splits(config)
    begun = pretrained(config, splits)
    forecast = forecast_search(config, splits, begun)
    if forecast is not None:
        run_trials(config, splits, begun, forecast.trials)
    return summarise_search(config, forecast)
