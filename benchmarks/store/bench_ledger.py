"""What the ledger takes of an ingest, an image: in SQLite and in PostgreSQL on loopback, in turns.

    python -m benchmarks.store.bench_ledger [--images 20000] [--turns 3] [--read 1000000]

Each turn makes an empty ledger and asks of it what ingest asks: what is settled (all files, twice), headers in jobs of 64, the
plan, and shards of 16 with lines as the manifest has them. Server and disk are as Debian sets them: each transaction is on the
disk before the next begins. CPU is this process's and, of PostgreSQL, the server's beside it. ``--read`` fills a ledger of so
many images in SQLite, copies it into PostgreSQL, and reads both: what is settled, and every line as publishing takes it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import NamedTuple
from uuid import uuid4

import pandas as pd
import psutil

from benchmarks.operations.bench_operations import postgresql
from benchmarks.store.bench_rows import manifest_of
from schemas.exam import Acquisition, ImageRecord, Laterality, Photometric, ViewPosition
from schemas.layout import MANIFEST_COLUMNS, Source
from tasks.adapters.databases.postgresql import NamedSchema
from tasks.adapters.gate.source_file import SourceFile
from tasks.adapters.inbox.ledger import Ledger
from tasks.adapters.inbox.lines import AcceptedFile, LedgerLine
from tasks.adapters.inbox.shared_ledger import copy_ledger

JOB, SHARD = 64, 16
_MADE_AT_ONCE, _ENTERED_AT_ONCE = 40_000, 4_000


class Taken(NamedTuple):
    """Seconds of a step: by the clock, of this process's CPU, of the server's."""

    wall_s: float
    own_s: float
    server_s: float


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--read", type=int, default=0, metavar="ROWS")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, postgresql() as url:
        address = url.replace("+asyncpg", "")
        files, lines = _images(manifest_of(asked.images))
        found: dict[str, list[dict[str, Taken]]] = {"SQLite": [], "PostgreSQL": []}
        for _ in range(asked.turns):
            for engine, told in found.items():
                told.append(_ingested(_place(Path(folder), engine, address), files, lines))
        print(f"\nms an image, of {asked.images:,}, the median of {asked.turns} turns: wall, own CPU, the server's CPU")
        for step in found["SQLite"][0]:
            print(
                f"{step:<28}" + "".join(f"  {engine} {_per_image(told, step, asked.images)}" for engine, told in found.items())
            )
        if asked.read:
            _read(Path(folder), address, asked.read)


def _place(folder: Path, engine: str, address: str) -> Path:
    path = folder / f"{uuid4().hex}.{'sqlite' if engine == 'SQLite' else 'json'}"
    if path.suffix == ".json":
        NamedSchema(address=address, schema=f"mammo_{uuid4().hex}").write(path)
    return path


def _images(lines_of: pd.DataFrame) -> tuple[list[AcceptedFile], list[LedgerLine]]:
    stored = [one.name for one in MANIFEST_COLUMNS if one.source in (Source.RECORD, Source.HEADER, Source.CROP)]
    manifest = lines_of[stored].astype(object)
    files, lines = [], []
    for line in manifest.where(manifest.notna(), None).to_dict("records"):
        record = ImageRecord(
            image_id=line["image_id"], exam_id=line["exam_id"], patient_id=line["patient_id"], laterality=Laterality.LEFT,
            view_position=ViewPosition.CC, acquisition=Acquisition.FFDM, source_sha256="", rows_px=60, columns_px=40,
            bits_stored=12, photometric=Photometric.MONOCHROME2, transfer_syntax_uid="1.2.840.10008.1.2.1",
            pixel_spacing_mm=None, manufacturer=None, model_name=None, exam_date=None, patient_age_years=None, gate_warnings=(),
        )  # fmt: skip
        file_id = f"F{line['image_id'][1:]}"
        files.append((SourceFile(file_id=file_id, lies_at=Path(file_id), fingerprint="1-1"), record))
        lines.append(LedgerLine(file_id=file_id, stored={str(name): value for name, value in line.items()}))
    return files, lines


def _ingested(path: Path, files: Sequence[AcceptedFile], lines: Sequence[LedgerLine]) -> dict[str, Taken]:
    pairs = [(file.file_id, file.fingerprint) for file, _ in files]
    taken: dict[str, Taken] = {}
    with Ledger(path) as ledger:
        with _measured(taken, "settled, all new"):
            assert not ledger.settled(pairs)
        with _measured(taken, "headers"):
            for start in range(0, len(files), JOB):
                ledger.add_accepted(files[start : start + JOB])
        with _measured(taken, "plan"):
            ledger.plan_rows(SHARD, planned_utc=datetime.now(UTC).isoformat(timespec="seconds"))
        with _measured(taken, "shards"):
            for start in range(0, len(lines), SHARD):
                ledger.add_written(lines[start : start + SHARD])
        with _measured(taken, "settled, all stored"):
            assert len(ledger.settled(pairs)) == len(pairs)
    taken["all"] = Taken(*map(sum, zip(*taken.values(), strict=True)))
    return taken


@contextmanager
def _measured(taken: dict[str, Taken], step: str) -> Iterator[None]:
    before = time.perf_counter(), time.process_time(), _server_s()
    yield
    after = time.perf_counter(), time.process_time(), _server_s()
    taken[step] = Taken(*(b - a for a, b in zip(before, after, strict=True)))


def _server_s() -> float:
    """CPU of PostgreSQL's processes, those that have ended too."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # a session that has just ended: the server counts it among its children
            if process.name().startswith("postgres"):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
    return total


def _per_image(told: Sequence[dict[str, Taken]], step: str, images: int) -> str:
    return ", ".join(f"{1000 * median(one[step][index] for one in told) / images:.3f}" for index in range(3))


def _read(folder: Path, address: str, rows: int) -> None:
    places = {engine: _place(folder, engine, address) for engine in ("SQLite", "PostgreSQL")}
    pairs, manifest = [], manifest_of(rows)
    for start in range(0, rows, _MADE_AT_ONCE):
        files, lines = _images(manifest.iloc[start : start + _MADE_AT_ONCE])
        pairs += [(file.file_id, file.fingerprint) for file, _ in files]
        with Ledger(places["SQLite"]) as ledger:
            ledger.add_accepted(files)
            ledger.plan_rows(SHARD, planned_utc=datetime.now(UTC).isoformat(timespec="seconds"))
            for first in range(0, len(lines), _ENTERED_AT_ONCE):
                ledger.add_written(lines[first : first + _ENTERED_AT_ONCE])
    del manifest, files, lines
    copied: dict[str, Taken] = {}
    with _measured(copied, "copy"):
        copy_ledger(places["SQLite"], places["PostgreSQL"])
    print(f"\nseconds, of {rows:,} images: wall, own CPU, the server's CPU\n{'copied':<28}  {_shown(copied['copy'])}")
    reads: dict[str, Callable[[Ledger], int]] = {
        "settled": lambda ledger: len(ledger.settled(pairs)),
        "lines": lambda ledger: sum(len(part) for part in ledger.line_parts()),
        "rows": lambda ledger: ledger.row_count(),
    }
    for name, read in reads.items():
        taken: dict[str, Taken] = {}
        for engine, path in places.items():
            with Ledger(path) as ledger, _measured(taken, engine):
                assert read(ledger) == rows
        print(f"{name:<28}" + "".join(f"  {engine} {_shown(one)}" for engine, one in taken.items()))


def _shown(taken: Taken) -> str:
    return json.dumps([round(seconds, 2) for seconds in taken])


if __name__ == "__main__":
    main()
