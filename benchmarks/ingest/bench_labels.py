"""A million label lines: how long they take to be read and put to breasts, and how much memory; every ingest does it.

    python -m benchmarks.ingest.bench_labels [--lines 1000000]

Two lines an exam, two exams a patient, named by StudyInstanceUID, by StudyDate and, in any order, by StudyInstanceUID with one
line an exam, which is the most that the reader has to remember. Each is read in a process of its own; its peak counts Python
and its libraries. Writing the file is not counted.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from schemas.exam import Laterality
from tasks.adapters.labels.joining import join_labels
from tasks.adapters.labels.labels_file import read_labels
from tasks.adapters.pseudonyms import Pseudonyms

GOAL_S: Final = 30.0
GOAL_MB: Final = 400.0
_VALUES: Final = "laterality,benign,malignant,birads,label_source,label_date"


def _uid(exam: int) -> str:
    return f"1.2.840.113619.2.66.{exam}"


def _day(exam: int) -> date:
    return date(2010, 1, 1) + timedelta(days=exam % 3650)


def _values(exam: int, side: str) -> str:
    return f"{side},0,{int(exam % 50 == 0)},{1 + exam % 3},followup,{_day(exam) + timedelta(days=400)}"


def by_uid(lines: int) -> Iterator[str]:
    """Two lines an exam."""
    yield f"patient_id,study_instance_uid,{_VALUES}"
    for line in range(lines):
        yield f"{line // 4:08d},{_uid(line // 2)},{_values(line // 2, 'RL'[line % 2])}"


def by_date(lines: int) -> Iterator[str]:
    """Two lines an exam; the exam's name is its day."""
    yield f"patient_id,study_date,{_VALUES}"
    for line in range(lines):
        yield f"{line // 4:08d},{_day(line // 2)},{_values(line // 2, 'RL'[line % 2])}"


def shuffled(lines: int) -> Iterator[str]:
    """One line an exam, one exam a patient, in any order."""
    yield f"patient_id,study_instance_uid,{_VALUES}"
    for line in random.Random(0).sample(range(lines), lines):  # noqa: S311  no secret
        yield f"{line:08d},{_uid(line)},{_values(line, 'R')}"


TABLES: Final[dict[str, Callable[[int], Iterator[str]]]] = {"by_uid": by_uid, "by_date": by_date, "shuffled": shuffled}


def measure(path: Path) -> str:
    """Reads the file and joins it to one of its exams; seconds, CPU seconds, peak."""
    pseudonyms = Pseudonyms(b"benchmark" * 4)
    patient_id = pseudonyms.patient_id("00000000")
    exam_id = pseudonyms.exam_id(_uid(0))
    start, cpu = time.perf_counter(), time.process_time()
    labels = read_labels(
        path,
        pseudonyms,
        exams_by_day={(patient_id, pseudonyms.shifted_date(patient_id, _day(0))): (exam_id,)},
        exams_by_accession={},
    )
    joined = join_labels(labels, [(exam_id, Laterality.RIGHT)], patients_by_exam={exam_id: (patient_id,)})
    took_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    assert joined.matched == 1
    return f"{took_s:.1f} s (CPU {cpu_s:.1f} s), peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB"


def main() -> None:
    """Print a line per table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        print(measure(arguments.read))
        return
    print(f"{arguments.lines:,} lines; goal for a million: {GOAL_S:.0f} s, {GOAL_MB:.0f} MB")
    with tempfile.TemporaryDirectory() as folder:
        for name, table in TABLES.items():
            path = Path(folder) / f"{name}.csv"
            with path.open("w", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in table(arguments.lines))
            ended = subprocess.run(
                [sys.executable, "-m", "benchmarks.ingest.bench_labels", "--read", str(path)],
                capture_output=True,
                text=True,
                check=True,
            )
            print(f"{name:10s} {ended.stdout.strip()}", flush=True)


if __name__ == "__main__":
    main()
