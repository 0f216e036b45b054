"""Goals G2, G3 and G9, and the gate's share: ingest against its own decoder, pydicom's default, the released recipe, and Dask.

    taskset -c 0 env OMP_NUM_THREADS=1 python -m benchmarks.ingest.bench_ingest [--exams 4] [--syntaxes "JPEG lossless"]
    taskset -c 0 env OMP_NUM_THREADS=1 python -m benchmarks.ingest.bench_ingest --image MAMMOGRAM.dcm  # other pixels
    env OMP_NUM_THREADS=1 python -m benchmarks.ingest.bench_ingest --dask [--shards 12]                   # G9: needs two cores

Ingest is everything: headers through the gate, ledger, rows, then decode, gate, crop, pseudonyms, digests, shard and ledger, on
a tmpfs. It runs in turns with the others, on the same files; ratios are of the medians of the rounds' wall times, CPU times
beside them (both processes). The released recipe needs pypng (``pip install pypng``), and runs as described and ``gently``:
with OpenCV's PNG writer (see released_recipe.py). pydicom's default is what its installed plug-ins make it: see bench_decode.py
for a fair set.
``--json FILE`` keeps the numbers for ``mammo plan``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.encaps import generate_frames

from benchmarks.ingest.bench_decode import default_pixels, default_plugin
from benchmarks.ingest.bench_gate import cpu_s_of
from benchmarks.ingest.phantom_dicoms import SYNTAXES, write_image, write_phantom_dicoms
from benchmarks.ingest.released_recipe import AS_DESCRIBED, GENTLE, PngWriters
from benchmarks.ingest.released_recipe import run as released_recipe
from benchmarks.ingest.serial_ingest import ingest_serially, make_config
from gmic_model.preprocess import fit_canvas, prepare_view
from schemas.config.ingest import LocalDask
from schemas.exam import ImageRecord
from tasks import ingest
from tasks.adapters.cluster import open_cluster
from tasks.adapters.datasets.catalogue import profile_named
from tasks.adapters.dicom import frame_codecs
from tasks.adapters.dicom.dicom_file import read_header, read_pixels
from tasks.adapters.gate.admission import inspect_header
from tasks.adapters.gate.child import GateChild
from tasks.adapters.gate.gate_settings import gate_settings
from tasks.adapters.gate.messages import InspectHeader, PreparedImage, PrepareImage
from tasks.adapters.inbox import shard_writer
from tasks.adapters.inbox.batches import open_exams
from tasks.adapters.pseudonyms import Pseudonyms, open_key
from tasks.adapters.store.exam_store import reserve_rows

GOALS: dict[str, dict[str, float]] = {
    "JPEG 2000": {"own decode": 0.85, "pydicom": 1.0, "released": 3.0},
    "JPEG-LS": {"own decode": 0.50, "pydicom": 1.3},
    "JPEG lossless": {"own decode": 0.50, "pydicom": 1.7, "released": 10.0},
}
LARGEST_GATE_SHARE = 0.15
RELEASED_IMAGES = 2
MEMORY = Path("/dev/shm")  # noqa: S108  # a tmpfs, where the working folder gets a name of its own


class Ungated:
    """What is left of the gate's child without the gate: header, digests, decode, crop; no rule, no child."""

    def __init__(self, source_dir: Path, pseudonyms: Pseudonyms) -> None:
        self._records: dict[Path, ImageRecord] = {
            path: inspect_header(path, source_dir=source_dir, profile=profile_named("clinical-strict"), pseudonyms=pseudonyms)
            for path in source_dir.iterdir()
        }

    def inspect(self, request: InspectHeader) -> ImageRecord:
        """The header."""
        read_header(request.path)
        return self._records[request.path]

    def prepare(self, request: PrepareImage) -> PreparedImage:
        """Reads the file as if it could be trusted."""
        read_header(request.path)
        with request.path.open("rb") as file:
            hashlib.file_digest(file, "sha256")
        pixels_HW, record = read_pixels(request.path), self._records[request.path]
        prepared = prepare_view(pixels_HW, record.laterality, record.view_position, settings=request.preprocess)
        return PreparedImage(
            record=record, prepared=fit_canvas(prepared, request.canvas_px), mask_HW=None, is_mask_unusable=False,
            pixel_sha256=hashlib.sha256(pixels_HW.data).hexdigest(), warnings=(), background_median=0.0,
        )  # fmt: skip


