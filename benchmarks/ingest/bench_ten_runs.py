"""Very many small images really ingested, in ten runs of the command: what an image costs as the store grows.

    make measure-growth                                                   # 100,000 images: an afternoon of one core
    python -m benchmarks.ingest.bench_ten_runs --images 2000 [--runs 10] [--beside 2000] [--json FILE]

Each run is `mammo ingest` of a folder that has got as many new files, 256 x 256: with its server, its scheduler and two
workers, all of whose CPU time counts. After each the same command again, which has nothing to do. Drawing the files is not
counted. A machine is not as fast in one hour as in the next: after each run some images go into an empty store, and what an
image costs is also told as a ratio to those. A line per run: CPU milliseconds a new image beyond those of a rerun, bytes of
ledger, manifest and Prefect's database, the largest process, the rerun; at the end `mammo scrub`, which reads every image.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.ingest.bench_growth import PREPROCESS, write_files
from benchmarks.ingest.serial_ingest import make_config
from schemas.config.run import RunConfig
from tasks.adapters.workspace import Workspace

ALLOWED_GROWTH: Final = 0.05
VIEWS_PER_EXAM: Final = 4


def mammo(*arguments: str) -> tuple[float, float, float]:
    """CPU seconds of a command and all its processes, seconds by the clock, MiB of the largest process.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    start = time.perf_counter()
    command = [sys.executable, "-c", "from deployments.cli import main; main()", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read() if process.stderr else b""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, stderr=said.decode()[-2000:])
    return used.ru_utime + used.ru_stime, time.perf_counter() - start, used.ru_maxrss / 1024


def ingested(folder: Path, part: str, exams: range) -> tuple[RunConfig, dict[str, float]]:
    """Draws the exams into the folder's source, ingests what is new there, and again what is not."""
    config = make_config(folder / "workspace", folder / "source", preprocess=PREPROCESS, profile="phantom")
    path = folder / "config.yaml"
    write_files(config.ingest.source_dir / part, exams)
    path.write_text(config.model_dump_json())  # JSON is YAML
    cpu_s, wall_s, peak_mib = mammo("ingest", str(path))
    rerun_s, _, _ = mammo("ingest", str(path))
    cpu_ms = 1e3 * (cpu_s - rerun_s) / (len(exams) * VIEWS_PER_EXAM)
    return config, {"cpu_ms": cpu_ms, "wall_s": wall_s, "peak_mib": peak_mib, "rerun_s": rerun_s}


def measure(folder: Path, images: int, runs: int, beside: int) -> list[dict[str, float]]:
    """A line per run."""
    exams, lines = images // runs // VIEWS_PER_EXAM, list[dict[str, float]]()
    for run in range(runs):
        config, line = ingested(folder / "growing", f"{run:02d}", range(run * exams, (run + 1) * exams))
        _, empty = ingested(folder / "empty", "00", range(beside // VIEWS_PER_EXAM))
        shutil.rmtree(folder / "empty")
        files, stored = Workspace(config.workspace_dir), (run + 1) * exams * VIEWS_PER_EXAM
        line |= {
            "stored": stored,
            "of_empty": line["cpu_ms"] / empty["cpu_ms"],
            "ledger_bytes": sum(one.stat().st_size for one in files.store_dir.glob("ledger.sqlite*")) / stored,
            "manifest_bytes": files.store.manifest_path.stat().st_size / stored,
            "server_mb": files.server_database_path.stat().st_size / 1e6,
        }
        lines.append(line)
        print(
            f"{stored:7,} stored: {line['cpu_ms']:6.2f} CPU ms a new image beyond a rerun, {line['of_empty']:.3f} of an empty "
            f"store's; {line['wall_s']:.1f} s; rerun {line['rerun_s']:.1f} s; "
            f"ledger {line['ledger_bytes']:.0f} B, manifest {line['manifest_bytes']:.0f} B an image; "
            f"Prefect {line['server_mb']:.1f} MB; largest process {line['peak_mib']:.0f} MiB",
            flush=True,
        )
    growth = lines[-1]["of_empty"] / lines[0]["of_empty"] - 1
    print(f"CPU an image, last run's ratio beside the first's: {100 * growth:+.1f} %, goal within {100 * ALLOWED_GROWTH:.0f} %")
    cpu_s, wall_s, peak_mib = mammo("scrub", str(folder / "growing" / "config.yaml"))
    print(f"scrub of all: CPU {cpu_s:.1f} s, {wall_s:.1f} s, {peak_mib:.0f} MiB", flush=True)
    return lines


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--beside", type=int, default=2_000, help="images that go into an empty store after each run")
    parser.add_argument("--dir", type=Path, help="where source and workspace lie meanwhile; 100,000 images take 30 GB")
    parser.add_argument("--json", type=Path, help="the lines")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        lines = measure(Path(name), options.images, options.runs, options.beside)
    if options.json:
        options.json.write_text(json.dumps(lines, indent=1))


if __name__ == "__main__":
    main()
