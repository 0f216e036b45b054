"""The training loader: CPU time an image from store to network input, cores that feed one GPU, and what a larger store costs.

The store is written here: breasts of noise that fill 60 % of the width. One thread reads, as each of the loader's does.
Growth: the same number of images in random order from a store of 1x, 4x and 16x rows.

    taskset -c 1 python -m benchmarks.store.bench_loader [--full-images 24] [--growth-images 64]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from gmic_model.learning.exam_loader import ExamViews, network_batch
from gmic_model.preprocess import preprocess_version
from schemas.config.ingest import PreprocessConfig
from schemas.config.training import StoreReader
from schemas.layout import MANIFEST_COLUMNS
from tasks.adapters.allocator import keep_freed_memory
from tasks.adapters.store.exam_store import StoredImage, create_store, reserve_rows, write_shard
from tasks.adapters.store.manifest import publish, read_manifest
from tasks.adapters.store.views import StoredViews, stored_views

ROWS_PER_SHARD = 16
CPU = torch.device("cpu")
ASSUMED_IMAGES_PER_S = (25, 60)  # of one GPU; not measured: no GPU was at hand


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A store with its preprocessing and manifest."""

    preprocess: PreprocessConfig
    manifest: pd.DataFrame
    views: StoredViews


def main() -> None:
    """Measures and prints two tables in Markdown."""
    keep_freed_memory()  # as training does
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full-images", type=int, default=24)
    parser.add_argument("--growth-images", type=int, default=64)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        full_size(Path(folder), asked.full_images)
        growth(Path(folder), asked.growth_images)


def full_size(folder: Path, images: int) -> None:
    """2944 x 1920 pixels with jitter, by reader."""
    print("| 2944 x 1920, with jitter | CPU ms an image | images/s a core | cores for a GPU at 25 / 60 images/s (assumed) |")
    print("|---|---|---|---|")
    stored = make_store(folder / "full", PreprocessConfig(), images)
    for reader in StoreReader:
        views = exam_views(stored, range(images), reader)
        ways: dict[str, Callable[[int], object]] = {
            "stored pixels, as a GPU is given them": views.__getitem__,
            "inputs made on the CPU": lambda item, views=views: network_batch(views[item], CPU),
        }
        for what, read in ways.items():
            cpu_s = least_cpu_s(read, images)
            cores = " / ".join(f"{rate * cpu_s:.2f}" for rate in ASSUMED_IMAGES_PER_S)
            print(f"| {reader.value}: {what} | {1000 * cpu_s:.0f} | {1 / cpu_s:.1f} | {cores} |")
    print()


def growth(folder: Path, images: int) -> None:
    """The same work from larger stores: an image's time should not know how many others there are."""
    print("| rows in the store | CPU ms an image | to 1x |")
    print("|---|---|---|")
    preprocess = PreprocessConfig(window_px=(736, 480), jitter_shift_px=25, jitter_size_px=25)
    first_s = 0.0
    for factor in (1, 4, 16):
        rows = images * factor
        stored = make_store(folder / f"growth-{factor}", preprocess, rows)
        chosen = np.random.default_rng(0).permutation(rows)[:images]
        cpu_s = least_cpu_s(exam_views(stored, chosen.tolist(), StoreReader.ZARR).__getitem__, images)
        first_s = first_s or cpu_s
        print(f"| {rows} ({factor}x) | {1000 * cpu_s:.2f} | {cpu_s / first_s:.2f} |")


def least_cpu_s(read: Callable[[int], object], images: int, rounds: int = 3) -> float:
    """Least process time an image over a few rounds."""
    times = []
    for _ in range(rounds):
        started = time.process_time()
        for item in range(images):
            read(item)
        times.append((time.process_time() - started) / images)
    return min(times)


def exam_views(stored: Stored, rows: Sequence[int], reader: StoreReader) -> ExamViews:
    """One item per view, with training's jitter."""
    return ExamViews(
        rows_of_exam=[(row,) for row in rows],
        label_by_row=dict.fromkeys(rows, (0, 0)),
        read_view=stored_views(stored.views.store, stored.manifest, stored.preprocess.window_px, reader=reader),
        jitter=stored.preprocess,
    )


def make_store(folder: Path, preprocess: PreprocessConfig, rows: int) -> Stored:
    """Crops of the window's height and 60 % of its width."""
    store = create_store(
        folder,
        preprocess=preprocess,
        preprocess_version=preprocess_version(preprocess),
        rows_per_shard=ROWS_PER_SHARD,
        key_id="bench",
    )
    reserve_rows(store, rows)
    height, width = preprocess.window_px[0], int(0.6 * preprocess.window_px[1])
    generator = np.random.default_rng(0)
    crop_HW = generator.integers(200, 3200, (height, width), dtype=np.uint16)
    for shard in range(-(-rows // ROWS_PER_SHARD)):
        there = range(shard * ROWS_PER_SHARD, min((shard + 1) * ROWS_PER_SHARD, rows))
        write_shard(store, shard, (StoredImage(row=row, pixels_HW=np.roll(crop_HW, row, axis=0)) for row in there))
    publish(store, [manifest_line(row, (height, width)) for row in range(rows)], [])
    manifest = read_manifest(store)
    return Stored(preprocess=preprocess, manifest=manifest, views=stored_views(store, manifest, preprocess.window_px))


def manifest_line(row: int, crop_px: tuple[int, int]) -> dict[str, object]:
    """A line that says where the crop lies; the rest is of no matter here."""
    empty: dict[str, object] = {"string": "", "bool": False, "int64": 1, "float64": 0.5}
    return {column.name: empty.get(column.dtype) for column in MANIFEST_COLUMNS} | {
        "row": row,
        "image_id": f"I{row}",
        "laterality": "L",
        "view_position": "CC" if row % 2 else "MLO",
        "crop_top_px": 0,
        "crop_left_px": 0,
        "crop_bottom_px": crop_px[0],
        "crop_right_px": crop_px[1],
        "source_rows_px": crop_px[0],
        "source_columns_px": crop_px[1],
        "scale": 1.0,
        "best_center_row_px": crop_px[0] // 2,
        "best_center_column_px": crop_px[1] // 2,
        "stored_rows_px": crop_px[0],
        "stored_columns_px": crop_px[1],
    }


if __name__ == "__main__":
    main()
