"""``mammo doctor``: is this machine fit for the work? Every fault comes with what to do about it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from deployments.commands.examination import course, files, machine, systems
from deployments.commands.examination.complaint import Complaint
from deployments.configuration import load_config
from schemas.config.run import RunConfig
from schemas.errors import ConfigError

ConfigOption = Annotated[Path | None, typer.Argument(help="Also look at what this run needs: files, key, buckets, PACS")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print findings as JSON")]
ExamOption = Annotated[bool, typer.Option("--exam", help="First send a synthetic exam the whole way; needs CONFIG")]


def doctor(config: ConfigOption = None, as_json: JsonOption = False, exam: ExamOption = False) -> None:
    """Check codecs, disk, memory, keys, server, GPU and versions; exit code 1 if something is not well."""
    if exam:
        _send_exam(config)
    findings = list(examine(load_config(config) if config else None))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            typer.echo(f"{'well ' if finding.is_well else 'FAULT'} {finding.check:<10} {finding.found}")
            if finding.remedy:
                typer.echo(f"      do: {finding.remedy}")
    if not all(finding.is_well for finding in findings):
        raise typer.Exit(1)


def examine(config: RunConfig | None) -> Iterator[Complaint]:
    """Every check in turn."""
    yield from machine.versions()
    yield machine.codecs()
    yield machine.gate()
    yield machine.memory(config)
    yield machine.gpu(config)
    yield machine.server()
    if config is not None:
        yield files.disk(config.workspace_dir)
        yield files.key(config)
        yield from files.inputs(config)
        yield from systems.bucket(config)
        yield from systems.dask(config)
        yield from systems.object_store(config)
        yield from systems.ledger(config)
        yield from systems.peers(config)
        yield from course.devices_as_they_began(config)
        yield from course.synthetic_exam_came_out(config)


# ---------------------------------------------------------------------------------------------------------------------


def _send_exam(path: Path | None) -> None:
    """As the service does every hour.

    Raises:
        ConfigError: No config says where, or with which network.
        MammoError: It did not come out.
    """
    if path is None:
        raise ConfigError("--exam needs the config of a workspace", expected="mammo doctor CONFIG --exam")
    from deployments.local_run import run_verb
    from deployments.server.prefect_server import prefect_server

    config, before = load_config(path), dict(os.environ)
    try:
        with prefect_server(config.workspace_dir):
            run_verb("health", config)
    finally:
        os.environ.clear()  # it names a server that has ended, which the doctor would miss
        os.environ.update(before)
