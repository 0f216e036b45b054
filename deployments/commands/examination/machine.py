"""Versions, codecs, the walls around the reader of files, memory, GPU and the server of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import psutil

from deployments.commands.examination.complaint import Complaint
from deployments.server.prefect_server import configured_api_url, is_healthy
from schemas.config.ingest import LocalDask
from schemas.config.run import RunConfig
from schemas.errors import GateChildFailed

_GIB: Final = 1 << 30
_LEAST_MEMORY_GIB: Final = 4.0
# What a wrong version breaks without saying so; the spans are those of constraints.txt's reasons.
_SPANS: Final = {
    "prefect": ("3.9", "3.10", "schedules may never fire: only these were tried with the deployments"),
    "fastapi": ("0.139", "0.151", "the Prefect server does not start"),
    "sqlalchemy": ("2.0.40", "2.2", "schedules may never fire: only these were tried with Prefect"),
    "zarr": ("3.1", "3.5", "stores may be read differently"),
}


def versions() -> Iterator[Complaint]:
    """Of the packages that break silently."""
    for package, (lowest, below, harm) in _SPANS.items():
        try:
            found = version(package)
        except PackageNotFoundError:
            found = "not installed"
        is_well = found != "not installed" and _numbers(lowest) <= _numbers(found) < _numbers(below)
        remedy = "" if is_well else f"pip install '{package}>={lowest},<{below}': with another version {harm}"
        yield Complaint(check="versions", is_well=is_well, found=f"{package} {found}", remedy=remedy)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:3] if part.isdigit())


def codecs() -> Complaint:
    """The package may be there with a decoder missing from it."""
    try:
        from tasks.adapters.dicom.frame_codecs import missing_codecs

        missing = missing_codecs()
    except ImportError:
        missing = ("compressed pixels",)
    return Complaint(
        check="codecs",
        is_well=not missing,
        found="all transfer syntaxes can be decoded" if not missing else f"cannot decode {', '.join(missing)}",
        remedy="" if not missing else "pip install --force-reinstall imagecodecs",
    )


@cache
def gate() -> Complaint:
    """What stands around the process that reads foreign bytes is the kernel's to give: without it that goes on all the same."""
    from tasks.adapters.gate.child import GateChild
    from tasks.adapters.walls import ALL_WALLS

    try:
        with GateChild() as child:
            standing = child.walls()
    except GateChildFailed as failed:
        return Complaint(check="gate", is_well=False, found="the process that reads files does not start", remedy=str(failed))
    missing = [wall for wall in ALL_WALLS if wall not in standing]
    found = f"files are read behind {' and '.join(standing) or 'no wall'}"
    if missing:
        found += f"; this kernel, or the container, has no {' and no '.join(missing)}"
    return Complaint(check="gate", is_well=True, found=found)


def memory(config: RunConfig | None) -> Complaint:
    """What is free of it."""
    free_gib = psutil.virtual_memory().available / _GIB
    needed_gib = _LEAST_MEMORY_GIB
    if config is not None and isinstance(config.ingest.dask, LocalDask):
        needed_gib = max(needed_gib, config.ingest.dask.n_workers * config.ingest.file_memory_mib / 1024)
    is_well = free_gib >= needed_gib
    remedy = "" if is_well else "close other programs, or lower ingest.dask.n_workers and train.batch_exams"
    return Complaint(check="memory", is_well=is_well, found=f"{free_gib:.1f} GiB free, {needed_gib:.1f} needed", remedy=remedy)


def gpu(config: RunConfig | None) -> Complaint:
    """No GPU is a fault only where the config insists on one."""
    program = shutil.which("nvidia-smi")
    cards = failure = ""
    is_well = False
    if program is not None:
        query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
        try:
            asked = subprocess.run(query, capture_output=True, text=True, check=False, timeout=20)
            cards = asked.stdout.strip().replace("\n", "; ")
            if asked.returncode:  # its complaint stands where cards would; a driver may be left of a card that was taken out
                cards, failure = "", f"it ends with code {asked.returncode}"
                is_well = config is None or config.train.device != "cuda"
        except (OSError, subprocess.TimeoutExpired) as failed:  # a driver that hangs is what somebody asks the doctor for
            failure = type(failed).__name__
    if failure:
        remedy = "see what `nvidia-smi` says; a driver that hangs comes back with a restart of the machine"
        return Complaint(check="gpu", is_well=is_well, found=f"{program} fails: {failure}", remedy="" if is_well else remedy)
    if config is None or config.train.device != "cuda":
        return Complaint(check="gpu", is_well=True, found=cards or "none: training and prediction run on the CPU")
    remedy = ""
    if not cards:
        remedy = "install the driver, or set train.device to auto"
    elif (built := version("torch")).endswith("+cpu"):
        cards += f"; torch {built} is built for CPUs alone"
        remedy = "install a torch that is built for CUDA, or set train.device to auto"
    return Complaint(check="gpu", is_well=not remedy, found=cards or "none, and train.device asks for one", remedy=remedy)


def server() -> Complaint:
    """Whether the one that is configured answers."""
    configured = configured_api_url(os.environ)
    if configured is None:
        return Complaint(check="server", is_well=True, found="none configured: each workspace starts its own on 127.0.0.1")
    address = configured.removesuffix("/").removesuffix("/api")
    is_well = is_healthy(address)
    remedy = "" if is_well else "start it, correct PREFECT_API_URL, or unset it: mammo then starts a server of its own"
    return Complaint(check="server", is_well=is_well, found=f"{address} {'answers' if is_well else 'is silent'}", remedy=remedy)
