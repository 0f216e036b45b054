"""Dask: every item gets an answer, and an item that fails or kills its worker does not take others along."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread, get_ident
from threading import enumerate as enumerate_threads
from types import ModuleType

import dask
import pytest
from distributed import Client, LocalCluster

from mammo_tests.other_systems import until
from schemas.config.ingest import ExistingDask, KubernetesDask, LocalDask, SlurmDask
from schemas.errors import ConfigError, PeerUnavailable, StoreError
from tasks.adapters.cluster import Failed, kubernetes_spec, open_cluster, run_all, slurm_cluster
from tasks.adapters.inbox.batches import is_our_trouble, not_inspected
from tasks.retries import is_transient

_FORKED = {"distributed.worker.multiprocessing-method": "forkserver"}


@contextmanager
def forked_cluster(workers: int) -> Iterator[str]:
    """A cluster whose worker processes are forked from one that has imported Dask: none of them, nor its successors, does.

    How a worker is started is Dask's own: that ours are, where it matters, is in the tests that take ``open_cluster`` as it is.
    """
    with dask.config.set(_FORKED), open_cluster(LocalDask(n_workers=workers, memory_limit="1GiB")) as scheduler_address:
        yield scheduler_address


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of two worker processes."""
    with ExitStack() as opened:
        with dask.config.set(_FORKED):  # not while the tests run: others start theirs as runs do
            scheduler_address = opened.enter_context(open_cluster(LocalDask(n_workers=2, memory_limit="1GiB")))
        yield scheduler_address


def _finished(results: list[int | Failed[int]]) -> list[int]:
    return [result for result in results if not isinstance(result, Failed)]


# Work is made inside functions: the workers cannot import this module, so it must travel by value.


def test_every_item_gets_its_result(address: str) -> None:
    """Thirty items, thirty squares, computed in worker processes."""

    def square(number: int) -> tuple[int, int]:
        return number * number, os.getpid()

    results = [result for result in run_all(address, square, range(30)) if not isinstance(result, Failed)]
    assert sorted(value for value, _ in results) == [number * number for number in range(30)]
    assert os.getpid() not in {pid for _, pid in results}


def test_a_few_files_are_worked_on_in_this_process_one_at_a_time(tmp_path: Path) -> None:
    """No worker is started: two tasks at once share one thread, which lives as long as the cluster would."""
    seen: list[tuple[int, int, int]] = []

    def noted(number: int) -> int:
        seen.append((number, os.getpid(), get_ident()))
        return number

    with open_cluster(LocalDask(n_workers=2), files=8) as here:
        second = Thread(target=lambda: list(run_all(here, noted, range(3, 6))))
        second.start()
        assert list(run_all(here, noted, range(3))) == [0, 1, 2]
        second.join()
        (thread,) = {ident for _, _, ident in seen}
        assert thread in {each.ident for each in enumerate_threads()}
    assert sorted(number for number, _, _ in seen) == list(range(6)) and {pid for _, pid, _ in seen} == {os.getpid()}
    assert thread not in {each.ident for each in enumerate_threads()}


@pytest.mark.parametrize(("files", "limit"), [(9, 8), (1, 0), (None, 8)])
def test_more_files_or_an_unknown_number_have_workers_which_end_with_the_block(files: int | None, limit: int) -> None:
    """Up to ``files_without_workers`` the run itself does it. No worker process outlives the run.

    Dask's nannies change the environment of this process: it is as before, or a training that it starts would have one core.
    """
    before = dict(os.environ)
    config = LocalDask(n_workers=1, memory_limit="1GiB", files_without_workers=limit)
    with open_cluster(config, files=files) as somewhere:
        (pid,) = run_all(somewhere, lambda number: os.getpid(), [0])
        assert isinstance(pid, int) and pid != os.getpid()
        os.kill(pid, 0)
    assert dict(os.environ) == before
    assert until(lambda: not Path(f"/proc/{pid}").exists()), "the worker is still there"


def test_in_this_process_an_item_that_raises_fails_alone_after_two_more_tries() -> None:
    """As with workers: an error costs a retry, the last one is the item's, in words that quote no path."""
    tries: dict[int, int] = {}

    def flaky(number: int) -> int:
        tries[number] = tries.get(number, 0) + 1
        if number == 1 and tries[number] < 3:
            raise OSError(errno.EIO, os.strerror(errno.EIO), "/a/path/JANE_DOE.dcm")
        if number == 2:
            raise ValueError("JANE_DOE")
        return number

    with open_cluster(LocalDask(n_workers=2), files=1) as here:
        first, second, third = run_all(here, flaky, [0, 1, 2])
    assert (first, second) == (0, 1) and tries == {0: 1, 1: 3, 2: 3}
    assert isinstance(third, Failed) and (third.item, third.error) == (2, "ValueError") and isinstance(third.cause, ValueError)


