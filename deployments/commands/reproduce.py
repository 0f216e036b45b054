"""``mammo reproduce``: the paper's numbers, from published or own files (no server), and from own training; a study's size."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from deployments.verbs import FROM_SCRATCH
from schemas.errors import ConfigError

app = typer.Typer(help="The paper's numbers, from published or own files.", no_args_is_help=True)


@app.callback()
def reproduce() -> None:
    """The paper's numbers, from published or own files."""


@app.command("reader-study")
def reader_study(
    scores: Annotated[Path, typer.Option(help="CSV: case_ID, side, label, Reader<name>_POM ..., AI_<name>_POM ...")],
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON")] = False,
    figure: Annotated[Path | None, typer.Option(help="Write Figure 3 and the weight curve to this SVG file")] = None,
    model: Annotated[str | None, typer.Option(help="Model to compare and average with, such as GMIC_top5")] = None,
    hybrid_weight: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the reader in the hybrid")] = 0.5,
    recall_above: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="A reader recalls above this probability; 0.02 is BI-RADS 4")
    ] = 0.02,
    resamples: Annotated[int, typer.Option(min=0, help="Bootstrap resamples of exams")] = 2000,
    confidence: Annotated[float, typer.Option(help="Confidence level of every interval")] = 0.95,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap resamples")] = 0,
) -> None:
    """Figure 3: readers, model, hybrids, ROC points and the multi-reader multi-case comparison, all with intervals."""
    # Imported late: pandas and scipy would slow down every other verb.
    from deployments.reader_study_text import reader_study_text
    from gmic_model.metrics.bootstrap import Bootstrap
    from gmic_model.reader_study.study import StudyOptions, analyse_reader_study
    from tasks.adapters.pages.charts.reader_study import render_figure
    from tasks.adapters.scoring.reader_study_file import read_reader_study
    from tasks.adapters.workspace import write_atomically

    if not 0.0 < confidence < 1.0:
        raise ConfigError("--confidence has no meaning", expected="a number between 0 and 1", got=confidence)
    file = read_reader_study(scores)
    options = StudyOptions(
        model=(model or file.default_model()).removeprefix("AI_").removesuffix("_POM"),
        hybrid_weight=hybrid_weight,
        recall_above=recall_above,
        bootstrap=Bootstrap(resamples=resamples, confidence=confidence, seed=seed),
    )
    report = analyse_reader_study(file.study, options, source_sha256=file.source_sha256, notes=file.notes)
    if figure is not None:
        write_atomically(figure, render_figure(report).encode())
    typer.echo(report.model_dump_json(indent=1) if as_json else reader_study_text(report))
    if figure is not None:
        typer.echo(f"Figure: {figure}", err=True)


@app.command("table1")
def table1(
    config: Annotated[Path, typer.Argument(help="Config file; the shipped table1.yaml is a small one on synthetic exams")],
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON")] = False,
    markdown: Annotated[Path | None, typer.Option(help="Write the table to this file too")] = None,
    from_scratch: Annotated[bool, typer.Option("--from-scratch", help=FROM_SCRATCH.help)] = False,
) -> None:
    """Table 1: train each row with each seed (or take its checkpoints), evaluate, and print the paper's table beside ours.

    Stop it whenever you like; the same command goes on where it stopped. Section ``table1`` of the config has rows, seeds
    and checkpoints.
    """
    from deployments.configuration import load_config
    from deployments.console import shown_progress
    from deployments.local_run import run_verb
    from deployments.server.prefect_server import prefect_server
    from schemas.reports.table1 import Table1Report
    from tasks.adapters.workspace import write_atomically

    run = load_config(config, {FROM_SCRATCH.config_key: True} if from_scratch else {})
    with prefect_server(run.workspace_dir) as ui_address, shown_progress():
        typer.echo(f"Prefect UI: {ui_address}", err=True)
        report = cast("Table1Report", run_verb("table1", run))
    table = report.markdown_path.read_text()
    if markdown is not None:
        write_atomically(markdown, table.encode())
    typer.echo(report.model_dump_json(indent=1) if as_json else table)
    typer.echo(f"Table: {markdown or report.markdown_path}", err=True)


@app.command("precision")
def precision(
    auroc: Annotated[float | None, typer.Option(help="AUROC that is foreseen")] = None,
    sensitivity: Annotated[float | None, typer.Option(help="Sensitivity that is foreseen")] = None,
    specificity: Annotated[float | None, typer.Option(help="Specificity that is foreseen")] = None,
    width: Annotated[list[float] | None, typer.Option(help="Whole width of the interval, such as 0.1; may be repeated")] = None,
    positives: Annotated[
        list[int] | None, typer.Option(help="Patients with the finding: what width they give; may be repeated")
    ] = None,
    prevalence: Annotated[float, typer.Option(help="Share of patients with the finding; screening has 0.006")] = 0.006,
    breasts: Annotated[int, typer.Option(min=1, max=2, help="Breasts of a patient that are scored")] = 2,
    confidence: Annotated[float, typer.Option(help="Confidence level of every interval")] = 0.95,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON")] = False,
) -> None:
    """How many patients an interval of a given width takes, by the methods that an evaluation has its intervals from."""
    from deployments.precision_text import precision_text
    from gmic_model.metrics.proportions import EXPECTED_LIKENESS, MINIMUM_PATIENTS
    from gmic_model.planning import MOST_POSITIVES, Planned, StudyShape, patients_for, planned_interval
    from schemas.reports.precision import PrecisionReport

    foreseen = {Planned.AUROC: auroc, Planned.SENSITIVITY: sensitivity, Planned.SPECIFICITY: specificity}
    values = [(measure, value) for measure, value in foreseen.items() if value is not None]
    if not values or not (width or positives):
        raise ConfigError(
            "There is nothing to plan",
            expected="a foreseen value, and a width or a number of patients",
            got=f"{len(values)} values, {len(width or ())} widths, {len(positives or ())} numbers of patients",
            remedy="for example: mammo reproduce precision --sensitivity 0.8 --width 0.1 --width 0.2",
        )
    fractions = [(f"--{measure.value.lower()}", value) for measure, value in values]
    fractions += [("--width", one) for one in width or ()]
    fractions += [("--prevalence", prevalence), ("--confidence", confidence)]
    for option, value in fractions:
        if not 0.0 < value < 1.0:
            raise ConfigError(f"{option} has no meaning", expected="a number between 0 and 1", got=value)
    for many in positives or ():
        if not MINIMUM_PATIENTS <= many <= MOST_POSITIVES:
            expected = f"{MINIMUM_PATIENTS} to {MOST_POSITIVES:,}: below there is no interval"
            raise ConfigError("--positives has no interval", expected=expected, got=many)
    shape = StudyShape(prevalence=prevalence, breasts_per_patient=breasts, confidence=confidence)
    rows = [patients_for(measure, value, one, shape) for measure, value in values for one in width or ()]
    rows += [planned_interval(measure, value, many, shape) for measure, value in values for many in positives or ()]
    report = PrecisionReport(
        rows=tuple(rows),
        confidence=confidence,
        prevalence=prevalence,
        breasts_per_patient=breasts,
        likeness=EXPECTED_LIKENESS,
    )
    typer.echo(report.model_dump_json(indent=1) if as_json else precision_text(report))
