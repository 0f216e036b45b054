"""The Prefect server behind a command: the configured one, or an embedded one on loopback that ends with the command.

Everything a Prefect process reads from its environment is set here, before Prefect is imported.
"""

from __future__ import annotations

import base64
import ctypes
import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from deployments.server.new_database import has_database, keep_new_database, place_new_database
from deployments.server.server_trouble import (
    configured_is_silent,
    full_disk_in_words,
    lost_server_in_words,
    require_room,
    server_has_ended,
)
from schemas.errors import MammoError
from tasks.adapters.databases.sqlite_file import sqlite_url
from tasks.adapters.interpreter import python_command
from tasks.adapters.workspace import SERVER_AUTH, SERVER_DATABASE, Workspace, place_secret

USUAL_PORT = 4200
_START_TIMEOUT_S = 600.0
_PATIENCE_S = 30.0  # a server that is busy is not dead: a second one over its database would be of no use to anybody
_PR_SET_PDEATHSIG = 1
NO_NEW_BLOCK_TYPES: Final = dict.fromkeys(
    ("PREFECT_SERVER_REGISTER_BLOCKS_ON_START", "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION"), "false"
)
"""By which a server does not look for the block types of newly installed packages, which takes it a second."""

# No telemetry, no promotional content, no silent throw-away server; readable results next to the data.
PREFECT_DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_DATABASE_TIMEOUT": "60",  # SQLite has one writer; the others wait instead of failing
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs,orphans",  # the database does not grow for ever
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": "7776000",  # 90 days
    "PREFECT_LOGGING_EXTRA_LOGGERS": "tasks,flows,gmic_model",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # the same functions also run outside flows
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the command prints its own lines; the UI gets all of Prefect's
    "GX_ANALYTICS_ENABLED": "false",
}


@contextmanager
def prefect_server(workspace_dir: Path, *, is_protected: bool = False) -> Iterator[str]:
    """Yields the UI's address, with this process's environment pointing to its server.

    A server named by ``PREFECT_API_URL`` or the active Prefect profile is used as it is. Otherwise one is started on
    127.0.0.1 with its database in ``workspace_dir/prefect``; its history stays there for the next command. Commands that run
    at the same time in one workspace share it, and the one that started it ends it after the last of them.

    Args:
        workspace_dir: The server's home is its subfolder ``prefect``.
        is_protected: A server of our own asks for the auth string in ``prefect/auth``, which is made if it is not there. Once
            there, every command of the workspace uses it.

    Raises:
        MammoError: The server did not come up, or the configured one does not answer; or it has ended meanwhile.
        StoreError: The disk of our own server is full: it can neither start nor write down what a run does.
    """
    for name, value in PREFECT_DEFAULTS.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("PREFECT_RESULTS_LOCAL_STORAGE_PATH", str(Workspace(workspace_dir).server_dir / "results"))
    configured = configured_api_url(os.environ)
    if configured is None:
        home = Workspace(workspace_dir).server_dir
        with full_disk_in_words(home), _own_server(home, is_protected=is_protected) as address:
            yield address
        return
    address = configured.removesuffix("/").removesuffix("/api")
    if not is_healthy(address):
        raise configured_is_silent(address)
    os.environ["PREFECT_API_URL"] = configured
    with lost_server_in_words(address, partial(configured_is_silent, address)):
        yield address


@contextmanager
def _own_server(home: Path, *, is_protected: bool) -> Iterator[str]:
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    home.chmod(0o700)
    os.environ["PREFECT_HOME"] = str(home)
    use_auth_string(home / SERVER_AUTH, os.environ, is_protected=is_protected)
    _reach_loopback_directly(os.environ)
    with _locked(home / "server.lock", fcntl.LOCK_EX):  # of two commands that begin together one starts the server
        address = running_server(home)
        process = None
        if address is None:
            process, address = _start_server(home, is_protected=is_protected)
        users = _lock(home / "server.users", fcntl.LOCK_SH)
    os.environ["PREFECT_API_URL"] = f"{address}/api"
    try:
        with lost_server_in_words(address, partial(server_has_ended, address, home)):
            yield address
    finally:
        try:
            _send_what_waits()
        finally:
            os.close(users)
            if process is not None:
                _stop_when_unused(process, home)


