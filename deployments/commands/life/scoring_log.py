"""``mammo log``: all that was ever predicted in a workspace, whether it is whole, and what was said of an exam."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.configuration import load_config
from schemas.config.run import RunConfig
from schemas.errors import ConfigError, StoreError, error_name
from schemas.reports.pages import PredictReport
from tasks.adapters.lifecycle.prediction_log import LastLine, PredictionLog, lines_as_written
from tasks.adapters.workspace import Workspace, replaced

if TYPE_CHECKING:
    from schemas.reports.life.watching import WatchedDevice

app = typer.Typer(help="The prediction log.", no_args_is_help=True)

ConfigPath = Annotated[Path, typer.Argument(help="Config file of the workspace")]


@app.command()
def verify(
    config: ConfigPath,
    contains: Annotated[str, typer.Option(help="A digest of a last line, noted earlier elsewhere: it must be a line's")] = "",
) -> None:
    """Read every line and follow the chain; a line that was changed, added or taken out ends with code 5.

    Note the printed digest on another machine: whoever writes the whole log anew cannot have a line of that digest.
    """
    workspace = Workspace(load_config(config).workspace_dir)
    checked = PredictionLog(workspace.prediction_log_dir).check(contains=contains, witness=_reported(workspace))
    fault = checked.fault or ("" if checked.has_digest is not False else f"no line has the digest {contains}")
    if fault:
        raise StoreError(
            "The prediction log is not as it was written",
            expected="lines of which each holds the digest of the one before",
            got=fault,
            remedy="keep it as it is and compare it with a backup; a log moved elsewhere is begun anew",
        )
    typer.echo(f"{checked.lines} lines, whole. Last: number {checked.last.number}, digest {checked.last.sha256 or 'none'}")
    if checked.clock_went_back:
        typer.echo(f"{checked.clock_went_back} lines are of an earlier time than the line before: a clock went back.")


@app.command()
def show(config: ConfigPath, exam: Annotated[str, typer.Argument(help="The exam's pseudonym, E...")]) -> None:
    """Print all that was ever said of an exam and its images, oldest first, a JSON object a line."""
    found = False
    for line in _log(config).lines():
        if line.get("exam_id") == exam:
            found = True
            typer.echo(json.dumps(line))
    if not found:
        raise ConfigError("Nothing was predicted of this exam", expected="the pseudonym of an exam that was scored here")


@app.command()
def export(config: ConfigPath, target: Annotated[Path, typer.Argument(help="The CSV file to make")]) -> None:
    """Write the log as a table, mode 0600: a line for each image, and for each breast of an exam."""
    if target.exists():
        raise ConfigError(f"{target} is there already", expected="a name for a new file", remedy="give another")
    lines = 0
    try:
        with replaced(target) as file, lines_as_written():
            text = io.TextIOWrapper(file, "utf-8", newline="")
            table = csv.DictWriter(text, _COLUMNS, extrasaction="ignore", lineterminator="\n")
            table.writeheader()
            for line in _log(config).lines():
                for row in _rows(line):
                    table.writerow(row)
                    lines += 1
            text.detach()  # which writes what is left, and leaves the file open
    except OSError as trouble:
        raise StoreError(f"{target} cannot be written", got=error_name(trouble), remedy="see that there is room") from trouble
    typer.echo(f"{target}: {lines} lines, under pseudonyms")


@app.command()
def watch(
    config: ConfigPath,
    since: Annotated[str, typer.Option(help="A day, instead of watch.since: exams scored before it do not count")] = "",
    baseline: Annotated[
        int | None, typer.Option(min=50, help="Exams by which later ones are judged, instead of watch.baseline_exams")
    ] = None,
) -> None:
    """Say whether each device's scores, recalls, pictures and views go on as they began; a change ends with code 4.

    Cumulative sums over the exams of each device (CUSUM), in the order in which the newest model first scored them. Page and
    report are left in the folder watch, unless a flag asks for other exams than the config does.
    """
    from tasks.adapters.lifecycle.watching.watched_devices import look, refuse_alarms
    from tasks.adapters.pages.life.watch_page import leave_watch
    from tasks.adapters.provenance import now

    run = load_config(config)
    asked, moment = _asked(run, since, baseline), now()
    report = look(asked, now=moment)
    if asked == run:
        report = leave_watch(run, report, created=moment)
    for device in report.devices:
        typer.echo("\n".join(_watched(device)))
    if report.clock_went_back:
        typer.echo(f"{report.clock_went_back} exams are of an earlier time than the one before: a clock went back.")
    typer.echo(f"Page: {report.page_path}" if report.page_path else "No page: the config asks for other exams.")
    refuse_alarms(report)


# ---------------------------------------------------------------------------------------------------------------------


def _asked(run: RunConfig, since: str, baseline: int | None) -> RunConfig:
    """The config with what the flags say in its place.

    Raises:
        ConfigError: The day is none.
    """
    given: dict[str, Any] = {}
    try:
        if since:
            given["since"] = date.fromisoformat(since)
    except ValueError:
        raise ConfigError("--since takes a day", expected="YYYY-MM-DD", got=since) from None
    if baseline is not None:
        given["baseline_exams"] = baseline
    return run.model_copy(update={"watch": run.watch.model_copy(update=given)})


def _watched(device: WatchedDevice) -> list[str]:
    from tasks.adapters.lifecycle.watching.device_streams import RECALLED, SCORE
    from tasks.adapters.pages.life.watch_page import shift_text

    lines = [f"{device.name}: {device.exams} exams"]
    for software in device.softwares:
        score, recalled = software.means[SCORE], software.means[RECALLED]
        decided = "no threshold" if recalled is None else f"{100 * recalled:.1f} % recalled"
        lines.append(f"  software {software.name}: {software.exams} exams, mean score {score:.3f}, {decided}")
    if device.needed:
        return [*lines, f"  not watched yet: {device.needed} more exams are needed"]
    lines += [
        f"  ALARM, {chart.name}: {shift_text(chart)} since {chart.alarm.began_exam}, scored {chart.alarm.began_utc[:10]}; "
        f"told {chart.alarm.told_after} exams later"
        for chart in device.alarms
        if chart.alarm is not None
    ]
    return lines if device.alarms else [*lines, "  as it began"]


_COLUMNS = (
    "number", "when_utc", "kind", "patient_id", "exam_id", "image_id", "laterality", "view_position", "benign_score",
    "malignant_score", "benign_calibrated", "malignant_calibrated", "malignant_threshold", "malignant_recalled",
    "gate_warnings", "model", "preprocessing", "code_version", "data_version", "run",
)  # fmt: skip


def _reported(workspace: Workspace) -> LastLine:
    """The log's last line as the report of the newest prediction knows it, which lies outside the log's folder."""
    try:
        report = workspace.read_report("predict", PredictReport)
    except (OSError, ValueError):
        return LastLine(0, "")
    return LastLine(report.log_number, report.log_sha256)


def _rows(line: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """An image is a row; an exam's breasts are rows, with the decision on the exam."""
    if line.get("kind") == "image":
        yield {**line, **{f"{finding}_score": score for finding, score in line["scores"].items()}}
    elif line.get("kind") == "exam":
        for side, scores in line["scores"].items():
            calibrated = (line["calibrated_scores"] or {}).get(side, {})
            yield {
                **line,
                "laterality": side,
                **{f"{finding}_score": score for finding, score in scores.items()},
                **{f"{finding}_calibrated": score for finding, score in calibrated.items()},
                **{f"{finding}_threshold": threshold for finding, threshold in line["thresholds"].items()},
                **{f"{finding}_recalled": is_recalled for finding, is_recalled in line["recalled"].items()},
            }
    else:
        yield line


def _log(config: Path) -> PredictionLog:
    return PredictionLog(Workspace(load_config(config).workspace_dir).prediction_log_dir)