class Stopwatch:
    """Wall and CPU seconds an image, by what was done; the CPU of a child process too."""

    def __init__(self) -> None:
        self.rounds: dict[str, list[tuple[float, float]]] = {}

    def time(self, what: str, images: int, work: Callable[[], object], child: GateChild | None = None) -> None:
        """Times one call."""
        before, start = _cpu_s(child), time.perf_counter()
        work()
        wall_s = time.perf_counter() - start
        self.rounds.setdefault(what, []).append((wall_s / images, (_cpu_s(child) - before) / images))

    def median_ms(self, what: str, *, cpu: bool = False) -> float:
        """Median of the rounds, milliseconds an image."""
        return 1e3 * statistics.median(took[int(cpu)] for took in self.rounds[what])


def time_syntax(folder: Path, paths: list[Path], rounds: int, *, with_released: bool) -> Stopwatch:
    """Everything in turns, on the same files; the first round warms up."""
    watch, source_dir, plugin = Stopwatch(), paths[0].parent, default_plugin(paths[0])
    frames = list(map(_frame, paths))
    ungated = Ungated(source_dir, open_key(folder / "key", creates=True))
    with GateChild() as child:
        for round_number in range(rounds + 1):
            if round_number == 1:
                watch.rounds.clear()
            watch.time("own decode", len(paths), lambda: [_decode(*frame) for frame in frames])
            with _children(lambda _: child):
                watch.time("ingest", len(paths), partial(_ingest, folder, source_dir, len(paths)), child)
            with _children(lambda _: ungated):
                watch.time("ungated", len(paths), partial(_ingest, folder, source_dir, len(paths)))
            if plugin != "none":
                watch.time("pydicom", len(paths), lambda: [default_pixels(path, plugin) for path in paths])
            if with_released and round_number < 2:  # slow, and the same every time
                for what, writers in (("released", AS_DESCRIBED), ("gently", GENTLE)):
                    released = partial(_released, folder, paths[:RELEASED_IMAGES], plugin, writers)
                    watch.time(what, RELEASED_IMAGES, released)
    return watch


def print_ratios(syntax: str, watch: Stopwatch) -> dict[str, float]:
    """One line a ratio; returns what the plan needs."""
    ingest_ms, gate_share = watch.median_ms("ingest"), 1 - watch.median_ms("ungated") / watch.median_ms("ingest")
    times = ", ".join(f"{what} {watch.median_ms(what):.0f}" for what in watch.rounds)
    cpu = ", ".join(f"{what} {watch.median_ms(what, cpu=True):.0f}" for what in watch.rounds)
    print(f"{syntax}: wall ms an image: {times}; cpu ms: {cpu}")
    for what in ("own decode", "pydicom", "released", "gently"):
        if what in watch.rounds:
            ratio = watch.median_ms(what) / ingest_ms
            print(f"  ingest / {what:11s} {ratio:6.2f}  goal {GOALS.get(syntax, {}).get(what, '-')}")
    print(f"  gate's share of ingest {100 * gate_share:5.1f} %  goal < {100 * LARGEST_GATE_SHARE:.0f} %")
    return {"decode_ms": watch.median_ms("own decode", cpu=True), "ingest_ms": watch.median_ms("ingest", cpu=True)}


