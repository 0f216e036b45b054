"""What a workstation's people wait for: the start of an ingest after an arrival, and the UI's pages over 10,000 task runs.

    python -m benchmarks.operations.bench_operations arrivals      # a real `mammo serve`; exams are moved into its inbox
    python -m benchmarks.operations.bench_operations pages         # SQLite and PostgreSQL, filled with the same history

The pages are loaded once by headless Chromium, which says what they ask the server; each of these requests is then repeated.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import pwd
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlparse
from uuid import UUID, uuid4

import pydicom
import sqlalchemy
import yaml

from deployments.server.prefect_server import prefect_server

ARRIVALS = 8
FLOW_RUNS, TASKS_OF_A_RUN, LOG_LINES = 100, 100, 200
REPEATS = 10
SIZES_PX = {"whole": (384, 288), "window": (384, 256)}


def main() -> None:
    """Prints the tables."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("what", choices=["arrivals", "pages"])
    with tempfile.TemporaryDirectory(prefix="mammo-bench-") as folder:
        {"arrivals": print_arrivals, "pages": print_pages}[arguments.parse_args().what](Path(folder))


# -------------------------------------------------------------------------------------------------------------- arrivals


def print_arrivals(folder: Path) -> None:
    """From the rename that puts an exam into the inbox, which is the last change, until the ingest it started is Running."""
    settle_s = 5.0
    exams = write_exams(folder)
    (folder / "inbox").mkdir()
    (folder / "run.yaml").write_text(yaml.safe_dump(run_config(folder)))
    (folder / "service.yaml").write_text(yaml.safe_dump({"settle_s": settle_s}))
    command = [
        sys.executable,
        "-m",
        "deployments.cli",
        "serve",
        str(folder / "run.yaml"),
        "--service",
        str(folder / "service.yaml"),
    ]
    serving = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=without_prefect(folder))
    try:
        assert serving.stdout is not None
        address = serving.stdout.readline().split()[2]
        ask = asker(address, (folder / "ws" / "prefect" / "auth").read_bytes())
        time.sleep(20)  # workers poll, triggers are loaded
        waits_s = []
        for number, exam in enumerate(exams):
            waits_s.append(wait_of(exam, folder / "inbox" / f"{number}", ask))
            print(f"arrival {number + 1} of {len(exams)}: {waits_s[-1]:.1f} s", flush=True)
    finally:
        serving.send_signal(signal.SIGINT)
        serving.wait(timeout=120)
    stable_s = [wait_s - settle_s for wait_s in waits_s]
    for name, values in (
        ("last change -> ingest Running", waits_s),
        (f"less settle_s = {settle_s:.0f} (stable -> Running)", stable_s),
    ):
        print(f"{name:<42} median {statistics.median(values):5.1f} s   worst {max(values):5.1f} s   of {len(values)}")


def write_exams(folder: Path) -> list[Path]:
    """Folders of one exam each, beside the inbox."""
    from schemas.config.ingest import PhantomConfig
    from tasks.adapters.datasets.phantom_cohort import write_cohort

    patients = {"patients": ARRIVALS, "exams_per_patient": (1, 1), "image_size_px": SIZES_PX["whole"]}
    write_cohort(PhantomConfig.model_validate({"output_dir": folder / "cohort", **patients}))
    exams: dict[str, Path] = {}
    for path in sorted((folder / "cohort" / "dicom").rglob("*.dcm")):
        uid = str(pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID)
        exam = exams.setdefault(uid, folder / f"exam-{len(exams)}")
        exam.mkdir(exist_ok=True)
        path.rename(exam / path.name)
    return list(exams.values())


