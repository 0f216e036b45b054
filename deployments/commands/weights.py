"""``mammo weights``: model files in and out of the house."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.errors import ConfigError

if TYPE_CHECKING:
    from schemas.reports.training import EnsembleMember

app = typer.Typer(help="Model files: show what is inside, make others' ours, check ours.", no_args_is_help=True)

IsAgreed = Annotated[
    bool, typer.Option("--yes", help="Hand the weights on although the terms of their data are said to forbid it")
]


@app.command("import")
def import_weights(
    source: Annotated[Path, typer.Argument(help="A file of weights: a released GMIC (.p), torchvision's ResNet-18, or ours")],
    folder: Annotated[Path, typer.Argument(help="The checkpoint folder to make")],
    top_t: Annotated[
        float | None, typer.Option(help="Pooled fraction t of a released GMIC: .02 .03 .03 .05 .10 for models 1 to 5")
    ] = None,
) -> None:
    """Make a file of weights ours: safetensors with a sha256 sidecar. Files that would run code are refused.

    A released GMIC can then be evaluated; whatever it is can begin a training (train.start).
    """
    from tasks.adapters.models.start_files import described
    from tasks.adapters.models.start_files import import_weights as made_ours

    imported = made_ours(source, folder, top_t=top_t)
    typer.echo(f"{folder}: sha256 {imported.sha256}")
    typer.echo("\n".join(described(imported)))


@app.command()
def show(path: Annotated[Path, typer.Argument(help="A file of weights, a checkpoint folder, or an ensemble.json")]) -> None:
    """Say what a file of weights holds, and what of a training it can begin; of an ensemble, each of its networks."""
    from tasks.adapters.models.start_files import described, open_start

    for folder, _member in _networks(path):
        typer.echo("\n".join(described(open_start(folder))))


@app.command()
def verify(path: Annotated[Path, typer.Argument(help="A checkpoint folder, or an ensemble.json")]) -> None:
    """Read a checkpoint, or each of an ensemble's, and check its digests."""
    from tasks.adapters.models.checkpoints import load_checkpoint
    from tasks.adapters.models.model_files import kept_terms
    from tasks.adapters.models.networks import require_member
    from tasks.adapters.models.seen_patients import read_seen_patients

    for folder, member in _networks(path):
        checkpoint = load_checkpoint(folder, with_training=True)
        if member is not None:
            require_member(checkpoint, member)
        if checkpoint.sidecar.get("has_seen_patients") is False:
            seen = "has seen no patient"
        else:
            seen = f"{'does not say' if read_seen_patients(folder) is None else 'says'} whom it was trained on"
        title = checkpoint.model_config.title if "model" in checkpoint.sidecar else "weights without a network"
        typer.echo(f"{folder}: intact, sha256 {checkpoint.sha256}, {title}, {seen}")
        for terms in kept_terms(checkpoint.sidecar):
            typer.echo(terms)


@app.command("export")
def export_weights(
    source: Annotated[Path, typer.Argument(help="A checkpoint folder")],
    folder: Annotated[Path, typer.Argument(help="The folder to make, for others")],
    is_agreed: IsAgreed = False,
) -> None:
    """Copy a checkpoint to hand it on, without the state of its training; what the terms of its data forbid is said and asked.

    Weights that were trained, or begun, on a set whose terms forbid passing on carry these terms: so does the copy.
    """
    from tasks.adapters.models.checkpoints import load_checkpoint
    from tasks.adapters.models.handing_on import export_checkpoint
    from tasks.adapters.models.model_files import kept_terms

    ask_for_terms(kept_terms(load_checkpoint(source).sidecar), is_agreed=is_agreed)
    exported = export_checkpoint(source, folder)
    typer.echo(f"{folder}: sha256 {exported.sha256}")


def _networks(path: Path) -> Iterator[tuple[Path, EnsembleMember | None]]:
    """The folder or file that is named; of an ensemble each network's, with the digest that the ensemble knows."""
    from tasks.adapters.models.model_files import ensemble_file, ensemble_sha256, read_ensemble

    file = ensemble_file(path)
    if file is None:
        yield path, None
        return
    members = read_ensemble(file)
    typer.echo(f"{path}: an ensemble of {len(members)}, together {ensemble_sha256(members)}; its score is the mean of theirs")
    for member in members:
        yield member.path, member


def ask_for_terms(terms: Sequence[str], *, is_agreed: bool) -> None:
    """Says what the terms of weights' data forbid, and asks before they are handed on.

    Raises:
        ConfigError: Something is forbidden, and nobody says that the weights may be handed on.
    """
    for sentence in terms:
        typer.echo(sentence)
    if terms and not is_agreed and not (sys.stdin.isatty() and typer.confirm("Hand these weights on all the same?")):
        raise ConfigError(
            "The weights are not handed on: the terms of the data that they were trained on forbid passing on",
            expected="data whose terms allow it, or that these terms are met: the publisher agreed, or the receiver is a party",
            got=" ".join(terms),
            remedy="read the licence; `--yes` says that you have, and that it is met",
        )
