"""``mammo serve``: server, deployments, workers and the watch over the inbox, all of which end with the command."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from deployments.server.lasting_process import Lasting, LastingProcess, LastingServer
from deployments.server.metrics_main import Measuring, metrics_command
from deployments.server.prefect_server import configured_api_url, prefect_server
from deployments.server.registration import POOLS, register
from deployments.server.server_trouble import lost_server_in_words
from schemas.config.run import RunConfig
from schemas.config.service import ServiceConfig
from schemas.errors import ConfigError, PeerRefused, SourceUnavailable
from tasks.adapters.inbox.source_folder import InboxState, InboxWatch
from tasks.adapters.inbox.sources.exam_source import state_of
from tasks.adapters.interpreter import python_command
from tasks.adapters.lock import held_lock
from tasks.adapters.pacs.listening.listener_main import listener_command
from tasks.adapters.workspace import SERVER_AUTH, Workspace, exam_store_dir, write_atomically

logger = logging.getLogger(__name__)

ARRIVED = "mammo.exams.arrived"
_SECONDS_TO_END = 20.0
SECONDS_BETWEEN_LOOKS = 0.5
_SHARE_OF_TIME_LOOKING = 0.1

# Read by the workers and the flow runs they start.
_WORKER_ENVIRONMENT = {
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # the least that Prefect allows
    "PREFECT_WORKER_QUERY_SECONDS": "2",
    "PREFECT_WORKER_PREFETCH_SECONDS": "5",
}


def serve(config: RunConfig, service: ServiceConfig, say: Callable[[str], None]) -> None:
    """Runs until it is interrupted; then everything it started has ended.

    Raises:
        ConfigError: The environment names another server, the settings ask for pods, or a port of theirs is taken.
        MammoError: The server or the deployments could not be set up; or the server has ended.
        StoreBusy: The workspace is served already.
    """
    _refuse_what_is_not_one_machine(service)
    home = Workspace(config.workspace_dir).server_dir
    os.umask(0o077)  # what it writes, and what its runs write, is the owner's
    os.environ.update(_WORKER_ENVIRONMENT)
    # One watches the inbox and looks after the workers: two would do both twice, under the same names.
    with held_lock(home / "serve", purpose="serve"), prefect_server(config.workspace_dir, is_protected=True) as address:
        server = LastingServer(address, home)
        with lost_server_in_words(address, server.has_ended):
            register(config, service)
        with _children(config, service, home) as children:
            for child in children:  # nothing is called there that is not: what is pushed too early may never come again
                child.wait_until_it_listens()
            asks = f"   (it asks for the line in {home / SERVER_AUTH})" if (home / SERVER_AUTH).exists() else ""
            say(f"Prefect UI: {address}{asks}")
            say(f"Inbox: {config.ingest.place}   (Ctrl-C stops everything)")
            if config.pacs is not None and config.pacs.listen is not None:
                say(f"Listener: {config.pacs.ae_title} at {config.pacs.listen.host}:{config.pacs.listen.port}")
            if service.metrics is not None:
                say(f"Metrics: http://127.0.0.1:{service.metrics.port}/metrics")
            watch_inbox(config, service, [server, *children])


def watch_inbox(config: RunConfig, service: ServiceConfig, lasting: Sequence[Lasting]) -> None:
    """Looks into the inbox, at most a tenth of the time: a look at a million files takes a while. Does not end by itself.

    Raises:
        ConfigError: The first look finds that the settings are wrong.
        MammoError: The server has ended.
    """
    from prefect.events import emit_event

    pause_s = SECONDS_BETWEEN_LOOKS if config.ingest.bucket_url is None else service.bucket_look_s
    # An object is whole once it is listed: one look is enough.
    settle_s = service.settle_s if config.ingest.bucket_url is None else 0.0
    watch, next_look_s = InboxWatch(settle_s=settle_s, longest_wait_s=service.longest_wait_s), 0.0
    is_first = True
    while True:
        began_s = time.monotonic()
        is_due = began_s >= next_look_s
        state = _look(config, is_first=is_first) if is_due else None
        now_s = time.monotonic()
        if state is not None and watch.arrived(state, now_s):
            emit_event(
                event=ARRIVED,
                resource={"prefect.resource.id": f"mammo.inbox.{config.name}"},
                payload={"files": state.files, "bytes": state.size_bytes},
            )
        if is_due:
            is_first = False
            next_look_s = now_s + max(pause_s, (now_s - began_s) / _SHARE_OF_TIME_LOOKING)
        for each in lasting:
            each.keep_alive()
        time.sleep(SECONDS_BETWEEN_LOOKS)


# ---------------------------------------------------------------------------------------------------------------------


def _refuse_what_is_not_one_machine(service: ServiceConfig) -> None:
    """Names of pools and deployments are the same everywhere: on somebody's server ours would take the place of theirs."""
    other = configured_api_url(os.environ)
    if other is not None:
        raise ConfigError(
            "mammo serve brings its own Prefect server, and another is configured",
            expected="no PREFECT_API_URL in the environment or the active Prefect profile",
            got=other,
            remedy="unset it (prefect config unset PREFECT_API_URL); to use that server: mammo deploy CONFIG, then "
            "prefect worker start --type process --pool mammo-cpu, and mammo-gpu",
        )
    if service.kubernetes is not None:
        raise ConfigError(
            "mammo serve runs processes on this machine",
            expected="no section kubernetes in the service's file",
            got="kubernetes",
            remedy="mammo deploy CONFIG --service SERVICE registers pools whose runs are pods",
        )


