"""Goals G5 to G8: size of the store, random reads, and the training loader, against blosc files and PNG files in turns.

    taskset -c 0 env OMP_NUM_THREADS=1 python -m benchmarks.store.bench_store [--exams 4] [--image MAMMOGRAM.dcm ...]
    env OMP_NUM_THREADS=1 python -m benchmarks.store.bench_store --loaders        # G7, G8: needs two cores

Bytes are compared with the source's pixels (rows x columns x 2); bytes and random reads with the same arrays, canvas and all,
as PNG (OpenCV's default level). The PNG loader is the released recipe's, on the crops: read, flip, window with random shift and
size, float32, standardise (``released_recipe``). Ours is training's: "uint16" are the stored pixels of windows with the same
random shift and size, as a GPU is given them, which resizes and standardises; "float32" does that on this CPU too.
Prints medians of the rounds; ``--json FILE`` keeps the numbers for ``mammo plan``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pandas as pd
import torch
from numcodecs.blosc import Blosc
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from benchmarks.ingest.phantom_dicoms import SHAPE_PX, write_image, write_phantom_dicoms
from benchmarks.ingest.released_recipe import window_from_png
from benchmarks.ingest.serial_ingest import ingest_serially, make_config
from gmic_model.learning.exam_loader import ExamViews, batches_of, loaded, network_batch, stored_batches
from schemas.config.ingest import PreprocessConfig
from schemas.config.training import StoreReader
from schemas.exam import Laterality
from tasks.adapters.allocator import keep_freed_memory
from tasks.adapters.dicom.dicom_file import read_pixels
from tasks.adapters.store.exam_store import ExamStore, open_store, read_row
from tasks.adapters.store.manifest import read_manifest
from tasks.adapters.store.shard_file import COMPRESSION_LEVEL, COMPRESSOR
from tasks.adapters.store.views import StoredViews, stored_views

READERS = (StoreReader.ZARR, StoreReader.TENSORSTORE)
READ_GOALS = {StoreReader.ZARR: 0.45, StoreReader.TENSORSTORE: 0.75}
LOADER_GOALS = {StoreReader.ZARR: "2.5", StoreReader.TENSORSTORE: "3.5, 8 as G8"}
CPU = torch.device("cpu")
BATCH = 8
MEMORY = Path("/dev/shm")  # noqa: S108  # a tmpfs, where the working folder gets a name of its own


@dataclass(frozen=True)
class PngWindows(Dataset[torch.Tensor]):
    """The released loader: float32 windows from PNG crops stored as they were, not flipped."""

    crops: tuple[tuple[Path, Laterality, tuple[int, int]], ...]
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> torch.Tensor:
        path, laterality, center_px = self.crops[index % len(self.crops)]
        generator = np.random.default_rng(index)
        return torch.from_numpy(window_from_png(path, laterality, center_px, jitter=generator))


def measure_size(store: ExamStore, png_dir: Path) -> dict[str, float]:
    """G5: bytes and files an image."""
    manifest = read_manifest(store)
    files = [path for path in (store.folder / "pixels.zarr").rglob("*") if path.is_file()]
    stored = sum(path.stat().st_size for path in files)
    raw = int((2 * manifest["source_rows_px"] * manifest["source_columns_px"]).sum())
    canvas = 2 * len(manifest) * store.canvas_px[0] * store.canvas_px[1]
    png = sum(path.stat().st_size for path in png_dir.iterdir())
    shards = sum(path.parent.name == "0" for path in files)
    print(
        f"{len(manifest)} images: {stored / 1e6 / len(manifest):.2f} MB an image, {shards / len(manifest):.3f} shards an image"
    )
    print(
        f"bytes / source pixels {stored / raw:.3f} goal 0.30; / canvas {stored / canvas:.3f}; / PNG {stored / png:.3f} goal 1.0"
    )
    return {"stored_mb": stored / 1e6 / len(manifest), "files": shards / len(manifest), **_codec_sizes(store, manifest)}


def measure_reads(store: ExamStore, folder: Path, png_dir: Path, rounds: int) -> dict[str, float]:
    """G6: random rows, one at a time."""
    manifest = read_manifest(store)
    size_by_row = {
        int(row): (int(rows), int(columns))
        for row, rows, columns in manifest[["row", "stored_rows_px", "stored_columns_px"]].to_numpy(np.int64)
    }
    codec, blosc_dir = Blosc(COMPRESSOR, COMPRESSION_LEVEL, Blosc.BITSHUFFLE), folder / "blosc"
    blosc_dir.mkdir()
    for row in size_by_row:
        (blosc_dir / str(row)).write_bytes(codec.encode(read_row(store, row)))
    order = np.random.default_rng(0).permutation(list(size_by_row))
    ways: dict[str, Callable[[int], object]] = {
        "blosc": lambda row: np.frombuffer(codec.decode((blosc_dir / str(row)).read_bytes()), np.uint16),
        **{reader.value: partial(_read_own, store, size_by_row, reader) for reader in READERS},
        "png": lambda row: cv2.imread(str(png_dir / f"{row}.png"), cv2.IMREAD_UNCHANGED),
    }
    wall_ms = _medians(
        {name: lambda read=read: [read(int(row)) for row in order] for name, read in ways.items()}, rounds, len(order)
    )
    for reader in READERS:
        own = wall_ms[reader.value]
        print(
            f"random read, {reader.value:11s} {own:6.1f} ms; of a blosc file's speed {wall_ms['blosc'] / own:.2f} goal "
            f"{READ_GOALS[reader]}; faster than PNG {wall_ms['png'] / own:.1f} goal 5"
        )
    return {f"read_{name}_ms": value for name, value in wall_ms.items()}


def measure_loading(stored: dict[StoreReader, StoredViews], png: PngWindows, rounds: int) -> dict[str, float]:
    """One thread, no batches: what an image costs on one core; "uint16" is what a GPU is given, "float32" the whole input."""
    images = len(png.crops)
    ways: dict[str, Callable[[int], object]] = {"png float32": png.__getitem__}
    for reader in READERS:
        views = _exam_views(stored[reader], images)
        ways[f"{reader.value} uint16"] = views.__getitem__
        ways[f"{reader.value} float32"] = lambda index, views=views: network_batch(views[index], CPU)
    wall_ms = _medians(
        {name: lambda read=read: [read(index) for index in range(images)] for name, read in ways.items()}, rounds, images
    )
    for name, value in wall_ms.items():
        print(f"window and jitter in one thread, {name:20s} {value:6.1f} ms; {wall_ms['png float32'] / value:.2f} x PNG")
    return {f"load {name} ms": value for name, value in wall_ms.items()}


def measure_loaders(stored: dict[StoreReader, StoredViews], png: PngWindows, images: int, rounds: int) -> dict[str, float]:
    """G7 and G8: the PNG loader's two processes, and the two threads of ours, with and without the inputs made on this CPU."""
    png = replace(png, length=images)
    sources: dict[str, Callable[[], Iterator[object]]] = {"png processes": lambda: iter(_png_loader(png))}
    for reader in READERS:
        views = _exam_views(stored[reader], images)
        sources[f"{reader.value} uint16"] = partial(stored_batches, views, batches_of(images, BATCH), threads=2, ahead=2)
        sources[f"{reader.value} float32"] = partial(loaded, views, batches_of(images, BATCH), CPU, threads=2, ahead=2)
    rates: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, source in sources.items():
            batches = source()
            next(batches)  # processes have started and imported
            start, later = time.perf_counter(), sum(1 for _ in batches)
            rates.setdefault(name, []).append(BATCH * later / (time.perf_counter() - start))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    goals = {f"{reader.value} uint16": goal for reader, goal in LOADER_GOALS.items()}
    for name, rate in medians.items():
        goal = f"; goal {goals[name]}" if name in goals else ""
        print(f"loader, batches of {BATCH}, {name:20s} {rate:6.1f} images/s; {rate / medians['png processes']:.2f} x PNG{goal}")
    return medians


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exams", type=int, default=4, help="4 images each")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shape", default="x".join(map(str, SHAPE_PX)), help="rows x columns of the phantoms")
    parser.add_argument("--image", type=Path, nargs="+", help="take these files' pixels instead of phantoms; left CC views")
    parser.add_argument("--loaders", action="store_true", help="G7 and G8 only")
    parser.add_argument("--images", type=int, default=96, help="with --loaders: images a round")
    parser.add_argument("--json", type=Path, help="numbers for mammo plan are added here")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    keep_freed_memory()  # as training does; the PNG loader's processes are the release's, which does not
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        folder = Path(name)
        store = _make_store(folder, options)
        png_dir, png = _write_pngs(store, folder / "png"), _write_crops(store, folder / "crops")
        manifest = read_manifest(store)
        views = {reader: stored_views(store, manifest, (2944, 1920), reader=reader) for reader in READERS}
        for row in manifest["row"]:
            np.testing.assert_array_equal(*(views[reader](int(row)).pixels_HW for reader in READERS))
        if options.loaders:
            numbers: dict[str, Any] = {"loaders": measure_loaders(views, png, options.images, options.rounds)}
        else:
            numbers = {
                "store": {
                    **measure_size(store, png_dir),
                    **measure_reads(store, folder, png_dir, options.rounds),
                    **measure_loading(views, png, options.rounds),
                }
            }
    if options.json:
        known = json.loads(options.json.read_text()) if options.json.exists() else {}
        options.json.write_text(json.dumps({**known, **numbers}, indent=1))


