"""How a stage is skipped when it is done: content keys for Prefect's cache, and the report each stage leaves in its folder.

A stage's key is made of its own config sections and the versions of what it reads; not of run ids or times, so a later run of
the same work finds it. The persisted result is only trusted while the stage's report is still on disk.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from prefect.context import TaskRunContext
from prefect.tasks import Task

from schemas.config import RunConfig, Stage
from schemas.errors import StoreError
from schemas.reports import Report
from tasks.adapters.workspace import Workspace, write_atomically

ReportType = TypeVar("ReportType", bound=Report)


def stage_key(
    stage: Stage, version: int, sections: tuple[str, ...], reads: Callable[[Mapping[str, Any]], tuple[str, ...]]
) -> Callable[[TaskRunContext, dict[str, Any]], str]:
    """A ``cache_key_fn``.

    Args:
        stage: The stage; its name starts the key.
        version: Raise it when the stage's code changes its results.
        sections: Names of the ``RunConfig`` sections the stage depends on.
        reads: From the task's parameters to the digests of what it reads.
    """

    def key(context: TaskRunContext, parameters: dict[str, Any]) -> str:
        config: RunConfig = parameters["config"]
        parts = [
            version,
            str(config.workspace_dir.resolve()),
            {section: getattr(config, section).model_dump(mode="json") for section in sections},
            reads(parameters),
        ]
        return f"{stage.value}-{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]}"

    return key


def when_needed(task: Task[Any, ReportType], stage: Stage, config: RunConfig) -> Task[Any, ReportType]:
    """The task, told to run again if it is forced or its report is gone."""
    is_forced = stage in config.force or not report_path(config.workspace_dir, stage).exists()
    return task.with_options(refresh_cache=True) if is_forced else task


def report_path(workspace_dir: Path, stage: Stage) -> Path:
    """Where a stage leaves its report."""
    return Workspace(workspace_dir).stage_dir(stage.value) / "report.json"


def save_report(config: RunConfig, stage: Stage, report: ReportType) -> ReportType:
    """Leaves the report in the stage's folder and returns it."""
    write_atomically(report_path(config.workspace_dir, stage), report.model_dump_json(indent=1).encode())
    return report


def load_report(config: RunConfig, stage: Stage, kind: type[ReportType]) -> ReportType:
    """The report a stage left.

    Raises:
        StoreError: The stage has not run in this workspace.
    """
    path = report_path(config.workspace_dir, stage)
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError as missing:
        raise StoreError(
            f"Stage {stage.value} has not run in {config.workspace_dir}",
            expected=path,
            remedy=f"run `mammo {stage.value} CONFIG.yaml` first, or `mammo pipeline CONFIG.yaml` for all of it",
        ) from missing
