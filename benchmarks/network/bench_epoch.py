"""A whole epoch as the store grows 1x, 4x and 16x: training, tuning and checkpoint. An image's time should not know the others.

    OMP_NUM_THREADS=1 taskset -c 1 python -m benchmarks.network.bench_epoch [--exams 16] [--epochs 2]

Exams of four views of 192 x 128 pixels, one in four tunes, half of the others have a finding: an epoch shows all of them.
Images are small, so that what grows with their number shows beside the network. "A further image" leaves out what an epoch
costs however small it is (checkpoint, first step). One process, one thread; the least of the epochs; images/s by the clock.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.store.bench_loader import manifest_line
from gmic_model.learning.processes import ALONE
from gmic_model.preprocess import preprocess_version
from schemas.config.run import RunConfig
from schemas.exam import Split
from schemas.reports.data import SplitCount, SplitReport
from tasks.adapters.store.exam_store import StoredImage, create_store, reserve_rows, write_shard
from tasks.adapters.store.manifest import publish, read_manifest
from tasks.adapters.store.tables.line_texts import data_version
from tasks.adapters.training.process_main import serve
from tasks.adapters.training.request import Purpose, TrainingRequest, said_in
from tasks.adapters.workspace import Workspace

WINDOW_PX = (192, 128)
VIEWS = (("L", "CC"), ("L", "MLO"), ("R", "CC"), ("R", "MLO"))
EXAMS_PER_SHARD = 4
ALLOWED_GROWTH = 0.05


class Clock(io.TextIOBase):
    """Takes what a training says; notes this process's CPU time at each epoch's end."""

    def __init__(self) -> None:
        self.cpu_s: list[float] = []
        self.wall_s: list[float] = []
        self.records: list[dict[str, float]] = []

    def write(self, text: str) -> int:
        """Notes ``start`` and ``epoch`` messages."""
        message = said_in(text)
        if message is not None:
            if message["kind"] in ("start", "epoch"):
                self.cpu_s.append(time.process_time())
                self.wall_s.append(time.perf_counter())
            if message["kind"] == "epoch":
                self.records.append(message["record"])
        return len(text)


def main() -> None:
    """Measures and prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exams", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--reader", default="zarr")
    asked = parser.parse_args()
    print("| exams in the store | images trained + tuned | epoch, CPU s | CPU ms an image | a further image | images/s | MiB |")
    print("|---|---|---|---|---|---|---|")
    seen: list[tuple[int, float]] = []
    further_ms: list[float] = []
    for factor in (1, 4, 16):
        exams = asked.exams * factor
        with tempfile.TemporaryDirectory() as folder:
            config = make_config(Path(folder), asked.epochs, asked.reader)
            clock = train(config, make_store(config, exams))
        trained, tuned = 4 * exams - 4 * (exams // 4), 4 * (exams // 4)
        images, epoch_s = trained + tuned, float(min(np.diff(clock.cpu_s)))
        if seen:
            further_ms.append(1000 * (epoch_s - seen[-1][1]) / (images - seen[-1][0]))
        seen.append((images, epoch_s))
        further = f"{further_ms[-1]:.1f}" if further_ms else ""
        rate, memory_mib = images / min(np.diff(clock.wall_s)), clock.records[-1]["memory_mib"]
        print(
            f"| {exams} ({factor}x) | {trained} + {tuned} | {epoch_s:.1f} | {1000 * epoch_s / images:.1f} | {further} "
            f"| {rate:.1f} | {memory_mib:.0f} |",
            flush=True,
        )
    growth = further_ms[1] / further_ms[0] - 1
    print(f"\na further image, 4x to 16x against 1x to 4x: {100 * growth:+.1f} %, goal within {100 * ALLOWED_GROWTH:.0f} %")


def train(config: RunConfig, splits: SplitReport) -> Clock:
    """Trains in this process."""
    request = TrainingRequest(
        purpose=Purpose.TRAIN,
        config=config,
        splits=splits,
        run_dir=config.workspace_dir / "train" / "run",
        identity=hashlib.sha256(config.train.identity().encode()).hexdigest(),
        about={"provenance": {}},
    )
    clock = Clock()
    with contextlib.redirect_stdout(clock):
        serve(request, ALONE)
    return clock


def make_config(workspace: Path, epochs: int, reader: str) -> RunConfig:
    """A GMIC of 3 x 2 saliency cells; everything else as shipped."""
    train = {"epochs": epochs, "num_threads": 1, "device": "cpu", "tracking": {"tensorboard": False}, "store_reader": reader}
    return RunConfig.model_validate(
        {
            "name": "bench",
            "workspace_dir": workspace,
            "ingest": {"source_dir": workspace},
            "preprocess": {"window_px": WINDOW_PX, "jitter_shift_px": 8, "jitter_size_px": 8},
            "model": {"image_size": WINDOW_PX, "patch_size": (32, 32), "K": 2, "top_t": 0.3, "local_dim": 8},
            "train": train,
        }
    )


def make_store(config: RunConfig, exams: int) -> SplitReport:
    """Noise; the first quarter of the exams tunes, every other exam has a malignant left breast."""
    store = create_store(
        Workspace(config.workspace_dir).store_dir,
        preprocess=config.preprocess,
        preprocess_version=preprocess_version(config.preprocess),
        rows_per_shard=4 * EXAMS_PER_SHARD,
        key_id="bench",
    )
    reserve_rows(store, 4 * exams)
    crop_HW = np.random.default_rng(0).integers(200, 3200, WINDOW_PX, dtype=np.uint16)
    for first in range(0, exams, EXAMS_PER_SHARD):
        rows = range(4 * first, 4 * min(first + EXAMS_PER_SHARD, exams))
        write_shard(store, first // EXAMS_PER_SHARD, (StoredImage(row=row, pixels_HW=np.roll(crop_HW, row)) for row in rows))
    lines = [
        manifest_line(4 * exam + view, WINDOW_PX)
        | {
            "exam_id": f"E{exam}",
            "patient_id": f"P{exam}",
            "laterality": laterality,
            "view_position": position,
            "benign": 0,
            "malignant": int(exam % 2 == 0 and laterality == "L"),
        }
        for exam in range(exams)
        for view, (laterality, position) in enumerate(VIEWS)
    ]
    publish(store, lines, [])
    path = config.workspace_dir / "splits.parquet"
    parts = [Split.TUNING.value if exam < exams // 4 else Split.TRAIN.value for exam in range(exams)]
    pd.DataFrame({"patient_id": [f"P{exam}" for exam in range(exams)], "split": parts}).to_parquet(path, index=False)
    count = SplitCount(patients=exams, exams=exams, images=4 * exams, benign_breasts=0, malignant_breasts=1)
    return SplitReport(
        splits_path=path, data_version=data_version(read_manifest(store)), counts=dict.fromkeys((s.value for s in Split), count)
    )


if __name__ == "__main__":
    main()
