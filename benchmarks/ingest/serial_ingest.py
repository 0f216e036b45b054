"""The ingest flow's own steps, one after another in this process, without Prefect and Dask. Not a benchmark itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from schemas.config.ingest import IngestConfig, PreprocessConfig
from schemas.config.network import GMICConfig
from schemas.config.run import RunConfig
from schemas.reports.data import IngestReport
from tasks import ingest
from tasks.adapters.inbox.batches import comparison_batches, header_batches
from tasks.publish import publish_exams

Item, Result = TypeVar("Item"), TypeVar("Result")


def make_config(
    workspace_dir: Path, source_dir: Path, *, preprocess: PreprocessConfig | None = None, **changes: Any
) -> RunConfig:
    """A config that ingests a folder."""
    preprocess = preprocess or PreprocessConfig()
    return RunConfig(
        workspace_dir=workspace_dir,
        ingest=IngestConfig(**{"source_dir": source_dir, "max_failed_fraction": 0.0, "settle_s": 0, **changes}),
        preprocess=preprocess,
        model=GMICConfig(image_size=preprocess.window_px),
        name="bench",
    )


def ingest_serially(
    config: RunConfig, before_publishing: Callable[[], None] = lambda: None
) -> tuple[IngestReport, dict[str, float]]:
    """Ingests as ``flows.ingest`` does; the report, and the wall seconds of each step."""
    original, ingest.run_all = ingest.run_all, _run_all  # type: ignore[assignment]
    took: dict[str, float] = {}
    try:
        scan = _timed(took, "scan", lambda: ingest.scan_source.fn(config))
        for batches_of in (header_batches, comparison_batches):
            for files in batches_of(config, scan):
                _timed(took, "inspect", lambda files=files: ingest.inspect_batch.fn(config, "", files))
        for shards in _timed(took, "plan", lambda: ingest.plan_shards.fn(config, "", scan)):
            _timed(took, "write", lambda shards=shards: ingest.ingest_batch.fn(config, "", shards))
        before_publishing()
        return _timed(took, "publish", lambda: publish_exams.fn(config, scan)), took
    finally:
        ingest.run_all = original


def _run_all(scheduler: str, work: Callable[[Item], Result], items: Iterable[Item], **options: Any) -> Iterator[Result]:
    return map(work, items)


def _timed(took: dict[str, float], step: str, work: Callable[[], Result]) -> Result:
    start = time.perf_counter()
    result = work()
    took[step] = took.get(step, 0.0) + time.perf_counter() - start
    return result
