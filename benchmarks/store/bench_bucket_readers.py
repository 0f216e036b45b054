"""Stored images read from a bucket by zarr's own two stores, fsspec's and obstore's, and by our reader: time, CPU, requests.

The object store is moto's server on loopback, a process of its own. Each reader reads every image once, the last row first,
with nothing kept beforehand, in turns; all must see the same. Requests are counted in a round of their own, on a wire between.
s3fs is no dependency of ours: `pip install s3fs` beside it.

    PYTHONPATH=tests/support python -m benchmarks.store.bench_bucket_readers [--exams 4] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import zarr
from obstore.store import S3Store
from zarr.abc.store import Store
from zarr.storage import FsspecStore, ObjectStore

from benchmarks.store.bench_objects import run_config
from flows.ingest import ingest_steps
from mammo_tests.object_store import BUCKET, ENVIRONMENT, s3_server, wire_to
from mammo_tests.plain_tasks import PlainSubmit
from schemas.config.ingest import PhantomConfig
from schemas.layout import PIXELS
from tasks.adapters.buckets.bucket import opened as opened_buckets
from tasks.adapters.datasets.phantom_cohort import write_cohort
from tasks.adapters.store.exam_store import ExamStore, read_row
from tasks.adapters.store.manifest import read_manifest
from tasks.adapters.store.objects.bucket_store import as_it_lies, store_of_run

Reader = Callable[[int], Any]


def main() -> None:
    """Measures and prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exams", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, s3_server() as server, wire_to(server) as wire:
        os.environ.update(ENVIRONMENT, AWS_ENDPOINT_URL=server)
        folder = Path(name)
        write_cohort(PhantomConfig(output_dir=folder / "cohort", patients=asked.exams, exams_per_patient=(1, 1)))
        config = run_config(folder, "bucket", f"s3://{BUCKET}/{PREFIX}", asked.exams)
        ingest_steps(config, submit=PlainSubmit())
        rows = sorted(read_manifest(store_of_run(config))["row"].tolist())[::-1]
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in READERS}
        for _ in range(asked.rounds):
            for name, opened in READERS.items():
                found[name].append(took(opened(store_of_run(config), server), rows))
        os.environ["AWS_ENDPOINT_URL"] = wire.endpoint
        opened_buckets.cache_clear()
        print(f"| {len(rows)} images, median of {asked.rounds} | ms an image | CPU ms an image | requests an image |")
        print("|---|---|---|---|")
        for name, opened in READERS.items():
            before = len(wire.seen)
            took(opened(store_of_run(config), wire.endpoint), rows)
            requests = (len(wire.seen) - before) / len(rows)
            wall_s, cpu_s = (median(numbers) for numbers in zip(*found[name], strict=True))
            print(f"| {name} | {1e3 * wall_s / len(rows):.1f} | {1e3 * cpu_s / len(rows):.1f} | {requests:.2f} |")


def took(read: Reader, rows: list[int]) -> tuple[float, float]:
    """Seconds by the clock and of CPU for every image once; that all readers see the same, by a digest of the first call's."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    images = [np.asarray(read(row)) for row in rows]
    spent = time.perf_counter() - wall_s, time.process_time() - cpu_s
    SEEN.add(tuple(int(image.sum(dtype=np.int64)) for image in images))
    assert len(SEEN) == 1, "readers see different images"
    return spent


SEEN: set[tuple[int, ...]] = set()


def by_fsspec(store: ExamStore, endpoint: str) -> Reader:
    """Zarr's store on fsspec."""
    options = {
        "key": ENVIRONMENT["AWS_ACCESS_KEY_ID"], "secret": ENVIRONMENT["AWS_SECRET_ACCESS_KEY"],
        "endpoint_url": endpoint, "skip_instance_cache": True, "asynchronous": True,
    }  # fmt: skip
    return by_zarr(FsspecStore.from_url(f"s3://{BUCKET}/{PREFIX}/pixels.zarr", storage_options=options, read_only=True))


def by_obstore(store: ExamStore, endpoint: str) -> Reader:
    """Zarr's store on obstore."""
    client = S3Store(BUCKET, prefix=f"{PREFIX}/pixels.zarr", endpoint=endpoint, client_options={"allow_http": True})
    return by_zarr(ObjectStore(client, read_only=True))


def by_zarr(opened: Store) -> Reader:
    """The whole row, as zarr gives it."""
    pixels = zarr.open_group(opened, mode="r")[PIXELS]
    return lambda row: pixels[row]  # type: ignore[index,union-attr]


def ours(store: ExamStore, endpoint: str) -> Reader:
    """Our reader, which finds nothing that it kept and keeps no copy."""
    fresh = as_it_lies(store)
    return lambda row: read_row(fresh, row)


PREFIX: Final = "readers"
READERS: Final = {"zarr, fsspec (s3fs)": by_fsspec, "zarr, obstore": by_obstore, "ours, on obstore": ours}


if __name__ == "__main__":
    main()