def use_auth_string(path: Path, environment: MutableMapping[str, str], *, is_protected: bool) -> None:
    """Server and clients of this process and its children agree on the auth string, if there is one.

    An empty file, of a disk that was full or of somebody who made it, holds none: a server that took it would ask nobody.
    """
    if path.exists() and not path.read_text().strip():
        path.unlink(missing_ok=True)  # another command may have seen the same
    if is_protected and not path.exists() and not environment.get("PREFECT_SERVER_API_AUTH_STRING"):
        place_secret(path, f"mammo:{secrets.token_urlsafe(24)}".encode())
    if path.exists():
        environment["PREFECT_SERVER_API_AUTH_STRING"] = path.read_text().strip()
    if environment.get("PREFECT_SERVER_API_AUTH_STRING"):
        environment["PREFECT_API_AUTH_STRING"] = environment["PREFECT_SERVER_API_AUTH_STRING"]


def _start_server(home: Path, *, is_protected: bool) -> tuple[subprocess.Popen[bytes], str]:
    """Starts a server; on the usual port if it is free, so that the UI's address is the same every time.

    A port that was free a moment ago may be taken by another command's server when ours binds it. Ours ends then and the
    other one answers in its place, which only its ``home`` tells: hence a second try, on a port that nobody else wants.
    """
    require_room(home)  # without it takes seconds, on two ports, to end without a word
    is_first = place_new_database(home, os.environ)
    environment = server_environment(home, os.environ, is_protected=is_protected)
    for port in (free_port(USUAL_PORT, 0), free_port(0)):
        address = f"http://127.0.0.1:{port}"
        process = _spawn_server(home, port, address, environment)
        try:
            if _waited_until_ready(process, address, home):
                if is_first:
                    keep_new_database(home, os.environ)
                (home / "server.json").write_text(json.dumps({"pid": process.pid, "address": address}))
                return process, address
        except BaseException:
            _stop(process)
            raise
    raise MammoError(
        "The embedded Prefect server did not start",
        expected=f"an answer at {address}",
        got="it ended",
        remedy=f"see {home / 'server.log'}, or set PREFECT_API_URL to a running server",
    )


# As ``python -m prefect``, its large imports made at once: see ``tasks.adapters.interpreter``, which may not be importable.
_BOOT: Final = """
import gc, runpy
gc.disable()
import prefect.server.api.server
gc.freeze()
gc.enable()
runpy.run_module("prefect", run_name="__main__", alter_sys=True)
"""


def server_environment(home: Path, environment: Mapping[str, str], *, is_protected: bool) -> dict[str, str]:
    """What a server of ours is told beyond what this process is.

    Prefect compares the block types of all installed packages with the database's, which is a fifth of its start. Those that we
    use are in every database, and the server of ``mammo serve`` looks for others.
    """
    if is_protected or not has_database(home, environment):
        return dict(environment)
    return {**NO_NEW_BLOCK_TYPES, **environment}


