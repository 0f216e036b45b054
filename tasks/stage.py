"""How a stage is skipped when it is done: content keys for Prefect's cache, and the report each stage leaves in its folder.

A stage's key is made of its own config sections and the versions of what it reads; not of run ids or times, so a later run of
the same work finds it. The persisted result is only trusted while the stage's folder holds the files it speaks of.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast
from uuid import uuid4

from prefect.context import TaskRunContext
from prefect.runtime import flow_run
from prefect.tasks import Task

from schemas.config.run import RunConfig, Stage
from schemas.config.section import Config
from schemas.errors import StoreError
from schemas.reports.report import Report
from tasks.adapters.workspace import Workspace, write_atomically

GPU_TAG = "gpu"
"""Of tasks that run the network: a limit on the server says how many at the same time."""

ReportType = TypeVar("ReportType", bound=Report)


def stage_key(
    stage: Stage, version: int, sections: tuple[str, ...], reads: Callable[[Mapping[str, Any]], tuple[str, ...]]
) -> Callable[[TaskRunContext | None, dict[str, Any]], str]:
    """A ``cache_key_fn``.

    Args:
        stage: The stage; its name starts the key.
        version: Raise it when the stage's code changes its results.
        sections: Names of the ``RunConfig`` sections the stage depends on.
        reads: From the task's parameters to the digests of what it reads.
    """

    def key(context: TaskRunContext | None, parameters: dict[str, Any]) -> str:
        config: RunConfig = parameters["config"]
        parts = [
            version,
            str(config.workspace_dir.resolve()),
            {section: _content(getattr(config, section)) for section in sections},
            reads(parameters),
        ]
        return f"{stage.value}-{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]}"

    return key


def when_needed(task: Task[..., ReportType], stage: Stage, config: RunConfig) -> Callable[..., ReportType]:
    """The task as a step that executes if it is forced, or if the stage's folder does not hold these very results.

    What a folder holds is written in its ``done`` file: the key of the last execution that ended well, and the flow run it was
    in. Prefect's cache alone would not do: it remembers a result whose files were deleted, or written over by a run with
    another config. A retry of the flow run that was to force a stage, and did, leaves it alone.
    """

    def step(*inputs: Any) -> ReportType:
        key = _key_of(task, inputs)
        done_path = Workspace(config.workspace_dir).stage_dir(stage.value) / "done"
        run_id = flow_run.id or uuid4().hex  # outside a flow nothing is a retry
        if _holds(done_path, key, forced_in=run_id if stage in config.force else None):
            return task(*inputs)
        done_path.unlink(missing_ok=True)  # from here until the end the folder holds a mixture
        report = task.with_options(refresh_cache=True)(*inputs)
        write_atomically(done_path, f"{key} {run_id}".encode())
        return report

    return step


def _content(section: Config | None) -> object:
    return None if section is None else section.model_dump(mode="json")


def _key_of(task: Task[..., Any], inputs: tuple[Any, ...]) -> str:
    if task.cache_key_fn is None:
        raise TypeError(f"task {task.name} has no cache_key_fn")
    make_key = cast("Callable[[TaskRunContext | None, dict[str, Any]], str]", task.cache_key_fn)
    return make_key(None, dict(inspect.signature(task.fn).bind(*inputs).arguments))


def _holds(done_path: Path, key: str, *, forced_in: str | None) -> bool:
    try:
        done_key, _, run_id = done_path.read_text().partition(" ")
        if done_key != key or forced_in not in (None, run_id):
            return False
        report = json.loads(done_path.with_name("report.json").read_bytes())
    except (OSError, ValueError):
        return False
    return all(path.exists() for path in _named_paths(report))


def _named_paths(content: object) -> Iterator[Path]:
    """Every ``*_path`` and ``*_dir`` of a report."""
    if isinstance(content, dict):
        for name, value in content.items():
            if isinstance(value, str) and name.endswith(("_path", "_dir")):
                yield Path(value)
            else:
                yield from _named_paths(value)
    elif isinstance(content, list):
        for value in content:
            yield from _named_paths(value)


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
        StoreError: The stage has not run in this workspace, or its report is of another version.
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
    except ValueError as unreadable:
        raise StoreError(
            f"The report of stage {stage.value} cannot be read",
            expected=f"a {kind.__name__} of this version at {path}",
            got=f"{type(unreadable).__name__}",
            remedy=f"run `mammo {stage.value} CONFIG.yaml` again",
        ) from unreadable
