"""Dask: a cluster by config, and a sliding window of plain futures over it. The only module that imports Dask.

One future is one zarr shard: its writer is alone with it, a killed worker's shard is redone by another, and a shard that keeps
killing workers fails alone.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

import dask
from distributed import CancelledError, Client, KilledWorker, LocalCluster, as_completed
from distributed.comm.core import CommClosedError

from schemas.config import DaskConfig, ExistingDask
from schemas.errors import MammoError

_RETRIES = 2
_FUTURES_PER_WORKER = 2

_OWN_CLUSTER = {
    "distributed.scheduler.allowed-failures": 1,  # of a worker under an item; then the item is tried alone
    # The nanny's own default trims freed memory back to the system after every image and costs half as much CPU again.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 536_870_912,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 33_554_432,
    "distributed.nanny.pre-spawn-environ.OMP_NUM_THREADS": 1,
}


Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failed(Generic[Item]):
    """An item whose work failed for good: the error in words that quote no path, and as it was raised, for the program only."""

    item: Item
    error: str
    cause: BaseException | None = field(default=None, repr=False, compare=False)


@contextmanager
def open_cluster(config: DaskConfig) -> Iterator[str]:
    """Yields a scheduler address; a cluster of our own ends with the block."""
    if isinstance(config, ExistingDask):
        yield config.address
        return
    with (
        dask.config.set(_OWN_CLUSTER),
        LocalCluster(
            n_workers=config.n_workers,
            threads_per_worker=1,
            memory_limit=config.memory_limit,
            dashboard_address="127.0.0.1:0",  # None would mean port 8787 on every interface
            silence_logs=40,
            host="127.0.0.1",
        ) as cluster,
    ):
        # A worker that dies within moments of its start is not started again by its nanny; this notices after some 15 s.
        cluster.adapt(minimum=config.n_workers, maximum=config.n_workers)
        yield cluster.scheduler_address


def run_all(address: str, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result | Failed[Item]]:
    """Runs ``work`` on every item, a few per worker in flight, and yields results as they come.

    ``work`` must be importable by the workers. An item whose work raises is tried again twice, then fails alone. Dask blames a
    dead worker on every item it held; those under suspicion are tried again at the end, one at a time, so that only the item
    that kills its worker even then fails.

    Raises:
        OSError: The scheduler cannot be reached, or was lost on the way; results yielded so far are good.
    """
    with Client(address, set_as_default=False) as client:
        suspects: list[Item] = []
        workers = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
        for item, outcome in _outcomes(client, work, items, in_flight=_FUTURES_PER_WORKER * workers):
            if isinstance(outcome, KilledWorker):
                suspects.append(item)
            else:
                yield Failed(item, _in_words(outcome), outcome) if isinstance(outcome, BaseException) else outcome
        for item, outcome in _outcomes(client, work, suspects, in_flight=1):
            yield Failed(item, _in_words(outcome), outcome) if isinstance(outcome, BaseException) else outcome


def _outcomes(
    client: Any, work: Callable[[Item], Result], items: Iterable[Item], *, in_flight: int
) -> Iterator[tuple[Item, Result | BaseException]]:
    """Each item with its result or its error; takes the next item when one is done."""
    remaining = iter(items)
    item_by_key: dict[str, Item] = {}

    def submit(item: Item) -> Any:
        key = f"{getattr(work, '__name__', 'work')}-{uuid.uuid4().hex}"
        item_by_key[key] = item
        return client.submit(work, item, key=key, pure=False, retries=_RETRIES)

    running: Any = as_completed([submit(item) for item in itertools.islice(remaining, in_flight)], loop=client.loop)
    for future in running:
        try:
            outcome = cast("Result", future.result())  # waits again if the result was lost with a worker
        except (CancelledError, CommClosedError) as lost:
            raise ConnectionError(
                "The Dask scheduler was lost. Expected: it runs until the batch is done. Remedy: look at its log, run again"
            ) from lost
        except Exception as error:  # whatever the work raised
            yield item_by_key.pop(future.key), error
        else:
            yield item_by_key.pop(future.key), outcome
        future.release()
        for following in itertools.islice(remaining, 1):
            running.add(submit(following))


def _in_words(error: BaseException) -> str:
    """What may be told of an error: a foreign message can quote a path, and a path can spell a name."""
    if isinstance(error, KilledWorker):
        return "its worker process was killed again and again: memory or a crashing decoder"
    if isinstance(error, MammoError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__}: {error.strerror}"
    return type(error).__name__
