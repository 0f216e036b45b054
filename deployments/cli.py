"""The command ``mammo``: one verb, one config file, few flags. Exit codes are those of ``schemas.errors``."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from deployments.commands.backup import backup, restore
from deployments.commands.doctor import doctor
from deployments.commands.prune import prune
from deployments.commands.quarantine import app as quarantine_app
from deployments.commands.reproduce import app as reproduce_app
from deployments.commands.rerun import rerun
from deployments.commands.weights import app as weights_app
from deployments.configuration import SHIPPED_CONFIGS, load_config, load_service
from deployments.console import shown_progress
from deployments.local_run import finished_report, run_verb
from deployments.server.prefect_server import prefect_server
from deployments.words import prediction_text, summary_text
from schemas.config.run import RunConfig, Stage
from schemas.config.service import ServiceConfig
from schemas.errors import MammoError
from schemas.reports.pages import PredictReport
from schemas.reports.report import Report
from tasks.adapters.interpreter import SAFE_ENVIRONMENT, path_without

EXIT_CODES = (
    "Exit codes: 0 done; 2 config or usage; 3 input (no exams, unreadable files, labels); 4 data checks failed; 5 store; "
    "6 checkpoint; 7 training; 8 too many files refused; 75 another run holds the store or the training; 130 interrupted; "
    "143 terminated; 1 anything else."
)

app = typer.Typer(
    help="From a folder of DICOM screening exams to a trained, evaluated and explained GMIC. Research use only.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(quarantine_app, name="quarantine")
app.add_typer(reproduce_app, name="reproduce")
app.add_typer(weights_app, name="weights")
app.command()(rerun)
app.command()(doctor)
app.command()(backup)
app.command()(restore)
app.command()(prune)

ConfigPath = Annotated[Path, typer.Argument(help="Config file; a shipped name such as demo.yaml works too")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the stage's report as JSON")]
Force = Annotated[list[Stage] | None, typer.Option("--force", help="Run this stage again although it is done; repeatable")]


def main() -> None:
    """Runs the command line; every error of ours is one message and its exit code."""
    os.environ.update(SAFE_ENVIRONMENT)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app()
    except MammoError as error:
        typer.echo(f"mammo: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("mammo: interrupted; run the same command again to go on", err=True)
        sys.exit(130)


@app.command()
def phantom(config: ConfigPath, as_json: AsJson = False) -> None:
    """Write a labelled synthetic screening cohort as DICOM files."""
    _run("phantom", load_config(config), as_json=as_json)


@app.command()
def ingest(config: ConfigPath, as_json: AsJson = False) -> None:
    """Bring DICOM exams into the exam store."""
    _run("ingest", load_config(config), as_json=as_json)


@app.command()
def scrub(
    config: ConfigPath,
    repair: Annotated[bool, typer.Option("--repair", help="Ingest damaged images again from their files")] = False,
    as_json: AsJson = False,
) -> None:
    """Read every stored image and compare it with its digests; damage ends with code 5."""
    _run("scrub", load_config(config), as_json=as_json, repair=repair)


@app.command()
def validate(config: ConfigPath, force: Force = None, as_json: AsJson = False) -> None:
    """Check the published images and labels; blocking failures end with code 4."""
    _run("validate", load_config(config, _forced(force)), as_json=as_json)


@app.command()
def split(config: ConfigPath, force: Force = None, as_json: AsJson = False) -> None:
    """Divide the patients into train, tuning and test."""
    _run("split", load_config(config, _forced(force)), as_json=as_json)


@app.command()
def train(config: ConfigPath, force: Force = None, as_json: AsJson = False) -> None:
    """Train GMIC, continuing where an earlier run stopped."""
    _run("train", load_config(config, _forced(force)), as_json=as_json)


@app.command()
def pretrain(config: ConfigPath, force: Force = None, as_json: AsJson = False) -> None:
    """Pre-train the localisation network on BI-RADS categories; train and search do it too if the config asks for it."""
    _run("pretrain", load_config(config, _forced(force)), as_json=as_json)


@app.command()
def search(
    config: ConfigPath,
    yes: Annotated[bool, typer.Option("--yes", help="Start although the forecast is above search.confirm_above_hours")] = False,
    as_json: AsJson = False,
) -> None:
    """Random search over the paper's ranges; goes on where it stopped, alone or with other workers of the same study."""
    _run("search", load_config(config, {"search.is_confirmed": True} if yes else {}), as_json=as_json)


@app.command()
def evaluate(config: ConfigPath, force: Force = None, as_json: AsJson = False) -> None:
    """Measure the trained network on the test split."""
    _run("evaluate", load_config(config, _forced(force)), as_json=as_json)


@app.command()
def explain(config: ConfigPath, force: Force = None, as_json: AsJson = False) -> None:
    """Draw saliency, patches and attention of test exams."""
    _run("explain", load_config(config, _forced(force)), as_json=as_json)