def test_a_worker_that_complains_or_is_being_started_at_the_end_is_nothing_to_the_run(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A closing worker may log a traceback of its broken connection; who runs a flow reads what the flow says.

    What Dask raises once in hundreds of closings after a killed worker is injected: finished work stays finished.
    """
    real_close = LocalCluster.close

    def close(cluster: LocalCluster) -> None:
        real_close(cluster)
        raise AssertionError("can only join a started process")

    def complain(number: int) -> int:
        import logging

        logging.getLogger("distributed.worker").error("no connection")
        os.write(2, b"printed")
        return number

    monkeypatch.setattr(LocalCluster, "close", close)
    with open_cluster(LocalDask(n_workers=1, memory_limit="1GiB")) as address:
        assert list(run_all(address, complain, [1])) == [1]
    error_output = capfd.readouterr().err
    assert "printed" in error_output and "no connection" not in error_output


def test_work_that_waits_for_workers_says_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A cluster whose jobs are queued, or died at their start, has no worker; work begins when one comes."""
    monkeypatch.setattr("tasks.adapters.cluster.SECONDS_BETWEEN_LOOKS", 0.2)
    with (
        dask.config.set(_FORKED),
        LocalCluster(n_workers=0, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1") as cluster,
    ):
        results: list[object] = []
        work = Thread(target=lambda: results.extend(run_all(cluster.scheduler_address, abs, [-1, -2])))
        work.start()
        deadline = time.monotonic() + 60
        while "no Dask worker is there" not in caplog.text:
            assert time.monotonic() < deadline and not results
            time.sleep(0.1)
        cluster.scale(1)
        work.join(timeout=60)
        assert sorted(map(str, results)) == ["1", "2"]
        told = caplog.text.count("no Dask worker is there")
        time.sleep(1)
        assert caplog.text.count("no Dask worker is there") == told


def test_no_items_give_no_results(address: str) -> None:
    """An empty batch ends at once."""
    assert list(run_all(address, str, [])) == []


def test_an_item_that_raises_fails_alone(address: str) -> None:
    """It is named with its error in words; the others have their results."""

    def invert(number: int) -> float:
        if number == 3:
            raise StoreError("Shard 3 is damaged", remedy="restore it")
        return 1 / (number + 1)

    results = list(run_all(address, invert, range(6)))
    assert [result for result in results if isinstance(result, Failed)] == [
        Failed(3, "Shard 3 is damaged. Remedy: restore it.")
    ]
    assert sum(not isinstance(result, Failed) for result in results) == 5


def test_an_item_that_raises_once_is_tried_again(address: str, tmp_path: object) -> None:
    """A transient error costs a retry, not the item."""
    marker = f"{tmp_path}/tried"

    def flaky(number: int) -> int:
        if not os.path.exists(marker):  # noqa: PTH110  runs in the worker
            os.mkdir(marker)  # noqa: PTH102
            raise ConnectionResetError
        return number

    assert list(run_all(address, flaky, [7])) == [7]


def test_foreign_messages_stay_in_the_worker(address: str) -> None:
    """A path can spell a name: of foreign errors only class and system message are told."""

    def open_missing(name: str) -> None:
        if name == "value":
            raise ValueError("cannot parse /exams/DOE^JANE/1.dcm")
        with open(f"/exams/DOE^JANE/{name}.dcm"):  # noqa: PTH123  runs in the worker
            pass

    failed = [result for result in run_all(address, open_missing, ["1", "value"]) if isinstance(result, Failed)]
    assert "DOE" not in repr(failed)
    assert {type(failure.cause) for failure in failed} == {FileNotFoundError, ValueError}  # the program may tell them apart
    assert {failure.reason for failure in failed} == {"FileNotFoundError", "ValueError"}  # no worker was killed
    assert {failure.item: failure.error for failure in failed} == {
        "1": "FileNotFoundError: No such file or directory",
        "value": "ValueError",
    }


def test_an_item_that_kills_its_worker_fails_alone() -> None:
    """Exit and SIGKILL, one behind the other on one worker: what is to blame fails; what waited behind in its queue finishes.

    Dask blames a dead worker on all it held: without the second try, the innocent would fail too. A killer is found inside its
    item, of which the three files beside it have results (fault 32); an item of one file cannot be divided.
    """

    def treacherous(numbers: tuple[int, ...]) -> tuple[int, ...]:
        time.sleep(0.2)
        if 0 in numbers:
            os._exit(1)
        if 3 in numbers:
            os.kill(os.getpid(), signal.SIGKILL)
        return numbers

    def halves(numbers: tuple[int, ...]) -> list[tuple[int, ...]]:
        middle = len(numbers) // 2
        return [part for part in (numbers[:middle], numbers[middle:]) if part]

    with forked_cluster(workers=1) as own_address:
        results = list(run_all(own_address, treacherous, [(0,), (1, 2, 3, 4), (5, 6), (7,), (8,)], halves=halves))
        (alone,) = run_all(own_address, treacherous, [(0,)])
    assert isinstance(alone, Failed) and alone.item == (0,)
    failed = [result for result in results if isinstance(result, Failed)]
    assert sorted(failure.item for failure in failed) == [(0,), (3,)]
    assert all("killed" in failure.error and failure.reason == "worker killed" for failure in failed)
    assert sorted(number for part in results if not isinstance(part, Failed) for number in part) == [1, 2, 4, 5, 6, 7, 8]


def test_items_are_drawn_as_results_are_taken(address: str) -> None:
    """Back-pressure: never more than two items per worker are out, however long the list is."""
    drawn = 0

    def items() -> Iterator[int]:
        nonlocal drawn
        for number in range(40):
            drawn += 1
            yield number

    ahead = [drawn - taken for taken, _ in enumerate(run_all(address, int, items()))]
    assert max(ahead) <= 2 * 2
    assert drawn == 40


def test_stopping_early_leaves_the_cluster_usable(address: str) -> None:
    """A consumer that breaks off (a failed ledger write) does not leave work behind that blocks the next batch."""
    results = run_all(address, int, range(100))
    assert next(results) in range(100)
    results.close()  # type: ignore[attr-defined]
    assert list(run_all(address, int, [5])) == [5]


def test_two_batches_share_a_cluster(address: str) -> None:
    """Two runs at once get their own results only."""
    first, second = run_all(address, int, range(0, 20)), run_all(address, int, range(100, 120))
    mixed = [(one, other) for one, other in zip(first, second, strict=True)]
    assert sorted(_finished([one for one, _ in mixed])) == list(range(20))
    assert sorted(_finished([other for _, other in mixed])) == list(range(100, 120))


def test_a_running_scheduler_is_used_by_address_and_left_running(address: str) -> None:
    """``kind: address`` opens nothing and closes nothing."""
    with open_cluster(ExistingDask(kind="address", address=address)) as given:
        assert given == address
        assert list(run_all(given, int, [1])) == [1]
    with Client(address, set_as_default=False) as client:
        assert len(client.scheduler_info()["workers"]) == 2


@contextmanager
def _elsewhere() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A scheduler and its worker in another process, and their address."""
    script = (
        "import time\nfrom distributed import LocalCluster\n"
        "cluster = LocalCluster(n_workers=1, processes=False, protocol='tcp', dashboard_address=':0', host='127.0.0.1')\n"
        "print(cluster.scheduler_address, flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as scheduler:
        assert scheduler.stdout is not None
        yield scheduler, scheduler.stdout.readline().strip()
        scheduler.kill()


def test_a_lost_scheduler_ends_the_batch_with_a_sentence() -> None:
    """Its host dies: the run stops with a sentence and an error that may be retried, instead of waiting for ever."""
    with _elsewhere() as (scheduler, its_address):
        results = run_all(its_address, time.sleep, [0.01, 30])
        assert next(results) is None
        scheduler.kill()
        with pytest.raises(PeerUnavailable, match="scheduler was lost") as lost:
            next(results)
    assert is_transient(lost.value)


def test_a_cluster_that_cannot_be_used_is_a_sentence(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers, the address is none, or the work is not installed there: no traceback, and no file is said to be away."""
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(PeerUnavailable, match=r"tcp://127\.0\.0\.1:9 cannot be reached"),
    ):
        list(run_all("tcp://127.0.0.1:9", len, [()]))
    with pytest.raises(ConfigError, match=r"tcp://10\.0\.0\.5:8786"):
        list(run_all("scheduler", len, [()]))
    not_there = ModuleType("not_there")
    exec("def work(item): return item", vars(not_there))  # noqa: S102  of this module, which only this process knows
    monkeypatch.setitem(sys.modules, "not_there", not_there)
    with _elsewhere() as (_, its_address), pytest.raises(ConfigError, match="cannot import what they are to do"):
        list(run_all(its_address, not_there.work, [1]))

    def lacks_a_codec(item: int) -> int:
        raise ModuleNotFoundError("No module named 'imagecodecs'", name="imagecodecs")

    with pytest.raises(ConfigError, match=r"cannot import what they are to do.*ModuleNotFoundError.*Remedy: install"):
        list(run_all(address, lacks_a_codec, [1]))
    with open_cluster(LocalDask(n_workers=1), files=1) as here:
        (failed,) = run_all(here, lacks_a_codec, [1])
    assert isinstance(failed, Failed) and is_our_trouble(failed.cause)
    assert "ModuleNotFoundError: imagecodecs. Remedy: see" in (said := str(not_inspected(failed))) and "install" in said


def test_items_and_results_may_be_records(address: str) -> None:
    """Dataclasses go there and back unchanged, as shard jobs do."""

    @dataclass(frozen=True)
    class Job:
        shard: int
        rows: tuple[int, ...]

    jobs = [Job(shard, (shard * 4, shard * 4 + 1)) for shard in range(5)]
    assert sorted(run_all(address, lambda job: job, jobs), key=lambda job: job.shard) == jobs  # type: ignore[union-attr]


# ------------------------------------------------------------------------------------------------- clusters of many machines


def test_a_slurm_job_asks_for_what_the_config_says() -> None:
    """The script that sbatch would get: valid bash, the partition, one worker per core, gone before the wall time."""
    pytest.importorskip("dask_jobqueue", reason="the extra slurm is not installed")
    config = SlurmDask(kind="slurm", queue="cpu", cores=4, memory="16GiB", walltime_min=90, directives=("--constraint=avx2",))
    with slurm_cluster(config) as cluster:
        script = cluster.job_script()
        assert cluster.scheduler_address.startswith("tcp://")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    for line in ("#SBATCH -p cpu", "#SBATCH -t 01:30:00", "#SBATCH --cpus-per-task=4", "#SBATCH --constraint=avx2"):
        assert line in script.splitlines(), script
    for part in ("--nworkers 4", "--nthreads 1", "--lifetime 85m", "export DO_NOT_TRACK=1", "export OMP_NUM_THREADS=1"):
        assert part in script, script


def test_a_kubernetes_cluster_is_what_the_operator_accepts() -> None:
    """The resource satisfies the operator's own schema; every pod is nobody, with the claim where the flow has it."""
    import dask_kubernetes
    import yaml
    from jsonschema import Draft7Validator

    folder = Path(dask_kubernetes.__file__).parent / "operator/deployment/helm/dask-kubernetes-operator/crds"
    crd = yaml.safe_load((folder / "daskcluster.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    config = KubernetesDask(kind="kubernetes", image="registry.local/mammo:0.1.0", volume_claim="exams", n_workers=3)
    spec = kubernetes_spec(config)
    assert not list(Draft7Validator(schema).iter_errors(spec))
    spec["spec"]["worker"]["replicas"] = "three"
    assert list(Draft7Validator(schema).iter_errors(spec)), "the schema refuses nothing"
    worker = spec["spec"]["worker"]["spec"]
    assert worker["securityContext"]["runAsNonRoot"] and worker["containers"][0]["securityContext"]["readOnlyRootFilesystem"]
    assert {"name": "data", "mountPath": "/data"} in worker["containers"][0]["volumeMounts"]
    assert worker["containers"][0]["resources"]["limits"] == {"memory": "3Gi"}


@pytest.mark.parametrize("kind", ["slurm", "kubernetes"])
def test_a_missing_extra_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the cluster's package the message has the pip line."""
    monkeypatch.setitem(sys.modules, "dask_jobqueue.slurm", None)
    monkeypatch.setitem(sys.modules, "dask_kubernetes.operator", None)
    configs = {
        "slurm": SlurmDask(kind="slurm", queue="cpu"),
        "kubernetes": KubernetesDask(kind="kubernetes", image="i:1", volume_claim="exams"),
    }
    with pytest.raises(ConfigError, match=rf"pip install .*'\.\[{kind}\]'"), open_cluster(configs[kind]):
        pass


def test_workers_that_come_later_get_work_too() -> None:
    """SLURM jobs start when the queue lets them: what is in flight grows with the workers."""
    with forked_cluster(workers=1) as address, Client(address, set_as_default=False) as client:

        def pid(number: int) -> int:
            time.sleep(0.3)
            return os.getpid()

        results = run_all(address, pid, range(20))
        first = next(results)
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny"]
        late = subprocess.Popen(worker)
        try:
            client.wait_for_workers(2, timeout=90)
            assert {first} < {result for result in results if isinstance(result, int)}
        finally:
            late.terminate()
            late.wait(timeout=90)
