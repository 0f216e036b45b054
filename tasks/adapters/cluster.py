"""Dask: a cluster by config, and a sliding window of plain futures over it. The only module that imports Dask.

One future is one zarr shard: its writer is alone with it, a killed worker's shard is redone by another, and a shard that keeps
killing workers fails alone. Workers are processes here, SLURM jobs or Kubernetes pods; the contract is the same. A handful of
files is brought in by one thread of this process: to start workers would cost more than their work. Dask is imported late, for
that case does without it.
"""

from __future__ import annotations

import contextvars
import itertools
import logging
import math
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar, cast

from schemas.config.ingest import DaskConfig, ExistingDask, KubernetesDask, LocalDask, SlurmDask
from schemas.errors import ConfigError, MammoError, PeerUnavailable, extra_from
from tasks.adapters.interpreter import SAFE_ENVIRONMENT

logger = logging.getLogger(__name__)

_RETRIES = 2
_FUTURES_PER_WORKER = 2
_SECONDS_BETWEEN_COUNTS = 1.0
SECONDS_BETWEEN_LOOKS = 60.0

_WORKER_ENVIRONMENT = {
    # The nanny's own default trims freed memory back to the system after every image and costs half as much CPU again.
    "MALLOC_TRIM_THRESHOLD_": "536870912",
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "OMP_NUM_THREADS": "1",
    "DO_NOT_TRACK": "1",
    **SAFE_ENVIRONMENT,
}
_ALLOWED_FAILURES = 1
"""Of a worker under an item; then the item is tried alone."""

_OWN_CLUSTER = {
    "distributed.scheduler.allowed-failures": _ALLOWED_FAILURES,
    # A hundred looks a second at every worker's stack, for a page that nobody opens, and fifty at each process's event loop:
    # three fifths of what a cluster costs that waits.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500ms",
    **{f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in _WORKER_ENVIRONMENT.items()},
}
_NOT_UNPICKLED: Final = "Error during deserialization of the task graph"  # what an item is made of is not installed there
_MINUTES_BEFORE_WALLTIME = 5
_NOBODY = 10_001
"""User and group of the image of ``deployments/Dockerfile``."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failed(Generic[Item]):
    """An item whose work failed for good: the error in words that quote no path, and as it was raised, for the program only."""

    item: Item
    error: str
    cause: BaseException | None = field(default=None, repr=False, compare=False)

    @property
    def reason(self) -> str:
        """The same in a word or two, to count by."""
        return "worker killed" if type(self.cause).__name__ == "KilledWorker" else type(self.cause).__name__


_THREADS: Final[dict[str, ThreadPoolExecutor]] = {}
"""The one thread behind each address that stands for this process."""


@contextmanager
def open_cluster(config: DaskConfig, *, files: int | None = None) -> Iterator[str]:
    """Yields a scheduler address; a cluster of our own ends with the block.

    Args:
        config: Which cluster.
        files: How many there are to work on, if that is known: for a few, local workers are not started.

    Raises:
        ConfigError: The extra that this kind of cluster needs is not installed.
    """
    if isinstance(config, ExistingDask):
        yield config.address
        return
    if isinstance(config, LocalDask) and files is not None and files <= config.files_without_workers:
        with _thread_of_this_process() as address:
            yield address
        return
    import dask
    import distributed  # noqa: F401  # its defaults are set now: inside the block they would go with the block

    with _own_environment(), dask.config.set(_OWN_CLUSTER):
        cluster = _own_cluster(config)
        try:
            yield cluster.scheduler_address
        finally:
            _close(cluster)


@contextmanager
def _thread_of_this_process() -> Iterator[str]:
    """An address behind which one thread works: tasks that run beside each other share it, and with it the gate's child."""
    address = f"this-process-{uuid.uuid4().hex}"
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="mammo-ingest") as thread:
        _THREADS[address] = thread
        try:
            yield address
        finally:
            del _THREADS[address]
            thread.shutdown(cancel_futures=True)


def _close(cluster: Any) -> None:
    """Dask cannot close a nanny that is just starting its killed worker: the work is done, and both end with this process."""
    try:
        cluster.close()
    except AssertionError:
        logger.info("a Dask worker was being started while its cluster was closed")


