"""``mammo model``: the life of a model at a site."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.commands.weights import IsAgreed, ask_for_terms
from deployments.configuration import load_config
from schemas.errors import CheckpointError, ConfigError, error_name
from tasks.adapters.workspace import Workspace, write_atomically

if TYPE_CHECKING:
    from tasks.adapters.lifecycle.pack_file import Pack

app = typer.Typer(help="A model's life at a site.", no_args_is_help=True)

Source = Annotated[Path, typer.Argument(help="A checkpoint folder, or an ensemble.json")]
PackPath = Annotated[Path, typer.Argument(help="The pack, one file")]
KeyPath = Annotated[
    Path | None, typer.Option("--key", help="File of at least 32 secret bytes, mode 0600, that both sites hold")
]


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
    from tasks.adapters.lifecycle.packing import install_pack

    run = load_config(config)
    opened = _opened(path, key)
    installed = install_pack(opened, Workspace(run.workspace_dir).models_dir)
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
    from tasks.adapters.lifecycle.packing import model_members, terms_of
    from tasks.adapters.models.networks import load_member

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


# ---------------------------------------------------------------------------------------------------------------------


def _opened(path: Path, key: Path | None) -> Pack:
    from tasks.adapters.lifecycle.pack_file import read_pack, read_pack_key

    return read_pack(path, key=None if key is None else read_pack_key(key))


def _signed(opened: Pack) -> str:
    if not opened.signed_by:
        return "Not signed: whoever had the file may have made it."
    checked = "checked with this key" if opened.is_signature_checked else "not checked: --key FILE checks it"
    return f"Signed with key {opened.signed_by}, {checked}."
