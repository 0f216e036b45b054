"""Whether the cost of an image stays the same: from 500 to 8,000 images, and with 0, 1 and 10 earlier ingests in the ledger.

    taskset -c 0 env OMP_NUM_THREADS=1 python -m benchmarks.ingest.bench_growth [--counts 500 2000 8000] [--earlier 10]
    env OMP_NUM_THREADS=1 python -m benchmarks.ingest.bench_growth --stored 10000 100000   # new images into either, in turns
    env OMP_NUM_THREADS=1 python -m benchmarks.ingest.bench_growth --scheduler 5000      # Dask's overhead and memory, two cores

Small images (256 x 256), so that what grows with their number shows: a full-size image costs ten times as much, its share of
scan, ledger and manifest stays the same. Drawing and writing the DICOM files is not counted. All steps of the flow run in this
process, one after another; CPU times count the gate's child. ``--json FILE`` keeps the numbers for ``mammo plan``.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import operator
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil

from benchmarks.ingest.bench_gate import cpu_s_of
from benchmarks.ingest.serial_ingest import ingest_serially, make_config
from benchmarks.operations.bench_million import make_store
from schemas.config.ingest import LocalDask, PreprocessConfig
from schemas.config.run import RunConfig
from schemas.exam import Laterality, ViewPosition
from tasks import ingest
from tasks.adapters.cluster import open_cluster, run_all
from tasks.adapters.dicom.mammogram import MammogramHeader
from tasks.adapters.dicom.mammogram_file import write_mammogram
from tasks.adapters.gate.child import child_of_this_thread
from tasks.adapters.inbox.batches import header_batches

SIDE_PX = 256
PREPROCESS = PreprocessConfig(window_px=(256, 192), erosion_iterations=8, crop_buffer_px=4, jitter_shift_px=8, jitter_size_px=8)
ALLOWED_GROWTH = 0.05
MEMORY = Path("/dev/shm")  # noqa: S108  # a tmpfs, where the working folder gets a name of its own
_RUNS = itertools.count()
VIEWS = [(side, view) for side in Laterality for view in ViewPosition]


def write_files(folder: Path, exams: range) -> None:
    """Four small mammograms an exam, no two with the same pixels, and neighbours alike as the gate wants them (X32)."""
    folder.mkdir(parents=True)
    row, column = np.mgrid[:SIDE_PX, :SIDE_PX]
    is_breast_HW = ((row - 128) / 110) ** 2 + (column / 150) ** 2 < 1
    for exam in exams:
        generator = np.random.default_rng(exam)
        for number, (side, view) in enumerate(VIEWS):
            tissue_HW = 2000 + 8 * (row - column) + generator.integers(-200, 200, is_breast_HW.shape)
            pixels_HW = np.where(is_breast_HW, tissue_HW, 0).astype(np.uint16)
            header = MammogramHeader(
                patient_id=f"B{exam}", patient_name="BENCH", patient_age_years=55, study_instance_uid=f"2.25.1{exam:07d}",
                series_instance_uid=f"2.25.2{exam:07d}", sop_instance_uid=f"2.25.3{exam:07d}{number}", accession_number="",
                study_date=date(2021, 5, 4), laterality=side, view_position=view, pixel_spacing_mm=0.7,
            )  # fmt: skip
            write_mammogram(
                folder / f"{exam:07d}-{number}.dcm", pixels_HW if side is Laterality.LEFT else pixels_HW[:, ::-1], header
            )


def ingest_once(config: RunConfig, images: int, name: str) -> dict[str, float]:
    """Ingests what is new; CPU and wall milliseconds per new image, and what is kept of them."""
    child = child_of_this_thread(config.ingest.gate_limits)
    gc.collect()
    before, start = _cpu_s(child.pid), time.perf_counter()
    report, steps = ingest_serially(config)
    wall_s, cpu_s = time.perf_counter() - start, _cpu_s(child.pid) - before
    assert report.images_new == images and not report.files_quarantined, report
    store_dir = config.workspace_dir / "exam_store"
    ledger_bytes = sum(path.stat().st_size for path in store_dir.glob("ledger.sqlite*"))
    numbers = {
        "cpu_ms": 1e3 * cpu_s / images,
        "wall_ms": 1e3 * wall_s / images,
        "ledger_bytes": ledger_bytes / report.images_published,
        "manifest_bytes": (store_dir / "manifest.parquet").stat().st_size / report.images_published,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    detail = ", ".join(f"{step} {1e3 * seconds / images:.2f}" for step, seconds in steps.items())
    print(
        f"{name:24s} {numbers['cpu_ms']:6.2f} cpu ms, {numbers['wall_ms']:6.2f} wall ms ({detail}), "
        f"ledger {numbers['ledger_bytes']:.0f} B, manifest {numbers['manifest_bytes']:.0f} B; "
        f"peak {numbers['peak_mib']:.0f} MiB"
    )
    return numbers


def measure_counts(folder: Path, counts: Sequence[int]) -> dict[str, float]:
    """Fresh workspaces of more and more images, each between two of the smallest number: the machine's mood changes."""
    smallest, *larger = sorted(counts)
    small = _ingest_afresh(folder, smallest)
    result = small
    for count in larger:
        before, result, small = small, _ingest_afresh(folder, count), _ingest_afresh(folder, smallest)
        growth = 2 * result["cpu_ms"] / (before["cpu_ms"] + small["cpu_ms"]) - 1
        memory_bytes = (result["peak_mib"] - before["peak_mib"]) * 2**20 / (count - smallest)
        print(f"CPU an image from {smallest} to {count}: {100 * growth:+.1f} %, goal within {100 * ALLOWED_GROWTH:.0f} %")
        print(f"memory an image: {memory_bytes:.0f} B")
        result = {**result, "growth": growth, "memory_bytes": memory_bytes}
    return result


