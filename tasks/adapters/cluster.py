"""Dask: a cluster by config, and a sliding window of plain futures over it. The only module that imports Dask.

One future is one zarr shard: its writer is alone with it, a killed worker's shard is redone by another, and a shard that keeps
killing workers fails alone.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import dask
from distributed import Client, LocalCluster, as_completed

from schemas.config import DaskConfig, ExistingDask

_RETRIES = 2
_FUTURES_PER_WORKER = 2

# The nanny's own default trims freed memory back to the system after every image and costs half as much CPU again.
_KEEP_FREED_MEMORY = {
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 536_870_912,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 33_554_432,
    "distributed.nanny.pre-spawn-environ.OMP_NUM_THREADS": 1,
}


Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failed(Generic[Item]):
    """An item whose work failed for good, with the error in words."""

    item: Item
    error: str


@contextmanager
def open_cluster(config: DaskConfig) -> Iterator[str]:
    """Yields a scheduler address; a cluster of our own ends with the block."""
    if isinstance(config, ExistingDask):
        yield config.address
        return
    with (
        dask.config.set(_KEEP_FREED_MEMORY),
        LocalCluster(
            n_workers=config.n_workers,
            threads_per_worker=1,
            memory_limit=config.memory_limit,
            dashboard_address=None,
            silence_logs=40,
            host="127.0.0.1",
        ) as cluster,
    ):
        yield cluster.scheduler_address


def run_all(address: str, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result | Failed[Item]]:
    """Runs ``work`` on every item, a few per worker in flight, and yields results as they come.

    ``work`` must be importable by the workers. An item whose work raises is tried again twice, then fails alone.
    """
    with Client(address, set_as_default=False) as client, client.as_current():
        remaining = iter(items)
        item_by_key: dict[str, Item] = {}

        def submit(item: Item) -> Any:
            key = f"{getattr(work, '__name__', 'work')}-{uuid.uuid4().hex}"
            item_by_key[key] = item
            return client.submit(work, item, key=key, pure=False, retries=_RETRIES)

        window = _FUTURES_PER_WORKER * max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
        running: Any = as_completed([submit(item) for item in itertools.islice(remaining, window)])
        for future in running:
            if future.status not in ("finished", "error"):
                running.add(future)  # its result was lost with a worker; Dask is computing it again
                continue
            item = item_by_key.pop(future.key)
            yield (
                cast("Result", future.result()) if future.status == "finished" else Failed(item, _in_words(future.exception()))
            )
            future.release()
            for following in itertools.islice(remaining, 1):
                running.add(submit(following))


def _in_words(error: BaseException | None) -> str:
    if type(error).__name__ == "KilledWorker":
        return "its worker process was killed again and again: memory or a crashing decoder"
    return f"{type(error).__name__}: {error}"
