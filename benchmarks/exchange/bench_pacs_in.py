"""Exams in: our listener beside dcmtk's `storescp`, our fetch beside `curl`, exams found, an unchanged PACS polled.

    env PYTHONPATH=.:tests/support python -m benchmarks.exchange.bench_pacs_in [--images 60] [--studies 1000] [--rounds 3]

All on loopback, in turns, in one run; needs Orthanc with its DICOMweb plug-in, dcmtk and curl. Orthanc's own folder lies in
memory where there is some, for it syncs each object; ours, `storescp`'s and `curl`'s lie on one disk. `storescp` writes what it
receives as it came (`+B`) and syncs nothing; `curl` neither checks nor syncs. A row without syncing says what that costs.
Prints medians of MB/s, the ratios, and the largest resident memory of our processes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from mammo_tests.other_systems import (
    ROUTER,
    TITLE,
    Orthanc,
    arrived,
    free_port,
    orthanc,
    pacs_config,
    start_listener,
    until,
    write_exam,
)
from schemas.config.run import RunConfig

SENDERS = 4
DAY = date(2021, 5, 4)
WADO = 'Accept: multipart/related; type="application/dicom"; transfer-syntax=*'

_CHILD = """
import json, os, sys, time
from datetime import date
if sys.argv[2] == "no-sync":
    os.fsync = lambda descriptor: None
from schemas.config.run import RunConfig
import tasks.adapters.pacs.web_source
from tasks.adapters.pacs.fetching import fetch, find_exams
config = RunConfig.model_validate_json(open(sys.argv[1]).read())
began_s = time.perf_counter()
if sys.argv[2] == "find":
    counts = {"exams": len(find_exams(config, today=date(2021, 5, 4))[0])}
else:
    counts = fetch(config, today=date(2021, 5, 4)).counts()