def run_config(folder: Path) -> dict[str, Any]:
    """The smallest ingest that does the real work. There is no network: the predict that follows each ingest fails at once."""
    dask = {"kind": "local", "n_workers": 1}
    return {
        "name": "bench",
        "workspace_dir": str(folder / "ws"),
        "ingest": {
            "source_dir": str(folder / "inbox"),
            "profile": "phantom",
            "exams_per_shard": 1,
            "settle_s": 0,
            "dask": dask,
        },
        "preprocess": {"window_px": SIZES_PX["window"], "erosion_iterations": 10, "crop_buffer_px": 10, "jitter_shift_px": 8},
        "model": {"image_size": SIZES_PX["window"], "patch_size": (48, 48), "K": 2, "top_t": 0.1, "local_dim": 16},
    }


def wait_of(exam: Path, place: Path, ask: Callable[..., Any]) -> float:
    """Seconds until the ingest of this arrival began, by the server's record; then its end and predict's are awaited."""
    known = {run["id"] for run in runs(ask, "ingest")}
    exam.rename(place)
    arrived = datetime.now(UTC)
    started = None
    while started is None:
        new = [run for run in runs(ask, "ingest") if run["id"] not in known and run["start_time"]]
        started = datetime.fromisoformat(new[0]["start_time"]) if new else None
        time.sleep(0.2)
    ended = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
    while any(run["state_type"] not in ended for flow in ("ingest", "predict") for run in runs(ask, flow)):
        time.sleep(1)
    time.sleep(5)  # the completion's event has started predict by now, or will not disturb the next arrival much
    return (started - arrived).total_seconds()


def runs(ask: Callable[..., Any], flow: str) -> list[Any]:
    """Of a flow, without those that are in the future."""
    found = ask("/flow_runs/filter", {"flows": {"name": {"any_": [flow]}}})
    return [run for run in found if not (run["state_name"] == "Scheduled" and run["auto_scheduled"])]


# ----------------------------------------------------------------------------------------------------------------- pages


class Request(NamedTuple):
    """What a page asked."""

    method: str
    path: str
    body: str | None

    def about(self, ids: dict[str, str]) -> Request:
        """With ids, or placeholders, in the place of others."""
        path, body = self.path, self.body
        for old, new in ids.items():
            path, body = path.replace(old, new), None if body is None else body.replace(old, new)
        return Request(self.method, path, body)


def print_pages(folder: Path) -> None:
    """For both databases, which are asked the same: each page with its slowest requests."""
    pages: dict[str, list[Request]] = {}
    for name, database in (("SQLite", nullcontext()), ("PostgreSQL", postgresql())):
        with database as url:
            home = folder / name
            use_own_server(folder, url)
            with prefect_server(home):
                pass  # makes the tables
            subprocess.run(
                [sys.executable, "-m", "benchmarks.operations.bench_operations", "--fill"],
                check=True,
                env={**os.environ, "PREFECT_API_URL": ""},
            )
            use_own_server(folder, url)
            with prefect_server(home) as address:
                ask = asker(address)
                newest = ask("/flow_runs/filter", {"limit": 1, "sort": "START_TIME_DESC"})[0]
                ids = {"NEWEST-RUN": str(newest["id"]), "ITS-FLOW": str(newest["flow_id"])}
                pages = pages or recorded(address, ids)
                tasks, flows = ask("/task_runs/count", {}), ask("/flow_runs/count", {})
                print(f"\n{name}: {tasks} task runs, {flows} flow runs", flush=True)
                for page, asked in pages.items():
                    print_page(page, [request.about(ids) for request in asked], address)


def use_own_server(folder: Path, database: str | None) -> None:
    """The next server is one of our own, on this database."""
    kept = without_prefect(folder)
    os.environ.clear()
    os.environ.update(kept)
    if database is not None:
        os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database


