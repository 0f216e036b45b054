"""Tasks as plain functions, one after the other: what ``ingest_steps`` takes where there is no Prefect server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prefect import Task

from schemas.config.run import RunConfig


class PlainSubmit:
    """Calls the function that a task is made of."""

    def one(self, step: Task[..., Any], config: RunConfig, *records: Any) -> Any:
        """What the function returns."""
        return step.fn(config, *records)

    def each(self, step: Task[..., int], config: RunConfig, scheduler: str, batches: Iterable[Any]) -> None:
        """Batch after batch; the first that raises ends it."""
        for batch in batches:
            step.fn(config, scheduler, batch)