# ---------------------------------------------------------------------------------------------------------------------


def _codec_sizes(store: ExamStore, manifest: pd.DataFrame) -> dict[str, float]:
    """Megabytes an image of other codecs that every zarr v3 reader has, and of PNG and JPEG-LS for comparison."""
    crops = [read_row(store, int(row)) for row in manifest["row"][:8]]
    codecs: dict[str, Callable[[NDArray[Any]], int]] = {
        "lz4 bitshuffle": lambda crop_HW: len(Blosc(COMPRESSOR, COMPRESSION_LEVEL, Blosc.BITSHUFFLE).encode(crop_HW)),
        "zstd-3 bitshuffle": lambda crop_HW: len(Blosc("zstd", 3, Blosc.BITSHUFFLE).encode(crop_HW)),
        "zstd-3 shuffle": lambda crop_HW: len(Blosc("zstd", 3, Blosc.SHUFFLE).encode(crop_HW)),
        "JPEG-LS": lambda crop_HW: len(imagecodecs.jpegls_encode(crop_HW)),
    }
    sizes = {}
    for name, encoded_bytes in codecs.items():
        start = time.perf_counter()
        sizes[f"{name} MB"] = sum(map(encoded_bytes, crops)) / 1e6 / len(crops)
        print(f"{name:18s} {sizes[f'{name} MB']:6.2f} MB, {1e3 * (time.perf_counter() - start) / len(crops):6.1f} ms an image")
    return sizes


