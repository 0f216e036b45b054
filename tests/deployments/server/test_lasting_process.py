"""Processes that serve as long as ``mammo serve`` does: whoever is told that one listens can call it at once."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.server.lasting_process import LastingProcess, LastingServer
from schemas.errors import ConfigError, MammoError

LISTENER = """
import json, socket, sys, time
time.sleep(0.5)  # imports
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listening:
    sys.stdout.write(json.dumps({"listening": int(sys.argv[1])}) + "\\n")
    sys.stdout.flush()
    time.sleep(600)
"""


@pytest.fixture
def port() -> Iterator[int]:
    """A port that nobody else is given while the test runs."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def listener(tmp_path: Path, port: int) -> LastingProcess:
    """One that needs a moment; its log says that an earlier one listened."""
    (tmp_path / "listener.log").write_text('{"listening": 11112}\n')
    return LastingProcess([sys.executable, "-c", LISTENER, str(port)], tmp_path / "listener.log", listens=True)


def test_it_is_said_to_listen_once_it_does(tmp_path: Path, port: int) -> None:
    """What an earlier process said in the same log does not count."""
    process = listener(tmp_path, port)
    process.start()
    assert process.process is not None
    try:
        process.wait_until_it_listens()
        with socket.create_connection(("127.0.0.1", port), timeout=60):
            pass
    finally:
        process.process.kill()
        process.process.wait()


def test_one_that_cannot_listen_is_told_with_what_it_said(tmp_path: Path, port: int) -> None:
    """Another program has the port: the command ends in place of saying where nothing is."""
    with socket.create_server(("127.0.0.1", port)):
        process = listener(tmp_path, port)
        process.start()
        with pytest.raises(ConfigError, match=r"does not listen(?s:.*)Address already in use(?s:.*)listener\.log"):
            process.wait_until_it_listens()


def test_a_server_that_ended_ends_what_needs_it(tmp_path: Path) -> None:
    """Nothing would be ingested without it, and nobody be told: a system service starts all of it again."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = LastingServer(f"http://127.0.0.1:{listening.getsockname()[1]}", tmp_path)
        server.keep_alive()
    with pytest.raises(MammoError, match=r"has ended, and mammo serve with it(?s:.*)start mammo serve again(?s:.*)server\.log"):
        server.keep_alive()
