"""``mammo accept``: a model against the exams of this site, by the rules of the config."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, cast

import typer

from deployments.configuration import load_config
from deployments.console import shown_progress
from deployments.local_run import run_verb
from deployments.server.prefect_server import prefect_server
from schemas.errors import ValidationFailed
from schemas.reports.life.acceptance import AcceptanceReport, Verdict

_DECIDED_AGAINST: Final = (Verdict.REFUSED, Verdict.NOT_ENOUGH)


def accept(
    model: Annotated[str, typer.Argument(help="A pack, a checkpoint folder, an ensemble.json, or first digits of a digest")],
    config: Annotated[Path, typer.Argument(help="Config file of the workspace, its section accept the rules")],
    key: Annotated[Path | None, typer.Option("--key", help="Key file that a pack must be signed with")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON")] = False,
) -> None:
    """Judge a model on this site's exams by the rules of the config, and propose a threshold for each device.

    It says what the locked threshold recalls, and what labels and readers say of that, with or without either. A pack is
    installed first; what is in use stays as it is. Refused, or not enough to decide, ends with code 4.
    """
    run, name = load_config(config), model
    if key is not None:
        from tasks.adapters.lifecycle.accepting.model_source import model_folder
        from tasks.adapters.lifecycle.pack_file import read_pack_key

        name = str(model_folder(run, model, key=read_pack_key(key)))
    with prefect_server(run.workspace_dir) as ui_address, shown_progress():
        typer.echo(f"Prefect UI: {ui_address}", err=True)
        report = cast("AcceptanceReport", run_verb("accept", run, model=name))
    if as_json:
        typer.echo(report.model_dump_json(indent=1))
    else:
        from tasks.adapters.pages.evaluations.acceptance_page import acceptance_text

        typer.echo(acceptance_text(report))
    if report.verdict in _DECIDED_AGAINST:
        raise typer.Exit(ValidationFailed.exit_code)
