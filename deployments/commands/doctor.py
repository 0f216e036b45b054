"""``mammo doctor``: is this machine fit for the work? Every fault comes with what to do about it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import psutil
import typer

from deployments.configuration import load_config
from deployments.server.prefect_server import configured_api_url, is_healthy
from schemas.config.ingest import KubernetesDask, LocalDask, SlurmDask
from schemas.config.run import RunConfig
from schemas.errors import ConfigError, GateChildFailed, MammoError, extra_from
from tasks.adapters.workspace import WATCH, Workspace

_LEAST_FREE_GIB = 10.0
_LEAST_MEMORY_GIB = 4.0
_GIB = 1 << 30
# What a wrong version breaks without saying so; the spans are those of constraints.txt's reasons.
_SPANS = {
    "prefect": ("3.9", "3.10", "schedules may never fire: only these were tried with the deployments"),
    "fastapi": ("0.139", "0.151", "the Prefect server does not start"),
    "sqlalchemy": ("2.0.40", "2.2", "schedules may never fire: only these were tried with Prefect"),
    "zarr": ("3.1", "3.5", "stores may be read differently"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """One thing looked at."""

    check: str
    is_well: bool
    found: str
    remedy: str = ""


ConfigOption = Annotated[Path | None, typer.Argument(help="Also look at what this run needs: files, key, buckets, PACS")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print findings as JSON")]


ExamOption = Annotated[bool, typer.Option("--exam", help="First send a synthetic exam the whole way; needs CONFIG")]


def doctor(config: ConfigOption = None, as_json: JsonOption = False, exam: ExamOption = False) -> None:
    """Check codecs, disk, memory, keys, server, GPU and versions; exit code 1 if something is not well."""
    if exam:
        _send_exam(config)
    findings = list(examine(load_config(config) if config else None))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            typer.echo(f"{'well ' if finding.is_well else 'FAULT'} {finding.check:<10} {finding.found}")
            if finding.remedy:
                typer.echo(f"      do: {finding.remedy}")
    if not all(finding.is_well for finding in findings):
        raise typer.Exit(1)


def examine(config: RunConfig | None) -> Iterator[Complaint]:
    """Every check in turn."""
    yield from _versions()
    yield _codecs()
    yield _gate()
    yield _memory(config)
    yield _gpu(config)
    yield _server()
    if config is not None:
        yield _disk(config.workspace_dir)
        yield _key(config)
        yield from _inputs(config)
        yield from _bucket(config)
        yield from _extra(config)
        yield from _object_store(config)
        yield from _ledger(config)
        yield from _other_systems(config)
        yield from devices_as_they_began(config)
        yield from synthetic_exam_came_out(config)


def synthetic_exam_came_out(config: RunConfig) -> Iterator[Complaint]:
    """When the newest one did; nothing where none is asked for."""
    from tasks.adapters.lifecycle.watching.site_counts import newest_exam, silence
    from tasks.adapters.provenance import now

    if config.health is None:
        return
    report = newest_exam(Workspace(config.workspace_dir))
    said = silence(report, config.health, now=now())
    found = said if said or report is None else f"a synthetic exam came out on {report.created_utc} after {report.seconds:g} s"
    remedy = "is mammo serve up, does a training hold the GPU? see the runs of health in its UI, or mammo doctor CONFIG --exam"
    yield Complaint(check="exam", is_well=not said, found=found, remedy=remedy if said else "")


def devices_as_they_began(config: RunConfig) -> Iterator[Complaint]:
    """What the newest watching found; nothing where nobody has watched."""
    from schemas.reports.life.watching import WatchReport

    try:
        report = Workspace(config.workspace_dir).read_report(WATCH, WatchReport)
    except (OSError, ValueError):
        return
    looked = f"looked at {report.created_utc[:10]}"
    if not report.alarmed:
        yield Complaint(check="devices", is_well=True, found=f"{len(report.devices)} watched, no alarm, {looked}")
    for device in report.alarmed:
        what = ", ".join(chart.name for chart in device.alarms)
        remedy = f"see {report.page_path}; after thresholds were chosen anew set watch.since to that day"
        yield Complaint(check="devices", is_well=False, found=f"{device.name}: {what} not as it began, {looked}", remedy=remedy)


# ---------------------------------------------------------------------------------------------------------------------


def _send_exam(path: Path | None) -> None:
    """As the service does every hour.

    Raises:
        ConfigError: No config says where, or with which network.
        MammoError: It did not come out.
    """
    if path is None:
        raise ConfigError("--exam needs the config of a workspace", expected="mammo doctor CONFIG --exam")
    from deployments.local_run import run_verb
    from deployments.server.prefect_server import prefect_server

    config, before = load_config(path), dict(os.environ)
    try:
        with prefect_server(config.workspace_dir):
            run_verb("health", config)
    finally:
        os.environ.clear()  # it names a server that has ended, which the doctor would miss
        os.environ.update(before)


def _versions() -> Iterator[Complaint]:
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


def _codecs() -> Complaint:
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
def _gate() -> Complaint:
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


def _memory(config: RunConfig | None) -> Complaint:
    free_gib = psutil.virtual_memory().available / _GIB
    needed_gib = _LEAST_MEMORY_GIB
    if config is not None and isinstance(config.ingest.dask, LocalDask):
        needed_gib = max(needed_gib, config.ingest.dask.n_workers * config.ingest.file_memory_mib / 1024)
    is_well = free_gib >= needed_gib
    remedy = "" if is_well else "close other programs, or lower ingest.dask.n_workers and train.batch_exams"
    return Complaint(check="memory", is_well=is_well, found=f"{free_gib:.1f} GiB free, {needed_gib:.1f} needed", remedy=remedy)


def _gpu(config: RunConfig | None) -> Complaint:
    """No GPU is a fault only where the config insists on one."""
    program = shutil.which("nvidia-smi")
    found = ""
    if program is not None:
        query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
        try:
            found = subprocess.run(query, capture_output=True, text=True, check=False, timeout=20).stdout.strip()
        except (OSError, subprocess.TimeoutExpired) as failed:  # a driver that hangs is what somebody asks the doctor for
            remedy = "see what `nvidia-smi` says; a driver that hangs comes back with a restart of the machine"
            return Complaint(check="gpu", is_well=False, found=f"{program} fails: {type(failed).__name__}", remedy=remedy)
    wants_one = config is not None and config.train.device == "cuda"
    return Complaint(
        check="gpu",
        is_well=bool(found) or not wants_one,
        found=found.replace("\n", "; ") or "none: training and prediction run on the CPU",
        remedy="install the driver, or set train.device to auto" if wants_one and not found else "",
    )


def _server() -> Complaint:
    configured = configured_api_url(os.environ)
    if configured is None:
        return Complaint(check="server", is_well=True, found="none configured: each workspace starts its own on 127.0.0.1")
    address = configured.removesuffix("/").removesuffix("/api")
    is_well = is_healthy(address)
    remedy = "" if is_well else "start it, correct PREFECT_API_URL, or unset it: mammo then starts a server of its own"
    return Complaint(check="server", is_well=is_well, found=f"{address} {'answers' if is_well else 'is silent'}", remedy=remedy)


def _disk(folder: Path) -> Complaint:
    while not _is_there(folder):
        folder = folder.parent
    free_gib = shutil.disk_usage(folder).free / _GIB
    inodes = os.statvfs(folder).f_favail
    is_writable = os.access(folder, os.W_OK)
    is_well = free_gib >= _LEAST_FREE_GIB and is_writable and inodes != 0
    return Complaint(
        check="disk",
        is_well=is_well,
        found=f"{free_gib:.0f} GiB and {inodes} files free at {folder}{'' if is_writable else ', not writable'}",
        remedy="" if is_well else f"make room ({_LEAST_FREE_GIB:.0f} GiB), or set workspace_dir to another disk of yours",
    )


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, a folder that may not be looked into
        return False


def _key(config: RunConfig) -> Complaint:
    path = Workspace(config.workspace_dir).key_path
    if not _is_there(path):
        if (url := config.ingest.store) and _is_made_elsewhere(config):
            found = f"no {path.name}, and {url} holds a store"
            remedy = f"copy the {path.name} of the machine that made it to {path}, mode 0600"
            return Complaint(check="key", is_well=False, found=found, remedy=remedy)
        return Complaint(check="key", is_well=True, found=f"no {path.name} yet: the first ingest makes it")
    mode = path.stat().st_mode & 0o777
    is_well = mode & 0o077 == 0 and os.access(path, os.R_OK)
    remedy = "" if is_well else f"chmod 600 {path}: who reads it can link pseudonyms to patients"
    return Complaint(check="key", is_well=is_well, found=f"{path.name} mode {mode:04o}", remedy=remedy)


def _is_made_elsewhere(config: RunConfig) -> bool:
    from tasks.adapters.store.store_settings import objects_of

    try:
        return objects_of(Workspace(config.workspace_dir).store, config.ingest.store).is_store()
    except MammoError:  # _object_store says what of it
        return False


def _inputs(config: RunConfig) -> Iterator[Complaint]:
    """Whatever the config names and a run would read, hours later perhaps."""
    ingest, fits = config.ingest, {"train": config.train, "pretrain": config.pretrain}
    named = [
        ("ingest.source_dir", None if ingest.bucket_url else ingest.source_dir),
        ("ingest.labels_csv", ingest.labels_csv),
        ("ingest.subjects_csv", ingest.subjects_csv),
        ("ingest.boxes_csv", ingest.boxes_csv),
        ("ingest.masks_dir", ingest.masks_dir),
        ("store_dir", config.store_dir if isinstance(config.store_dir, Path) else None),
        ("split.file", config.split.file),
        *((f"{section}.start.{part}", path) for section, fit in fits.items() if fit for part, path in fit.start.files()),
        *(("evaluate.checkpoints", path) for path in config.evaluate.checkpoints),
        ("evaluate.ensemble", config.evaluate.ensemble),
        ("checkpoint", config.checkpoint),
    ]
    for key, path in named:
        if path is None:
            continue
        is_well = os.access(path, os.R_OK)
        remedy = "" if is_well else f"correct {key}, or give the user who runs mammo the right to read it"
        found = f"{path} {'readable' if is_well else 'not readable'}"
        yield Complaint(check=key.rpartition(".")[2], is_well=is_well, found=found, remedy=remedy)


def _bucket(config: RunConfig) -> Iterator[Complaint]:
    """Whether the bucket of exams can be listed, as ingest does it first."""
    url = config.ingest.bucket_url
    if url is None:
        return
    from tasks.adapters.inbox.sources.source_bucket import require_bucket

    try:
        require_bucket(url)
        yield Complaint(check="source", is_well=True, found=f"{url} can be listed")
    except MammoError as silent:
        yield Complaint(check="source", is_well=False, found=str(silent), remedy="see docs/how-to/exams-in-a-bucket.md")


def _extra(config: RunConfig) -> Iterator[Complaint]:
    from tasks.adapters.cluster import kubernetes_spec, slurm_cluster

    dask = config.ingest.dask
    try:
        if isinstance(dask, SlurmDask):
            slurm_cluster(dask).close()
        elif isinstance(dask, KubernetesDask):
            kubernetes_spec(dask)
        else:
            return
        yield Complaint(check="dask", is_well=True, found=f"{dask.kind}: the extra is installed")
    except ConfigError as missing:
        yield Complaint(check="dask", is_well=False, found=str(missing), remedy=extra_from(dask.kind))


def _object_store(config: RunConfig) -> Iterator[Complaint]:
    """The object store of the exam store, asked for what a writer asks, and for what a reader does."""
    from tasks.adapters.store.store_settings import objects_of

    store = Workspace(config.workspace_dir).store
    try:
        if config.ingest.store:
            objects_of(store, config.ingest.store).require_conditions()
            yield Complaint(check="store", is_well=True, found=f"{config.ingest.store} answers, and keeps two writers apart")
        if isinstance(config.store_dir, str):
            holds = objects_of(store, config.store_dir).is_store()
            remedy = "" if holds else "run mammo ingest with this address as ingest.store first, or correct store_dir"
            found = f"{config.store_dir} answers, and {'holds a store' if holds else 'holds no store'}"
            yield Complaint(check="store", is_well=holds, found=found, remedy=remedy)
    except MammoError as silent:
        remedy = "see docs/how-to/scale-out.md: the address, AWS_ENDPOINT_URL, and who we are there"
        yield Complaint(check="store", is_well=False, found=str(silent), remedy=remedy)


def _ledger(config: RunConfig) -> Iterator[Complaint]:
    """The database of the ledger, asked whether it lets us in."""
    if not (address := config.ingest.ledger):
        return
    try:
        from tasks.adapters.databases.postgresql import reach  # late: the driver is an extra

        reached, but, remedy = reach(address, name="ledger"), "", ""
        if not reached.takes_writes:
            but = ", and writes nothing: it only reads for another"
            remedy = "let ingest.ledger name the server that takes writes"
        elif not reached.may_make:
            but = ", and lets us make no schema"
            remedy = "GRANT CREATE ON DATABASE to its user: each store has a schema of its own"
        found = f"PostgreSQL {reached.version} answers at {address}{but}"
        yield Complaint(check="ledger", is_well=not but, found=found, remedy=remedy)
    except MammoError as silent:
        yield Complaint(check="ledger", is_well=False, found=str(silent), remedy="see docs/how-to/scale-out.md")


def _other_systems(config: RunConfig) -> Iterator[Complaint]:
    """Each peer, asked as ``mammo pacs echo`` does; and what our listener needs to begin."""
    if config.pacs is None:
        return
    from tasks.adapters.pacs.peers import callers, require_extra, server_context
    from tasks.adapters.pacs.sources import reach

    for name, peer in config.pacs.peers.items():
        try:
            reach(config.pacs, peer)
            yield Complaint(check="pacs", is_well=True, found=f"{name} answers")
        except MammoError as silent:
            remedy = "see docs/how-to/pacs.md; it is asked in the same way by mammo pacs echo"
            yield Complaint(check="pacs", is_well=False, found=f"{name}: {silent}", remedy=remedy)
    if config.pacs.listen is None:
        return
    try:
        require_extra()
        known = [title for title, caller in callers(config.pacs).items() if caller.peer.may_push]
        if config.pacs.listen.uses_tls and config.pacs.tls is not None:
            server_context(config.pacs.tls)
        found = f"the listener takes exams from {', '.join(known) or 'nobody'}"
        remedy = "" if known else "add a peer of kind dimse with may_push to pacs.peers"
        yield Complaint(check="pacs", is_well=bool(known), found=found, remedy=remedy)
    except MammoError as unfit:
        yield Complaint(check="pacs", is_well=False, found=f"the listener: {unfit}", remedy="see docs/how-to/pacs.md")