def print_page(page: str, asked: list[Request], address: str) -> None:
    """Median and worst of each request; a page needs its slowest, for a browser asks them side by side."""
    rows = sorted(((*timed_ms(address, request), request) for request in asked), key=lambda row: -row[0])
    worst = max(row[1] for row in rows)
    print(f"{page:<12} {len(rows):3} requests   slowest: median {rows[0][0]:6.0f} ms, worst of all {worst:6.0f} ms")
    for median_ms, worst_ms, request in rows[:3]:
        print(f"{'':<16}{request.method} {request.path:<48} median {median_ms:6.0f} ms   worst {worst_ms:6.0f} ms", flush=True)


def timed_ms(address: str, request: Request) -> tuple[float, float]:
    """Median and worst of the repeats."""
    times_ms = []
    for _ in range(REPEATS):
        began_s = time.monotonic()
        data = None if request.body is None else request.body.encode()
        asked = urllib.request.Request(  # noqa: S310  # loopback
            address + request.path, data, {"Content-Type": "application/json"}, method=request.method
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:  # noqa: S310  # the same
            answer.read()
        times_ms.append(1000 * (time.monotonic() - began_s))
    return statistics.median(times_ms), max(times_ms)


def recorded(address: str, ids: dict[str, str]) -> dict[str, list[Request]]:
    """The requests of each page, as Chromium sends them, with placeholders for the ids."""
    from playwright.sync_api import sync_playwright

    places = {"dashboard": "/dashboard", "runs": "/runs", "flow run": f"/runs/flow-run/{ids['NEWEST-RUN']}"}
    found: dict[str, list[Request]] = {}
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        for name, place in places.items():
            page = chromium.new_page()
            asked: list[Request] = []
            page.on("request", lambda request, asked=asked: note(request, asked))
            page.goto(address + place, wait_until="commit", timeout=300_000)
            known = -1
            for _ in range(12):  # a page has asked all when it is quiet, or when it only asks the same again and again
                if len(asked) == known and known >= 5:
                    break
                known = len(asked)
                page.wait_for_timeout(5_000)
            page.close()
            found[name] = [request.about({real: name for name, real in ids.items()}) for request in dict.fromkeys(asked)]
        chromium.close()
    return found


def note(request: Any, asked: list[Request]) -> None:
    """Keeps questions to the API that read."""
    where = urlparse(request.url)
    reads = request.method == "GET" or any(
        word in where.path for word in ("filter", "count", "history", "paginate", "next-runs")
    )
    if where.path.startswith("/api/") and reads and "/events/in" not in where.path:
        asked.append(Request(request.method, where.path + (f"?{where.query}" if where.query else ""), request.post_data))


# --------------------------------------------------------------------------------------------------------------- history


async def fill() -> None:
    """100 runs of 100 tasks over the last two days, and a log of the newest, through the server's own tables."""
    from prefect.server import models, schemas
    from prefect.server.database import provide_database_interface

    db = provide_database_interface()
    now = datetime.now(UTC)
    async with db.session_context(begin_transaction=True) as session:
        flow = await models.flows.create_flow(session=session, flow=schemas.core.Flow(name="ingest"))
        for number in range(FLOW_RUNS):
            then = now - timedelta(minutes=29 * (FLOW_RUNS - number))
            run = await models.flow_runs.create_flow_run(
                session=session,
                flow_run=schemas.core.FlowRun(
                    flow_id=flow.id,
                    name=f"ingest-ward-{number}",
                    start_time=then,
                    end_time=then,
                    state=ended(then, number % 10 == 9),
                ),
            )
            states, task_runs = zip(*(finished_task(run.id, index, then) for index in range(TASKS_OF_A_RUN)), strict=True)
            await session.execute(sqlalchemy.insert(db.TaskRun), list(task_runs))
            await session.execute(sqlalchemy.insert(db.TaskRunState), list(states))
        of_task = sqlalchemy.select(db.TaskRunState.id).where(db.TaskRunState.task_run_id == db.TaskRun.id).scalar_subquery()
        await session.execute(
            sqlalchemy.update(db.TaskRun).values(state_id=of_task), execution_options={"synchronize_session": False}
        )
        line = {"name": "tasks.ingest", "level": 20, "flow_run_id": run.id, "timestamp": now}
        logs = [schemas.core.Log(**line, message=f"{number} of {LOG_LINES} shards are written") for number in range(LOG_LINES)]
        await models.logs.create_logs(session=session, logs=logs)
        await session.execute(sqlalchemy.text("ANALYZE"))  # PostgreSQL's autovacuum does it within a minute of such a load


def finished_task(flow_run_id: UUID, index: int, then: datetime) -> tuple[dict[str, Any], dict[str, Any]]:
    """The rows of a completed state and of its task run."""
    from prefect.server.schemas.states import StateType

    task_run_id, end = uuid4(), then + timedelta(seconds=20)
    state = {"id": uuid4(), "task_run_id": task_run_id, "type": StateType.COMPLETED, "name": "Completed", "timestamp": end}
    task_run = {
        "id": task_run_id,
        "flow_run_id": flow_run_id,
        "name": f"ingest-batch-{index}",
        "task_key": "ingest-batch",
        "dynamic_key": str(index),
        "state_id": None,
        "state_type": StateType.COMPLETED,
        "state_name": "Completed",
        "state_timestamp": end,
        "run_count": 1,
        "start_time": then,
        "expected_start_time": then,
        "end_time": end,
        "total_run_time": end - then,
    }
    return state, task_run


def ended(then: datetime, is_failed: bool) -> Any:
    """A final state of that time."""
    from prefect.server.schemas.states import State, StateType

    return State(type=StateType.FAILED if is_failed else StateType.COMPLETED, timestamp=then)


# -------------------------------------------------------------------------------------------------------------- services


def asker(address: str, auth: bytes | None = None) -> Callable[..., Any]:
    """``ask(path, body)``: POST."""
    headers = {"Content-Type": "application/json"}
    if auth is not None:
        headers["Authorization"] = f"Basic {base64.b64encode(auth).decode()}"

    def ask(path: str, body: object) -> Any:
        request = urllib.request.Request(f"{address}/api{path}", json.dumps(body).encode(), headers)  # noqa: S310  # loopback
        for _ in range(6):
            try:
                with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310  # the same
                    return json.loads(answer.read())
            except TimeoutError:
                print(f"no answer to {path} within 20 s", flush=True)
        raise AssertionError(f"{path} stays unanswered")

    return ask


def without_prefect(folder: Path) -> dict[str, str]:
    """The environment without a server or a profile of Prefect's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**kept, "PREFECT_HOME": str(folder / "no-profile")}


@contextmanager
def postgresql() -> Iterator[str]:
    """A cluster of its own on loopback, with Debian's defaults."""
    bin_dir = max(Path("/usr/lib/postgresql").glob("*/bin"))
    user = "postgres" if os.geteuid() == 0 and "postgres" in {each.pw_name for each in pwd.getpwall()} else None
    folder = Path(tempfile.mkdtemp(prefix="mammo-pg-"))
    if user is not None:
        shutil.chown(folder, user)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    options: dict[str, Any] = {"cwd": "/", "user": user, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    make = [bin_dir / "initdb", "-D", folder / "data", "--auth=trust", "--username=prefect", "--encoding=UTF8", "--locale=C"]
    subprocess.run(make, check=True, **options)
    server = subprocess.Popen(
        [bin_dir / "postgres", "-D", folder / "data", "-p", port, "-h", "127.0.0.1", "-k", folder, "-c", "jit=off"], **options
    )
    create = [bin_dir / "createdb", "-h", "127.0.0.1", "-p", port, "-U", "prefect", "prefect"]
    try:
        while subprocess.run(create, check=False, capture_output=True).returncode:
            assert server.poll() is None, "PostgreSQL did not start"
            time.sleep(0.5)
        yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/prefect"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["--fill"]:
        asyncio.run(fill())
    else:
        main()