def compare_with_dask(folder: Path, paths: list[Path], *, shards: int, rounds: int) -> dict[str, float]:
    """G9: the same shards by a plain loop, one worker and two workers; images a second, and the workers' memory."""
    jobs = _shard_jobs(folder, paths, shards)
    images = sum(len(job.images) for job in jobs)
    rates: dict[str, list[float]] = {"serial": [], "1 worker": [], "2 workers": []}
    memory_mib: dict[str, list[float]] = {}
    for _ in range(rounds):
        for way, n_workers in (("serial", 0), ("1 worker", 1), ("2 workers", 2)):
            seconds, peaks = _time_jobs(jobs, n_workers)
            rates[way].append(images / seconds)
            memory_mib[way] = peaks
            print(f"{way:10s} {images / seconds:7.2f} images/s   workers' MiB by tenths: {[round(peak) for peak in peaks]}")
    serial, one, two = (statistics.median(values) for values in rates.values())
    print(f"1 worker / serial {one / serial:.3f}  goal 0.95;  2 workers / 1 worker {two / one:.3f}  goal 1.85")
    third = len(memory_mib["2 workers"]) // 3
    growth = max(memory_mib["2 workers"][-third:]) / max(memory_mib["2 workers"][:third])
    print(f"memory of the last third / the first third: {growth:.2f}")
    return {"one_worker": one / serial, "two_workers": two / one, "worker_mib": max(memory_mib["2 workers"]) / 2}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exams", type=int, default=4, help="4 images each")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--syntaxes", default=",".join(GOALS), help=f"comma separated, of {', '.join(SYNTAXES)}; or all")
    parser.add_argument("--shape", default="3328x2560", help="rows x columns of the phantoms")
    parser.add_argument("--image", type=Path, help="copies of this file, each another patient's, instead of phantoms")
    parser.add_argument("--no-released", action="store_true", help="leave the released recipe out")
    parser.add_argument("--dask", action="store_true", help="G9 only")
    parser.add_argument("--shards", type=int, default=12, help="with --dask")
    parser.add_argument("--folder", type=Path, default=MEMORY, help="where to work: memory unless the disk is meant")
    parser.add_argument("--json", type=Path, help="numbers for mammo plan are added here")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    wanted = SYNTAXES if options.syntaxes == "all" else options.syntaxes.split(",")
    rows, columns = map(int, options.shape.split("x"))
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        if options.image:
            files = _copies(folder, read_pixels(options.image), 4 * options.exams, wanted)
        else:
            files = write_phantom_dicoms(folder, exams=options.exams, shape_px=(rows, columns), syntaxes=wanted)
        numbers: dict[str, Any] = {}
        if options.dask:
            numbers["dask"] = compare_with_dask(folder, files[wanted[0]], shards=options.shards, rounds=options.rounds)
        else:
            for syntax in wanted:
                watch = time_syntax(folder, files[syntax], options.rounds, with_released=not options.no_released)
                file_mb = sum(path.stat().st_size for path in files[syntax]) / 1e6 / len(files[syntax])
                numbers[syntax] = {**print_ratios(syntax, watch), "file_mb": file_mb}
    if options.json:
        known = json.loads(options.json.read_text()) if options.json.exists() else {}
        options.json.write_text(json.dumps({**known, **numbers}, indent=1))


# ---------------------------------------------------------------------------------------------------------------------


def _copies(folder: Path, pixels_HW: NDArray[np.uint16], images: int, syntaxes: Sequence[str]) -> dict[str, list[Path]]:
    """One image as several patients', told apart by a corner pixel: equal images would be left out as twins."""
    paths: dict[str, list[Path]] = {syntax: [] for syntax in syntaxes}
    for number in range(images):
        pixels_HW[-1, -1] = number
        for syntax, written in write_image(folder, pixels_HW, f"image-{number}", syntaxes=syntaxes, number=number).items():
            paths[syntax] += written
    return paths


def _cpu_s(child: GateChild | None) -> float:
    # Children that were replaced count among those waited for.
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in used) + (cpu_s_of(child.pid) if child and child.pid else 0.0)


