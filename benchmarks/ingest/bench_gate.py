"""The price of the gate's child process: whole shards ingested with it and without it, in turns, on one core.

    taskset -c 0 env OMP_NUM_THREADS=1 python -m benchmarks.ingest.bench_gate [--exams 2] [--rounds 5]

Each round ingests every image of every transfer syntax: gate, decode, crop, manifest line, shard on disk. Prints CPU time (this
process and its children) and wall time per image, medians of the rounds, the child's share, what starting a child costs, and
what the child's memory limit leaves.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2

from benchmarks.ingest.phantom_dicoms import write_phantom_dicoms
from gmic_model.preprocess import fit_canvas, prepare_view
from schemas.config.ingest import GateLimits, PreprocessConfig
from schemas.errors import GateRejection
from tasks.adapters.datasets.catalogue import profile_named
from tasks.adapters.gate.admission import accept_image
from tasks.adapters.gate.child import DEFAULT_LIMITS, GateChild
from tasks.adapters.gate.gate_settings import GateSettings
from tasks.adapters.gate.messages import InspectHeader, PreparedImage, PrepareImage
from tasks.adapters.gate.source_file import SourceFile, file_fingerprint
from tasks.adapters.inbox import shard_writer
from tasks.adapters.inbox.shard_writer import PlannedImage, ShardJob, write_exam_shard
from tasks.adapters.pseudonyms import open_key
from tasks.adapters.store.exam_store import create_store, reserve_rows


class InProcess:
    """The same work as ``GateChild.prepare``, without a child."""

    def prepare(self, request: PrepareImage) -> PreparedImage:
        """As ``child_main`` does it."""
        record, gated = accept_image(
            request.path, source_dir=request.gate.source_dir, profile=profile_named(request.gate.profile),
            pseudonyms=open_key(request.gate.key_path), fingerprint=request.fingerprint,
        )  # fmt: skip
        prepared = prepare_view(gated.pixels_HW, record.laterality, record.view_position, settings=request.preprocess)
        return PreparedImage(
            record=record, prepared=fit_canvas(prepared, request.canvas_px), mask_HW=None, is_mask_unusable=False,
            pixel_sha256=gated.pixel_sha256, warnings=gated.warnings, background_median=gated.background_median,
        )  # fmt: skip


def cpu_s() -> float:
    """CPU seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def cpu_s_of(pid: int) -> float:
    """CPU seconds of another process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100.0


def make_job(folder: Path, paths: list[Path], name: str) -> ShardJob:
    """A shard of the given files in a fresh store."""
    store_dir = folder / f"store-{name}"
    shutil.rmtree(store_dir, ignore_errors=True)
    key_path = folder / "key"
    store = create_store(
        store_dir, preprocess=PreprocessConfig(), preprocess_version="1", rows_per_shard=len(paths),
        key_id=open_key(key_path, creates=True).key_id,
    )  # fmt: skip
    reserve_rows(store, len(paths))
    images = tuple(
        PlannedImage(
            file=SourceFile(file_id=f"F{row}", lies_at=path, fingerprint=file_fingerprint(path.stat())), row=row, mask_path=None
        )
        for row, path in enumerate(paths)
    )
    return ShardJob(
        store=store, shard=0, images=images,
        gate=GateSettings(source_dir=folder, profile="clinical-strict", key_path=key_path),
        preprocess=PreprocessConfig(),
    )  # fmt: skip


def timed(job: ShardJob, child: GateChild | None) -> tuple[float, float]:
    """(CPU, wall) seconds of one shard."""
    own, theirs, start = cpu_s(), cpu_s_of(child.pid) if child and child.pid else 0.0, time.perf_counter()
    result = write_exam_shard(job)
    assert not result.refused, result.refused
    wall = time.perf_counter() - start
    return cpu_s() - own + (cpu_s_of(child.pid) - theirs if child and child.pid else 0.0), wall


def smallest_memory_mib(work: Callable[[GateChild], object]) -> int:
    """The lowest multiple of 32 MiB under which the file is still read."""
    for mib in range(64, 1025, 32):
        with GateChild(GateLimits(memory_bytes=mib << 20)) as child:
            try:
                work(child)
            except GateRejection:  # too little
                continue
            return mib
    return 0


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exams", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name, GateChild() as child:  # memory, not disk
        folder = Path(name)
        files = write_phantom_dicoms(folder, exams=options.exams)
        original = shard_writer.child_of_this_thread
        ways = {"in process": (lambda _: InProcess(), None), "child": (lambda _: child, child)}
        times: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for round_number in range(options.rounds + 1):
            for syntax, paths in files.items():
                for way, (opener, own_child) in ways.items():
                    shard_writer.child_of_this_thread = opener  # type: ignore[assignment]
                    took = timed(make_job(folder, paths, way.replace(" ", "-")), own_child)
                    if round_number:  # the first warms up
                        times.setdefault((syntax, way), []).append(took)
        shard_writer.child_of_this_thread = original
        print(f"{'syntax':14s} {'cpu ms in process':>18s} {'cpu ms child':>13s} {'more':>7s} {'wall more':>10s}")
        for syntax, paths in files.items():
            own, theirs = (
                [1e3 * statistics.median(took[k] for took in times[syntax, way]) / len(paths) for k in range(2)] for way in ways
            )
            more = [100 * (b / a - 1) for a, b in zip(own, theirs, strict=True)]
            print(f"{syntax:14s} {own[0]:18.1f} {theirs[0]:13.1f} {more[0]:+6.1f}% {more[1]:+9.1f}%")
        header = InspectHeader(
            path=files["native"][0], gate=GateSettings(source_dir=folder, profile="clinical-strict", key_path=folder / "key")
        )
        starts = []
        for _ in range(3):
            start = time.perf_counter()
            with GateChild(DEFAULT_LIMITS) as fresh:
                fresh.inspect(header)
            starts.append(time.perf_counter() - start)
        print(f"start of a child: {1e3 * statistics.median(starts):.0f} ms, every {DEFAULT_LIMITS.files_per_child} files")
        for syntax, paths in files.items():
            request = make_request(folder, paths[0])
            print(f"memory one {syntax} file needs: {smallest_memory_mib(lambda c, r=request: c.prepare(r))} MiB")


def make_request(folder: Path, path: Path) -> PrepareImage:
    """A request for one file."""
    return PrepareImage(
        path=path, gate=GateSettings(source_dir=folder, profile="clinical-strict", key_path=folder / "key"),
        fingerprint=file_fingerprint(path.stat()), preprocess=PreprocessConfig(),
        canvas_px=PreprocessConfig().canvas_px, mask_path=None,
    )  # fmt: skip


if __name__ == "__main__":
    main()
