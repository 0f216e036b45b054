"""``mammo demo``: a synthetic cohort through the whole pipeline, then real mammograms; or a public data set."""

from __future__ import annotations

import hashlib
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, cast

import typer

from deployments.configuration import load_config
from deployments.console import shown_progress
from deployments.local_run import run_verb
from deployments.server.prefect_server import prefect_server
from deployments.words import demo_text
from schemas.config.run import RunConfig
from schemas.errors import ConfigError
from schemas.reports.pages import PipelineReport, PredictReport
from tasks.adapters.inbox.source_folder import require_apart
from tasks.adapters.workspace import Workspace, whole_path


def demo(
    workspace: Annotated[Path, typer.Option(help="Where the demo writes")] = Path("demo"),
    dicom: Annotated[Path | None, typer.Option(help="A folder of real mammograms to predict afterwards")] = None,
    profile: Annotated[str, typer.Option(help="Gate profile for --dicom")] = "clinical-strict",
    seed: Annotated[int, typer.Option(help="Seed of cohort, split and training")] = 0,
    dataset: Annotated[
        tuple[str, Path] | None,
        typer.Option(metavar="NAME ROOT", help="A public set as downloaded, or a part of it, instead of the synthetic cohort"),
    ] = None,
) -> None:
    """Everything on a small synthetic cohort in minutes, then, with --dicom, real mammograms through the trained network.

    With --dataset a public data set instead: from its folder as downloaded to the report, through a small network.
    """
    if dataset is None:
        run_demo(workspace=whole_path(workspace), dicom_dir=dicom, profile=profile, seed=seed)
        return
    if dicom is not None:
        raise ConfigError("--dataset and --dicom are two demos", expected="one of them")
    from deployments.commands.public.set_demo import run_set_demo  # late: numpy and OpenCV take half a second

    run_set_demo(dataset[0], dataset[1], workspace=whole_path(workspace), seed=seed)


def run_demo(*, workspace: Path, dicom_dir: Path | None, profile: str, seed: int) -> PipelineReport:
    """Writes below ``workspace``; run again, it resumes.

    Raises:
        NoExamsFound: ``dicom_dir`` is not a folder; said before anything is drawn or trained.
        ConfigError: There is no such gate profile, or the workspace lies in ``dicom_dir``; the same.
    """
    if dicom_dir is not None:
        _require_real_input(dicom_dir, profile)
        require_apart(workspace, dicom_dir)
    started = time.monotonic()
    config = demo_config(workspace, seed)
    place_phantom_key(workspace, seed)
    with prefect_server(workspace) as ui_address:
        typer.echo(f"Prefect UI: {ui_address}", err=True)
        with shown_progress():
            run_verb("phantom", config)
            report = cast("PipelineReport", run_verb("pipeline", config))
            predicted: PredictReport | None = None
            if dicom_dir is not None:
                real = prediction_config(workspace, dicom_dir, profile, report.train.checkpoint_path)
                predicted = cast("PredictReport", run_verb("predict", real))
        typer.echo(demo_text(report, predicted, minutes=(time.monotonic() - started) / 60))
        if sys.stdin.isatty() and sys.stdout.isatty():
            typer.echo(f"The Prefect UI is at {ui_address} until you press Enter.")
            sys.stdin.readline()
        else:
            typer.echo(f"To see the runs again: mammo serve --workspace {shlex.quote(str(workspace))}")
    return report


def demo_config(workspace: Path, seed: int) -> RunConfig:
    """The shipped demo config, in another place and with another seed."""
    from tasks.adapters.datasets.phantom_cohort import (  # late: it draws, and the rest does not
        DICOM_DIR,
        LABELS_FILE,
        MASKS_DIR,
    )

    cohort = workspace / "cohort"
    return load_config(
        Path("demo.yaml"),
        {
            "workspace_dir": str(workspace),
            "phantom.output_dir": str(cohort),
            "phantom.seed": seed,
            "ingest.source_dir": str(cohort / DICOM_DIR),
            "ingest.labels_csv": str(cohort / LABELS_FILE),
            "ingest.masks_dir": str(cohort / MASKS_DIR),
            "split.seed": seed,
            "train.seed": seed,
        },
    )


def place_phantom_key(workspace: Path, seed: int) -> None:
    """Gives the workspace a known pseudonym key, so that the seed fixes all: split and training order follow the pseudonyms.

    Phantoms have no identity to protect. Real mammograms (``--dicom``) go to a workspace of their own, under a random key.
    """
    from tasks.adapters.pseudonyms import place_key

    place_key(Workspace(workspace).key_path, hashlib.sha256(f"phantom cohort {seed}".encode()).digest())


def prediction_config(workspace: Path, dicom_dir: Path, profile: str, checkpoint: Path) -> RunConfig:
    """Real mammograms at full resolution, through the demo's small network: the path is right, the scores mean nothing."""
    return load_config(
        Path("predict.yaml"),
        {
            "workspace_dir": str(workspace / "real"),
            "ingest.source_dir": str(dicom_dir),
            "ingest.profile": profile,
            "checkpoint": str(checkpoint),
        },
    )


def _require_real_input(dicom_dir: Path, profile: str) -> None:
    from tasks.adapters.datasets.catalogue import profile_named
    from tasks.adapters.inbox.batches import require_folder

    require_folder(dicom_dir)
    profile_named(profile)
