"""``mammo pacs``: the other systems of a config, for the person who sets them up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from deployments.configuration import load_config
from schemas.config.pacs import PacsConfig
from schemas.config.run import RunConfig
from schemas.errors import ConfigError, MammoError
from tasks.adapters.pacs.peers import peer_of

app = typer.Typer(
    help="Other systems: ask whether they answer, find and fetch exams, take what they push.", no_args_is_help=True
)

ConfigPath = Annotated[Path, typer.Argument(help="Config file with a section pacs")]
PeerOption = Annotated[str | None, typer.Option("--peer", help="One of pacs.peers; without it all of them")]
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


def pacs_of(run: RunConfig) -> PacsConfig:
    """The config's section.

    Raises:
        ConfigError: It has none.
    """
    if run.pacs is None:
        raise ConfigError("The config names no other system", expected="a section pacs", remedy="see docs/how-to/pacs.md")
    return run.pacs