@app.command()
def pipeline(config: ConfigPath, force: Force = None, as_json: AsJson = False) -> None:
    """All of it in one run: ingest, validate, split, train, evaluate, explain, report."""
    _run("pipeline", load_config(config, _forced(force)), as_json=as_json)


@app.command()
def predict(
    config: ConfigPath,
    dicom: Annotated[Path | None, typer.Option(help="Folder of DICOM files, instead of ingest.source_dir")] = None,
    profile: Annotated[str | None, typer.Option(help="Gate profile, instead of ingest.profile")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint folder, instead of the config's")] = None,
    workspace: Annotated[Path | None, typer.Option(help="Where to write, instead of workspace_dir")] = None,
    calibrated: Annotated[bool, typer.Option(help="Breast scores after the temperature kept beside the weights")] = False,
    as_json: AsJson = False,
) -> None:
    """Score and explain exams with a trained network; no labels needed."""
    flags = {"ingest.source_dir": dicom, "ingest.profile": profile, "checkpoint": checkpoint, "workspace_dir": workspace}
    changes: dict[str, object] = {key: str(value) for key, value in flags.items() if value is not None}
    if calibrated:
        changes["calibrated"] = True
    report = _run("predict", load_config(config, changes), as_json=as_json)
    if not as_json and isinstance(report, PredictReport):
        typer.echo(prediction_text(report))


@app.command()
def demo(
    workspace: Annotated[Path, typer.Option(help="Where the demo writes")] = Path("demo"),
    dicom: Annotated[Path | None, typer.Option(help="A folder of real mammograms to predict afterwards")] = None,
    profile: Annotated[str, typer.Option(help="Gate profile for --dicom")] = "clinical-strict",
    seed: Annotated[int, typer.Option(help="Seed of cohort, split and training")] = 0,
) -> None:
    """Everything on a small synthetic cohort in minutes, then, with --dicom, real mammograms through the trained network."""
    from deployments.commands.demo import run_demo

    run_demo(workspace=workspace.resolve(), dicom_dir=dicom, profile=profile, seed=seed)


@app.command()
def serve(
    config: Annotated[Path | None, typer.Argument(help="The run to keep up to date; without it only history is shown")] = None,
    service: Annotated[Path | None, typer.Option(help="Settings of the service, see docs/how-to/run-a-workstation.md")] = None,
    workspace: Annotated[Path, typer.Option(help="Without a config: the workspace whose history to show")] = Path("demo"),
) -> None:
    """Bring up the workstation: Prefect UI, scheduled deployments, workers, inbox watch; Ctrl-C stops all.

    Without CONFIG: the UI over a workspace's history. With PREFECT_API_URL set it ends with code 2: mammo deploy is for that.
    """
    if config is None:
        with prefect_server(workspace.resolve()) as address:
            typer.echo(f"Prefect UI: {address}   (Ctrl-C stops it)")
            signal.pause()
        return
    from deployments.server.workstation import serve as serve_workstation

    serve_workstation(load_config(config), load_service(service) if service else ServiceConfig(), typer.echo)


@app.command()
def deploy(
    config: ConfigPath,
    service: Annotated[Path | None, typer.Option(help="Settings of the service, see docs/how-to/run-a-workstation.md")] = None,
) -> None:
    """Register work pools, limits, deployments and automations at the server of PREFECT_API_URL; workers run elsewhere."""
    from deployments.server.registration import register

    settings = load_service(service) if service else ServiceConfig()
    with tempfile.TemporaryDirectory() as folder:
        register(load_config(config), settings, Path(folder))
    kind = "process" if settings.kubernetes is None else "kubernetes"
    typer.echo(f"Registered. Start workers: prefect worker start --type {kind} --pool mammo-cpu (and mammo-gpu)")


@app.command()
def configs() -> None:
    """List the shipped configs with their first line."""
    for path in sorted(SHIPPED_CONFIGS.glob("*.yaml")):
        typer.echo(f"{path.name:<20} {path.read_text().splitlines()[0].lstrip('# ')}")


# ---------------------------------------------------------------------------------------------------------------------


def _run(verb: str, config: RunConfig, *, as_json: bool, **parameters: bool) -> Report:
    report = finished_report(verb, config)
    if report is not None:
        typer.echo(f"Finished before: {verb} has nothing to do (--force {verb} does it again)", err=True)
    else:
        with prefect_server(config.workspace_dir) as ui_address, shown_progress():
            typer.echo(f"Prefect UI: {ui_address}", err=True)
            report = run_verb(verb, config, **parameters)
    typer.echo(report.model_dump_json(indent=1) if as_json else summary_text(verb, report))
    return report


def _forced(stages: list[Stage] | None) -> dict[str, object]:
    return {"force": [stage.value for stage in stages]} if stages else {}


def _terminate(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":  # as `python -m deployments.cli`, which puts the working directory first
    sys.path[:] = path_without(sys.path, str(Path.cwd()), str(Path(__file__).parents[1]))
    main()
