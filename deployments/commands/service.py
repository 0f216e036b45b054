"""``mammo serve`` and ``mammo deploy``: the workstation, and what a server elsewhere must know."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from deployments.configuration import load_config, load_service
from deployments.server.lasting_process import LastingServer
from deployments.server.prefect_server import configured_api_url, prefect_server
from schemas.config.service import ServiceConfig
from schemas.errors import ConfigError
from tasks.adapters.inbox.source_folder import require_apart
from tasks.adapters.workspace import Workspace, whole_path

_SECONDS_BETWEEN_LOOKS = 1.0
_OUR_OWN = "http://127.0.0.1:"

ServicePath = Annotated[Path | None, typer.Option(help="Settings of the service, see docs/how-to/run-a-workstation.md")]


def serve(
    config: Annotated[Path | None, typer.Argument(help="The run to keep up to date; without it only history is shown")] = None,
    service: ServicePath = None,
    workspace: Annotated[Path, typer.Option(help="Without a config: the workspace whose history to show")] = Path("demo"),
) -> None:
    """Bring up the workstation: Prefect UI, scheduled deployments, workers, inbox watch; Ctrl-C stops all.

    Without CONFIG: the UI over a workspace's history. With PREFECT_API_URL set it ends with code 2: mammo deploy is for that.
    """
    if config is None:
        with prefect_server(whole_path(workspace)) as address:
            typer.echo(f"Prefect UI: {address}   (Ctrl-C stops it)")
            server = LastingServer(address, Workspace(whole_path(workspace)).server_dir)
            while address.startswith(_OUR_OWN):
                server.keep_alive()
                time.sleep(_SECONDS_BETWEEN_LOOKS)
            signal.pause()
        return
    from deployments.server.workstation import serve as serve_workstation

    run = load_config(config)
    require_apart(run.workspace_dir, run.ingest.source_dir)
    serve_workstation(run, load_service(service) if service else ServiceConfig(), typer.echo)


def deploy(
    config: Annotated[Path, typer.Argument(help="Config file; a shipped name such as demo.yaml works too")],
    service: ServicePath = None,
) -> None:
    """Register pools, limits, deployments and automations at the server of PREFECT_API_URL; workers run elsewhere."""
    settings, run = load_service(service) if service else ServiceConfig(), load_config(config)
    require_apart(run.workspace_dir, run.ingest.source_dir)
    if configured_api_url(os.environ) is None:  # Prefect would bring one up, take all of it, and stop it again
        raise ConfigError(
            "There is no Prefect server to register at",
            expected="PREFECT_API_URL in the environment or the active Prefect profile",
            remedy="name the server there; where this machine is to be all of it: mammo serve CONFIG",
        )
    with prefect_server(run.workspace_dir):
        from deployments.server.registration import register  # late: Prefect reads its environment when it is imported

        register(run, settings)
    kind = "process" if settings.kubernetes is None else "kubernetes"
    typer.echo(f"Registered. Start workers: prefect worker start --type {kind} --pool mammo-cpu (and mammo-gpu)")
