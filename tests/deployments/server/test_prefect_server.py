"""The Prefect server behind a command: whose it is, who ends it, and what it may not do."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest

from deployments.server import prefect_server as services
from deployments.server.prefect_server import prefect_server, server_environment
from schemas.errors import MammoError, StoreError

FIRST, SECOND = "what?now=1", "100%25 sure#1"
"""Two workspaces: a question mark ends the path in a database's address, and a percent sign begins a code."""


@pytest.fixture(autouse=True)
def own_environment(tmp_path: Path) -> Iterator[None]:
    """prefect_server writes into the environment; each test begins and ends with the one that was there."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    os.environ["PREFECT_HOME"] = str(tmp_path / "no-profile")
    yield
    os.environ.clear()
    os.environ.update(before)


# ------------------------------------------------------------------------------------------------- a configured server


class _Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # the name http.server calls
        self.send_response(200 if self.path == "/api/health" else 404)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Says nothing."""


@pytest.fixture
def somebodys_server() -> Iterator[str]:
    """The API address of a server that is not ours."""
    server = HTTPServer(("127.0.0.1", 0), _Health)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/api"
    server.shutdown()
    server.server_close()


def test_a_configured_server_is_used_as_it_is(tmp_path: Path, somebodys_server: str) -> None:
    """PREFECT_API_URL wins: nothing is started, no home is made, the UI's address is the server's."""
    os.environ["PREFECT_API_URL"] = somebodys_server
    with prefect_server(tmp_path) as address:
        assert address == somebodys_server.removesuffix("/api")
        assert os.environ["PREFECT_API_URL"] == somebodys_server
    assert not (tmp_path / "prefect").exists()


def test_the_active_profile_names_the_server_too(tmp_path: Path, somebodys_server: str) -> None:
    """``prefect profile use`` is respected, as it is by Prefect itself."""
    home = Path(os.environ["PREFECT_HOME"])
    home.mkdir()
    (home / "profiles.toml").write_text(f'active = "ward"\n[profiles.ward]\nPREFECT_API_URL = "{somebodys_server}"\n')
    with prefect_server(tmp_path) as address:
        assert address == somebodys_server.removesuffix("/api")


def test_a_configured_server_that_is_silent_is_named(tmp_path: Path) -> None:
    """A sentence with the address and what to do, not a connection error from deep inside."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{probe.getsockname()[1]}/api"
        with pytest.raises(MammoError, match=r"configured Prefect server does not answer.*unset it"), prefect_server(tmp_path):
            pass


def test_a_taken_port_is_passed_over() -> None:
    """The usual port if it is free, any other if not."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        assert services.free_port(taken, 0) not in (0, taken)


def test_a_busy_server_is_not_taken_for_a_dead_one(tmp_path: Path) -> None:
    """It answers after a while: the next command waits for it, instead of starting another one over its database."""

    class Busy(_Health):
        def do_GET(self) -> None:
            time.sleep(2.5)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"home": str(tmp_path)}).encode())

    class Server(HTTPServer):
        def handle_error(self, *about: object) -> None:
            """Who did not wait is no fault of this server's."""

    server = Server(("127.0.0.1", 0), Busy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    (tmp_path / "server.json").write_text(json.dumps({"pid": os.getpid(), "address": address}))
    assert services.running_server(tmp_path) == address
    server.shutdown()
    server.server_close()
    assert services.running_server(tmp_path) is None


# ------------------------------------------------------------------------------------------------------ our own servers


def server_of(workspace: Path) -> psutil.Process:
    """The process of a workspace's server."""
    return psutil.Process(json.loads((workspace / "prefect" / "server.json").read_text())["pid"])


@dataclass
class Served:
    """``mammo serve`` over a workspace."""

    process: subprocess.Popen[str]
    workspace: Path
    address: str


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two workspaces, and the cache folder of somebody who has had no server yet."""
    return tmp_path_factory.mktemp("first")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[tuple[Served, Served]]:
    """Two workspaces served by two commands that begin at the same moment; the first has to make its database."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "DO_NOT", "GX_"))}
    clean["PREFECT_HOME"] = str(tmp_path_factory.mktemp("no-profile"))
    workspaces = {folder / FIRST: {"XDG_CACHE_HOME": str(folder / "cache")}, tmp_path_factory.mktemp("served"): {}}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "deployments.cli", "serve", "--workspace", str(workspace)],
            stdout=subprocess.PIPE,
            text=True,
            env=clean | own,
            umask=0,
        )
        for workspace, own in workspaces.items()
    ]
    served = []
    for process, workspace in zip(processes, workspaces, strict=True):
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("Prefect UI: http://127.0.0.1:"), line
        served.append(Served(process, workspace, line.split()[2]))
    yield served[0], served[1]
    for process in processes:
        if process.poll() is None:
            process.terminate()
        process.wait(timeout=60)


