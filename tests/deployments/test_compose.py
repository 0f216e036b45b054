"""The scale-out files: safe by default, and in step with the code."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.configuration import SHIPPED_CONFIGS, load_config
from deployments.server.prefect_server import PREFECT_DEFAULTS
from deployments.server.registration import POOLS
from schemas.config.ingest import ExistingDask

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


def test_the_entrypoint_reads_secrets_from_files(tmp_path: Path) -> None:
    """It is a valid script, and without secrets it only runs the command."""
    script = DEPLOYMENTS / "entrypoint.sh"
    subprocess.run(["sh", "-n", str(script)], check=True)
    said = subprocess.run(["sh", str(script), "sh", "-c", "umask"], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "0077"
