"""A quarter of an hour with a GPU: all that is to be seen of it, in one command, unattended.

    python3 -m benchmarks.gpu.gpu_day                      # within nine minutes: right? how fast? how much memory?
    python3 -m benchmarks.gpu.gpu_day --plan table1        # within eight: rows of Table 1 at 2944 x 1920 on phantoms
    python3 -m benchmarks.gpu.gpu_day --plan both          # within nine: both of one cohort, two rows, the network last
    python3 -m benchmarks.gpu.gpu_day --device cpu --small # without a GPU: does all of it run?

For a bare machine with torch and no network: wheels in ``.whl/`` are installed beside the machine's own packages first
(docs/how-to/a-day-with-a-gpu.md says which). This module knows the standard library only. Each part is a child with a time
limit that says what it measures in lines of JSON; a line is kept in ``records.jsonl`` as soon as it is heard, and ``table.md``
is written anew after each, so that a kill costs little. A part that breaks or is late is a line of the table.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.gpu.day_table import day_table

ROOT = Path(__file__).parents[2]
BUDGET_S = {"measure": 520.0, "table1": 470.0, "both": 520.0}
LEAST_S = 5.0
"""A part with less time is not started."""
PATIENCE_OF_SMALL = 20.0
"""A small plan measures nothing: it shows that all runs, on machines that are busy too, so it has so many times the time."""

Record = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One child process.

    Attributes:
        name: Stands in each of its records.
        command: Module and arguments.
        limit_s: It is killed then.
        needs: A part that runs beside others until here.
        is_beside: Others run while it does.
        keeps: A file of its own that is read when it ends.
        gives_budget: It is told the seconds it has, as ``--budget-s``.
    """

    name: str
    command: tuple[str, ...]
    limit_s: float
    needs: str = ""
    is_beside: bool = False
    keeps: Path | None = None
    gives_budget: float = 0.0


@dataclass(slots=True)
class Running:
    """A child with what is heard of it."""

    part: Part
    process: subprocess.Popen[str]
    listener: threading.Thread
    deadline_s: float
    errors: Path


@dataclass(slots=True, kw_only=True)
class Day:
    """Records, their file and the table, whoever adds to them."""

    folder: Path
    records: list[Record] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, record: Record) -> None:
        """Keeps a record, at once and on the disk."""
        with self.lock:
            self.records.append(record)
            with (self.folder / "records.jsonl").open("a") as lines:
                lines.write(json.dumps(record) + "\n")
            aside = self.folder / "table.md.new"
            aside.write_text(day_table(self.records))
            aside.rename(self.folder / "table.md")


def main() -> None:
    """Runs the parts of a plan and prints the table."""
    asked = arguments()
    started_s = time.monotonic()
    patience = PATIENCE_OF_SMALL if asked.small else 1.0
    deadline_s = started_s + (asked.budget_s or BUDGET_S[asked.plan] * patience)
    out = asked.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    (out / "records.jsonl").unlink(missing_ok=True)
    day = Day(folder=out)
    # What a part that was ended had started may still write there: the table is not lost for that.
    with tempfile.TemporaryDirectory(prefix="gpu-day-", ignore_cleanup_errors=True) as folder:
        installed = install_wheels(asked.wheels, Path(folder) / "site")
        day.add({"part": "machine", **machine(), "plan": asked.plan, **installed})
        environment = child_environment(Path(folder) / "site")
        plan = training(asked, Path(folder)) if asked.plan == "table1" else measuring(asked, Path(folder), out)
        wanted = [
            replace(part, limit_s=part.limit_s * patience)
            for part in plan
            if not asked.only or part.name in asked.only or part.is_beside
        ]
        run_parts(wanted, day, environment, deadline_s, started_s)
    day.add({"part": "end", "took_s": round(time.monotonic() - started_s, 1)})
    print((out / "table.md").read_text(), flush=True)


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", choices=tuple(BUDGET_S), default="measure")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "build/gpu-day")), help="folder for the results")
    parser.add_argument("--wheels", type=Path, default=ROOT / ".whl", help="folder of wheels that the machine lacks")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="a few small images: only to see that it runs")
    parser.add_argument("--budget-s", type=float, help="seconds of the whole; what would end later is not begun or is ended")
    parser.add_argument("--only", nargs="*", help="names of parts")
    parser.add_argument("--cases", nargs="*", default=[], help="names of cases of the part network")
    return parser.parse_args()


# --------------------------------------------------------------------------------------------------------------- plans


def measuring(asked: argparse.Namespace, folder: Path, out: Path) -> list[Part]:
    """Right first, then the product's own step, then everything that is worth comparing it with; rows of Table 1 if both."""
    where = ("--device", asked.device, *(("--small",) if asked.small else ()))
    store = ("--workspace", str(folder / "loader"))
    loader = (
        ("--threads", "1", "2", "--span-s", "0.2") if asked.small else ("--threads", "2", "4", "8", "16", "--span-s", "1.5")
    )
    span = ("--span-s", "0.1") if asked.small else ()
    # The smallest size shows that it runs: a case of each kind.
    names = asked.cases or (["machine", "training fp32"] if asked.small else [])
    cases = ("--only", *names) if names else ()
    is_both = asked.plan == "both"
    rows = [rows_of_table(asked, folder / "loader", ("gmic", "resnet-22"), limit_s=130)] if is_both else []
    return [
        Part(name="phantoms", command=phantoms(asked, folder / "loader", 500 if is_both else 48), limit_s=150, is_beside=True),
        Part(name="correctness", command=("benchmarks.gpu.correctness", *where), limit_s=120),
        Part(
            name="loader",
            command=("benchmarks.gpu.loader_rates", *store, "--device", asked.device, *loader),
            limit_s=60,
            needs="phantoms",
        ),
        Part(name="step", command=("benchmarks.gpu.step_rates", *store, *where, *span), limit_s=125, needs="phantoms"),
        *rows,
        Part(
            name="network",
            command=("benchmarks.network.bench_model_gpu", *where, "--json", str(out / "network.json"), *cases),
            limit_s=330,
            keeps=out / "network.json",
            gives_budget=12.0,
        ),
    ]


