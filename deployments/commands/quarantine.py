"""``mammo quarantine``: what the gate refused, why, where it lies, and what a person decides about it."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.configuration import load_config
from schemas.config.run import RunConfig
from schemas.errors import ConfigError
from schemas.exam import QuarantinedFile
from tasks.adapters.inbox.claims import publishable, rivals
from tasks.adapters.inbox.ledger import Ledger
from tasks.adapters.lock import held_lock
from tasks.adapters.workspace import Workspace

if TYPE_CHECKING:
    from tasks.adapters.inbox.store_ledger import StoreLedger

app = typer.Typer(help="Files that the gate refused: list, show, release, discard, draw.", no_args_is_help=True)

ConfigPath = Annotated[Path, typer.Argument(help="Config file; a shipped name such as demo.yaml works too")]
FileId = Annotated[str, typer.Argument(help="F and 24 hex digits, as `list` shows it")]


@app.command("list")
def list_refused(
    config: ConfigPath,
    reason: Annotated[
        str | None, typer.Option(help="Only files refused by this rule, such as X21, or deferred for this reason, such as EIO")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """List the refused files by pseudonym, with the rules that refused them; and those that could not be read."""
    run = load_config(config)
    with _ledger(run) as ledger:
        refused = [file for file in _refused_by(ledger) if reason is None or reason in file.reason_codes]
        deferred = [file for file in ledger.deferred() if reason in (None, file.reason)]
    if as_json:
        lines: list[dict[str, object]] = [{"file_id": file.file_id, "reason_codes": file.reason_codes} for file in refused]
        lines += [{"file_id": file.file_id, "deferred": file.reason} for file in deferred]
        typer.echo(json.dumps(lines, indent=1))
        return
    from tasks.adapters.gate.rules.table import demand

    for file in refused:
        typer.echo(f"{file.file_id}  {' '.join(file.reason_codes)}")
    counts = Counter(code for file in refused for code in file.reason_codes)
    for code, count in counts.most_common():
        typer.echo(f"{count:6d} x {code}: {demand(code)}")
    if not refused:
        typer.echo("no file is refused")
    for each in deferred:
        typer.echo(f"{each.file_id}  deferred: {each.reason}")
    for why, count in Counter(each.reason for each in deferred).most_common():
        typer.echo(
            f"{count:6d} x {why}: could not be read in the last ingest; the next one reads it, nothing is to be released"
        )


@app.command()
def show(
    config: ConfigPath,
    file_id: FileId,
    find: Annotated[
        bool, typer.Option("--find", help="Search the source folder and print the path; it may spell a name")
    ] = False,
) -> None:
    """Show why a file was refused and, on request, where it lies."""
    from tasks.adapters.gate.rules.table import demand

    run = load_config(config)
    with _ledger(run) as ledger:
        deferred = {each.file_id: each.reason for each in ledger.deferred()}
    if file_id in deferred:
        typer.echo(f"{file_id}\nCould not be read in the last ingest: {deferred[file_id]}. The next one reads it.")
    else:
        file = _one(run, file_id)
        typer.echo(file.file_id)
        for code in file.reason_codes:
            typer.echo(f"{code}: {demand(code)}")
        typer.echo(file.refusal.text)
    with _ledger(run) as ledger:
        for codes, reason, moment in ledger.releases(file_id):
            typer.echo(f"released {moment}, was {codes}: {reason}")
    if find:
        from tasks.adapters.inbox.sources.exam_source import find_sources
        from tasks.adapters.pseudonyms import open_key

        found = find_sources(run.ingest, [file_id], open_key(Workspace(run.workspace_dir).key_path))
        # ascii(): a file name may hold a newline or a terminal's commands.
        typer.echo(ascii(found[file_id].place) if found else f"not in {run.ingest.place} any more")


@app.command()
def release(
    config: ConfigPath,
    file_ids: Annotated[list[str], typer.Argument(help="Files to read again")],
    reason: Annotated[str, typer.Option(help="Why; kept in the ledger, so name no patient")],
) -> None:
    """Let refused files be read again by the next ingest, under the rules and limits of its config."""
    cleaned = _cleaned(reason, act="release")
    run = load_config(config)
    with _held(run, "quarantine release"), _ledger(run) as ledger:
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        released = ledger.release(file_ids, reason=cleaned, released_utc=moment)
        unknown = sorted(set(file_ids) - {file.file_id for file in released})
        contested = sorted(set(unknown) & {file.file_id for file in _refused_by(ledger)}) if unknown else []
    typer.echo(f"released {len(released)} of {len(set(file_ids))} files; `mammo ingest` reads them again")
    if contested:
        raise ConfigError(
            f"{len(contested)} of these files are left out because of what other files say, whoever reads them again",
            got=_shown_ids(contested),
            remedy="`mammo quarantine show` says why: `discard` the wrong files, or `keep` the right one (I06)",
        )
    if unknown:
        raise ConfigError(
            f"{len(unknown)} of these files are not refused", got=_shown_ids(unknown), remedy="see `mammo quarantine list`"
        )


@app.command()
def discard(
    config: ConfigPath,
    file_ids: Annotated[list[str], typer.Argument(help="Refused files that are wrong, such as the wrong ones of an I06")],
    reason: Annotated[str, typer.Option(help="Why; kept in the ledger, so name no patient")],
) -> None:
    """Never use these files' content again, under whatever name it comes; the next ingest publishes what they contested."""
    from tasks.adapters.inbox.sources.exam_source import source_digests
    from tasks.adapters.pseudonyms import open_key

    cleaned = _cleaned(reason, act="discard")
    run = load_config(config)
    with _held(run, "quarantine discard"), _ledger(run) as ledger:
        known = {file.file_id: file for file in _refused_by(ledger)}
        unknown = sorted(set(file_ids) - known.keys())
        if unknown:
            raise ConfigError(
                f"{len(unknown)} of these files are not refused; nothing was discarded",
                got=_shown_ids(unknown),
                remedy="see `mammo quarantine list`",
            )
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        pseudonyms = open_key(Workspace(run.workspace_dir).key_path)
        ledger.key_digests(pseudonyms)
        digests = source_digests(run.ingest, file_ids, pseudonyms)
        ledger.discard(
            [known[file_id] for file_id in dict.fromkeys(file_ids)], reason=cleaned, released_utc=moment, digests=digests
        )
    typer.echo(f"discarded {len(set(file_ids))} files; run `mammo ingest` to publish what they contested")


