"""An exam store in a bucket beside one on the local disk: ingest, and the training loader with its cache cold and warm.

The object store is moto's server on loopback, a process of its own, whose CPU counts for nobody here but takes its share of the
machine. Both stores take the same phantoms, in turn, in one run; a ratio is a rate in the bucket over that on the disk.

    PYTHONPATH=tests/support python -m benchmarks.store.bench_objects [--exams 4] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from flows.ingest import ingest_steps
from mammo_tests.object_store import BUCKET, ENVIRONMENT, s3_server
from mammo_tests.plain_tasks import PlainSubmit
from schemas.config.ingest import PhantomConfig
from schemas.config.run import RunConfig
from schemas.config.training import StoreReader
from tasks.adapters.allocator import keep_freed_memory
from tasks.adapters.datasets.phantom_cohort import DICOM_DIR, write_cohort
from tasks.adapters.store.manifest import read_manifest
from tasks.adapters.store.objects.bucket_store import store_of_run
from tasks.adapters.store.views import StoredViews, stored_views


def main() -> None:
    """Measures and prints a table in Markdown."""
    keep_freed_memory()  # as training does
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exams", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, s3_server() as endpoint:
        os.environ.update(ENVIRONMENT, AWS_ENDPOINT_URL=endpoint)
        folder = Path(name)
        write_cohort(PhantomConfig(output_dir=folder / "cohort", patients=asked.exams, exams_per_patient=(1, 1)))
        took_s: dict[str, list[float]] = {"disk": [], "bucket": []}
        for turn in range(asked.rounds):
            for kind in took_s:
                shutil.rmtree(folder / kind, ignore_errors=True)
                config = run_config(folder, kind, f"s3://{BUCKET}/{turn}" if kind == "bucket" else "", asked.exams)
                began_s = time.perf_counter()
                report = ingest_steps(config, submit=PlainSubmit())
                took_s[kind].append(time.perf_counter() - began_s)
                assert report.images_published == 4 * asked.exams
        images = 4 * asked.exams
        print("| 3328 x 2560, wall, median | disk | bucket | bucket / disk |")
        print("|---|---|---|---|")
        print_row(f"ingest, images/s, of {images}", *(images / median(took_s[kind]) for kind in ("disk", "bucket")))
        loaders(folder, asked.exams, asked.rounds)


def loaders(folder: Path, exams: int, rounds: int) -> None:
    """The stored views in the order of their rows, by one thread, as each of the loader's reads them."""
    disk = views_of(run_config(folder, "disk", "", exams))
    bucket_config = run_config(folder, "bucket", f"s3://{BUCKET}/{rounds - 1}", exams)
    cold_s = read_s(bucket := views_of(bucket_config))
    took_s: dict[str, list[float]] = {"disk": [], "warm": []}
    for _ in range(2 * rounds):
        took_s["disk"].append(read_s(disk))
        took_s["warm"].append(read_s(bucket))
    images = len(disk.views)
    print_row("stored views/s, cache cold", images / median(took_s["disk"]), images / cold_s)
    print_row("stored views/s, cache warm", *(images / median(took_s[kind]) for kind in ("disk", "warm")))


def views_of(config: RunConfig) -> StoredViews:
    """A reader of all that is published."""
    store = store_of_run(config)
    return stored_views(store, read_manifest(store), config.preprocess.window_px, reader=StoreReader.AUTO)


def read_s(views: StoredViews) -> float:
    """Seconds for every view once, by a thread that is not the main one: as in the loader, whose readers decode alone."""

    def read() -> float:
        began_s = time.perf_counter()
        for row in sorted(views.views):
            views(row)
        return time.perf_counter() - began_s

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(read).result()


def run_config(folder: Path, kind: str, url: str, exams: int) -> RunConfig:
    """A run whose store lies on the disk, or in the bucket; a file after the other, in this process's thread."""
    return RunConfig.model_validate(
        {
            "workspace_dir": folder / kind,
            "ingest": {
                "source_dir": folder / "cohort" / DICOM_DIR,
                "store": url,
                "profile": "phantom",
                "settle_s": 0,
                "dask": {"kind": "local", "files_without_workers": 4 * exams},
            },
        }
    )


def print_row(what: str, disk: float, bucket: float) -> None:
    """A line of the table."""
    print(f"| {what} | {disk:.2f} | {bucket:.2f} | {bucket / disk:.2f} |")


if __name__ == "__main__":
    main()
