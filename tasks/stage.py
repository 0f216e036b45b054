"""A stage of the pipeline: one Prefect task, and how a finished one is skipped.

A stage remembers in its folder and nowhere else. ``report.json`` is what it said; ``done`` holds the key of the last execution
that ended well and the flow run that it was in. The key is made of the stage's own config sections and of the versions of what
it reads, not of run ids, times or places, so a later run of the same work finds it, also where the workspace was moved to.
Prefect's result cache is no second memory: it would remember a result whose files were deleted, or written over by a run with
another config.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Concatenate, Final, Generic, ParamSpec, TypeVar, get_type_hints
from uuid import uuid4

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from schemas.config.run import RunConfig, Stage
from schemas.config.section import Config
from schemas.errors import ConfigError, StoreError
from schemas.reports.data import IngestReport, SplitReport
from schemas.reports.report import Anchor, Report
from tasks.adapters.lock import held_lock, reading
from tasks.adapters.workspace import AnyReport, Workspace, exam_store_dir, named_paths, write_atomically

logger = logging.getLogger(__name__)

GPU_TAG = "gpu"
"""Of tasks that run the network: a limit on the server says how many at the same time."""

Inputs = ParamSpec("Inputs")
ReportType = TypeVar("ReportType", bound=Report)

_DOES_NO_WORK: ContextVar[bool] = ContextVar("does_no_work", default=False)


class NotFinished(Exception):
    """Raised inside ``without_work`` by the first stage that would have to work."""


@contextmanager
def without_work() -> Iterator[None]:
    """Inside, a stage answers with what its folder holds, or raises ``NotFinished``; no Prefect run is made or needed."""
    token = _DOES_NO_WORK.set(True)
    try:
        yield
    finally:
        _DOES_NO_WORK.reset(token)


class StageTask(Generic[Inputs, ReportType]):
    """What ``@stage`` makes of a function. Flows call it; tests call ``body``, the plain function.

    Attributes:
        body: The function: it does the work and returns the report, and knows nothing of skipping.
    """

    def __init__(
        self,
        body: Callable[Concatenate[RunConfig, Inputs], ReportType],
        stage: Stage,
        version: int,
        sections: tuple[str, ...],
        reads: Callable[Concatenate[RunConfig, Inputs], tuple[str, ...]],
        tags: tuple[str, ...],
        read_formerly: Callable[Concatenate[RunConfig, Inputs], tuple[str, ...] | None] | None = None,
    ) -> None:
        self.body = body
        self._stage, self._version, self._sections, self._reads = stage, version, sections, reads
        self._read_formerly = read_formerly
        self._report_type: type[ReportType] = get_type_hints(body)["return"]
        functools.update_wrapper(self, body)

        @task(name=stage.value, tags=list(tags), cache_policy=NO_CACHE, persist_result=False)
        @functools.wraps(body)
        def finished_or_executed(
            config: RunConfig, *inputs: Inputs.args, **named: Inputs.kwargs
        ) -> ReportType | State[ReportType]:
            return self._finished_or_executed(config, *inputs, **named)

        self._task = finished_or_executed

    def __call__(self, config: RunConfig, *inputs: Inputs.args, **named: Inputs.kwargs) -> ReportType:
        """The report: the one in the stage's folder if it is of this very work, else that of an execution.

        Raises:
            NotFinished: There is work to do, inside ``without_work``.
        """
        if _DOES_NO_WORK.get():
            finished = self._finished("" if self._is_forced(config) else None, config, *inputs, **named)
            if finished is None:
                raise NotFinished
            return finished
        answer: Any = self._task(config, *inputs, **named)
        if isinstance(answer, State):
            finished_report: ReportType = answer.result()
            return finished_report
        report: ReportType = answer
        return report

    def key(self, config: RunConfig, *inputs: Inputs.args, **named: Inputs.kwargs) -> str:
        """Names the work: equal for equal code, config sections and digests of what is read, wherever the workspace lies.

        A section's paths are left out: what lies there is named by its digest among the rest.
        """
        return self._key(config, self._reads(config, *inputs, **named))

    def _key(self, config: RunConfig, read: tuple[str, ...]) -> str:
        sections = {name: _content(getattr(config, name), lambda _: None) for name in self._sections}
        return self._named([self._version, sections, read])

    def _keys_at(self, place: Path, config: RunConfig, read: tuple[str, ...]) -> set[str]:
        """What a former release called the same work: the workspace's place was a part of it, and so were all paths.

        One for paths inside the workspace that were moved with it, and one for those that lie beside it and were moved with it
        too: the workspaces of Table 1's rows lie in one, and each row names weights of another.
        """
        keys = set()
        for now, then in ((config.workspace_dir, place), _moved_together(config.workspace_dir, place)):
            here = Anchor(now, aliases=(now.resolve(),))

            def as_it_was(path: Path, here: Anchor = here, then: Path = then) -> str:
                return str(then / here.relative(path))

            sections = {name: _content(getattr(config, name), as_it_was) for name in self._sections}
            keys.add(self._named([self._version, str(place), sections, read]))
        return keys

    def _is_key(self, done_key: str, config: RunConfig, *inputs: Inputs.args, **named: Inputs.kwargs) -> bool:
        """True for what this release or a former one called this very work."""
        read = self._reads(config, *inputs, **named)
        if done_key == self._key(config, read):
            return True
        formerly = None if self._read_formerly is None else self._read_formerly(config, *inputs, **named)
        if formerly is not None and done_key == self._key(config, formerly):
            return True
        place = Workspace(config.workspace_dir).former_root(self._stage.value, self._report_type)
        if place is None:
            return False
        return any(done_key in self._keys_at(place, config, each) for each in (read, formerly) if each is not None)

    def _named(self, parts: list[object]) -> str:
        return f"{self._stage.value}-{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]}"

    def _finished_or_executed(
        self, config: RunConfig, *inputs: Inputs.args, **named: Inputs.kwargs
    ) -> ReportType | State[ReportType]:
        # A retry of the flow run that was to force a stage, and did, leaves it alone: the run's id stands in `done`.
        forced_in = _run_id() if self._is_forced(config) else None
        finished = self._finished(forced_in, config, *inputs, **named)
        if finished is not None:
            return Completed(name="Cached", data=finished)
        with (
            reading(workspaces_elsewhere(config) if self._stage in _LOCK_THEIR_FOLDER else read_workspaces(config)),
            self._alone(config),
        ):
            if self._stage in _HELD_ALONE:  # another run may have done this very work while we waited for it
                finished = self._finished(forced_in, config, *inputs, **named)
                if finished is not None:
                    return Completed(name="Cached", data=finished)
            self._done_path(config).unlink(missing_ok=True)  # from here until the end the folder holds a mixture
            report = save_report(config, self._stage, self.body(config, *inputs, **named))
            # Within the lock: who waits for it finds the work finished, and nobody's report comes between this one and its key.
            write_atomically(self._done_path(config), f"{self.key(config, *inputs, **named)} {_run_id()}".encode())
            return report

    def _alone(self, config: RunConfig) -> AbstractContextManager[None]:
        """Of another execution in the same workspace: of other weights it would write among this one's tables and pages."""
        if self._stage not in _HELD_ALONE:
            return nullcontext()
        return held_lock(self._done_path(config).parent, purpose=self._stage.value, wait_s=config.ingest.lock_wait_s)

    def _is_forced(self, config: RunConfig) -> bool:
        return self._stage in config.force

    def _done_path(self, config: RunConfig) -> Path:
        return Workspace(config.workspace_dir).done_path(self._stage.value)

    def _finished(
        self, forced_in: str | None, config: RunConfig, *inputs: Inputs.args, **named: Inputs.kwargs
    ) -> ReportType | None:
        """The report in the folder, if it is of this very work and every file of the workspace that it speaks of is there."""
        workspace = Workspace(config.workspace_dir)
        try:
            done_key, _, run_id = self._done_path(config).read_text().partition(" ")
            if forced_in not in (None, run_id):
                return None
            if not self._is_key(done_key, config, *inputs, **named):
                return None
            report = workspace.read_report(self._stage.value, self._report_type)
            inside = [path for path in named_paths(report.model_dump()) if path.is_relative_to(workspace.root)]
            return report if all(path.exists() for path in inside) else None
        except (OSError, ValueError):
            return None