def measure_earlier(folder: Path, images: int, earlier: int) -> dict[str, float]:
    """One workspace that grows by as many images again and again; after 1 and the last, between two fresh ones."""
    config = _config(folder / "workspace", folder / "source")
    growth = 0.0
    for done in range(earlier + 1):
        is_compared = done in (1, earlier)
        before = _ingest_afresh(folder / "fresh", images) if is_compared else {}
        write_files(folder / "source" / f"{done}", range(done * images // 4, (done + 1) * images // 4))
        grown = ingest_once(config, images, f"{images} after {done} ingests")
        if is_compared:
            after = _ingest_afresh(folder / "fresh", images)
            growth = 2 * grown["cpu_ms"] / (before["cpu_ms"] + after["cpu_ms"]) - 1
            print(f"CPU an image after {done} earlier ingests: {100 * growth:+.1f} %, goal within {100 * ALLOWED_GROWTH:.0f} %")
    return {"after_earlier": growth}


def measure_stored(folder: Path, stored: Sequence[int], images: int, turns: int) -> dict[str, float]:
    """As many new images into stores of few and many rows that a script made, in turns: what an image costs beyond a rerun."""
    configs = {rows: _config(folder / f"{rows}" / "workspace", folder / f"{rows}" / "source") for rows in stored}
    costs: dict[int, list[float]] = {rows: [] for rows in stored}
    for rows, config in configs.items():
        make_store(config, rows)
        write_files(config.ingest.source_dir / "0", range(8))
        _ingest_s(config, rows + 8 * len(VIEWS))  # publishes what the script made
    for turn in range(1, turns + 1):
        for rows, config in configs.items():
            write_files(config.ingest.source_dir / f"{turn}", range(turn * images, turn * images + images // len(VIEWS)))
            new_s, again_s = (_ingest_s(config, count) for count in (images, 0))
            costs[rows].append(1e3 * (new_s - again_s) / images)
            print(f"{rows} stored: {costs[rows][-1]:.2f} CPU ms a new image beyond a rerun of {again_s:.2f} s", flush=True)
    few, many = (np.array(costs[rows]) for rows in (min(stored), max(stored)))
    growth = float(np.median(many / few)) - 1
    print(
        f"CPU an image, {max(stored)} to {min(stored)} stored: {100 * growth:+.1f} %, goal within {100 * ALLOWED_GROWTH:.0f} %"
    )
    return {"stored": growth}


def _ingest_s(config: RunConfig, images: int) -> float:
    child = child_of_this_thread(config.ingest.gate_limits)
    gc.collect()
    before = _cpu_s(child.pid)
    report, _ = ingest_serially(config)
    assert report.images_new == images and not report.files_quarantined, report
    return _cpu_s(child.pid) - before


def measure_scheduler(folder: Path, shards: int) -> dict[str, float]:
    """What Dask's scheduler and client, both in this process, take for shards that are no work."""
    write_files(folder / "source", range(4))
    config = _config(folder / "workspace", folder / "source")
    scan = ingest.scan_source.fn(config)
    process = psutil.Process()
    with open_cluster(LocalDask(n_workers=1)) as address:
        for files in header_batches(config, scan):
            ingest.inspect_batch.fn(config, address, files)
        (batch,) = ingest.plan_shards.fn(config, address, scan)
        list(run_all(address, operator.truth, [batch.jobs[0]] * 100))
        memory, before, start = process.memory_info().rss, _cpu_s(None), time.perf_counter()
        for _ in run_all(address, operator.truth, (batch.jobs[0] for _ in range(shards))):
            pass
        took_s, cpu_s = time.perf_counter() - start, _cpu_s(None) - before
        grown = process.memory_info().rss - memory
    rows = config.ingest.exams_per_shard * 4
    print(f"{shards} shards: {1e3 * took_s / shards:.2f} ms a shard, {1e3 * cpu_s / shards:.2f} ms CPU of scheduler and client")
    print(f"scheduler and client: {grown / shards:.0f} B a shard, {grown / shards / rows:.0f} B an image")
    return {"scheduler_ms": 1e3 * cpu_s / shards, "scheduler_bytes": grown / shards / rows}


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[500, 2000, 8000])
    parser.add_argument("--earlier", type=int, default=10)
    parser.add_argument("--stored", type=int, nargs=2, help="rows that a script made beforehand, few and many; nothing else")
    parser.add_argument("--new", type=int, default=1000, help="images into each, with --stored")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--scheduler", type=int, help="this many empty shards through Dask, and nothing else")
    parser.add_argument("--json", type=Path, help="numbers for mammo plan are added here")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    numbers: dict[str, Any]
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        if options.scheduler:
            numbers = {"scheduler": measure_scheduler(Path(name), options.scheduler)}
        elif options.stored:
            numbers = {"stored": measure_stored(Path(name), options.stored, options.new, options.turns)}
        else:
            write_files(Path(name) / "warm", range(8))
            ingest_once(_config(Path(name) / "warm-up", Path(name) / "warm"), 32, "32 to warm up")
            numbers = {"growth": measure_counts(Path(name), options.counts)}
            numbers["growth"] |= measure_earlier(Path(name), min(options.counts), options.earlier)
    if options.json:
        known = json.loads(options.json.read_text()) if options.json.exists() else {}
        options.json.write_text(json.dumps({**known, **numbers}, indent=1))


def _ingest_afresh(folder: Path, images: int) -> dict[str, float]:
    write_files(folder / "source", range(images // 4))
    config = _config(folder / f"workspace-{images}-{next(_RUNS)}", folder / "source")  # the child remembers a workspace's key
    cost = ingest_once(config, images, f"{images} images")
    shutil.rmtree(folder / "source")
    shutil.rmtree(config.workspace_dir)
    return cost


def _config(workspace_dir: Path, source_dir: Path) -> RunConfig:
    return make_config(workspace_dir, source_dir, preprocess=PREPROCESS, profile="phantom")


def _cpu_s(child_pid: int | None) -> float:
    # Children that were replaced count among those waited for.
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in used) + (cpu_s_of(child_pid) if child_pid else 0.0)


if __name__ == "__main__":
    main()
