"""Whether memory stays flat while thousands of tiny new files come in, and what a rerun costs when all of them are settled.

What grows is the list of files, and of published images their keys: both peaks are shown, of reading and of publishing.

    env OMP_NUM_THREADS=1 python -m benchmarks.ingest.bench_flat [--counts 2500 5000 10000]

Each count has a workspace of its own and each ingest a process of its own, for a peak cannot be taken back. The steps of the
flow run in that process, one after another; peaks are without the gate's child, whose limit is ``ingest.file_memory_mib``.
``--profile FILE`` writes cProfile's table of the last rerun's functions, which takes longer then.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2

from benchmarks.ingest.bench_growth import PREPROCESS, write_files
from benchmarks.ingest.serial_ingest import ingest_serially, make_config

GOAL_RERUN_S = 3.0
_RERUNS = 3


def ingest_here(workspace_dir: Path, source_dir: Path, profile: Path | None) -> dict[str, Any]:
    """One ingest, measured: what this process used for its steps."""
    cv2.setNumThreads(1)
    config = make_config(workspace_dir, source_dir, preprocess=PREPROCESS, profile="phantom")
    start_mib, before_s, start_s = _peak_mib(), time.process_time(), time.perf_counter()
    stored_mib: list[float] = []
    profiler = cProfile.Profile()
    if profile is not None:
        profiler.enable()
    report, steps = ingest_serially(config, lambda: stored_mib.append(_peak_mib()))
    profiler.disable()
    numbers = {
        "cpu_s": time.process_time() - before_s,
        "wall_s": time.perf_counter() - start_s,
        "start_mib": start_mib,
        "stored_mib": stored_mib[0],
        "peak_mib": _peak_mib(),
        "published": report.images_published,
        "new": report.images_new,
        "steps": steps,
    }
    if profile is not None:
        with profile.open("w") as file:
            pstats.Stats(profiler, stream=file).sort_stats("cumulative").print_stats(80)
    return numbers


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[2500, 5000, 10_000])
    parser.add_argument("--profile", type=Path)
    parser.add_argument("--here", type=Path, nargs=2, help=argparse.SUPPRESS)  # what this program starts: one ingest
    options = parser.parse_args()
    if options.here:
        print(json.dumps(ingest_here(*options.here, options.profile)))
        return
    smallest: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        drawn = 0
        for count in sorted(options.counts):
            write_files(Path(name) / "source" / str(count), range(drawn // 4, count // 4))
            drawn = count
            where = Path(name) / f"workspace-{count}", Path(name) / "source"
            first = _ingest_in_a_process(*where)
            assert first["new"] == count, first
            smallest = smallest or first
            grown = ", ".join(f"{first[name] / smallest[name]:.2f}" for name in ("stored_mib", "peak_mib"))
            print(
                f"{count:6d} new: peak {first['start_mib']:.0f} MiB before it began, {first['stored_mib']:.0f} when all was "
                f"stored, {first['peak_mib']:.0f} when it was published: {grown} of the smallest count's",
                flush=True,
            )
            again = min((_ingest_in_a_process(*where) for _ in range(_RERUNS)), key=lambda one: float(one["cpu_s"]))
            assert (again["new"], again["published"]) == (0, count), again
            detail = ", ".join(f"{step} {seconds:.2f}" for step, seconds in again["steps"].items())
            print(
                f"{count:6d} settled: {again['cpu_s']:.2f} s CPU, best of {_RERUNS} ({detail} s wall), "
                f"peak {again['peak_mib']:.0f} MiB; goal below {GOAL_RERUN_S:g} s for 10,000",
                flush=True,
            )
        if options.profile:
            _ingest_in_a_process(*where, "--profile", str(options.profile))


def _ingest_in_a_process(workspace_dir: Path, source_dir: Path, *more: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.ingest.bench_flat", "--here", str(workspace_dir), str(source_dir), *more]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # our own program
    numbers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return numbers


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