@contextmanager
def _children(config: RunConfig, service: ServiceConfig, home: Path) -> Iterator[list[LastingProcess]]:
    """The workers, and the listener and the metrics if there are to be any."""
    worker = python_command("-m", "prefect", "worker", "start", "--type", "process", "--limit", str(service.runs_at_once))
    children = [LastingProcess([*worker, "--pool", pool, "--name", f"{pool}-worker"], home / f"{pool}.log") for pool in POOLS]
    if config.pacs is not None and config.pacs.listen is not None:
        children.append(
            LastingProcess(listener_command(config.pacs, config.ingest.source_dir, home), home / "listener.log", listens=True)
        )
    if service.scoring_stays:
        children.append(LastingProcess(scoring_command(config, home), home / "scoring.log"))
    if service.metrics is not None:
        asked = Measuring(port=service.metrics.port, workspace_dir=config.workspace_dir, store_dir=exam_store_dir(config))
        children.append(LastingProcess(metrics_command(asked, home), home / "metrics.log", listens=True))
    try:
        for child in children:
            child.start()
        yield children
    finally:
        _end_all([child.process.pid for child in children if child.process is not None])


def scoring_command(config: RunConfig, home: Path) -> list[str]:
    """The command that stays with the network loaded; leaves the config that it reads in ``home``, the owner's only."""
    path = home / "scoring.json"
    write_atomically(path, config.model_dump_json().encode())  # JSON is YAML
    return python_command("-m", "deployments.cli", "infer", str(path), "--stay")


def _end_all(pids: list[int]) -> None:
    """Ends workers and every process below them: a flow run hears SIGTERM, keeps what is finished and can be resumed."""
    ours: list[psutil.Process] = []
    for pid in pids:
        try:
            worker = psutil.Process(pid)
            ours += [worker, *worker.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for process in ours:
            try:
                end(process)
            except psutil.NoSuchProcess:
                continue
        _, ours = psutil.wait_procs(ours, timeout=_SECONDS_TO_END)


def _look(config: RunConfig, *, is_first: bool) -> InboxState | None:
    """What the inbox holds; None = a bucket cannot be listed now, which ends nothing here.

    Raises:
        ConfigError: The first look finds that the settings are wrong. Later the same may come from others: whoever puts an
            object that no client can address does not end the workstation.
    """
    try:
        return state_of(config.ingest)
    except (SourceUnavailable, PeerRefused, ConfigError) as silent:
        if is_first and isinstance(silent, ConfigError):
            raise
        logger.warning("%s", silent)
        return None
