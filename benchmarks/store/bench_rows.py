"""A manifest of a million lines: what the stages that read no pixel cost before they begin their work.

    python -m benchmarks.store.bench_rows [--rows 1000000]

The store has its arrays' descriptions, no pixels, and a manifest of four views an exam and two exams a patient, one patient in
fifty with a malignant finding. Each stage runs in a process of its own: CPU seconds without what importing takes, and the peak
of the whole process.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa

from gmic_model.preprocess import preprocess_version
from schemas.config.run import RunConfig
from schemas.exam import Split
from schemas.layout import MANIFEST_COLUMNS, Severity
from schemas.reports.data import SplitReport
from tasks.adapters.checks.expectations import check_splits
from tasks.adapters.labels.division import DIVIDED_BY, count_splits, divide
from tasks.adapters.store.exam_store import create_store, open_store, reserve_rows
from tasks.adapters.store.manifest import exam_records, read_with_version
from tasks.adapters.store.parts import write_manifest
from tasks.adapters.training.training_data import training_data
from tasks.adapters.workspace import Workspace

GOAL_CPU_S: Final = 10.0
GOAL_GIB: Final = 1.5
VIEWS: Final = (("L", "CC"), ("L", "MLO"), ("R", "CC"), ("R", "MLO"))


def config_of(workspace: Path) -> RunConfig:
    """Everything at its default but the places."""
    return RunConfig.model_validate({"name": "rows", "workspace_dir": workspace, "ingest": {"source_dir": workspace / "none"}})


def manifest_of(rows: int) -> pd.DataFrame:
    """Lines whose identities differ; what else is said of an image is the example of its column."""
    row_N = np.arange(rows)
    exam_N, view_N = row_N // 4, row_N % 4
    malignant_N = (exam_N // 2 % 50 == 0) & (view_N < 2)
    frame = pd.DataFrame({column.name: [column.example] * rows for column in MANIFEST_COLUMNS})
    frame["row"] = row_N
    for name, letter, number_N in (("image_id", "I", row_N), ("exam_id", "E", exam_N), ("patient_id", "P", exam_N // 2)):
        # In no order, as digests are.
        digests = [letter + hashlib.sha256(f"{letter}{number}".encode()).hexdigest()[:24] for number in range(number_N[-1] + 1)]
        frame[name] = np.array(digests, dtype=object)[number_N]
    for name in ("written_sha256", "source_sha256", "pixel_sha256"):
        frame[name] = [hashlib.sha256(f"{name}{number}".encode()).hexdigest() for number in range(rows)]
    frame["laterality"] = np.array([side for side, _ in VIEWS], dtype=object)[view_N]
    frame["view_position"] = np.array([position for _, position in VIEWS], dtype=object)[view_N]
    frame["malignant"], frame["benign"] = malignant_N.astype(np.int64), 0
    frame["finding_type"] = frame["lesion_boxes"] = frame["mask_sha256"] = None
    frame["has_lesion_mask"] = False
    return frame.astype({column.name: column.dtype for column in MANIFEST_COLUMNS})


def make(workspace: Path, rows: int) -> None:
    """The store, and its patients divided by hand: 80 % train, 10 % tune."""
    config = config_of(workspace)
    store = create_store(
        Workspace(workspace).store_dir,
        preprocess=config.preprocess,
        preprocess_version=preprocess_version(config.preprocess),
        rows_per_shard=16,
        key_id="key",
    )
    reserve_rows(store, rows)
    manifest = manifest_of(rows)
    write_manifest(store.files, pa.Table.from_pandas(manifest, preserve_index=False), store.store_id)
    patients = manifest["patient_id"].unique()
    part_P = np.array([Split.TUNING.value, Split.TEST.value] + 8 * [Split.TRAIN.value], dtype=object)[
        np.arange(len(patients)) * 7 // 10 % 10
    ]
    splits = pd.DataFrame({"patient_id": patients, "split": part_P})
    path = Workspace(workspace).splits_path
    path.parent.mkdir(parents=True)
    splits.to_parquet(path, index=False)
    counts = count_splits(manifest.merge(splits, on="patient_id"))
    report = SplitReport(splits_path=path, data_version="-", counts=counts)
    path.with_name("report.json").write_text(report.model_dump_json())


def divided(workspace: Path) -> str:
    """What ``mammo split`` does: exams from lines, patients into splits, the audit, the counts, the data's version."""
    config = config_of(workspace)
    published, version = read_with_version(open_store(Workspace(workspace).store_dir), DIVIDED_BY)
    by_patient = divide(exam_records(published), config.split, given=None, kept={}, persons={})
    splits = pd.DataFrame({"patient_id": list(by_patient), "split": [part.value for part in by_patient.values()]})
    assert all(check.is_met for check in check_splits(published, splits, {}) if check.severity == Severity.BLOCK)
    count_splits(published.merge(splits, on="patient_id"))
    return version[:8]


def begun(workspace: Path) -> str:
    """What a training, and the measuring before a search, reads before its first step."""
    path = Workspace(workspace).splits_path
    data = training_data(config_of(workspace), SplitReport.model_validate_json(path.with_name("report.json").read_text()))
    return f"{len(data.sampler.draw(0))} exams an epoch"


STAGES: Final[dict[str, Callable[[Path], str]]] = {"split": divided, "training start": begun}


def measure(stage: str, workspace: Path) -> dict[str, float | str]:
    """CPU seconds of a stage, and the peak of this process."""
    import great_expectations  # noqa: F401  # seconds, whatever the number of rows

    start, cpu = time.perf_counter(), time.process_time()
    said = STAGES[stage](workspace)
    took_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    return {"took_s": took_s, "cpu_s": cpu_s, "peak_gib": peak_gib(), "said": said}


def peak_gib() -> float:
    """Of this process. Not getrusage: what it says of a child begins with the peak of the process that started it."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 2**20


def main() -> None:
    """Print a line per stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--workspace", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        print(json.dumps(measure(arguments.stage, arguments.workspace)))
        return
    print(f"{arguments.rows:,} images; goal for a million: {GOAL_CPU_S:g} s of CPU, {GOAL_GIB:g} GiB")
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder) / "workspace"
        make(workspace, arguments.rows)
        for stage in STAGES:
            command = [sys.executable, "-m", "benchmarks.store.bench_rows", "--stage", stage, "--workspace", str(workspace)]
            ended = subprocess.run(command, capture_output=True, text=True, check=True)
            found = json.loads(ended.stdout.splitlines()[-1])
            took = f"CPU {found['cpu_s']:6.1f} s ({found['took_s']:.1f} s), peak {found['peak_gib']:.2f} GiB"
            print(f"{stage:15s} {took}  {found['said']}", flush=True)


if __name__ == "__main__":
    main()
