"""What Prefect costs: 300 batches against their ingest time, growth of server and database, and the requests of the UI's pages.

    python -m benchmarks.operations.bench_orchestration                       # SQLite, an embedded server
    python -m benchmarks.operations.bench_orchestration --database URL        # postgresql+asyncpg://user@host:port/name, empty

A million images are 300 batches of 3,333; what Prefect adds to them is to stay below 3 % of the ingest time. The payload
sleeps: what is measured is everything around it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from deployments.server.prefect_server import prefect_server

BATCHES = 300
PAYLOAD_S = 0.05
IMAGES = 1_000_000
PAGES = {
    "flow runs": ("/flow_runs/filter", {"limit": 50, "sort": "START_TIME_DESC"}),
    "task runs of the newest run": ("/task_runs/filter", {"limit": 100, "sort": "EXPECTED_START_TIME_DESC"}),
    "count of task runs": ("/task_runs/count", {}),
    "artifacts": ("/artifacts/latest/filter", {"limit": 50}),
    "deployments": ("/deployments/filter", {"limit": 50}),
}


def main() -> None:
    """Prints both tables."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--database", help="connection URL instead of SQLite")
    arguments.add_argument("--images-per-s", type=float, default=25.0, help="ingest speed for the projection")
    given = arguments.parse_args()
    if given.database:
        os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = given.database
    with tempfile.TemporaryDirectory() as folder, prefect_server(Path(folder)) as address:
        server = psutil.Process(json.loads((Path(folder) / "prefect" / "server.json").read_text())["pid"])
        print_overhead(server, address, Path(folder) / "prefect", given.images_per_s)
        print_pages(address)


def print_overhead(server: psutil.Process, address: str, home: Path, images_per_s: float) -> None:
    """300 batches, two at a time: wall beyond the payload, and what the server took until it had recorded them all."""
    before_mib, before_s = server.memory_info().rss / 2**20, sum(server.cpu_times()[:2])
    size_before = size_mib(home)
    started_s = time.monotonic()
    script = BATCH_FLOW.format(batches=BATCHES, payload=PAYLOAD_S)
    subprocess.run([sys.executable, "-c", script], check=True)
    wall_s = time.monotonic() - started_s
    overhead_s = wall_s - BATCHES * PAYLOAD_S / 2
    projected_s = IMAGES / images_per_s
    print(f"{BATCHES} batches: {wall_s:.1f} s, {overhead_s:.1f} s of it overhead, start of the process included")
    print(f"of the projected ingest of {IMAGES:,} images at {images_per_s:.0f}/s: {100 * overhead_s / projected_s:.3f} %")
    while ask(address, "/task_runs/count", {}) < BATCHES:  # they come through a queue, some time after the flow has ended
        time.sleep(0.5)
    print(f"all recorded {time.monotonic() - started_s - wall_s:.1f} s after the flow's end")
    cpu_s, after_mib = sum(server.cpu_times()[:2]) - before_s, server.memory_info().rss / 2**20
    print(f"server: {cpu_s:.1f} s CPU, memory {before_mib:.0f} -> {after_mib:.0f} MiB")
    print(f"database: {size_before:.1f} -> {size_mib(home):.1f} MiB")


BATCH_FLOW = """
import time
from prefect import flow, task
from prefect.task_runners import ThreadPoolTaskRunner

@task(persist_result=False)
def batch(index: int) -> int:
    time.sleep({payload})
    return index

@flow(task_runner=ThreadPoolTaskRunner(max_workers=2))
def ingest_like() -> int:
    return sum(future.result() for future in [batch.submit(index) for index in range({batches})])

ingest_like()
"""


def size_mib(home: Path) -> float:
    """Of the SQLite database with its log."""
    return sum(path.stat().st_size for path in home.glob("prefect.db*")) / 2**20


def print_pages(address: str) -> None:
    """Median and worst of ten requests per page."""
    print(f"task runs in the database: {ask(address, '/task_runs/count', {})}")
    for page, (path, body) in PAGES.items():
        times_s = []
        for _ in range(10):
            started_s = time.monotonic()
            ask(address, path, body)
            times_s.append(time.monotonic() - started_s)
        print(f"{page:<30} median {1000 * statistics.median(times_s):6.0f} ms   worst {1000 * max(times_s):6.0f} ms")


def ask(address: str, path: str, body: object) -> Any:
    """POST."""
    request = urllib.request.Request(  # noqa: S310  # loopback
        f"{address}/api{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310  # the same
        return json.loads(answer.read())


if __name__ == "__main__":
    main()
