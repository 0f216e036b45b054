"""The server on PostgreSQL and Redis, as compose.yaml has it: two workers, 500 task runs, a server killed in the middle."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from deployments.server.prefect_server import PREFECT_DEFAULTS
from mammo_tests.other_systems import free_port
from mammo_tests.postgresql import PostgresqlServer, postgresql_server
from mammo_tests.shared_study import workers_share

pytestmark = [pytest.mark.e2e, pytest.mark.long]

TASKS = 250
"""Of each of the two flow runs."""

REDIS_PASSWORD = "0123abcd"  # noqa: S105 - of a Redis that lives as long as its test

FLOW = '''
"""Counts; each execution of a task leaves a line."""
import os, sys, time
from pathlib import Path
from prefect import flow, task
from prefect.task_runners import ThreadPoolTaskRunner

@task(persist_result=False)
def count(folder: str, number: int) -> int:
    time.sleep(0.05)
    with (Path(folder) / f"{number}").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    return number

@flow(task_runner=ThreadPoolTaskRunner(max_workers=4), persist_result=True)
def many(folder: str, tasks: int) -> int:
    Path(folder).mkdir()
    return sum(future.result() for future in [count.submit(folder, number) for number in range(tasks)])

if __name__ == "__main__":
    loaded = many.from_source(source=sys.argv[1], entrypoint="many.py:many")
    loaded.deploy("many", work_pool_name="pool", print_next_steps=False)
    from prefect.deployments import run_deployment
    for name in ("one", "two"):
        run_deployment("many/many", parameters={"folder": f"{sys.argv[1]}/{name}", "tasks": int(sys.argv[2])}, timeout=0)
'''


def test_a_killed_server_loses_no_work_and_no_flow_run(
    tmp_path: Path, database: PostgresqlServer, until: Callable[..., bool]
) -> None:
    """Every task is executed once, and both flow runs complete at their first try, with their result.

    How many of the task runs the database then knows is another matter: their states are events.
    """
    with ExitStack() as running:
        redis = running.enter_context(_redis())
        port = free_port()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
            **PREFECT_DEFAULTS,
            "PREFECT_HOME": str(tmp_path / "home"),
            "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(tmp_path / "results"),
            "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://prefect@127.0.0.1:{database.port}/prefect",
            "PREFECT_SERVER_EVENTS_MESSAGING_BROKER": "prefect_redis.messaging",
            "PREFECT_SERVER_EVENTS_MESSAGING_CACHE": "prefect_redis.messaging",
            "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_redis.lease_storage",
            "PREFECT_SERVER_DOCKET_URL": f"redis://:{REDIS_PASSWORD}@127.0.0.1:{redis}/1",
            "PREFECT_REDIS_MESSAGING_HOST": "127.0.0.1",
            "PREFECT_REDIS_MESSAGING_PORT": str(redis),
            "PREFECT_REDIS_MESSAGING_PASSWORD": REDIS_PASSWORD,
            "PREFECT_WORKER_QUERY_SECONDS": "2",
        }
        server = ("-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
        first = running.enter_context(_python(environment, *server))
        assert until(lambda: _answers(port), 180), "the server did not start"
        create = [sys.executable, "-m", "prefect", "work-pool", "create", "pool", "--type", "process"]
        subprocess.run(create, env=environment, check=True, capture_output=True)
        (tmp_path / "many.py").write_text(FLOW)
        deploy = [sys.executable, str(tmp_path / "many.py"), str(tmp_path), str(TASKS)]
        subprocess.run(deploy, env=environment, check=True, capture_output=True)
        for name in ("first", "second"):
            worker = ("-m", "prefect", "worker", "start", "--pool", "pool", "--type", "process", "--limit", "1", "--name", name)
            running.enter_context(_python(environment, *worker))
        folders = [tmp_path / "one", tmp_path / "two"]
        assert until(lambda: all(_executions(folder) for folder in folders), 180), "the runs did not start"
        assert until(lambda: sum(_executions(folder).total() for folder in folders) >= TASKS, 180)
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        assert sum(_executions(folder).total() for folder in folders) < 2 * TASKS, "killed too late to prove anything"
        running.enter_context(_python(environment, *server))
        ended = "SELECT count(*) FROM flow_run WHERE state_type = 'COMPLETED' AND run_count = 1"
        assert until(lambda: database.ask(ended) == "2", 240), database.ask("SELECT name, state_name FROM flow_run")
        assert [_executions(folder) for folder in folders] == [Counter({str(n): 1 for n in range(TASKS)})] * 2
        results = [path.read_text() for path in (tmp_path / "results").iterdir()]
        assert len(results) == 2 and all(str(sum(range(TASKS))) in result for result in results)


def test_workers_share_a_search_in_postgresql(tmp_path: Path, database: PostgresqlServer) -> None:
    """The study of a search, by URL: one worker is killed in a trial, the others run the rest and that one too."""
    pytest.importorskip("psycopg", reason="the extra postgresql is not installed")
    workers_share(tmp_path, f"postgresql+psycopg://prefect@127.0.0.1:{database.port}/prefect")


# ---------------------------------------------------------------------------------------------------------------------


def _executions(folder: Path) -> Counter[str]:
    """How often each task of a run was executed."""
    return Counter({path.name: len(path.read_text().splitlines()) for path in folder.glob("*")})


@pytest.fixture
def database() -> Iterator[PostgresqlServer]:
    """A PostgreSQL server of its own on loopback."""
    with postgresql_server() as server:
        yield server


@contextmanager
def _redis() -> Iterator[int]:
    """A Redis of its own on loopback, with a password as compose.yaml has one; its port."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("Redis is not installed (apt-get install redis-server)")
    port = free_port()
    command = [
        program,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--requirepass",
        REDIS_PASSWORD,
    ]
    with _process(command):
        yield port


def _python(environment: dict[str, str], *arguments: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
    return _process([sys.executable, *arguments], env=environment)


@contextmanager
def _process(command: list[str], *, stop: signal.Signals = signal.SIGTERM, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process and all that it starts; whatever does not hear ``stop`` is killed: a worker without its server waits long."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, **options)
    try:
        yield process
    finally:
        process.send_signal(stop)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
