"""The scale-out files: safe by default, and in step with the code."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.configuration import SHIPPED_CONFIGS, load_config
from deployments.server.prefect_server import PREFECT_DEFAULTS
from deployments.server.registration import POOLS
from schemas.config.ingest import ExistingDask
from tasks.adapters.pages.pdf_printer import BROWSERS

DEPLOYMENTS = SHIPPED_CONFIGS.parent
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOYMENTS / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_container_can_do_no_harm(name: str) -> None:
    """Nobody's user, read-only root, no capabilities, secrets as files, a tag that stays, a health check."""
    service = SERVICES[name]
    assert int(service["user"].split(":")[0]) > 0 and service["read_only"] is True
    assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
    assert re.search(r":\d+\.\d+[.\w-]*$", service["image"]), service["image"]
    check = service["healthcheck"]
    waited_for = [other["depends_on"].get(name, {}).get("condition") for other in SERVICES.values() if "depends_on" in other]
    assert check.get("test") or (check["disable"] and "service_completed_successfully" in waited_for)
    plain = {key: value for key, value in service.get("environment", {}).items() if re.search("PASSWORD|AUTH|SECRET", key)}
    assert all(key.endswith("_FILE") for key in plain), plain
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")


def test_the_server_is_given_all_that_a_scaled_out_one_needs() -> None:
    """Both halves have the same environment, with the four variables that Prefect's own example leaves out."""
    server = SERVICES["server"]["environment"]
    assert server == SERVICES["services"]["environment"]
    assert server["PREFECT_SERVER_EVENTS_CAUSAL_ORDERING"] == "prefect_redis.ordering"
    assert server["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"] == "prefect_redis.lease_storage"
    assert server["PREFECT_SERVER_DOCKET_URL"].startswith("redis://redis:")
    assert "--no-services" in SERVICES["server"]["command"]


def test_pools_dask_address_and_settings_are_those_of_the_code() -> None:
    """A worker of every pool; the shipped config finds the scheduler; the image has the defaults of the command."""
    commands = [service.get("command", ()) for service in SERVICES.values()]
    assert all(any(pool in command for command in commands) for pool in POOLS)
    dask = load_config(Path("cluster.yaml")).ingest.dask
    assert isinstance(dask, ExistingDask) and dask.address in SERVICES["dask-worker"]["command"]
    dockerfile = (DEPLOYMENTS / "Dockerfile").read_text()
    for name in ("DO_NOT_TRACK", "PREFECT_SERVER_ANALYTICS_ENABLED", "PREFECT_LOGGING_EXTRA_LOGGERS"):
        assert f"{name}={PREFECT_DEFAULTS[name]}" in dockerfile
    assert re.findall(r"^FROM runtime AS (\w+)$", dockerfile, re.MULTILINE) == ["cpu", "cuda"]
    assert dockerfile.index("USER 10001") < dockerfile.index("ENTRYPOINT")


@pytest.mark.parametrize(
    ("image", "at_least", "why"),
    [
        ("python", (3, 11, 13), "an archive writes outside its folder before"),
        ("postgres", (15, 16), "a crafted query runs code of its own before"),
        ("redis", (7, 4, 9), "a script runs code of its own before"),
    ],
)
def test_no_image_has_a_known_hole(image: str, at_least: tuple[int, ...], why: str) -> None:
    """Each foreign image is an exact release, of the same line as the one whose faults are known, and not older."""
    files = "".join((DEPLOYMENTS / name).read_text() for name in ("compose.yaml", "Dockerfile"))
    tags = re.findall(rf"(?:image:|FROM) {image}:([\d.]+)-", files)
    assert tags
    for tag in tags:
        numbers = tuple(int(part) for part in tag.split("."))
        assert len(numbers) == len(at_least) and numbers[:-1] == at_least[:-1] and numbers >= at_least, (tag, why)


def test_every_secret_is_a_file_that_only_its_users_get() -> None:
    """The passwords of the databases go to them and to the server's halves; workers, which run models, get neither."""
    assert all(str(source["file"]).startswith("./secrets/") for source in COMPOSE["secrets"].values())
    holders = {
        secret: {name for name, service in SERVICES.items() if secret in service.get("secrets", ())}
        for secret in COMPOSE["secrets"]
    }
    assert holders["postgres_password"] == {"postgres", "migrate", "server", "services"}
    assert holders["redis_password"] == {"redis", "server", "services"}


