"""``mammo weights``: model files in and out of the house."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from schemas.config.network import GMICConfig

app = typer.Typer(help="Model files: import released ones, check ours.", no_args_is_help=True)


@app.command("import")
def import_weights(
    source: Annotated[Path, typer.Argument(help="A released state dict (.p)")],
    folder: Annotated[Path, typer.Argument(help="The checkpoint folder to make")],
    top_t: Annotated[float, typer.Option(help="Pooled fraction t of that model: .02 .03 .03 .05 .10 for models 1 to 5")],
) -> None:
    """Turn released weights into a checkpoint: safetensors with a sha256 sidecar. Files that would run code are refused."""
    from tasks.adapters.models.checkpoints import import_released

    digest = import_released(source, folder, GMICConfig.released(top_t=top_t))
    typer.echo(f"{folder}: sha256 {digest}")


@app.command()
def verify(folder: Annotated[Path, typer.Argument(help="A checkpoint folder")]) -> None:
    """Read a checkpoint and check its digests."""
    from tasks.adapters.models.checkpoints import load_checkpoint
    from tasks.adapters.models.seen_patients import read_seen_patients

    checkpoint = load_checkpoint(folder, with_training=True)
    seen = "says" if read_seen_patients(folder) is not None else "does not say"
    typer.echo(f"{folder}: intact, sha256 {checkpoint.sha256}, {checkpoint.model_config.title}, {seen} whom it was trained on")