def training(asked: argparse.Namespace, folder: Path) -> list[Part]:
    """Phantoms at full size, then rows by the product's loop until the time is over."""
    return [
        Part(name="phantoms", command=phantoms(asked, folder / "full", 700), limit_s=110),
        rows_of_table(asked, folder / "full", ("gmic", "resnet-22", "gmic-random"), limit_s=460),
    ]


def rows_of_table(asked: argparse.Namespace, folder: Path, rows: tuple[str, ...], limit_s: float) -> Part:
    """Trains and scores the rows on a store, an equal share of the time each."""
    size = ("--epochs", "1", "--precision", "fp32", "--loader-workers", "1") if asked.small else ()
    names = ("resnet-22",) if asked.small else rows
    where = ("--workspace", str(folder), "--device", asked.device, "--rows", *names)
    return Part(name="rows", command=("benchmarks.gpu.table1_rows", *where, *size), limit_s=limit_s, gives_budget=10.0)


def phantoms(asked: argparse.Namespace, folder: Path, exams: int) -> tuple[str, ...]:
    """The command that draws a store; small ones are drawn in a second or two."""
    command = ("benchmarks.gpu.phantom_store", "--workspace", str(folder))
    if asked.small:
        return (*command, "--exams", "12", "--size", "384", "288", "--window", "192", "128", "--workers", "1")
    cores = os.cpu_count() or 2
    beside = {"measure": max(1, cores // 2), "both": max(1, cores - 3)}.get(asked.plan, cores)
    return (*command, "--exams", str(exams), "--workers", str(beside), "--budget-s", "80")


# --------------------------------------------------------------------------------------------------------------- parts


def run_parts(parts: list[Part], day: Day, environment: dict[str, str], deadline_s: float, started_s: float) -> None:
    """One after the other, but for those that run beside."""
    beside: dict[str, Running] = {}
    for part in parts:
        if part.needs in beside:
            ended(beside.pop(part.needs), day)
        left_s = min(part.limit_s, deadline_s - time.monotonic())
        if left_s < LEAST_S:
            day.add({"part": part.name, "end": "not started: the time is over"})
            continue
        print(f"== {time.monotonic() - started_s:.0f} s: {part.name}", file=sys.stderr, flush=True)
        running = begun(part, day, environment, left_s)
        if part.is_beside:
            beside[part.name] = running
        else:
            ended(running, day)
    for running in beside.values():
        ended(running, day)


def begun(part: Part, day: Day, environment: dict[str, str], left_s: float) -> Running:
    """Starts a child, in a session of its own: what it started ends with it."""
    command = [sys.executable, "-m", *part.command]
    if part.gives_budget:
        command += ["--budget-s", f"{max(left_s - part.gives_budget, 1.0):.0f}"]
    errors = day.folder / f"{part.name}.log"
    with errors.open("w") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        )

    def listen() -> None:
        for line in process.stdout or ():
            if line.startswith("{"):
                with contextlib.suppress(json.JSONDecodeError):  # what a part that is ended had not finished
                    day.add({"part": part.name, **json.loads(line)})

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    return Running(part, process, listener, time.monotonic() + left_s, errors)


def ended(running: Running, day: Day) -> None:
    """Waits for a child until its time is over; says how it ended, if not well."""
    said = ""
    try:
        code = running.process.wait(timeout=max(running.deadline_s - time.monotonic(), 0.1))
        if code:
            lines = running.errors.read_text(errors="replace").strip().splitlines()
            said = f"exit {code}: {lines[-1] if lines else ''}"[:200]
    except subprocess.TimeoutExpired:
        said = f"ended after its {running.part.limit_s:.0f} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.process.pid, signal.SIGKILL)
        running.process.wait()
        running.listener.join(timeout=10)
    if running.part.keeps is not None and running.part.keeps.exists():
        for record in json.loads(running.part.keeps.read_text()):
            day.add({"part": running.part.name, **record})
    if said:
        day.add({"part": running.part.name, "end": said})


def install_wheels(wheels: Path, site: Path) -> Record:
    """Wheels that were brought along, into a folder of their own; nothing is asked of a network."""
    found = sorted(str(path) for path in wheels.glob("*.whl"))
    if not found:
        return {}
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir"]
    done = subprocess.run([*pip, "--target", str(site), *found], capture_output=True, text=True, check=False)
    said = (done.stderr.strip().splitlines() or [""])[-1]
    return {"wheels": len(found), **({"end": f"wheels not installed: {said}"[:200]} if done.returncode else {})}


def child_environment(site: Path) -> dict[str, str]:
    """This repository and what was installed, before the machine's own packages; what children print is heard at once."""
    path = os.pathsep.join([str(ROOT), str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"}


def machine() -> Record:
    """Card, driver and processor, as far as they say."""
    found: Record = {"cores": os.cpu_count(), "python": platform.python_version()}
    if (tool := shutil.which("nvidia-smi")) is not None:
        query = [tool, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
        said = subprocess.run(query, capture_output=True, text=True, check=False, timeout=30).stdout.strip()
        found["card"] = said.splitlines()[0] if said else "nvidia-smi says nothing"
    return found


if __name__ == "__main__":
    main()