def test_redis_answers_only_who_knows_the_password(tmp_path: Path, until: Callable[..., bool]) -> None:
    """Compose's own command and health check, and Prefect's two ways to Redis with what the entrypoint makes of the secret."""
    if shutil.which("redis-server") is None or shutil.which("redis-cli") is None:
        pytest.skip("Redis is not installed (apt-get install redis-server)")
    (tmp_path / "redis_password").write_text("0123abcd\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    here = {"/run/secrets": str(tmp_path), "--dir /data": f"--dir {tmp_path} --bind 127.0.0.1 --port {port}", "$$": "$"}
    command = [_replaced(word, here) for word in SERVICES["redis"]["command"]]
    check = _replaced(SERVICES["redis"]["healthcheck"]["test"][1], {**here, "redis-cli": f"redis-cli -p {port}"})
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        assert until(lambda: subprocess.run(["sh", "-c", check], check=False, capture_output=True).returncode == 0, 60)
        refused = subprocess.run(["redis-cli", "-p", port, "ping"], capture_output=True, text=True, check=False)
        assert "NOAUTH" in refused.stdout + refused.stderr
        assert "0123abcd" not in Path(f"/proc/{server.pid}/cmdline").read_text()
        settings = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
            "MAMMO_SECRETS_DIR": str(tmp_path),
            "PREFECT_REDIS_MESSAGING_HOST": "127.0.0.1",
            "PREFECT_REDIS_MESSAGING_PORT": port,
            "PREFECT_SERVER_DOCKET_URL": f"redis://127.0.0.1:{port}/1",
        }
        script = ["sh", str(DEPLOYMENTS / "entrypoint.sh"), sys.executable, "-c", ASK_REDIS]
        asked = subprocess.run(script, env=settings, capture_output=True, text=True, check=False)
        assert asked.stdout.split() == ["True", "True"], asked.stderr
    finally:
        server.terminate()
        server.wait(timeout=60)


ASK_REDIS = """
import asyncio, os
from prefect_redis.client import get_async_redis_client
from redis.asyncio import Redis

async def main():
    print(await get_async_redis_client().ping(), await Redis.from_url(os.environ["PREFECT_SERVER_DOCKET_URL"]).ping())

asyncio.run(main())
"""


def test_the_image_can_print() -> None:
    """The run time has a browser, whose own sandbox is off where a container without privileges is the sandbox."""
    runtime = (DEPLOYMENTS / "Dockerfile").read_text().split("AS runtime\n")[1]
    assert re.search(r"apt-get install .*\bchromium\b", runtime) and "chromium" in BROWSERS
    assert "--no-sandbox" in runtime and runtime.index("chromium.d") < runtime.index("USER 10001")


def test_the_entrypoint_reads_secrets_from_files(tmp_path: Path) -> None:
    """Without secrets it only runs the command; with them the command has them where Prefect looks."""
    script = DEPLOYMENTS / "entrypoint.sh"
    settings = {
        "PATH": os.environ["PATH"],
        "MAMMO_SECRETS_DIR": str(tmp_path),
        "PREFECT_SERVER_DOCKET_URL": "redis://redis:6379/1",
    }

    def said(command: str) -> str:
        run = subprocess.run(["sh", str(script), "sh", "-c", command], env=settings, capture_output=True, text=True, check=True)
        return run.stdout.strip()

    assert said("umask") == "0077" and said("echo $PREFECT_SERVER_DOCKET_URL") == "redis://redis:6379/1"
    for name in COMPOSE["secrets"]:
        (tmp_path / name).write_text(f"{name}\n")
    assert said("echo $PREFECT_SERVER_DOCKET_URL") == "redis://:redis_password@redis:6379/1"
    assert said("echo $PREFECT_REDIS_MESSAGING_PASSWORD $PREFECT_API_AUTH_STRING") == "redis_password prefect_auth"
    assert said("echo $PREFECT_SERVER_DATABASE_CONNECTION_URL").endswith("//prefect:postgres_password@postgres:5432/prefect")


def _replaced(word: str, replacements: dict[str, str]) -> str:
    for old, new in replacements.items():
        word = word.replace(old, new)
    return word