@contextmanager
def _own_environment() -> Iterator[None]:
    """Nannies write their workers' environment, one thread each, into that of this process; a training must not inherit it."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _own_cluster(config: LocalDask | SlurmDask | KubernetesDask) -> Any:
    if isinstance(config, SlurmDask):
        cluster = slurm_cluster(config)
        cluster.scale(jobs=config.jobs)
        return cluster
    if isinstance(config, KubernetesDask):
        with _named_extra("kubernetes"):
            from dask_kubernetes.operator import KubeCluster
        return KubeCluster(custom_cluster_spec=kubernetes_spec(config), namespace=config.namespace, quiet=True)
    from distributed import LocalCluster

    cluster = LocalCluster(
        n_workers=config.n_workers,
        threads_per_worker=1,
        memory_limit=config.memory_limit,
        dashboard_address="127.0.0.1:0",  # None would mean port 8787 on every interface
        silence_logs=logging.CRITICAL,  # its errors quote arguments and, of a worker that is closing, a broken connection
        host="127.0.0.1",
    )
    # A worker that dies within moments of its start is not started again by its nanny; this notices after some 15 s.
    cluster.adapt(minimum=config.n_workers, maximum=config.n_workers)
    return cluster


def slurm_cluster(config: SlurmDask) -> Any:
    """A scheduler in this process; ``scale`` submits its jobs.

    Raises:
        ConfigError: ``dask-jobqueue`` is not installed.
    """
    with _named_extra("slurm"):
        from dask_jobqueue.slurm import SLURMCluster
    lifetime_min = config.walltime_min - _MINUTES_BEFORE_WALLTIME
    return SLURMCluster(
        queue=config.queue,
        account=config.account,
        cores=config.cores,
        processes=config.cores,
        memory=config.memory,
        walltime=f"{config.walltime_min // 60:02d}:{config.walltime_min % 60:02d}:00",
        interface=config.interface,
        local_directory=None if config.local_dir is None else str(config.local_dir),
        # Workers leave one after the other, before SLURM kills them all in the middle of their shards.
        worker_extra_args=["--lifetime", f"{lifetime_min}m", "--lifetime-stagger", f"{_MINUTES_BEFORE_WALLTIME}m"],
        job_script_prologue=[f"export {name}={value}" for name, value in _WORKER_ENVIRONMENT.items()],
        job_extra_directives=list(config.directives),
        scheduler_options={"dashboard_address": "127.0.0.1:0"},
    )


def kubernetes_spec(config: KubernetesDask) -> dict[str, Any]:
    """The ``DaskCluster`` resource: pods that are nobody, write only to the claim and to a scratch volume.

    Raises:
        ConfigError: ``dask-kubernetes`` is not installed.
    """
    with _named_extra("kubernetes"):
        from dask_kubernetes.operator import make_cluster_spec
    environment = {**_WORKER_ENVIRONMENT, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(_ALLOWED_FAILURES)}
    spec: dict[str, Any] = make_cluster_spec(
        name=config.name,
        image=config.image,
        n_workers=config.n_workers,
        resources={
            "requests": {"cpu": config.cpu, "memory": config.memory},
            "limits": {"memory": config.memory},
        },
        env=environment,
        worker_command="dask worker --nthreads 1 --local-directory /scratch",
    )
    for pod in (spec["spec"]["worker"]["spec"], spec["spec"]["scheduler"]["spec"]):
        pod["securityContext"] = {"runAsNonRoot": True, "runAsUser": _NOBODY, "fsGroup": _NOBODY}
        pod["volumes"] = [
            {"name": "data", "persistentVolumeClaim": {"claimName": config.volume_claim}},
            {"name": "scratch", "emptyDir": {}},
        ]
        for container in pod["containers"]:
            container["securityContext"] = {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False}
            container["volumeMounts"] = [
                {"name": "data", "mountPath": str(config.mount_path)},
                {"name": "scratch", "mountPath": "/scratch"},
            ]
    return spec


@contextmanager
def _named_extra(extra: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as missing:
        raise ConfigError(
            f"ingest.dask.kind {extra} needs packages that are not installed",
            got=f"no {missing.name}",
            remedy=extra_from(extra),
        ) from missing


def run_all(
    address: str,
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    halves: Callable[[Item], Sequence[Item]] | None = None,
) -> Iterator[Result | Failed[Item]]:
    """Runs ``work`` on every item, a few per worker in flight, and yields results as they come.

    ``work`` must be importable by the workers. An item whose work raises is tried again twice, then fails alone. Dask blames a
    dead worker on every item it held; those under suspicion are tried again at the end, one at a time, so that only the item
    that kills its worker even then fails.

    Args:
        address: The scheduler's.
        work: What to do with an item.
        items: What to do it with.
        halves: Divides an item under suspicion, down to a part that cannot be divided (one part or none): only that part fails.
            Parts of one item never run at the same time.

    Raises:
        PeerUnavailable: The scheduler cannot be reached, or was lost on the way; results yielded so far are good.
        ConfigError: What is given is no address.
    """
    if address in _THREADS:
        yield from (_THREADS[address].submit(_tried, work, item).result() for item in items)
        return
    from distributed import KilledWorker

    with _connected(address) as client, _telling_when_nobody_works(client):
        suspects: list[Item] = []
        for item, outcome in _outcomes(client, work, items, in_flight=_sliding_window(client)):
            if isinstance(outcome, KilledWorker):
                suspects.append(item)
            else:
                yield Failed(item, _in_words(outcome), outcome) if isinstance(outcome, BaseException) else outcome
        while suspects:
            item = suspects.pop()
            parts = halves(item) if halves is not None else ()
            for part, outcome in _outcomes(client, work, parts if len(parts) > 1 else [item], in_flight=lambda: 1):
                if isinstance(outcome, KilledWorker) and len(parts) > 1:
                    suspects.append(part)
                else:
                    yield Failed(part, _in_words(outcome), outcome) if isinstance(outcome, BaseException) else outcome


def _tried(work: Callable[[Item], Result], item: Item) -> Result | Failed[Item]:
    """What Dask does with an item, without Dask: an error costs a retry, the last one is the item's."""
    for _ in range(_RETRIES):
        try:
            return work(item)
        except Exception:  # noqa: S112  # whatever it was, the next try tells
            continue
    try:
        return work(item)
    except Exception as error:
        return Failed(item, _in_words(error), error)


