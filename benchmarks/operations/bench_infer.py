"""One exam of four full-size views through `mammo infer`, against its bare decoding and bare network, side by side in one run.

    taskset -c 0,1 python -m benchmarks.operations.bench_infer [--rounds 5] [--syntax "JPEG lossless"]
    python -m benchmarks.operations.bench_infer --flat 10000

Bare: our decoder on each file, and the network on one image after the other, with the threads that torch takes by itself; no
gate, no crop, no digest, no log. Against it, round after round: `answer` in a process that stays (asked through its socket),
`mammo infer` as a command that this process answers, and the same command when none stays. Seconds are wall.

``--flat`` sends exams of 384 x 288 pixels, one after the other, through one scorer, and prints the memory of its process and of
the gate's children as they go: it should not grow after the first tenth.
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
from collections.abc import Callable
from pathlib import Path

import psutil
import torch

from benchmarks.ingest.phantom_dicoms import write_phantom_dicoms
from gmic_model.devices import choose_device
from gmic_model.networks.registry import build_network
from schemas.config.run import RunConfig
from tasks.adapters.allocator import keep_freed_memory
from tasks.adapters.dicom.dicom_file import read_pixels
from tasks.adapters.interpreter import THREADS_SLEEP_SOON
from tasks.adapters.lifecycle.inference.folder_contract import answer
from tasks.adapters.lifecycle.inference.scorer import Scorer
from tasks.adapters.lifecycle.inference.warm_process import asked
from tasks.adapters.models.checkpoints import save_checkpoint

SMALL_PX = (384, 288)
SECONDS_TO_START = 120.0


def main() -> None:
    """Prints a line for each way, or memory by the number of exams."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--syntax", default="JPEG lossless")
    parser.add_argument("--flat", type=int, default=0, help="exams to send through one scorer")
    given = parser.parse_args()
    if THREADS_SLEEP_SOON.keys() - os.environ.keys():  # as `mammo` sets it; torch's threads read it when they are loaded
        again = [sys.executable, "-m", "benchmarks.operations.bench_infer", *sys.argv[1:]]
        os.execve(sys.executable, again, {**THREADS_SLEEP_SOON, **os.environ})  # noqa: S606  # this very interpreter
    with tempfile.TemporaryDirectory() as name:
        if given.flat:
            flat(Path(name), given.flat)
        else:
            compare(Path(name), given.rounds, given.syntax)


def site(folder: Path, exam_dir: Path, **content: object) -> RunConfig:
    """A workspace with weights that nobody has trained."""
    config = RunConfig.model_validate(
        {
            "name": "bench",
            "workspace_dir": folder / "w",
            "ingest": {"source_dir": exam_dir, "profile": "clinical-strict"},
            "checkpoint": folder / "weights",
            **content,
        }
    )
    torch.manual_seed(0)
    save_checkpoint(
        folder / "weights", weights=build_network(config.model).state_dict(), training={}, model=config.model, about={}
    )
    (folder / "run.yaml").write_text(config.model_dump_json())
    return config


def compare(folder: Path, rounds: int, syntax: str) -> None:
    """The ways in turns."""
    files = write_phantom_dicoms(folder / "files", exams=1, syntaxes=(syntax,))[syntax]
    exam_dir, out = files[0].parent, folder / "out"
    config = site(folder, exam_dir)
    network = build_network(config.model).eval()
    device = choose_device(config.train)
    image_N1HW = torch.rand(1, 1, *config.preprocess.window_px, device=device)
    keep_freed_memory()

    def decode() -> None:
        for path in files:
            read_pixels(path)

    def forward() -> None:
        with torch.inference_mode():
            for _ in files:
                network.to(device)(image_N1HW)

    def ask() -> None:
        result = asked(config, exam_dir, out)
        assert result is not None and len(result.images) == len(files), result

    command = [sys.executable, "-P", "-m", "deployments.cli", "infer", str(folder / "run.yaml"), str(exam_dir), str(out)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    staying = subprocess.Popen([*command[:-2], "--stay"], stdout=subprocess.DEVNULL, env=environment)
    try:
        seconds: dict[str, list[float]] = defaultdict(list)
        began_s = time.monotonic()
        while not (folder / "w" / "infer" / "socket").exists():
            assert staying.poll() is None and time.monotonic() - began_s < SECONDS_TO_START
            time.sleep(0.1)
        ways: dict[str, Callable[[], object]] = {
            "bare decoding": decode,
            "bare network": forward,
            "asked through the socket": ask,
            "mammo infer, answered by it": lambda: subprocess.run(
                command, check=True, stdout=subprocess.DEVNULL, env=environment
            ),
        }
        for number in range(rounds + 1):
            for way, work in ways.items():
                took_s = timed(work)
                if number:  # the first brings files and code into memory
                    seconds[way].append(took_s)
    finally:
        staying.terminate()
        staying.wait()
    alone = [timed(ways["mammo infer, answered by it"]) for _ in range(2)][1]
    for way, values in seconds.items():
        print(f"{way}: median {statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})")
    print(f"mammo infer, nobody stays: {alone:.2f} s")
    bare = [sum(both) for both in zip(seconds["bare decoding"], seconds["bare network"], strict=True)]
    for way in list(seconds)[2:]:
        ratios = [value / base for value, base in zip(seconds[way], bare, strict=True)]
        print(f"{way} / bare: median of {rounds} rounds {statistics.median(ratios):.2f}, of the least times "
              f"{min(seconds[way]) / min(bare):.2f}")  # fmt: skip


def timed(work: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


def flat(folder: Path, exams: int) -> None:
    """Exams of one scorer; the files are the same ones, whose memory would grow as that of others does."""
    files = write_phantom_dicoms(folder / "files", exams=1, shape_px=SMALL_PX, syntaxes=("native",))["native"]
    small = {"window_px": (384, 256), "erosion_iterations": 10, "crop_buffer_px": 10, "jitter_shift_px": 8, "jitter_size_px": 0}
    model = {"kind": "resnet-22", "image_size": (384, 256)}
    config = site(folder, files[0].parent, preprocess=small, model=model, ingest={
        "source_dir": files[0].parent, "profile": "phantom"})  # fmt: skip
    with Scorer(config) as scorer:
        for number in range(1, exams + 1):
            result = answer(config, scorer, files[0].parent, folder / "out")
            assert len(result.images) == len(files), result
            if number in {exams // 10, exams // 4, exams // 2, exams}:
                process = psutil.Process()
                children = sum(child.memory_info().rss for child in process.children(recursive=True))
                print(f"{number} exams: {process.memory_info().rss / 2**20:.0f} MiB, children {children / 2**20:.0f} MiB")
            shutil.rmtree(folder / "out")


if __name__ == "__main__":
    main()
