"""The plan for 1,000,000 images from this machine's measurements: docs/explanation/a-million-images.md quotes it.

    python -m benchmarks.ingest.million_plan numbers.json [--images 1000000]

``numbers.json`` is filled by ``bench_ingest.py --syntaxes all``, ``bench_ingest.py --dask``, ``bench_store.py`` and
``bench_growth.py`` (twice, once with ``--scheduler``), each with ``--json numbers.json``. More than two cores were never
measured: those columns are extrapolated with the parallel efficiency of one to two workers, and say so.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

CORES = (16, 64, 512)
ROWS_PER_SHARD = 16
NETWORK_BYTES_PER_S = 1.2e9  # 10 gigabit Ethernet


def print_syntaxes(numbers: dict[str, Any], images: int) -> None:
    """Core-hours and wall time by transfer syntax."""
    efficiency = numbers["dask"]["two_workers"] / 2
    print(f"{images:,} images; columns with cores are extrapolated at {100 * efficiency:.0f} % parallel efficiency\n")
    print(
        "| syntax | ms an image | core-hours | of these decoding | "
        + " | ".join(f"{n} cores" for n in CORES)
        + " | in + out at 64 |"
    )
    print("|---|---|---|---|" + "---|" * (len(CORES) + 1))
    stored_mb = numbers["store"]["stored_mb"]
    for syntax, took in numbers.items():
        if not isinstance(took, dict) or "ingest_ms" not in took:
            continue
        hours, decoding = (took[name] * images / 3.6e6 for name in ("ingest_ms", "decode_ms"))
        walls = " | ".join(_duration(hours / cores / efficiency) for cores in CORES)
        per_s = 64 * efficiency * 1e3 / took["ingest_ms"]
        flow = f"{per_s * took['file_mb'] / 1e3:.1f} + {per_s * stored_mb / 1e3:.1f} GB/s"
        print(f"| {syntax} | {took['ingest_ms']:.0f} | {hours:.1f} | {decoding:.1f} | {walls} | {flow} |")


def print_storage(numbers: dict[str, Any], images: int) -> None:
    """Terabytes, files, ledger, memory."""
    store, growth = numbers["store"], numbers["growth"]
    print("\n| codec | TB |\n|---|---|")
    for name in (name for name in store if name.endswith(" MB")):
        print(f"| {name[:-3]} | {store[name] * images / 1e6:.2f} |")
    shards = -(-images // ROWS_PER_SHARD)
    rows = {
        "shard files of the pixels (objects in a bucket)": f"{shards:,}",
        "Dask futures, a few per worker at a time": f"{shards:,}",
        "Prefect tasks of 64 shards": f"{-(-shards // 64):,}",
        "ledger": f"{growth['ledger_bytes'] * images / 1e9:.2f} GB",
        "manifest": f"{growth['manifest_bytes'] * images / 1e9:.2f} GB",
        "memory of scan, plan and publish": f"{growth['memory_bytes'] * images / 1e9:.1f} GB",
        "memory of the Dask scheduler for the whole run": f"{numbers['scheduler']['scheduler_bytes'] * images / 1e9:.2f} GB",
        "memory of a worker with its gate child": f"{numbers['dask']['worker_mib'] / 1024:.2f} GiB",
    }
    print("\n| what | how much |\n|---|---|")
    for what, amount in rows.items():
        print(f"| {what} | {amount} |")


def print_limits(numbers: dict[str, Any]) -> None:
    """What saturates first: cores at which each shared thing is full."""
    efficiency, stored_mb = numbers["dask"]["two_workers"] / 2, numbers["store"]["stored_mb"]
    shards_per_s = 1e3 / numbers["scheduler"]["scheduler_ms"]
    print("\n| syntax | cores that fill 10 GbE reading | writing | cores that fill one scheduler |\n|---|---|---|---|")
    for syntax, took in numbers.items():
        if isinstance(took, dict) and "ingest_ms" in took:
            per_core = efficiency * 1e3 / took["ingest_ms"]  # images a second
            reading, writing = (NETWORK_BYTES_PER_S / 1e6 / megabytes / per_core for megabytes in (took["file_mb"], stored_mb))
            print(f"| {syntax} | {reading:.0f} | {writing:.0f} | {shards_per_s * ROWS_PER_SHARD / per_core:.0f} |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("numbers", type=Path)
    parser.add_argument("--images", type=int, default=1_000_000)
    options = parser.parse_args()
    numbers = json.loads(options.numbers.read_text())
    print_syntaxes(numbers, options.images)
    print_storage(numbers, options.images)
    print_limits(numbers)


def _duration(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1.0 else f"{60 * hours:.0f} min" if hours >= 1 / 6 else f"{60 * hours:.1f} min"


if __name__ == "__main__":
    main()
