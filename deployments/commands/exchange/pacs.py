"""``mammo pacs``: the other systems of a config, for the person who sets them up."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from deployments.commands.exchange.returned import return_results
from deployments.commands.exchange.shown import show
from deployments.configuration import load_config
from schemas.config.pacs import PacsConfig
from schemas.config.run import RunConfig
from schemas.errors import ConfigError, MammoError, PeerUnavailable, error_name
from tasks.adapters.inbox.source_folder import require_apart
from tasks.adapters.pacs.peers import peer_of

app = typer.Typer(
    help="Other systems: ask whether they answer, find and fetch exams, take what they push, return results.",
    no_args_is_help=True,
)

app.command("return")(return_results)
app.command()(show)

ConfigPath = Annotated[Path, typer.Argument(help="Config file with a section pacs")]
PeerOption = Annotated[str | None, typer.Option("--peer", help="One of pacs.peers; without it all of them")]
SourcePeer = Annotated[str | None, typer.Option("--peer", help="One of pacs.peers, instead of ingest.source.peer")]
Since = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Exams from this day on")]
Until = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="With --since: to this day; without it to today")]
LastDays = Annotated[int | None, typer.Option(min=0, help="Exams of today and of so many days before")]
Worklist = Annotated[Path | None, typer.Option(help="CSV with a column accession_number or study_instance_uid: these exams")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]


@app.command()
def echo(config: ConfigPath, peer: PeerOption = None, as_json: AsJson = False) -> None:
    """Ask each peer whether it answers and accepts us: C-ECHO, or an empty QIDO-RS question; code 1 if one does not."""
    from tasks.adapters.pacs.sources import reach

    pacs = pacs_of(load_config(config))
    names = list(pacs.peers) if peer is None else [peer]
    answers: dict[str, str] = {}
    for name in names:
        found = peer_of(pacs, name)
        try:
            reach(pacs, found)
            answers[name] = "answers"
        except MammoError as silent:
            answers[name] = str(silent)
    if as_json:
        typer.echo(json.dumps(answers, indent=1))
    else:
        for name, answer in answers.items():
            typer.echo(f"{name}: {answer}")
    if any(answer != "answers" for answer in answers.values()):
        raise typer.Exit(1)


@app.command()
def listen(config: ConfigPath) -> None:
    """Take exams that peers push into ingest.source_dir, until Ctrl-C; mammo serve does the same beside its workers."""
    from tasks.adapters.pacs.listening.listener_main import Listening
    from tasks.adapters.pacs.listening.listener_main import listen as take_what_is_pushed

    run = load_config(config)
    pacs = pacs_of(run)
    if pacs.listen is None:
        raise ConfigError("There is no listener in the config", expected="a section pacs.listen", got="none")
    settings = pacs.listen
    take_what_is_pushed(
        Listening(pacs=pacs, inbox_dir=run.ingest.source_dir),
        lambda listener: typer.echo(
            f"Listening: {pacs.ae_title} at {settings.host}:{settings.port}, for {', '.join(sorted(listener.known))}   "
            f"(Ctrl-C stops it)"
        ),
    )


@app.command()
def find(
    config: ConfigPath,
    peer: SourcePeer = None,
    since: Since = None,
    until: Until = None,
    last_days: LastDays = None,
    worklist: Worklist = None,
    as_json: AsJson = False,
) -> None:
    """Count the exams that a fetch would ask for: a question to see whether a source is set up right; fetches nothing."""
    from tasks.adapters.pacs.fetching import find_exams

    run = load_config(config, _of_source(config, peer, since, until, last_days, worklist))
    exams, not_there = find_exams(run, today=datetime.now(UTC).date())
    said = {"exams": len(exams), "exams_not_there": not_there}
    typer.echo(json.dumps(said) if as_json else f"{len(exams)} exams with mammograms; {not_there} of the worklist not there")


@app.command()
def fetch(
    config: ConfigPath,
    peer: SourcePeer = None,
    since: Since = None,
    until: Until = None,
    last_days: LastDays = None,
    worklist: Worklist = None,
    as_json: AsJson = False,
) -> None:
    """Fetch exams into ingest.source_dir, without those that are here; mammo ingest does it too. Code 75: some did not come."""
    from tasks.adapters.pacs.fetching import fetch as fetch_missing

    run = load_config(config, _of_source(config, peer, since, until, last_days, worklist))
    require_apart(run.workspace_dir, run.ingest.source_dir)
    try:
        done = fetch_missing(run, today=datetime.now(UTC).date())
    except OSError as trouble:
        remedy = "make room, or give the right to write; what has come is kept"
        raise ConfigError("The inbox cannot be written", got=error_name(trouble), remedy=remedy) from trouble
    counts = {name: count for name, count in done.counts().items() if count or name in ("exams", "images", "images_fetched")}
    typer.echo(json.dumps(done.counts()) if as_json else ", ".join(f"{count} {name}" for name, count in counts.items()))
    if not done.is_complete:
        typer.echo("Some did not come: run the same command again", err=True)
        raise typer.Exit(PeerUnavailable.exit_code)


def _of_source(
    config: Path, peer: str | None, since: datetime | None, until: datetime | None, last_days: int | None, worklist: Path | None
) -> dict[str, object]:
    """The section ingest.source with what flags say in the place of what it says of peer and exams."""
    flags: dict[str, object] = {}
    named: dict[str, object] = {
        "since": since.date() if since else None,
        "until": until.date() if until else None,
        "last_days": last_days,
        "worklist": None if worklist is None else str(worklist),
    }
    source = load_config(config).ingest.fetched_from
    if any(value is not None for value in named.values()):
        flags = {name: value for name, value in named.items() if value is not None}
    elif source is not None:
        flags = source.model_dump(exclude={"peer"})
    name = peer or (None if source is None else source.peer)
    return {"ingest.source": {**flags, "peer": name}} if name else {}


def pacs_of(run: RunConfig) -> PacsConfig:
    """The config's section.

    Raises:
        ConfigError: It has none.
    """
    if run.pacs is None:
        raise ConfigError("The config names no other system", expected="a section pacs", remedy="see docs/how-to/pacs.md")
    return run.pacs
