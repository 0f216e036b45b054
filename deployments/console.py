"""What a command shows while it runs: bars on a terminal, plain lines otherwise; and who it is that runs it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from getpass import getuser

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_OURS = ("tasks", "flows", "gmic_model")


@contextmanager
def shown_progress() -> Iterator[None]:
    """Shows our log records while the block runs."""
    handler: logging.Handler
    if sys.stderr.isatty():
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description:>12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as bars:
            handler = _Bars(bars)
            with _attached(handler):
                yield
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        with _attached(handler):
            yield


def user_name() -> str:
    """Who runs the command."""
    try:
        return getuser()
    except (KeyError, OSError):  # a container's user has no name
        return f"user {os.getuid()}"


class _Bars(logging.Handler):
    """Turns records with ``progress`` into bars, others into lines above them."""

    def __init__(self, bars: Progress) -> None:
        super().__init__()
        self._bars = bars
        self._bar_by_stage: dict[str, TaskID] = {}

    def emit(self, record: logging.LogRecord) -> None:
        progress = getattr(record, "progress", None)
        if progress is None:
            self._bars.console.print(record.getMessage(), markup=False, highlight=False)
            return
        stage, done, total = progress
        if stage not in self._bar_by_stage:
            self._bar_by_stage[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._bar_by_stage[stage], completed=done, total=total)


@contextmanager
def _attached(handler: logging.Handler) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _OURS]
    for logger in loggers:
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
