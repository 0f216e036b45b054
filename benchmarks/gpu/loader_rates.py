"""Images a second from the store to the device, by reader and threads, in steps of 16 images; a store of phantom_store.py.

    python -m benchmarks.gpu.loader_rates --workspace W [--device cpu --threads 1 2 --span-s 0.5]

For each: the process's CPU time an image; that of its busiest thread, which bounds what one process can bring however many
threads it has (where there are fewer cores than threads, a reader's own pool is as wide as the cores); and that of all loader
threads of Python together, which take turns, without the reader's own threads. A line of JSON each. With ``--device cpu`` what
the loader's threads do for a GPU is measured, and no inputs are made of it: that is the GPU's work.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from benchmarks.network.model_table import Record
from gmic_model.learning.exam_loader import ExamViews, loaded, stored_batches
from schemas.config.ingest import PreprocessConfig
from schemas.config.training import StoreReader
from schemas.errors import MammoError
from tasks.adapters.allocator import keep_freed_memory
from tasks.adapters.store.exam_store import ExamStore, open_store
from tasks.adapters.store.manifest import read_manifest
from tasks.adapters.store.store_settings import read_settings
from tasks.adapters.store.views import stored_views
from tasks.adapters.workspace import Workspace

EXAMS_A_STEP = 4
READERS = (StoreReader.TENSORSTORE, StoreReader.ZARR)


def main(given: Sequence[str] | None = None) -> None:
    """Measures each reader with each number of threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 4, 8, 16])
    parser.add_argument("--span-s", type=float, default=3.0)
    asked = parser.parse_args(given)
    keep_freed_memory()
    store, manifest, preprocess = opened(asked.workspace)
    for reader in READERS:
        for threads in asked.threads:
            views = exam_views(store, manifest, preprocess, reader)
            try:
                measured = rate(views, torch.device(asked.device), threads, asked.span_s)
            except MammoError as refused:
                measured = {"end": str(refused)[:200]}
            print(json.dumps({"reader": reader.value, "threads": threads, **measured}), flush=True)


def opened(workspace: Path) -> tuple[ExamStore, pd.DataFrame, PreprocessConfig]:
    """A workspace's store with its lines and settings."""
    store = open_store(Workspace(workspace.resolve()).store_dir)
    return store, read_manifest(store), read_settings(store.files).preprocess


def exam_views(store: ExamStore, lines: pd.DataFrame, preprocess: PreprocessConfig, reader: StoreReader) -> ExamViews:
    """The exams of some lines, with training's jitter and their labels."""
    rows_of_exam = [tuple(int(row) for row in rows) for _, rows in lines.groupby("exam_id")["row"]]
    labels = zip(lines["row"].tolist(), lines["benign"].tolist(), lines["malignant"].tolist(), strict=True)
    return ExamViews(
        rows_of_exam=rows_of_exam,
        label_by_row={int(row): (int(benign), int(malignant)) for row, benign, malignant in labels},
        read_view=stored_views(store, lines, preprocess.window_px, reader=reader),
        jitter=preprocess,
    )


def endless(exams: int, a_step: int = EXAMS_A_STEP, steps: int = 4000) -> list[Sequence[int]]:
    """More steps than any span has time for, all exams in turn."""
    return [[(a_step * step + place) % exams for place in range(a_step)] for step in range(steps)]


def rate(views: ExamViews, device: torch.device, threads: int, span_s: float) -> Record:
    """After a first step, what a span of time brings."""
    images, started_s, cpu_s, before = 0, 0.0, 0.0, dict[int, float]()
    plan = endless(len(views))
    on_gpu = device.type == "cuda"
    read = (
        loaded(views, plan, device, threads=threads, ahead=4)
        if on_gpu
        else stored_batches(views, plan, threads=threads, ahead=4)
    )
    for batch in read:
        if not started_s:
            started_s, cpu_s, before = time.perf_counter(), time.process_time(), thread_times()
            continue
        images += len(batch.row_N)
        if time.perf_counter() - started_s > span_s:
            break
    if on_gpu:
        torch.cuda.synchronize()
    took_s, cpu_s = time.perf_counter() - started_s, time.process_time() - cpu_s
    spent_s = {thread: spent - before.get(thread, 0.0) for thread, spent in thread_times().items()}
    python_s = sum(spent_s.get(thread.native_id or 0, 0.0) for thread in threading.enumerate())
    return {
        "images_per_s": images / took_s,
        "cpu_ms_an_image": 1000 * cpu_s / images,
        "busiest_thread_ms_an_image": 1000 * max(spent_s.values(), default=0.0) / images,
        "python_threads_ms_an_image": 1000 * python_s / images,
    }


def thread_times() -> dict[int, float]:
    """CPU seconds of each thread of this process that is alive, by its number."""
    found = {}
    ticks_s = 1.0 / 100  # of the kernel's clock in /proc, on every Linux that this runs on
    for task in Path("/proc/self/task").iterdir():
        try:
            fields = (task / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended just now
            continue
        if int(task.name) != threading.main_thread().native_id:
            found[int(task.name)] = (int(fields[11]) + int(fields[12])) * ticks_s
    return found


if __name__ == "__main__":
    main()
