"""The Prefect server behind a command: the configured one, or an embedded one on loopback that ends with the command.

Everything a Prefect process reads from its environment is set here, before Prefect is imported.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import MammoError

USUAL_PORT = 4200
_START_TIMEOUT_S = 180.0
_PR_SET_PDEATHSIG = 1

# No telemetry, no promotional content, no silent throw-away server; readable results next to the data.
_ALWAYS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "tasks,flows,gmic_model",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the command prints its own lines; the UI gets all of Prefect's
    "GX_ANALYTICS_ENABLED": "false",
}


@contextmanager
def prefect_server(workspace_dir: Path) -> Iterator[str]:
    """Yields the UI's address, with this process's environment pointing to its server.

    A server named by ``PREFECT_API_URL`` or the active Prefect profile is used as it is. Otherwise one is started on
    127.0.0.1 with its database in ``workspace_dir/prefect``; its history stays there for the next command.

    Raises:
        MammoError: The server did not come up.
    """
    for name, value in _ALWAYS.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("PREFECT_RESULTS_LOCAL_STORAGE_PATH", str(workspace_dir / "prefect" / "results"))
    configured = _configured_api_url(os.environ)
    if configured is not None:
        os.environ["PREFECT_API_URL"] = configured
        yield configured.removesuffix("/api")
        return
    home = workspace_dir / "prefect"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.environ["PREFECT_HOME"] = str(home)
    running = _running_server(home)
    if running is not None:
        os.environ["PREFECT_API_URL"] = f"{running}/api"
        yield running
        return
    with _started_server(home) as address:
        yield address


@contextmanager
def _started_server(home: Path) -> Iterator[str]:
    port = _free_port()
    address = f"http://127.0.0.1:{port}"
    os.environ["PREFECT_API_URL"] = f"{address}/api"
    with (home / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches the flow first, and the server when the flow has ended
            preexec_fn=_end_with_parent,
        )
    try:
        _wait_until_healthy(process, address, home / "server.log")
        (home / "server.json").write_text(json.dumps({"pid": process.pid, "address": address}))
        yield address
        _send_what_waits()
    finally:
        (home / "server.json").unlink(missing_ok=True)
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _send_what_waits() -> None:
    """Logs and events leave in the background; what waits at the end would meet a stopped server and hold up the exit."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=20)
    EventsWorker.drain_all(timeout=20)


def _configured_api_url(environment: MutableMapping[str, str]) -> str | None:
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


def _running_server(home: Path) -> str | None:
    try:
        address = str(json.loads((home / "server.json").read_text())["address"])
    except (OSError, ValueError, KeyError):
        return None
    return address if _is_healthy(address) else None


def _wait_until_healthy(process: subprocess.Popen[bytes], address: str, log_path: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not _is_healthy(address):
        if process.poll() is not None or time.monotonic() > deadline:
            raise MammoError(
                "The embedded Prefect server did not start",
                expected=f"an answer at {address}",
                got="it ended" if process.poll() is not None else f"silence for {_START_TIMEOUT_S:.0f} s",
                remedy=f"see {log_path}, or set PREFECT_API_URL to a running server",
            )
        time.sleep(0.2)


def _is_healthy(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/api/health", timeout=2) as answer:  # noqa: S310  # loopback, our own server
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _free_port() -> int:
    for port in (USUAL_PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise MammoError("No free port on 127.0.0.1")


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
