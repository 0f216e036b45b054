"""What people see of a stage before, while and after it runs: a form, tables, links and progress in the Prefect UI.

Outside a Prefect run (a unit test calling ``task.fn``) nothing is sent. A progress log record carries
``progress=(stage, done, total)``: the command line draws bars from it on a terminal and plain lines otherwise.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from prefect import Flow
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.context import TaskRunContext
from prefect.runtime import flow_run

from schemas.config.run import RunConfig
from tasks.adapters.workspace import HEALTH

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

_SECONDS_BETWEEN_UPDATES = 2.0
ROWS_SHOWN = 200


def show_table(key: str, rows: Sequence[Mapping[str, Any]], description: str) -> None:
    """A table artifact, its first 200 rows."""
    if TaskRunContext.get() is not None:
        create_table_artifact(key=_marked(key), table=[dict(row) for row in rows[:ROWS_SHOWN]], description=description)


def show_markdown(key: str, markdown: str, description: str) -> None:
    """A markdown artifact; pictures in it are data URIs."""
    if TaskRunContext.get() is not None:
        create_markdown_artifact(key=_marked(key), markdown=markdown, description=description)


def show_link(key: str, path: Path, description: str) -> None:
    """A link artifact to a file on this machine."""
    if TaskRunContext.get() is not None:
        create_link_artifact(key=_marked(key), link=path.resolve().as_uri(), link_text=path.name, description=description)


def _marked(key: str) -> str:
    """The synthetic exam's tables and pages bear its name: under the keys of real exams they would be taken for theirs."""
    return f"{HEALTH}-{key}" if flow_run.flow_name == HEALTH else key


def run_name() -> str:
    """A ``flow_run_name``: the flow, the store it works on and the UTC day, as ``ingest-ward-2026-11-23``."""
    config = flow_run.parameters["config"]
    name = config.name if isinstance(config, RunConfig) else config.get("name", "run")
    day = (flow_run.scheduled_start_time or datetime.now(UTC)).astimezone(UTC).date()
    return f"{flow_run.flow_name}-{name}-{day.isoformat()}"


def config_flow(
    name: str, *, run_name: str | Callable[[], str] = run_name, task_runner: Any = None
) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """Makes a flow of a function of a config, and leaves the form of its parameters to whoever asks for it.

    Prefect writes the form, a JSON Schema of every section, when a flow is defined: a quarter of a second for each flow that a
    process imports, where nothing reads it. While the flow is defined its parameters are of any type, and the form is a line.
    Afterwards they are what they are, for a run that checks what it is given and for ``prefect deploy``, which writes the form.
    """

    def made(function: Callable[P, R]) -> Flow[P, R]:
        annotations, function.__annotations__ = function.__annotations__, {}
        try:
            defined = Flow(function, name=name, flow_run_name=run_name, task_runner=task_runner)
        finally:
            function.__annotations__ = annotations
        defined.__annotations__ = annotations
        return defined

    return made


def add_to_run_name(counts: str) -> None:
    """Appends what a run did to its name, once: ``-32-images-2-refused``."""
    run_id, name = flow_run.id, flow_run.name
    if run_id is None or TaskRunContext.get() is None or name.endswith(counts):
        return
    with get_client(sync_client=True) as client:
        client.update_flow_run(UUID(str(run_id)), name=f"{run_name()}-{counts}")


@dataclass
class Progress:
    """Counts what is done of one stage; call ``advance_to`` as often as you like."""

    stage: str
    total: int
    unit: str
    _artifact_id: UUID | None = None
    _last_update: float = field(default=float("-inf"))
    _done_before: int = 0
    _started: float = field(default_factory=time.monotonic)

    def begin_at(self, done: int) -> None:
        """The work itself begins: what an earlier run did, and the time that getting ready took, do not count for the rate."""
        self._done_before = done
        self._started = time.monotonic()

    def advance_to(self, done: int, note: str = "") -> None:
        """Reports ``done`` of ``total``, at most every two seconds, and always at the end."""
        now = time.monotonic()
        if done < self.total and now - self._last_update < _SECONDS_BETWEEN_UPDATES:
            return
        self._last_update = now
        parts = [f"{self.stage}: {done} of {self.total} {self.unit}"]
        done_now = done - self._done_before
        if done_now > 0:
            elapsed_s = max(now - self._started, 1e-6)
            rate = done_now / elapsed_s
            parts.append(f"{rate:.1f} {self.unit}/s" if rate >= 1.0 else f"{1.0 / rate:.0f} s each")
            parts.append(f"{duration((self.total - done) * elapsed_s / done_now)} left")
        if note:
            parts.append(note)
        logger.info(", ".join(parts), extra={"progress": (self.stage, done, self.total)})
        if self._artifact_id is not None:
            update_progress_artifact(self._artifact_id, progress=100.0 * done / max(self.total, 1))


def duration(seconds: float) -> str:
    """As one reads it: seconds, minutes, hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextmanager
def progress(stage: str, total: int, unit: str) -> Iterator[Progress]:
    """A ``Progress`` for one stage; its artifact exists only inside a Prefect run."""
    tracker = Progress(stage, total, unit)
    if TaskRunContext.get() is not None:
        artifact_id = create_progress_artifact(
            progress=0.0, key=_marked(f"{stage}-progress"), description=f"{stage}: {total} {unit}"
        )
        tracker._artifact_id = artifact_id if isinstance(artifact_id, UUID) else None
    yield tracker