def _connected(address: str) -> Any:
    """A client of the scheduler; Dask's errors have no number by which they could be told from a fault of ours."""
    from distributed import Client

    try:
        return Client(address, set_as_default=False)
    except (OSError, ValueError) as away:  # the second: it is no address
        raise (PeerUnavailable if isinstance(away, OSError) else ConfigError)(
            f"The Dask scheduler at {address} cannot be reached",
            expected="a scheduler that runs there; where ingest.dask.address names it, as tcp://10.0.0.5:8786",
            got=str(away),
            remedy="see that it runs, and that this machine may connect to it, then run again",
        ) from away


@contextmanager
def _telling_when_nobody_works(client: Any) -> Iterator[None]:
    """Jobs that wait in a cluster's queue let the work wait; jobs whose workers die at their start let it wait for ever."""
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(SECONDS_BETWEEN_LOOKS):
            try:
                workers = client.scheduler_info(n_workers=-1)["workers"]
            except OSError:
                return  # the scheduler is lost, which the one who waits for results is told
            if not workers:
                logger.warning("no Dask worker is there, the work waits: look at the cluster's queue and its workers' logs")

    context = contextvars.copy_context()  # so that the run in Prefect's UI shows it
    thread = threading.Thread(target=context.run, args=(look,), daemon=True, name="mammo-dask-watch")
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _sliding_window(client: Any) -> Callable[[], int]:
    """How many futures may be in flight: workers of a cluster's jobs and pods come and go, and are counted every second.

    Not for every future: the answer holds all that the scheduler knows of every worker, and there may be hundreds.
    """
    counted_s, workers = -math.inf, 0

    def in_flight() -> int:
        nonlocal counted_s, workers
        if time.monotonic() - counted_s >= _SECONDS_BETWEEN_COUNTS:
            counted_s, workers = time.monotonic(), len(client.scheduler_info(n_workers=-1)["workers"])
        return _FUTURES_PER_WORKER * max(1, workers)

    return in_flight


def _outcomes(
    client: Any, work: Callable[[Item], Result], items: Iterable[Item], *, in_flight: Callable[[], int]
) -> Iterator[tuple[Item, Result | BaseException]]:
    """Each item with its result or its error; takes more items when one is done, up to ``in_flight()`` at a time."""
    from distributed import CancelledError, as_completed
    from distributed.comm.core import CommClosedError

    remaining = iter(items)
    item_by_key: dict[str, Item] = {}

    def submit(item: Item) -> Any:
        key = f"{getattr(work, '__name__', 'work')}-{uuid.uuid4().hex}"
        item_by_key[key] = item
        return client.submit(work, item, key=key, pure=False, retries=_RETRIES)

    try:
        running: Any = as_completed([submit(item) for item in itertools.islice(remaining, in_flight())], loop=client.loop)
        for future in running:
            try:
                outcome = cast("Result", future.result())  # waits again if the result was lost with a worker
            except (CancelledError, CommClosedError):
                raise
            except Exception as error:  # whatever the work raised
                if isinstance(error, ImportError) or str(error).startswith(_NOT_UNPICKLED):
                    raise ConfigError(
                        "Dask's scheduler or workers cannot import what they are to do",
                        got=_in_words(error),
                        remedy="install this release of mammography-gmic and its packages on their machines, then run again",
                    ) from error
                yield item_by_key.pop(future.key), error
            else:
                yield item_by_key.pop(future.key), outcome
            future.release()
            for following in itertools.islice(remaining, max(0, in_flight() - len(item_by_key))):
                running.add(submit(following))
    except (CancelledError, CommClosedError) as lost:
        raise PeerUnavailable("The Dask scheduler was lost", remedy="look at its log, then run again") from lost


def _in_words(error: BaseException) -> str:
    """What may be told of an error: a foreign message can quote a path, and a path can spell a name."""
    if type(error).__name__ == "KilledWorker":  # Dask's, which may not have been imported
        return "its worker process was killed again and again: memory or a crashing decoder"
    if isinstance(error, MammoError):
        return str(error)
    named = error.strerror if isinstance(error, OSError) else error.name if isinstance(error, ImportError) else None
    return f"{type(error).__name__}: {named}" if named else type(error).__name__