def stage(
    name: Stage,
    *,
    version: int,
    sections: tuple[str, ...],
    reads: Callable[Concatenate[RunConfig, Inputs], tuple[str, ...]],
    tags: tuple[str, ...] = (),
    read_formerly: Callable[Concatenate[RunConfig, Inputs], tuple[str, ...] | None] | None = None,
) -> Callable[[Callable[Concatenate[RunConfig, Inputs], ReportType]], StageTask[Inputs, ReportType]]:
    """Makes a stage of a function from the config and earlier stages' reports to this stage's report.

    Args:
        name: The stage: also the name of the task in Prefect and of the folder below the workspace.
        version: Raise it when the stage's code changes its results.
        sections: Names of the ``RunConfig`` sections that the stage depends on.
        reads: From the function's arguments to the digests of what it reads.
        tags: Prefect's tags of the task, for limits on the server.
        read_formerly: The digests that a former release's key was made of, where the folder's results are of this very work
            all the same; None = they are not, or it cannot be told.
    """
    return lambda body: StageTask(body, name, version, sections, reads, tags, read_formerly)


_LOCK_THEIR_FOLDER: Final = frozenset({Stage.PRETRAIN, Stage.TRAIN, Stage.SEARCH})
"""Stages of hours or days, which withdrawing and pruning ask for their own lock."""


_HELD_ALONE: Final = frozenset({Stage.EVALUATE, Stage.EXPLAIN})
"""Stages that write many files, minutes or hours long, into one folder."""


def read_workspaces(config: RunConfig) -> list[Path]:
    """The workspaces that a stage reads and writes: its own, and that of the store if it is another's."""
    return sorted({config.workspace_dir, exam_store_dir(config).parent})


