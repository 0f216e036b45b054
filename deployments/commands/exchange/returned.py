"""``mammo pacs return``: results of predicted exams go back to their PACS; what was given up is listed and sent again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, cast

import typer

from deployments.configuration import load_config
from schemas.config.pacs import ResultsConfig
from schemas.config.run import RunConfig
from schemas.errors import ConfigError
from schemas.reports.pages import ReturnedExam, ReturnReport
from tasks.adapters.workspace import Workspace


def return_results(
    config: Annotated[Path, typer.Argument(help="Config file with a section pacs.results")],
    show: Annotated[
        bool, typer.Option("--list", help="Show what waits and what was given up, with the reason; send nothing")
    ] = False,
    again: Annotated[
        list[str] | None,
        typer.Option(help="Exam (E...) that was given up or waits, to be tried now; all for every one; repeatable"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Send results of predicted exams back into their studies, as pacs.results says; what was sent is not sent again."""
    run = load_config(config)
    settings_of(run)
    if show:
        _show(run, as_json=as_json)
        return
    if again:
        _queue_again(run, again)
    from deployments.console import shown_progress
    from deployments.local_run import run_verb
    from deployments.server.prefect_server import prefect_server

    with prefect_server(run.workspace_dir) as ui_address, shown_progress():
        typer.echo(f"Prefect UI: {ui_address}", err=True)
        report = cast("ReturnReport", run_verb("return_results", run))
    typer.echo(report.model_dump_json(indent=1) if as_json else returned_text(report))
    if report.stopped:
        raise typer.Exit(75)


def settings_of(run: RunConfig) -> ResultsConfig:
    """The config's section.

    Raises:
        ConfigError: It has none.
    """
    if run.pacs is None or run.pacs.results is None:
        raise ConfigError(
            "The config says nothing of where results go",
            expected="a section pacs.results",
            remedy="see docs/how-to/results-to-pacs.md",
        )
    return run.pacs.results


def returned_text(report: ReturnReport) -> str:
    """What a run did, for people."""
    lines = [f"{exam.exam_id}: {exam.state}, {_outcome(exam)}" for exam in report.exams]
    delivered = sum(exam.state == "delivered" for exam in report.exams)
    lines.append(
        f"{delivered} exams returned to {report.peer}, {report.waiting} wait, {report.dead} were given up"
        + (" (mammo pacs return --list names them)" if report.dead else "")
    )
    if report.stopped:
        lines.append(f"Stopped: {report.stopped}")
    return "\n".join(lines)


def _outcome(exam: ReturnedExam) -> str:
    return exam.reason or f"{exam.objects_sent} objects sent, {exam.objects_there} were there"


def _show(run: RunConfig, *, as_json: bool) -> None:
    from tasks.adapters.results.outbox import DeliveryState, Outbox  # late: it makes the file

    path = Workspace(run.workspace_dir).outbox_path
    if not path.exists():
        typer.echo("[]" if as_json else "Nothing was returned yet.")
        return
    with Outbox(path) as outbox:
        listed = [each for state in (DeliveryState.DEAD, DeliveryState.QUEUED) for each in outbox.of_state(state)]
        counts = outbox.counts()
    if as_json:
        names = ("exam_id", "state", "attempts", "peer", "reason")
        typer.echo(json.dumps([{name: getattr(each, name) for name in names} for each in listed], indent=1))
        return
    for each in listed:
        typer.echo(f"{each.exam_id}  {each.state.value}  {each.attempts} tries  {each.peer}  {each.reason}")
    typer.echo(", ".join(f"{counts[state]} {state.value}" for state in DeliveryState))


def _queue_again(run: RunConfig, names: list[str]) -> None:
    from tasks.adapters.results.outbox import Outbox

    with Outbox(Workspace(run.workspace_dir).outbox_path) as outbox:
        queued = outbox.send_again() if "all" in names else outbox.send_again(names)
    typer.echo(f"{queued} exams are tried now", err=True)