@contextmanager
def _children(opener: Callable[[object], object]) -> Iterator[None]:
    original, shard_writer.child_of_this_thread = shard_writer.child_of_this_thread, opener  # type: ignore[assignment]
    try:
        yield
    finally:
        shard_writer.child_of_this_thread = original


def _ingest(folder: Path, source_dir: Path, images: int) -> None:
    workspace_dir = folder / "workspace"
    for name in ("exam_store", "ingest"):  # the key stays: the child remembers it
        shutil.rmtree(workspace_dir / name, ignore_errors=True)
    report, _ = ingest_serially(make_config(workspace_dir, source_dir))
    assert report.images_published == images, report


def _frame(path: Path) -> tuple[bytes, str, tuple[int, int]]:
    dataset = dcmread(path)
    syntax = dataset.file_meta.TransferSyntaxUID
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1)) if syntax.is_compressed else dataset.PixelData
    return frame, str(syntax) if syntax.is_compressed else "", (dataset.Rows, dataset.Columns)


def _decode(frame: bytes, syntax: str, shape_px: tuple[int, int]) -> object:
    if not syntax:
        return bytearray(frame)  # a copy: what reading native pixels costs at least
    codec = frame_codecs.SYNTAXES[syntax].codec
    assert codec is not None
    return frame_codecs.decode_frame(frame, codec, shape_px=shape_px, bits_allocated=16)


def _released(folder: Path, paths: list[Path], plugin: str, writers: PngWriters) -> None:
    """The recipe with pydicom's default decoder, or with ours where it has none."""
    profile, pseudonyms = profile_named("clinical-strict"), open_key(folder / "key", creates=True)
    for path in paths:
        record = inspect_header(path, source_dir=folder, profile=profile, pseudonyms=pseudonyms)
        read = partial(read_pixels, path) if plugin == "none" else partial(default_pixels, path, plugin)
        released_recipe(read, folder, record.laterality, record.view_position, writers)


def _shard_jobs(folder: Path, paths: list[Path], shards: int) -> list[shard_writer.ShardJob]:
    """Shards of the same files over and over: planned once, then shifted to the next shard."""
    config = make_config(folder / "dask", paths[0].parent)
    scan = ingest.scan_source.fn(config)
    store, _ = open_exams(config)
    images = tuple(
        shard_writer.PlannedImage(file=file, row=row, mask_path=None)
        for row, file in enumerate(scan.unsettled[: store.rows_per_shard])
    )
    reserve_rows(store, shards * store.rows_per_shard)
    return [
        shard_writer.ShardJob(
            store=store, shard=shard, gate=gate_settings(config), preprocess=config.preprocess,
            images=tuple(
                shard_writer.PlannedImage(file=image.file, row=shard * store.rows_per_shard + image.row, mask_path=None)
                for image in images
            ),
        )
        for shard in range(shards)
    ]  # fmt: skip


def _time_jobs(jobs: list[shard_writer.ShardJob], n_workers: int) -> tuple[float, list[float]]:
    """Seconds, and the peak memory of the workers with their gate children in each tenth of the work."""
    if n_workers == 0:
        shard_writer.write_exam_shard(jobs[0])
        start = time.perf_counter()
        for job in jobs:
            assert not shard_writer.write_exam_shard(job).refused
        return time.perf_counter() - start, []
    with open_cluster(LocalDask(n_workers=n_workers)) as address:
        list(ingest.run_all(address, shard_writer.write_exam_shard, jobs[: 2 * n_workers]))  # imports, children
        start, peaks = time.perf_counter(), []
        for result in ingest.run_all(address, shard_writer.write_exam_shard, jobs):
            assert isinstance(result, shard_writer.ShardResult) and not result.refused
            peaks.append(_workers_mib())
        return time.perf_counter() - start, peaks


def _workers_mib() -> float:
    return sum(process.memory_info().rss for process in psutil.Process().children(recursive=True)) / 2**20


if __name__ == "__main__":
    main()