def _spawn_server(home: Path, port: int, address: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with (home / "server.log").open("ab") as log:
        return subprocess.Popen(
            python_command("-c", _BOOT, "server", "start", "--host", "127.0.0.1", "--port", str(port)),
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches the flow first, and the server when the flow has ended
            preexec_fn=end_with_parent,
            umask=0o077,  # its database holds every parameter and log line
            env={
                **_database(home),
                **environment,
                "PREFECT_API_URL": f"{address}/api",
                "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
            },
        )


def _database(home: Path) -> dict[str, str]:
    """What Prefect must be told of its database: it makes an address of its home, in which these end or change the path."""
    if not {"?", "%"} & set(str(home)):
        return {}
    return {"PREFECT_SERVER_DATABASE_CONNECTION_URL": sqlite_url(home / SERVER_DATABASE, driver="sqlite+aiosqlite")}


def _waited_until_ready(process: subprocess.Popen[bytes], address: str, home: Path) -> bool:
    """True when our server answers, False if it has ended.

    Raises:
        MammoError: It neither answers nor ends.
    """
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not is_server_of(home, address):
        if process.poll() is not None:
            return False
        if time.monotonic() > deadline:
            raise MammoError(
                "The embedded Prefect server did not start",
                expected=f"an answer at {address}",
                got=f"silence for {_START_TIMEOUT_S:.0f} s",
                remedy=f"see {home / 'server.log'}, or set PREFECT_API_URL to a running server",
            )
        time.sleep(0.2)
    return True


def _stop_when_unused(process: subprocess.Popen[bytes], home: Path) -> None:
    """Another command of the same workspace may still be using the server; its run must not lose it."""
    try:
        while process.poll() is None and not _stopped_if_unused(process, home):  # one that has ended keeps nobody waiting
            time.sleep(0.5)
    finally:
        if process.poll() is None:  # Ctrl-C while waiting
            _stop(process)


def _stopped_if_unused(process: subprocess.Popen[bytes], home: Path) -> bool:
    with _locked(home / "server.lock", fcntl.LOCK_EX):
        try:
            os.close(_lock(home / "server.users", fcntl.LOCK_EX | fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        (home / "server.json").unlink(missing_ok=True)
        _stop(process)
        return True


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def _locked(path: Path, operation: int) -> Iterator[None]:
    descriptor = _lock(path, operation)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(path: Path, operation: int) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, operation)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _reach_loopback_directly(environment: MutableMapping[str, str]) -> None:
    """A hospital's web proxy must not be asked for 127.0.0.1."""
    for name in ("NO_PROXY", "no_proxy"):
        hosts = [host for host in environment.get(name, "").split(",") if host]
        if "127.0.0.1" not in hosts:
            environment[name] = ",".join([*hosts, "127.0.0.1"])


def _send_what_waits() -> None:
    """Logs and events leave in the background; what waits at the end would meet a stopped server and hold up the exit."""
    if "prefect" not in sys.modules:
        return  # nothing of ours spoke to the server
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=20)
    EventsWorker.drain_all(timeout=20)


def configured_api_url(environment: Mapping[str, str]) -> str | None:
    """The API address from the environment or the user's active Prefect profile."""
    if environment.get("PREFECT_API_URL"):
        return environment["PREFECT_API_URL"]
    home = Path(environment.get("PREFECT_HOME", Path.home() / ".prefect"))
    try:
        profiles = tomllib.loads((home / "profiles.toml").read_text())
    except (OSError, tomllib.TOMLDecodeError):
        return None
    active = environment.get("PREFECT_PROFILE", profiles.get("active", ""))
    url = profiles.get("profiles", {}).get(active, {}).get("PREFECT_API_URL")
    return str(url) if url else None


def running_server(home: Path) -> str | None:
    """The address of another command's server in this workspace, if it is alive."""
    try:
        address = str(json.loads((home / "server.json").read_text())["address"])
    except (OSError, ValueError, KeyError):
        return None
    return address if is_server_of(home, address, patience_s=_PATIENCE_S) else None


def is_server_of(home: Path, address: str, *, patience_s: float = 2.0) -> bool:
    """True if the server at an address keeps its history in ``home``, and says so within the time; where none is, at once."""
    try:
        request = urllib.request.Request(f"{address}/api/admin/settings", headers=authorization(os.environ))  # noqa: S310
        with urllib.request.urlopen(request, timeout=patience_s) as answer:  # noqa: S310  # loopback
            return Path(json.load(answer)["home"]).resolve() == home.resolve()
    except (OSError, ValueError, KeyError):
        return False


def authorization(environment: Mapping[str, str]) -> dict[str, str]:
    """The header of a request to a server that asks for its auth string."""
    auth = environment.get("PREFECT_API_AUTH_STRING")
    return {"Authorization": f"Basic {base64.b64encode(auth.encode()).decode()}"} if auth else {}


def is_healthy(address: str) -> bool:
    """True if a Prefect server answers at an address; also one that asks for an auth string."""
    try:
        with urllib.request.urlopen(f"{address}/api/health", timeout=10) as answer:  # noqa: S310  # the user's own server
            return bool(answer.status == 200)
    except urllib.error.HTTPError as refused:
        return refused.code in (401, 403)  # it is there and wants PREFECT_API_AUTH_STRING
    except (OSError, ValueError):
        return False


def free_port(*wanted: int) -> int:
    """The first of the wanted ports that is free on loopback; 0 lets the system choose a free one."""
    for port in wanted:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise MammoError("No free port on 127.0.0.1")


def end_with_parent() -> None:
    """For a child before it executes: SIGTERM when the thread that started it ends, however it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
