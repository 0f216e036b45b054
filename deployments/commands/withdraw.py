"""``mammo withdraw``: a wrong image was published, or somebody withdrew her consent: it goes, and never comes back."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.configuration import load_config
from deployments.console import user_name
from deployments.server.prefect_server import running_server
from schemas.config.run import RunConfig
from schemas.errors import ConfigError, StoreBusy
from tasks.adapters.lock import held_lock, without_readers
from tasks.adapters.workspace import Workspace

if TYPE_CHECKING:
    from tasks.adapters.inbox.withdrawals.targets import Target


def withdraw(
    config: Annotated[Path, typer.Argument(help="Config file of the workspace")],
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Images (I...), exams (E...), patients (P...) or files of the quarantine (F...) by their pseudonyms, or DICOM "
            "files by their paths; - reads them from standard input, one a line"
        ),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; kept for good, so name no patient")] = "",
    by: Annotated[str, typer.Option(help="Who asked for it; kept for good. By default the user who runs this")] = "",
    whole: Annotated[
        str | None, typer.Option(help="exam or patient: withdraw that of each name, instead of what is named")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and change nothing")] = False,
    log: Annotated[bool, typer.Option("--log", help="Show what was withdrawn, by whom, when and why")] = False,
) -> None:
    """Take images, exams or patients out for good: not published again, crops overwritten, their pages deleted.

    Works while no other run uses the workspace. Stopped at any moment, the next withdraw, ingest or scrub finishes it. Weights
    that have learnt from the images are kept: see docs/how-to/when-a-wrong-image-was-published.md.
    """
    run = load_config(config)
    workspace = Workspace(run.workspace_dir)
    if log:
        _show_log(workspace)
        return
    given = _given(names or [])
    from tasks.adapters.provenance import cleaned_text  # late: OpenCV

    said_by, said_why = cleaned_text(by) or user_name(), cleaned_text(reason)
    if dry_run:
        for target in _meant(run, given, whole):
            _say_what_would_go(workspace, target)
        typer.echo("Nothing was changed.")
        return
    if not said_why:
        raise ConfigError("A withdrawal needs a reason", expected="--reason TEXT", remedy="say what you know; name no patient")
    _withdraw(run, given, whole, said_by, said_why)


def _withdraw(run: RunConfig, given: Sequence[str], whole: str | None, said_by: str, said_why: str) -> None:
    from tasks.adapters.inbox.shared_ledger import join
    from tasks.adapters.inbox.store_ledger import StoreLedger
    from tasks.adapters.inbox.withdrawals.removal import ask_for
    from tasks.adapters.inbox.withdrawals.targets import images_of
    from tasks.adapters.inbox.withdrawals.withdrawal import Withdrawal
    from tasks.adapters.pages.withdrawn import finish_withdrawals, require_nobody_reads
    from tasks.adapters.store.exam_store import open_store
    from tasks.adapters.store.objects.bucket_store import leased

    workspace = Workspace(run.workspace_dir)
    if (address := running_server(workspace.server_dir)) is not None:
        raise StoreBusy("The workspace's server is running", got=address, remedy="stop `mammo serve` and other commands first")
    with (
        held_lock(workspace.store_dir, purpose="withdraw"),
        leased(workspace.store, run.ingest.store, purpose="withdraw"),
        without_readers(workspace.root, purpose="withdraw"),
    ):
        join(run)
        require_nobody_reads(workspace)
        finish_withdrawals(workspace, is_read=False)  # what an earlier one left to do
        targets = _meant(run, given, whole)
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        new = [
            Withdrawal(name=each.name, names=each.names, reason=said_why, withdrawn_by=said_by, withdrawn_utc=moment)
            for each in targets
            if each.names
        ]
        with StoreLedger(open_store(workspace.store_dir)) as ledger:
            ask_for(workspace.store, ledger, new)
        done = dict(zip(new, finish_withdrawals(workspace, is_read=False), strict=True))
    for withdrawal, lines in done.items():
        typer.echo(f"{withdrawal.name}: withdrawn, {images_of(lines)}")
    for target in targets:
        if not target.names:
            typer.echo(f"{target.name}: is withdrawn already")
    if done:
        typer.echo(
            "Run `mammo ingest CONFIG` now: what they contested is published. Weights that were trained on them are kept."
        )


# ---------------------------------------------------------------------------------------------------------------------


def _given(names: Sequence[str]) -> list[str]:
    try:
        given = [line for name in names for line in (sys.stdin.read().splitlines() if name == "-" else [name])]
    except UnicodeDecodeError:  # not named: it holds what was typed
        raise ConfigError("Standard input is no text of this terminal's encoding", expected="a name a line") from None
    found = list(dict.fromkeys(name.strip() for name in given if name.strip()))
    if not found:
        raise ConfigError("Nothing is named", expected="a pseudonym or the path of a DICOM file, or - for standard input")
    return found


def _meant(run: RunConfig, given: Sequence[str], whole: str | None) -> list[Target]:
    from tasks.adapters.gate.gate_settings import gate_settings  # late: zarr and pandas take a second
    from tasks.adapters.inbox.store_ledger import StoreLedger
    from tasks.adapters.inbox.withdrawals.targets import Whole, targets
    from tasks.adapters.store.exam_store import open_store

    try:
        widened = None if whole is None else Whole(whole)
    except ValueError:
        raise ConfigError("--whole takes another word", expected=", ".join(Whole)) from None
    with StoreLedger(open_store(Workspace(run.workspace_dir).store_dir)) as ledger:
        return targets(given, ledger, gate_settings(run), widened)


def _say_what_would_go(workspace: Workspace, target: Target) -> None:
    from tasks.adapters.inbox.store_ledger import StoreLedger
    from tasks.adapters.inbox.withdrawals.removal import find
    from tasks.adapters.inbox.withdrawals.targets import images_of
    from tasks.adapters.store.exam_store import open_store
    from tasks.adapters.store.manifest import published_rows

    store = open_store(workspace.store_dir)
    with StoreLedger(store) as ledger:
        found = find(ledger, target.names)
    published = len(found.image_ids & published_rows(store).keys())
    if target.names:
        typer.echo(f"{target.name}: would go, {images_of(found.lines)}, {published} of them published")
    else:
        typer.echo(f"{target.name}: is withdrawn already")
    for line in found.lines[:20]:
        typer.echo(
            f"  {line.image_id} of {line.exam_id} of {line.patient_id}, {line.laterality} {line.stored['view_position']}"
        )


def _show_log(workspace: Workspace) -> None:
    from tasks.adapters.inbox.withdrawals.withdrawal import read_log

    for entry in read_log(workspace.store):
        images = sum(name.startswith("I") for name in entry.names)
        typer.echo(f"{entry.withdrawn_utc}  {entry.name}  {images} images, by {entry.withdrawn_by}: {entry.reason}")
