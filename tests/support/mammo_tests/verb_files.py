"""The two files that are written from the rows of ``deployments/verbs.py``; ``reference.py`` compares and writes them."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import typer

from deployments.cli import EXIT_CODES, app
from deployments.server.registration import shipped_deployments
from deployments.verb import Deployment
from deployments.verbs import GROUPS, VERBS, deployed_flows

ROOT: Final = Path(__file__).parents[3]


def commands_page() -> str:
    """``docs/reference/commands.md``: every verb by group, its flags, exit codes, and what a service runs when."""
    lines = [
        "# Commands",
        "",
        "This page is written from `deployments/verbs.py` by `make reference`. `mammo VERB --help` says the same.",
        "`CONFIG` is a YAML file, or the name of a shipped one (`mammo configs` lists them). A flag in brackets may",
        "be left out.",
        "",
    ]
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # a group
    for group in GROUPS:
        lines += [f"## {group}", "", "| command | what it does |", "|---|---|"]
        for verb in (verb for verb in VERBS if verb.group == group):
            lines.append(f"| `mammo {verb.name}` | {verb.help} |")
        lines.append("")
        for verb in (verb for verb in VERBS if verb.group == group):
            lines += _flags(f"mammo {verb.name}", commands[verb.name])
    codes = EXIT_CODES.removeprefix("Exit codes: ").removesuffix(".").split("; ")
    lines += ["## Exit codes", "", "| code | meaning |", "|---|---|"]
    lines += [f"| {code} | {meaning} |" for code, meaning in (each.split(" ", 1) for each in codes)]
    lines += ["", "## What a service runs", "", "Times are UTC. One run of each at a time.", ""]
    lines += ["| deployment | pool | when | if one is on |", "|---|---|---|---|"]
    lines += [_service_line(name, row) for name, row in sorted(deployed_flows().items())]
    return "\n".join(lines) + "\n"


WRITTEN: Final[dict[str, Callable[[], str]]] = {
    "docs/reference/commands.md": commands_page,
    "deployments/prefect.yaml": shipped_deployments,
}


def _flags(title: str, command: Any) -> list[str]:
    """A heading and a table for a command; for one with commands of its own, of each of them."""
    if hasattr(command, "commands"):
        return [line for name, each in command.commands.items() for line in _flags(f"{title} {name}", each)]
    rows = list(_parameters(command))
    about = inspect.cleandoc(command.help or "").replace("\n\n", "\n").splitlines()
    more = [*textwrap.wrap(" ".join(about[1:]), 100), ""] if len(about) > 1 else []
    table = ["| argument or flag | |", "|---|---|", *rows, ""] if rows else []
    return [f"### `{title}`", "", *more, *table]


def _parameters(command: Any) -> Iterator[str]:
    for each in command.params:
        names = each.name.upper() if each.param_type_name == "argument" else ", ".join([*each.opts, *each.secondary_opts])
        asked = f"`{names}`" if each.required else f"[`{names}`]"
        says_nothing = each.default is None or each.default is False or each.default == ""
        shown = "" if says_nothing or each.required else f" (default {each.default})"
        yield f"| {asked} | {each.help or ''}{shown} |"


def _service_line(name: str, row: Deployment) -> str:
    when = [f"{row.schedule.slug}: `{row.schedule.cron}`"] if row.schedule else []
    when += ["event " + ", ".join(row.event["expect"])] if row.event else []
    busy = "the new run is left out" if row.skips_when_busy else "the new run waits"
    return f"| {name} | {row.pool} | {'; '.join(when) or 'when asked'} | {busy} |"
