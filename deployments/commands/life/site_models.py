"""``mammo model``: the life of a model at a site."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.commands.weights import IsAgreed, ask_for_terms
from deployments.configuration import load_config
from deployments.console import user_name
from schemas.errors import CheckpointError, ConfigError, error_name
from tasks.adapters.models.model_files import OPERATING_POINTS
from tasks.adapters.workspace import Workspace, write_atomically

if TYPE_CHECKING:
    from tasks.adapters.lifecycle.pack_file import Pack

app = typer.Typer(help="A model's life at a site.", no_args_is_help=True)

Source = Annotated[Path, typer.Argument(help="A checkpoint folder, or an ensemble.json")]
PackPath = Annotated[Path, typer.Argument(help="The pack, one file")]
KeyPath = Annotated[
    Path | None, typer.Option("--key", help="File of at least 32 secret bytes, mode 0600, that both sites hold")
]

ConfigPath = Annotated[Path, typer.Argument(help="Config file of the workspace")]
Why = Annotated[str, typer.Option(help="Why; kept for good, so name no patient")]
By = Annotated[str, typer.Option(help="Who decided; kept for good. By default the user who runs this")]


@app.command()
def pack(source: Source, target: PackPath, key: KeyPath = None, is_agreed: IsAgreed = False) -> None:
    """Make one file of a model: weights, network, preprocessing, recalibration, locked thresholds, digests, card.

    With --key it is signed. What the terms of the training data forbid is said and asked.
    """
    from tasks.adapters.lifecycle.pack_file import read_pack_key
    from tasks.adapters.lifecycle.packing import pack_model, terms_of

    ask_for_terms(terms_of(source), is_agreed=is_agreed)
    secret = None if key is None else read_pack_key(key)
    packed = pack_model(source, target, key=secret)
    typer.echo(f"{target}: model {packed.sha256[:12]}, {len(packed.members)} files, {'signed' if secret else 'not signed'}")


@app.command()
def show(path: PackPath, key: KeyPath = None) -> None:
    """Check every byte of a pack and print its card; with --key, its signature too. Nothing is installed."""
    from tasks.adapters.lifecycle.pack_file import CARD

    opened = _opened(path, key)
    typer.echo(opened.members[CARD].decode("utf-8", "replace"))
    typer.echo(_signed(opened))


@app.command()
def install(
    path: PackPath,
    config: Annotated[Path, typer.Argument(help="Config file of the workspace that gets it")],
    key: KeyPath = None,
) -> None:
    """Put a pack's model into the workspace, whole or not at all, and say how close this machine's scores are.

    With --key a pack that is not signed with it is refused.
    """
    from tasks.adapters.lifecycle.accepting.model_source import install_model

    run = load_config(config)
    opened = _opened(path, key)
    installed = install_model(Workspace(run.workspace_dir), opened)
    difference = installed.largest_difference
    typer.echo(f"{installed.folder}: {'was installed before' if installed.was_there else 'installed'}. {_signed(opened)}")
    typer.echo(
        "Scores of the check image: equal bit for bit to those where it was packed"
        if difference == 0
        else f"Scores of the check image: at most {difference:.2g} from those where it was packed, another kind of processor"
    )
    for sentence in opened.manifest.terms:
        typer.echo(sentence)


@app.command()
def export(
    source: Source, target: Annotated[Path, typer.Argument(help="The .pt2 file to make")], is_agreed: IsAgreed = False
) -> None:
    """Write the network as torch.export has it, for viewers of networks; its scores are compared with ours first.

    It takes an image as the network sees it (1, 1, rows, columns) and gives scores and saliency maps.
    """
    from gmic_model.networks.check_scores import exported_program
    from tasks.adapters.lifecycle.packing import terms_of
    from tasks.adapters.models.networks import load_member
    from tasks.adapters.models.whole_models import model_members

    ask_for_terms(terms_of(source), is_agreed=is_agreed)
    members = model_members(source)
    if len(members) > 1:
        raise ConfigError("An ensemble is several networks", expected="one checkpoint folder", remedy="export each of them")
    if target.exists():
        raise ConfigError(f"{target} is there already", expected="a name for a new file", remedy="give another")
    try:
        content = exported_program(load_member(members[0]))
    except ValueError as apart:
        raise CheckpointError(
            "The exported network scores otherwise than ours; it was not written", expected="equal scores", got=f"{apart} apart"
        ) from apart
    try:
        write_atomically(target, content)
    except OSError as trouble:
        raise CheckpointError(
            f"{target} cannot be written", got=error_name(trouble), remedy="see that there is room"
        ) from trouble
    typer.echo(f"{target}: {len(content) / 2**20:.0f} MiB, scores of the check image equal bit for bit")


@app.command("list")
def list_models(
    config: ConfigPath, history: Annotated[bool, typer.Option(help="What was done instead, by whom and why")] = False
) -> None:
    """Show the workspace's models: in use, candidate or retired, the newest first."""
    from tasks.adapters.lifecycle.model_registry import Registry

    workspace = Workspace(load_config(config).workspace_dir)
    if not workspace.registry_path.exists():
        typer.echo("No model is registered: `mammo train` and `mammo model install` do it.")
        return
    with Registry(workspace) as registry:
        for event in registry.events() if history else ():
            by = f" by {event.who}" if event.who else ""
            typer.echo(f"{event.when_utc}  {event.sha256[:12]} {event.what}{by}: {event.why}")
        used = registry.used()
        own = used[-1].thresholds if used else None
        for model in () if history else registry.models():
            gone = "" if registry.folder_of(model).is_dir() else ", weights gone"
            recalls = (
                f", recalls {len(own.devices)} devices by the site's own thresholds" if own and model.state == "in use" else ""
            )
            place = f"{model.source}, {model.folder}{gone}{recalls}"
            typer.echo(f"{model.sha256[:12]}  {model.state:<9}  {model.registered_utc}  {place}")


