"""What a person waits for: CPU seconds of `mammo predict` of one exam, and of verbs that have nothing left to do.

    python -m benchmarks.operations.bench_verbs [--times 3] [--repository OTHER_CHECKOUT]

Makes ten phantom patients of 384 x 288 pixels and trains one epoch, then runs each command as a process of its own, with all
its children: the server, the gate's child, Dask's workers. Bytecode is written by an untimed run first. ``--repository``
measures another checkout, such as an earlier release, in turn with this one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import psutil
import yaml

OURS = Path(__file__).parents[2]
FINISHED = ("validate", "split", "train", "evaluate", "explain")
PARTS = {"child_main": "gate's child", "prefect": "server", "spawn_main": "Dask's workers", "process_main": "training"}
SECONDS_BETWEEN_LOOKS = 0.05

CONFIG = {
    "name": "verbs",
    "preprocess": {
        "window_px": [384, 256],
        "erosion_iterations": 10,
        "crop_buffer_px": 10,
        "jitter_shift_px": 16,
        "jitter_size_px": 0,
    },
    "model": {"patch_size": [96, 96], "K": 3, "top_t": 0.05, "local_dim": 128},
    "split": {"tuning_fraction": 0.2, "test_fraction": 0.3},
    "train": {"num_threads": 2, "epochs": 1, "batch_exams": 1},
    "evaluate": {"bootstrap_resamples": 100, "batch_images": 8},
    "explain": {"exams": 2},
    "report": {"pdf": False},
}


def main() -> None:
    """Prints a line for each command: its CPU seconds, and whose they are."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--times", type=int, default=3)
    arguments.add_argument("--repository", type=Path, help="another checkout, measured in turn with this one")
    given = arguments.parse_args()
    checkouts = {"ours": OURS} | ({"other": given.repository.resolve()} if given.repository else {})
    with tempfile.TemporaryDirectory() as folder:
        workspaces = {name: made(Path(folder) / name, checkout) for name, checkout in checkouts.items()}
        for verb in ("predict", *FINISHED):
            seconds: dict[str, list[float]] = defaultdict(list)
            for turn in range(given.times + 1):
                for name, checkout in checkouts.items():
                    config, checkpoint, exam = workspaces[name]
                    workspace = Path(folder) / "predicted"
                    shutil.rmtree(workspace, ignore_errors=True)
                    command: tuple[str, ...] = (verb, str(config))
                    if verb == "predict":
                        paths = ("--dicom", str(exam), "--checkpoint", str(checkpoint), "--workspace", str(workspace))
                        command = (*command, *paths)
                    by_part = cpu_s(checkout, *command)
                    if turn:
                        seconds[name].append(sum(by_part.values()))
                        parts = ", ".join(f"{part} {value:.1f}" for part, value in sorted(by_part.items()))
                        print(f"  {name} {verb}: {parts}")
            for name, values in seconds.items():
                print(f"{name} {verb}: {statistics.median(values):.1f} s of CPU ({min(values):.1f}-{max(values):.1f})")


def made(folder: Path, checkout: Path) -> tuple[Path, Path, Path]:
    """Config of a workspace that this checkout has finished, its checkpoint, and the folder of one exam of four views."""
    folder.mkdir()
    content = CONFIG | {
        "workspace_dir": str(folder / "run"),
        "phantom": {
            "output_dir": str(folder / "cohort"),
            "patients": 10,
            "exams_per_patient": [1, 1],
            "image_size_px": [384, 288],
            "malignant_fraction": 0.5,
            "benign_fraction": 0.5,
        },
        "ingest": {
            "source_dir": str(folder / "cohort" / "dicom"),
            "labels_csv": str(folder / "cohort" / "labels.csv"),
            "masks_dir": str(folder / "cohort" / "masks"),
            "profile": "phantom",
            "settle_s": 0,
        },
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(content))
    for verb in ("phantom", "pipeline"):
        subprocess.run(command_of(verb, str(path)), check=True, capture_output=True, env=environment_of(checkout))
    exam = folder / "exam"
    first = min(path for path in (folder / "cohort" / "dicom").rglob("*.dcm")).parent
    shutil.copytree(first, exam)
    return path, min((folder / "run" / "train").glob("*/epoch-*")), exam


def cpu_s(checkout: Path, *arguments: str) -> Mapping[str, float]:
    """CPU seconds of a command and its children, by whose they are.

    The total is what the kernel says of the ended process and all that it waited for; a child's share is what it was last seen
    with, and the rest is the command's own.
    """
    process = subprocess.Popen(
        command_of(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment_of(checkout)
    )
    root, seen = psutil.Process(process.pid), {}
    while True:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        for child in root.children(recursive=True):
            try:
                times, said = child.cpu_times(), " ".join(child.cmdline())
            except psutil.Error:
                continue
            seen[child.pid] = (next((part for word, part in PARTS.items() if word in said), "other"), sum(times[:2]))
        time.sleep(SECONDS_BETWEEN_LOOKS)
    if status:
        raise SystemExit(f"mammo {' '.join(arguments)} ended with {os.waitstatus_to_exitcode(status)}")
    by_part: dict[str, float] = defaultdict(float)
    for part, spent in seen.values():
        by_part[part] += spent
    by_part["command"] = usage.ru_utime + usage.ru_stime - sum(by_part.values())
    return by_part


def command_of(*arguments: str) -> list[str]:
    """``mammo``, with this interpreter."""
    return [sys.executable, "-P", "-m", "deployments.cli", *arguments]


def environment_of(checkout: Path) -> dict[str, str]:
    """Its modules first, bytecode on."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPATH": str(checkout)}


if __name__ == "__main__":
    main()