@dataclass
class Second:
    """A server of this process, of whoever has the first of ``pair``.

    Attributes:
        is_small: Its workspace is a file system of 8 MB.
        end: Leaves the block in which it lives.
    """

    workspace: Path
    address: str
    is_small: bool
    end: Callable[[], None]


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory, folder: Path, pair: tuple[Served, Served]) -> Iterator[Second]:
    """Started when the first has left something in the cache."""
    assert pair
    workspace, before = folder / SECOND, dict(os.environ)
    workspace.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(workspace)]
    is_small = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        with ExitStack() as stack:
            for name in [name for name in os.environ if name.startswith("PREFECT_")]:
                del os.environ[name]
            os.environ |= {"PREFECT_HOME": str(tmp_path_factory.mktemp("none")), "XDG_CACHE_HOME": str(folder / "cache")}
            address = stack.enter_context(prefect_server(workspace))
            os.environ.clear()
            os.environ.update(before)
            yield Second(workspace, address, is_small, stack.close)
    finally:
        if is_small:
            subprocess.run(["umount", "-l", str(workspace)], check=True)


def answers(address: str) -> bool:
    """True if a server is at the address."""
    try:
        with urllib.request.urlopen(f"{address}/api/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.e2e
def test_commands_that_begin_together_have_a_server_each(pair: tuple[Served, Served]) -> None:
    """Both want the usual port; each ends up with a server that keeps its own workspace's history."""
    assert pair[0].address != pair[1].address
    for served in pair:
        with urllib.request.urlopen(f"{served.address}/api/admin/settings", timeout=60) as answer:
            assert json.load(answer)["home"] == str(served.workspace / "prefect")


@pytest.mark.e2e
def test_an_embedded_server_is_private(pair: tuple[Served, Served]) -> None:
    """It listens on loopback only, its files are the owner's only, and it was told to phone nobody."""
    served = pair[0]
    home = served.workspace / "prefect"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700 and (home / "prefect.db").exists()
    assert [path for path in home.rglob("*") if path.stat().st_mode & 0o077] == []
    listening = [c.laddr.ip for c in server_of(served.workspace).net_connections() if c.status == psutil.CONN_LISTEN]
    assert listening and set(listening) == {"127.0.0.1"}
    environment = server_of(served.workspace).environ()
    assert environment["DO_NOT_TRACK"] == "1"
    assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == environment["GX_ANALYTICS_ENABLED"] == "false"
    assert environment["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] == "false"
    assert "127.0.0.1" in environment["NO_PROXY"].split(",")


@pytest.mark.e2e
def test_a_server_outlives_its_starter_while_another_command_uses_it(pair: tuple[Served, Served]) -> None:
    """The starter is told to end: it waits for the other command in the workspace, then stops the server, with code 143."""
    served = pair[0]
    server = server_of(served.workspace)
    del os.environ["PREFECT_HOME"]
    os.environ["PREFECT_HOME"] = str(served.workspace / "nothing-here")
    with prefect_server(served.workspace) as address:
        assert address == served.address
        served.process.send_signal(signal.SIGTERM)
        time.sleep(2)
        assert served.process.poll() is None and answers(address)
    assert served.process.wait(timeout=60) == 143
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE
    assert not answers(served.address) and not (served.workspace / "prefect" / "server.json").exists()


@pytest.mark.e2e
def test_a_server_ends_with_a_killed_command(pair: tuple[Served, Served], until: Callable[..., bool]) -> None:
    """Kill -9 of the command leaves no server behind."""
    served = pair[1]
    server = server_of(served.workspace)
    served.process.kill()
    served.process.wait()
    assert until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)
    assert not answers(served.address)


def test_a_command_s_server_does_not_look_for_block_types_that_its_database_has(tmp_path: Path) -> None:
    """A new database is given them, a service looks for those of newly installed packages, and what the user says counts."""
    look = "PREFECT_SERVER_REGISTER_BLOCKS_ON_START"
    assert look not in server_environment(tmp_path, {}, is_protected=False)
    (tmp_path / "prefect.db").touch()
    assert server_environment(tmp_path, {}, is_protected=False)[look] == "false"
    assert server_environment(tmp_path, {look: "true"}, is_protected=False)[look] == "true"
    assert look not in server_environment(tmp_path, {}, is_protected=True)
    chosen = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": "postgresql+asyncpg://elsewhere"}
    assert look not in server_environment(tmp_path, chosen, is_protected=False)


# ---------------------------------------------------------------------------------------------------------- who may ask


def test_an_auth_string_is_made_once_and_kept_from_others(tmp_path: Path) -> None:
    """0600, the same at the second start, and both server and clients get it."""
    path = tmp_path / "auth"
    environment: dict[str, str] = {}
    services.use_auth_string(path, environment, is_protected=False)
    assert not path.exists() and not environment
    services.use_auth_string(path, environment, is_protected=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again: dict[str, str] = {}
    services.use_auth_string(path, again, is_protected=False)
    assert again == environment and set(again) == {"PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"}
    assert path.read_text().startswith("mammo:") and len(path.read_text()) > 30
    path.write_text("\n")  # a disk that was full
    services.use_auth_string(path, fresh := {}, is_protected=True)
    assert path.read_text().startswith("mammo:") and fresh != environment and stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_server_that_asks_for_an_auth_string_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own PREFECT_SERVER_API_AUTH_STRING: the question who a server is carries it."""
    asked: list[str | None] = []

    class Protected(_Health):
        def do_GET(self) -> None:
            asked.append(self.headers["Authorization"])
            self.send_response(200 if asked[-1] else 401)
            self.end_headers()
            self.wfile.write(json.dumps({"home": str(tmp_path)}).encode())

    server = HTTPServer(("127.0.0.1", 0), Protected)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    assert not services.is_server_of(tmp_path, address)
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "user:word")
    services.use_auth_string(tmp_path / "auth", os.environ, is_protected=True)
    assert services.is_server_of(tmp_path, address) and not (tmp_path / "auth").exists()
    assert asked[-1] == "Basic dXNlcjp3b3Jk"
    server.shutdown()
    server.server_close()


# ----------------------------------------------------------------------------------------- where it writes, and its end


def rows(path: Path) -> dict[str, int]:
    """Lines per table, of tables that have any."""
    with closing(sqlite3.connect(path)) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        counts = {name: database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}  # noqa: S608
    return {name: count for name, count in counts.items() if count}


@pytest.mark.e2e
def test_the_second_workspace_gets_what_the_first_was_given(folder: Path, second: Second) -> None:
    """What is kept is empty but for Prefect's own block types; a server over a copy of it answers, with the same tables.

    Each is in its workspace, whatever that is called, and nothing lands beside it.
    """
    header = {"Content-Type": "application/json"}
    asked = urllib.request.Request(f"{second.address}/api/flow_runs/filter", json.dumps({}).encode(), header)
    with urllib.request.urlopen(asked, timeout=60) as answer:
        assert json.load(answer) == []
    (empty,) = (folder / "cache" / "mammography-gmic").iterdir()
    assert set(rows(empty)) == {"alembic_version", "block_schema", "block_schema_reference", "block_type"}
    assert stat.S_IMODE(empty.stat().st_mode) == 0o600
    assert rows(folder / FIRST / "prefect" / "prefect.db") == rows(second.workspace / "prefect" / "prefect.db") == rows(empty)
    assert {path.name for path in folder.iterdir()} == {FIRST, SECOND, "cache"}


@pytest.mark.e2e
def test_a_full_disk_under_the_server_is_a_sentence(second: Second) -> None:
    """Full before it starts, and full while a command works: exit code 5 and what to do; with room it goes on."""
    if not second.is_small:
        pytest.skip("mounting a small tmpfs needs root")
    filled, another = second.workspace / "filled", second.workspace / "another"
    another.mkdir()
    _fill(filled)
    with pytest.raises(StoreError, match=r"Prefect server is full.*not started.*make room"), prefect_server(another):
        pass
    filled.unlink()
    with pytest.raises(RuntimeError), prefect_server(second.workspace) as shared:
        raise RuntimeError("there is room: it is something else")
    del os.environ["PREFECT_API_URL"]
    with pytest.raises(StoreError, match=r"Prefect server is full.*Got: RuntimeError"), prefect_server(second.workspace):
        _fill(filled)
        raise RuntimeError("what a client makes of the server's answer")
    filled.unlink()
    assert shared == second.address


@pytest.mark.e2e
def test_a_killed_server_is_no_reason_to_wait_for_who_used_it(second: Second) -> None:
    """Else mammo serve would not end with it while somebody trains in the same workspace."""
    hold = "import fcntl, sys, time\nopened = open(sys.argv[1])\nfcntl.flock(opened, fcntl.LOCK_SH)\nprint(flush=True)"
    command = [sys.executable, "-P", "-c", f"{hold}\ntime.sleep(600)", str(second.workspace / "prefect" / "server.users")]
    another = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert another.stdout is not None and another.stdout.readline()
    server_of(second.workspace).kill()
    second.end()
    assert another.poll() is None, "it was waited for until it ended by itself"
    another.kill()
    another.wait()


def _fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
