"""``mammo infer``: a folder of DICOM files in, results and an exit code out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deployments.configuration import load_config
from schemas.config.run import RunConfig
from schemas.errors import ConfigError, MammoError
from schemas.reports.life.inferred import InferResult
from tasks.adapters.lifecycle.inference.out_folder import callers_own
from tasks.adapters.workspace import whole_path


def infer(
    config: Annotated[Path, typer.Argument(help="Config file; its workspace has the key, the models and the log")],
    source: Annotated[Path | None, typer.Argument(metavar="IN", help="Folder of DICOM files; nothing is written there")] = None,
    out: Annotated[Path | None, typer.Argument(metavar="OUT", help="Folder for result.json and scores.csv")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint folder, instead of the model in use")] = None,
    stay: Annotated[
        bool, typer.Option("--stay", help="Load the network, and answer every mammo infer of this config; Ctrl-C ends it")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print result.json")] = False,
) -> None:
    """Score a folder's exams by the model in use, for programs: files in, result.json and an exit code out.

    Files go through gate and preprocessing as in ingest; nothing is added to the store. Each score is in the prediction log
    first. A process that was started with --stay, or by mammo serve, answers in place of this one: it has the network loaded.
    """
    given = {} if checkpoint is None else {"checkpoint": str(checkpoint)}
    if stay != (source is None) or stay != (out is None):
        raise ConfigError("Say what to score, or --stay", expected="CONFIG IN OUT, or CONFIG --stay")
    if source is None or out is None:
        _stay(load_config(config, given))
        return
    source, out = whole_path(source), whole_path(out)
    with callers_own(source, out):  # first: whatever fails from here on leaves no earlier exam's result there
        result = _answered(load_config(config, given), source, out)
    typer.echo(result.model_dump_json(indent=1) if as_json else _summary(result))
    if result.exit_code:
        typer.echo(f"mammo: {result.message}", err=True)
        raise typer.Exit(result.exit_code)


# ---------------------------------------------------------------------------------------------------------------------


def _answered(run: RunConfig, source: Path, out: Path) -> InferResult:
    from tasks.adapters.lifecycle.inference.warm_process import asked

    result = asked(run, source, out)
    if result is not None:
        return result
    from tasks.adapters.lifecycle.inference.folder_contract import answer  # late: torch
    from tasks.adapters.lifecycle.inference.scorer import Scorer

    with Scorer(run) as scorer:
        return answer(run, scorer, source, out)


def _stay(run: RunConfig) -> None:
    from tasks.adapters.lifecycle.inference.warm_process import WarmProcess

    with WarmProcess(run) as process:
        try:
            process.load()
            typer.echo("The network is loaded; mammo infer of this config is answered here (Ctrl-C ends it)")
        except MammoError as not_yet:
            typer.echo(f"mammo infer of this config is answered here, and until it changes with: {not_yet}")
        while True:
            process.answer_next()


def _summary(result: InferResult) -> str:
    return f"{len(result.exams)} exams, {len(result.images)} images scored, {len(result.not_used)} files not used"