def workspaces_elsewhere(config: RunConfig) -> list[Path]:
    """That of a store that is another workspace's: it does not know our folders, and cannot ask for their locks.

    None for a run with a store of its own, a fold or a row of Table 1: these lie in the workspace of their store.
    """
    place = exam_store_dir(config).parent
    return [] if config.workspace_dir.resolve().is_relative_to(place.resolve()) else [place]


def _run_id() -> str:
    return flow_run.id or uuid4().hex  # outside a flow nothing is a retry


def _moved_together(now: Path, then: Path) -> tuple[Path, Path]:
    """The outermost folders that a move from one place to the other can have been of: what both end with came along."""
    while now.name == then.name and now != then:
        now, then = now.parent, then.parent
    return now, then


def _content(section: Config | None, of_path: Callable[[Path], object]) -> object:
    """A section as JSON has it, each path replaced by what ``of_path`` makes of it."""
    return None if section is None else _with_paths(section.identity_content("python"), section.identity_content(), of_path)


def _with_paths(plain: Any, as_json: Any, of_path: Callable[[Path], object]) -> object:
    if isinstance(plain, Path):
        return of_path(plain)
    if isinstance(plain, dict):
        pairs = zip(plain.values(), as_json.items(), strict=True)
        return {name: _with_paths(value, written, of_path) for value, (name, written) in pairs}
    if isinstance(plain, list | tuple):
        return [_with_paths(value, written, of_path) for value, written in zip(plain, as_json, strict=True)]
    return as_json


def report_path(workspace_dir: Path, stage: Stage) -> Path:
    """Where a stage leaves its report."""
    return Workspace(workspace_dir).report_path(stage.value)


def save_report(config: RunConfig, stage: Stage, report: AnyReport) -> AnyReport:
    """Leaves the report in the stage's folder and returns it."""
    Workspace(config.workspace_dir).write_report(stage.value, report)
    return report


def load_ingested(config: RunConfig) -> IngestReport:
    """What is published in the store that a run reads: as its workspace's ingest said, or as another's store says itself.

    Raises:
        StoreError: Nothing was ingested, or there is no such store.
    """
    if not _is_store_of_workspace(config):
        from tasks.adapters.inbox.publishing.elsewhere import published_elsewhere  # late: zarr and pandas take a second

        return published_elsewhere(config)
    return load_report(config, Stage.INGEST, IngestReport)


def load_splits(config: RunConfig) -> SplitReport:
    """The division of the patients that is there, for who trains and divides nobody anew, and the version of what is published.

    It is the images and labels that are published now that are trained on.

    Raises:
        ConfigError: It was made by another split section: this config's would be ignored.
        StoreError: There is none, nothing was ingested, or a report is of another version.
    """
    from tasks.adapters.labels.division import settings_sha256  # late: pandas takes a second

    splits = load_report(config, Stage.SPLIT, SplitReport)
    if splits.settings_sha256 not in ("", settings_sha256(config.split)):
        raise ConfigError(
            "The patients are divided by another split section than this config's",
            expected="a division by this config",
            got=f"that of {splits.splits_path}, {splits.divided_by}" + (f" {splits.fold}" if splits.fold else ""),
            remedy="run `mammo split CONFIG.yaml`, which divides anew; or restore the section",
        )
    published = load_division(config)
    if published.data_version != splits.data_version:
        logger.warning(
            "Images or labels were published since the patients were divided: what is published now is trained on, of the "
            "patients who were there then. `mammo split CONFIG.yaml` gives a split to those who came since"
        )
    return published


def load_division(config: RunConfig) -> SplitReport:
    """The division of the patients that is there, whichever section made it, and the version of what is published now.

    Images and labels may have come since it was made: who judges weights by them is not to find an older judgement finished.

    Raises:
        StoreError: There is none, nothing was ingested, or a report is of another version.
    """
    splits = load_report(config, Stage.SPLIT, SplitReport)
    return splits.model_copy(update={"data_version": load_ingested(config).data_version})


def require_own_store(config: RunConfig) -> None:
    """Asked before a run that ingests and goes on from there: the rows of one store would be looked up in another.

    Raises:
        ConfigError: ``store_dir`` names another store than the workspace's.
    """
    if not _is_store_of_workspace(config):
        raise ConfigError(
            "This run would ingest into one store and go on with another, whose rows are other images",
            expected="no store_dir: what is ingested lies in the workspace's store",
            got=f"store_dir {config.store_dir}",
            remedy="leave out store_dir; with it run split, train, evaluate and explain one by one, which ingest nothing",
        )


def _is_store_of_workspace(config: RunConfig) -> bool:
    return os.path.realpath(exam_store_dir(config)) == os.path.realpath(Workspace(config.workspace_dir).store_dir)


def load_report(config: RunConfig, stage: Stage, kind: type[AnyReport]) -> AnyReport:
    """The report a stage left.

    Raises:
        StoreError: The stage has not run in this workspace, or its report is of another version.
    """
    path = report_path(config.workspace_dir, stage)
    try:
        return Workspace(config.workspace_dir).read_report(stage.value, kind)
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