@app.command()
def promote(
    config: ConfigPath,
    model: Annotated[
        str, typer.Argument(help="A checkpoint folder, or first digits of a digest; by default what was trained last")
    ] = "",
    why: Why = "",
    by: By = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what the rules say, and change nothing")] = False,
) -> None:
    """Put a model into use, if it meets the rules of the config's section promotion; predict uses it from then on.

    It is held against the one in use on the test split, breast by breast. Every answer is kept with who, when and why.
    """
    from tasks.adapters.lifecycle.in_use import asked_answer, meant_model, put_into_use, stated

    run, reason = load_config(config), "" if dry_run else stated(why, "--why TEXT")
    meant = meant_model(run, model)
    answer = asked_answer(run, meant)
    for rule in answer.rules:
        typer.echo(f"{rule.in_words:<10} {rule.rule}: {rule.reason}")
    if dry_run:
        typer.echo(f"The rules {'allow' if answer.is_allowed else 'forbid'} it. Nothing was changed.")
        return
    folder = put_into_use(run, meant, answer, who=stated(by or user_name(), "--by NAME"), why=reason)
    typer.echo(f"Model {meant.sha256[:12]} is in use: {folder}")
    if not (folder / OPERATING_POINTS).exists():
        typer.echo("No locked thresholds lie beside it: predictions are logged without a decision.")


@app.command()
def thresholds(
    config: ConfigPath,
    device: Annotated[list[str] | None, typer.Option(help="Part of a device's name; repeatable. By default all")] = None,
    why: Why = "",
    by: By = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be put into use, and change nothing")] = False,
) -> None:
    """Recall devices' exams by the thresholds that mammo accept proposed for them, where it had enough exams to.

    It holds for exams that are scored from then on, by the model in use; rollback returns to what was before.
    """
    from tasks.adapters.lifecycle.accepting.proposals import use_proposals
    from tasks.adapters.lifecycle.in_use import stated

    run, reason = load_config(config), "" if dry_run else stated(why, "--why TEXT")
    who = stated(by or user_name(), "--by NAME")
    for one in use_proposals(run, device or (), who=who, why=reason, is_dry=dry_run):
        low, high = 100 * (one.expected.low or 0.0), 100 * (one.expected.high or 1.0)
        typer.echo(f"{one.name}, software {one.software}: {one.threshold:.4f}, recalls {low:.1f} to {high:.1f}% of later exams")
    typer.echo("Nothing was changed." if dry_run else "In use. Other devices keep what they had.")


@app.command()
def rollback(config: ConfigPath, why: Why = "", by: By = "") -> None:
    """Put what was before into use again: a model, bit for bit as then, and the thresholds of then. Twice goes back two."""
    from tasks.adapters.lifecycle.in_use import put_back, site_thresholds, stated

    run = load_config(config)
    model = put_back(run, who=stated(by or user_name(), "--by NAME"), why=stated(why, "--why TEXT"))
    typer.echo(f"Model {model.sha256[:12]} is in use again: {model.folder}")
    own = site_thresholds(Workspace(run.workspace_dir), model.sha256)
    typer.echo(
        f"Thresholds of the site's own: {len(own.devices)} devices" if own else "All devices recall at the locked threshold."
    )


# ---------------------------------------------------------------------------------------------------------------------


def _opened(path: Path, key: Path | None) -> Pack:
    from tasks.adapters.lifecycle.pack_file import read_pack, read_pack_key

    return read_pack(path, key=None if key is None else read_pack_key(key))


def _signed(opened: Pack) -> str:
    if not opened.signed_by:
        return "Not signed: whoever had the file may have made it."
    checked = "checked with this key" if opened.is_signature_checked else "not checked: --key FILE checks it"
    return f"Signed with key {opened.signed_by}, {checked}."
