"""A command that loses its Prefect server says so in a sentence, whatever clients raise; other failures stay as they are."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from deployments.server.prefect_server import NO_NEW_BLOCK_TYPES
from deployments.server.server_trouble import configured_is_silent, lost_server_in_words, nobody_listens
from schemas.errors import ConfigError, MammoError
from tasks.adapters.interpreter import python_command


def test_what_fails_beside_a_server_that_is_there_stays_what_it_is() -> None:
    """A fault of ours keeps its traceback, and an error that has a sentence keeps it, whether a server is there or not."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        assert not nobody_listens(address)
        with pytest.raises(RuntimeError, match="ours"), lost_server_in_words(address, lambda: configured_is_silent(address)):
            raise RuntimeError("ours")
    for ours in (ConfigError("a wrong config"), PermissionError("the disk")):
        with pytest.raises(type(ours)), lost_server_in_words(address, lambda: configured_is_silent(address)):
            raise ours
    lost = lost_server_in_words(address, lambda: configured_is_silent(address))
    with pytest.raises(MammoError, match="does not answer"), lost:
        raise RuntimeError("what a client makes of it")


def test_a_server_behind_a_web_proxy_is_not_said_to_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A firewall that refuses the direct way says nothing of it: a fault of ours would be taken for its end."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with socket.create_server(("127.0.0.1", 0)) as closed_soon:
        address = f"http://127.0.0.1:{closed_soon.getsockname()[1]}"
    assert nobody_listens(address)
    monkeypatch.setenv("http_proxy", "http://proxy.invalid:3128")
    assert not nobody_listens(address)
    monkeypatch.setenv("no_proxy", "127.0.0.1")  # as our own server has it
    assert nobody_listens(address)


_KILLS_BEFORE_REGISTERING = """
import json, os, signal, sys
from pathlib import Path
from deployments import cli
from deployments.server import workstation

register = workstation.register

def killed_before(config, service):
    server = json.loads((config.workspace_dir / "prefect" / "server.json").read_text())
    os.kill(server["pid"], signal.SIGKILL)
    register(config, service)

workstation.register = killed_before
cli.main()
"""


@pytest.mark.e2e
def test_a_server_that_is_killed_while_deployments_are_registered_is_a_sentence(tmp_path: Path) -> None:
    """The first question of ``mammo serve`` meets nobody: its sentence, as when the server ends later, and code 1."""
    config = tmp_path / "run.yaml"
    config.write_text(json.dumps({"workspace_dir": str(tmp_path / "ws"), "ingest": {"source_dir": str(tmp_path / "inbox")}}))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    served = subprocess.run(
        python_command("-c", _KILLS_BEFORE_REGISTERING, "serve", str(config)),
        env=kept | NO_NEW_BLOCK_TYPES | {"PREFECT_HOME": str(tmp_path), "PREFECT_CLIENT_MAX_RETRIES": "0"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert served.returncode == 1 and "The Prefect server of mammo serve has ended" in served.stderr, served.stderr
    assert "Traceback" not in served.stderr


def test_deploying_needs_a_server_that_stays(tmp_path: Path) -> None:
    """Prefect brings up a temporary one where none is named: what is registered there is gone at once."""
    config = tmp_path / "run.yaml"
    config.write_text(json.dumps({"workspace_dir": str(tmp_path / "ws"), "ingest": {"source_dir": str(tmp_path / "inbox")}}))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")} | {
        "PREFECT_HOME": str(tmp_path)
    }
    command = python_command("-m", "deployments.cli", "deploy", str(config))
    for server, code, said in (
        ({}, 2, "There is no Prefect server to register at"),
        ({"PREFECT_API_URL": "http://127.0.0.1:1/api"}, 1, "The configured Prefect server does not answer"),
    ):
        told = subprocess.run(command, env=kept | server, capture_output=True, text=True, timeout=300, check=False)
        assert told.returncode == code and said in told.stderr and "Traceback" not in told.stderr, told.stderr