took_s = time.perf_counter() - began_s
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
print(json.dumps({"s": took_s, "rss_mib": peak, **counts}))
"""


def peak_mib(pid: int) -> float:
    """The largest resident memory of a process so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def empty(folder: Path) -> Path:
    """A folder without files, its disk at rest."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.sync()
    return folder


def pushed_s(port: int, files: list[Path]) -> float:
    """Seconds that so many senders take."""
    command = ["storescu", "-aet", ROUTER, "-aec", TITLE, "127.0.0.1", str(port)]
    began_s = time.perf_counter()
    senders = [subprocess.Popen([*command, *map(str, files[start::SENDERS])]) for start in range(SENDERS)]
    assert [sender.wait() for sender in senders] == [0] * SENDERS
    return time.perf_counter() - began_s


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def storescp(folder: Path) -> Iterator[int]:
    """Dcmtk's listener: a process for each association, bytes written as they came."""
    port = free_port()
    command = ["storescp", "--fork", "+B", "-od", str(folder), "-aet", TITLE, "-pdu", "131072", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert until(lambda: _answers(port))
        yield port
    finally:
        process.terminate()
        process.wait()


def bench_listener(files: list[Path], folder: Path, rounds: int) -> None:
    """Ours and dcmtk's in turns, the same senders and files."""
    size_mb = sum(file.stat().st_size for file in files) / 1e6
    theirs, ours, peak = [], [], 0.0
    for _ in range(rounds):
        with storescp(empty(folder / "theirs")) as port:
            theirs.append(size_mb / pushed_s(port, files))
        assert len(list((folder / "theirs").iterdir())) == len(files)
        listener = start_listener(pacs_config(free_port()), empty(folder / "ours"), folder / "home")
        try:
            ours.append(size_mb / pushed_s(listener.port, files))
            peak = max(peak, peak_mib(listener.process.pid))
        finally:
            listener.end()
        assert len(arrived(folder / "ours")) == len(files)
    row("listener, 4 senders", ours, "storescp", theirs, peak)


def source_config(archive: Orthanc, folder: Path, **source: Any) -> Path:
    """A config as a file, for a process of its own."""
    pacs = pacs_config(archive.listener_port, archive=archive).model_dump(mode="json")
    asked = {"peer": "web", "since": str(DAY), "until": str(DAY), **source}
    content = {
        "workspace_dir": str(folder / "ws"),
        "ingest": {"source_dir": str(folder / "inbox"), "source": asked},
        "pacs": pacs,
    }
    path = folder / "run.json"
    path.write_text(RunConfig.model_validate(content).model_dump_json())
    return path


def in_a_process(config_path: Path, how: str = "fetch") -> dict[str, float]:
    """What a process of our own did: seconds without its start, resident memory, counts."""
    said = subprocess.run([sys.executable, "-c", _CHILD, str(config_path), how], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(said.stdout)
    return found


def curl_s(archive: Orthanc, folder: Path) -> float:
    """Seconds that curl takes for the same images, four at a time, listed before."""
    lines = []
    for number, name in enumerate(archive.ask("/instances")):
        tags = archive.ask(f"/instances/{name}/simplified-tags")
        path = f"{tags['StudyInstanceUID']}/series/{tags['SeriesInstanceUID']}/instances/{tags['SOPInstanceUID']}"
        lines += [f'url = "{archive.url}/studies/{path}"', f'output = "{folder / str(number)}"']
    (folder / "list").write_text("\n".join(lines))
    command = [
        "curl",
        "--no-progress-meter",
        "-f",
        "-Z",
        "--parallel-max",
        str(SENDERS),
        "-H",
        WADO,
        "-K",
        str(folder / "list"),
    ]
    began_s = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - began_s


def bench_fetch(archive: Orthanc, files: list[Path], folder: Path, rounds: int) -> None:
    """Ours and curl's in turns."""
    size_mb = sum(file.stat().st_size for file in files) / 1e6
    theirs, ours, unsynced, peak = [], [], [], 0.0
    config_path = source_config(archive, folder)
    for _ in range(rounds):
        theirs.append(size_mb / curl_s(archive, empty(folder / "theirs")))
        for how, speeds in (("fetch", ours), ("no-sync", unsynced)):
            empty(folder / "inbox")
            done = in_a_process(config_path, how)
            assert done["images_fetched"] == len(files)
            speeds.append(size_mb / done["s"])
            peak = max(peak, done["rss_mib"])
    row("fetch, 4 connections", ours, "curl", theirs, peak)
    row("fetch without syncing", unsynced, "curl", theirs, peak)


def bench_find(home: Path, folder: Path, studies: int) -> None:
    """Exams found over years, and an unchanged PACS polled: 30 days of 4 exams with 4 images."""
    with orthanc(home) as archive:
        for number in range(studies):
            archive.take(*write_exam(folder / "tiny", number, side_px=8, day=DAY + timedelta(days=number)))
        config_path = source_config(archive, folder, until=str(DAY + timedelta(days=studies)))
        done = in_a_process(config_path, "find")
        print(f"| {done['exams']:.0f} of {studies} exams found | {done['s']:.2f} s |  |  | {done['rss_mib']:.0f} |")
        archive.forget_all()
        for number in range(120):
            day = DAY + timedelta(days=number // 4)
            archive.take(*write_exam(folder / "tiny", number, images=4, side_px=8, day=day, digits="7"))
        empty(folder / "inbox")
        config_path = source_config(archive, folder, until=str(DAY + timedelta(days=29)))
        assert in_a_process(config_path)["images_fetched"] == 480
        done = in_a_process(config_path)
        assert done["images_here"] == 480
        print(f"| unchanged PACS polled (120 exams, 480 images) | {done['s']:.2f} s |  |  | {done['rss_mib']:.0f} |")


def row(name: str, ours: list[float], other: str, theirs: list[float], peak: float) -> None:
    """A line of the table."""
    mine, others = statistics.median(ours), statistics.median(theirs)
    print(f"| {name} | {mine:.0f} MB/s | {other} {others:.0f} MB/s | {mine / others:.2f} | {peak:.0f} |")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=60, help="Mammograms of 4.5 MB pushed and fetched")
    parser.add_argument("--studies", type=int, default=1000, help="Exams to find; 0 leaves finding out")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108  # a folder of our own in it
    with tempfile.TemporaryDirectory() as on_disk, tempfile.TemporaryDirectory(dir=memory) as in_memory:
        folder = Path(on_disk)
        exams = range(asked.images // 4)
        files = [path for number in exams for path in write_exam(folder / "exams", number, images=4, side_px=1500, day=DAY)]
        print("| what | ours | beside | ratio | our peak RSS, MiB |\n|---|---|---|---|---|")
        bench_listener(files, folder, asked.rounds)
        with orthanc(Path(in_memory) / "a") as archive:
            archive.take(*files)
            bench_fetch(archive, files, folder, asked.rounds)
        if asked.studies:
            bench_find(Path(in_memory) / "b", folder, asked.studies)


if __name__ == "__main__":
    main()
