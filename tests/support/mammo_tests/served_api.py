"""A real Prefect server for the flows of this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deployments.server import prefect_server as services
from deployments.server.prefect_server import prefect_server

UNUSED_SERVICES = (
    "SCHEDULER",
    "LATE_RUNS",
    "PAUSE_EXPIRATIONS",
    "CANCELLATION_CLEANUP",
    "FOREMAN",
    "REPOSSESSOR",
    "CLEANUP_RECONCILER",
    "DB_VACUUM",
)
"""Each looks into the database every few seconds while the server lives; what they do is tried on servers of a test's own."""
EVENT_SERVICES = ("EVENT_PERSISTER", "TRIGGERS")
"""Each takes part of every event, a sixth of the server's work; only automations need them."""


@contextmanager
def served_api(home: Path, own: Path, *, automations: bool = False) -> Iterator[str]:
    """The API address of the server in ``home``, which this process's flows go to; their results lie in ``own``.

    With ``automations`` its triggers see events.
    """
    from prefect import settings
    from prefect.settings import temporary_settings

    before = dict(os.environ)
    os.environ.pop("PREFECT_API_URL", None)
    os.environ["PREFECT_HOME"] = str(own)  # not the developer's own profiles.toml
    off = (*UNUSED_SERVICES, *(() if automations else EVENT_SERVICES))
    switches = {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in off}
    os.environ.update(switches)
    # Several that find the usual port free would take it, and all but one start a second time.
    usual, services.USUAL_PORT = services.USUAL_PORT, 0
    try:
        with (
            prefect_server(home) as address,
            # Prefect read its environment when the test modules were collected.
            temporary_settings(
                {
                    settings.PREFECT_API_URL: f"{address}/api",
                    settings.PREFECT_HOME: home / "prefect",
                    settings.PREFECT_LOCAL_STORAGE_PATH: own / "results",
                    settings.PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,  # its thread costs a second per flow
                }
            ),
        ):
            services.USUAL_PORT = usual
            for name in switches:
                del os.environ[name]  # a server that a test starts has them all
            yield f"{address}/api"
    finally:
        os.environ.clear()
        os.environ.update(before)
