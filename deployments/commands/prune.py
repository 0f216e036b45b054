"""``mammo prune``: old runs, artifacts and checkpoints go. Without --delete it only says what would."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from deployments.configuration import load_config
from deployments.server.prefect_server import prefect_server
from schemas.config.run import RunConfig, Stage
from schemas.errors import StoreBusy
from schemas.reports.evaluation import EvaluationReport
from schemas.reports.report import Report
from schemas.reports.training import TrainReport
from tasks.adapters.lifecycle.prediction_log import PredictionLog, years_before
from tasks.adapters.lock import held_lock, is_held, without_readers
from tasks.adapters.models.model_files import ensemble_file, read_ensemble
from tasks.adapters.workspace import CROSSVALIDATE, Workspace, named_paths

_PAGE = 200


@dataclass(frozen=True, slots=True)
class Pruned:
    """What is old, by kind."""

    runs: int
    artifacts: int
    trainings: tuple[Path, ...]
    log_months: int


def prune(
    config: Annotated[Path, typer.Argument(help="Config file of the workspace")],
    older_than_days: Annotated[float, typer.Option(help="Age by end of run, or by last change of a file")] = 90.0,
    delete: Annotated[bool, typer.Option("--delete", help="Really delete; without it nothing is touched")] = False,
) -> None:
    """Show, or with --delete remove, old runs, artifacts and trainings; what is in use is kept."""
    run = load_config(config)
    with prefect_server(run.workspace_dir):
        pruned = prune_workspace(run, timedelta(days=older_than_days), is_dry=not delete)
    verb = "deleted" if delete else "would be deleted (--delete does it)"
    typer.echo(f"{pruned.runs} runs, {pruned.artifacts} artifacts, {len(pruned.trainings)} trainings {verb}")
    if pruned.log_months:
        typer.echo(f"{pruned.log_months} months of the prediction log, older than {run.prediction_log_years} years, {verb}")
    for path in pruned.trainings:
        typer.echo(f"  {path}")


def prune_workspace(config: RunConfig, age: timedelta, *, is_dry: bool) -> Pruned:
    """Finds what is older, and deletes it unless ``is_dry``.

    Raises:
        StoreBusy: Somebody evaluates, draws or predicts in this workspace, perhaps with weights that would go.
        StoreError: A report cannot be read, so nobody can say which weights it keeps; no training is deleted.
        CheckpointError: The same of an ensemble.
    """
    runs, artifacts = asyncio.run(_prune_history(datetime.now(UTC) - age, is_dry=is_dry))
    oldest_s = time.time() - age.total_seconds()
    trainings = tuple(_old_trainings(config, oldest_s))
    if not is_dry and trainings:
        with without_readers(config.workspace_dir, purpose="prune"):
            # Once more, while nobody reads: an evaluation that ended since we looked says which weights are its.
            trainings = tuple(folder for folder in _old_trainings(config, oldest_s) if _is_deleted(folder))
    log = PredictionLog(Workspace(config.workspace_dir).prediction_log_dir)
    months = log.expire(years_before(datetime.now(UTC), config.prediction_log_years), is_dry=is_dry)
    return Pruned(runs=runs, artifacts=artifacts, trainings=trainings, log_months=months)


# ---------------------------------------------------------------------------------------------------------------------


async def _prune_history(before: datetime, *, is_dry: bool) -> tuple[int, int]:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.sorting import ArtifactSort, FlowRunSort

    ended = {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}}
    old_runs = FlowRunFilter.model_validate({"end_time": {"before_": before.isoformat()}, "state": ended})
    async with get_client() as client:
        runs = [
            each.id
            async for each in _pages(
                lambda offset: client.read_flow_runs(
                    flow_run_filter=old_runs, sort=FlowRunSort.START_TIME_ASC, limit=_PAGE, offset=offset
                )
            )
        ]
        artifacts = [
            each.id
            async for each in _pages(
                lambda offset: client.read_artifacts(sort=ArtifactSort.CREATED_DESC, limit=_PAGE, offset=offset)
            )
            if each.updated is not None and each.updated < before
        ]
        if not is_dry:
            for artifact_id in artifacts:
                await client.delete_artifact(artifact_id)
            for run_id in runs:
                await client.delete_flow_run(run_id)
    return len(runs), len(artifacts)


async def _pages(read: Any) -> Any:
    offset = 0
    while page := await read(offset):
        for each in page:
            yield each
        offset += len(page)


def _is_deleted(training: Path) -> bool:
    """False of one with which somebody goes on since we looked."""
    try:
        with held_lock(training, purpose="prune"):
            shutil.rmtree(training)
    except StoreBusy:
        return False
    return True


def _old_trainings(config: RunConfig, oldest_s: float) -> Iterator[Path]:
    """Training folders, save those whose weights are in force, evaluated or named by the config, and those that go on now.

    Those of a cross-validation's folds and of Table 1's rows too.
    """
    named = [path.resolve() for path in _weights_in_use(config)]
    folders = [place.stage_dir(Stage.TRAIN.value).resolve() for place in _places(config)]
    trainings = sorted(path for folder in folders for path in folder.glob("*") if path.is_dir())
    for path in (one for one in trainings if not any(weights.is_relative_to(one) for weights in named)):
        if not is_held(path) and max((file.stat().st_mtime for file in path.rglob("*")), default=0.0) < oldest_s:
            yield path


def _weights_in_use(config: RunConfig) -> Iterator[Path]:
    """Checkpoints and trainings that somebody will want again: explain draws what was evaluated."""
    from tasks.stage import load_report

    of_folds = Workspace(config.workspace_dir).stage_dir(CROSSVALIDATE)
    for named in (*named_paths(config.model_dump()), of_folds):
        yield named
        if (file := ensemble_file(named)) is not None:
            yield from (member.path for member in read_ensemble(file))
    reports: tuple[tuple[Stage, type[Report]], ...] = ((Stage.TRAIN, TrainReport), (Stage.EVALUATE, EvaluationReport))
    for place in _places(config):
        run = config.model_copy(update={"workspace_dir": place.root})
        for stage, kind in reports:
            if place.report_path(stage.value).exists():
                yield from named_paths(load_report(run, stage, kind).model_dump())


def _places(config: RunConfig) -> list[Workspace]:
    workspace = Workspace(config.workspace_dir)
    return [workspace, *workspace.below()]