def _make_store(folder: Path, options: argparse.Namespace) -> ExamStore:
    source_dir = folder / "native"
    if options.image:
        for number, path in enumerate(options.image):
            write_image(folder, read_pixels(path), str(number), syntaxes=("native",), number=number)
    else:
        rows, columns = map(int, options.shape.split("x"))
        write_phantom_dicoms(folder, exams=options.exams, shape_px=(rows, columns), syntaxes=("native",))
    ingest_serially(make_config(folder / "workspace", source_dir))
    return open_store(folder / "workspace" / "exam_store")


def _write_pngs(store: ExamStore, png_dir: Path) -> Path:
    """The stored arrays as PNG files."""
    png_dir.mkdir()
    for row in read_manifest(store)["row"]:
        cv2.imwrite(str(png_dir / f"{row}.png"), read_row(store, int(row)))
    return png_dir


def _write_crops(store: ExamStore, png_dir: Path) -> PngWindows:
    """The crops as PNG files, right breasts flipped back to how the recipe stores them."""
    png_dir.mkdir()
    crops = []
    for line in read_manifest(store).to_dict("records"):
        crop_HW = read_row(store, line["row"], size_px=(line["stored_rows_px"], line["stored_columns_px"]))
        path = png_dir / f"{line['row']}.png"
        cv2.imwrite(str(path), crop_HW[:, ::-1] if line["is_flipped"] else crop_HW)
        center_px = (line["best_center_row_px"], line["best_center_column_px"])
        crops.append((path, Laterality(line["laterality"]), center_px))
    return PngWindows(tuple(crops), len(crops))


def _read_own(store: ExamStore, size_by_row: dict[int, tuple[int, int]], reader: StoreReader, row: int) -> NDArray[Any]:
    return read_row(store, row, size_px=size_by_row[row], reader=reader)


def _png_loader(data: Dataset[torch.Tensor]) -> DataLoader[torch.Tensor]:
    return DataLoader(data, batch_size=BATCH, num_workers=2, multiprocessing_context="forkserver", drop_last=True)


def _exam_views(stored: StoredViews, images: int) -> ExamViews:
    """Training's own reader with its jitter; the store's rows again and again until there are enough."""
    rows = list(itertools.islice(itertools.cycle(stored.views), images))
    return ExamViews(
        rows_of_exam=[(row,) for row in rows],
        label_by_row=dict.fromkeys(rows, (0, 0)),
        read_view=stored,
        jitter=PreprocessConfig(),
    )


def _medians(ways: dict[str, Callable[[], object]], rounds: int, images: int) -> dict[str, float]:
    """Median wall milliseconds an image, in turns; the first round warms up. CPU times are printed beside them."""
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for round_number, (name, way) in itertools.product(range(rounds + 1), ways.items()):
        before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        way()
        if round_number:
            after = resource.getrusage(resource.RUSAGE_SELF)
            wall[name].append(1e3 * (time.perf_counter() - start) / images)
            cpu[name].append(1e3 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / images)
    print("cpu ms an image: " + ", ".join(f"{name} {statistics.median(values):.1f}" for name, values in cpu.items()))
    return {name: statistics.median(values) for name, values in wall.items()}


if __name__ == "__main__":
    main()