@app.command()
def keep(
    config: ConfigPath,
    file_id: Annotated[str, typer.Argument(help="The right one of the files that contradict each other (I06)")],
    reason: Annotated[str, typer.Option(help="Why; kept in the ledger, so name no patient")],
) -> None:
    """Say which of the files of one SOPInstanceUID is right: the others are discarded, the next ingest publishes it."""
    cleaned = _cleaned(reason, act="choice")
    run = load_config(config)
    with _held(run, "quarantine keep"), _ledger(run) as ledger:
        others = rivals(ledger.manifest_lines(), file_id)
        if not others:
            raise ConfigError(
                "No other file contradicts this one",
                got=_shown_ids([file_id]),
                remedy="see `mammo quarantine list --reason I06`",
            )
        ledger.discard(others, reason=cleaned, released_utc=datetime.now(UTC).isoformat(timespec="seconds"))
    typer.echo(f"discarded the {len(others)} files that contradict it; run `mammo ingest` to publish it")


@app.command()
def sheet(
    config: ConfigPath,
    output: Annotated[Path | None, typer.Option(help="Where the page goes, instead of the workspace")] = None,
) -> None:
    """Draw the contact sheet: every refused file with its reasons and a small picture where its pixels decode."""
    from tasks.adapters.inbox.sources.exam_source import find_sources
    from tasks.adapters.pages.contact_sheet import write_contact_sheet
    from tasks.adapters.pseudonyms import open_key

    run = load_config(config)
    refused = _refused(run)
    workspace = Workspace(run.workspace_dir)
    sources = find_sources(run.ingest, [file.file_id for file in refused], open_key(workspace.key_path))
    path = write_contact_sheet(
        refused,
        sources,
        source_dir=run.ingest.source_dir,
        output_path=output or workspace.contact_sheet_path,
        created=datetime.now(UTC),
        limits=run.ingest.gate_limits,
    )
    typer.echo(f"contact sheet of {len(refused)} files: {path}")


# ---------------------------------------------------------------------------------------------------------------------


def _held(run: RunConfig, purpose: str) -> AbstractContextManager[None]:
    """The folder's lock; where several machines share the ledger, all that keeps them apart."""
    if not run.ingest.ledger:
        return held_lock(Workspace(run.workspace_dir).store_dir, purpose=purpose)
    from tasks.adapters.inbox.shared_ledger import held_ledger

    return held_ledger(run, purpose=purpose)


def _ledger(run: RunConfig) -> StoreLedger:
    from tasks.adapters.inbox.store_ledger import StoreLedger  # late: zarr and pandas take a second
    from tasks.adapters.store.exam_store import open_store

    return StoreLedger(open_store(Workspace(run.workspace_dir).store_dir))


def _refused(run: RunConfig) -> list[QuarantinedFile]:
    with _ledger(run) as ledger:
        return _refused_by(ledger)


def _refused_by(ledger: Ledger) -> list[QuarantinedFile]:
    return [*ledger.quarantined(), *publishable(ledger.manifest_lines()).refused]


def _cleaned(reason: str, *, act: str) -> str:
    cleaned = "".join(character for character in reason if character.isprintable()).strip()[:500]
    if not cleaned:
        raise ConfigError(f"A {act} needs a reason", expected="--reason TEXT", remedy="say what you know")
    return cleaned


def _one(run: RunConfig, file_id: str) -> QuarantinedFile:
    for file in _refused(run):
        if file.file_id == file_id:
            return file
    raise ConfigError("This file is not refused", got=_shown_ids([file_id]), remedy="see `mammo quarantine list`")


def _shown_ids(file_ids: list[str]) -> str:
    return ", ".join(ascii(file_id[:32]) for file_id in file_ids[:10])
