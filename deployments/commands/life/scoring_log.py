"""``mammo log``: all that was ever predicted in a workspace, whether it is whole, and what was said of an exam."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.configuration import load_config
from gmic_model.metrics.clinic.control_chart import BASELINE
from schemas.errors import ConfigError, StoreError, ValidationFailed, error_name
from tasks.adapters.lifecycle.prediction_log import PredictionLog
from tasks.adapters.workspace import Workspace, exam_store_dir, write_atomically

if TYPE_CHECKING:
    from tasks.adapters.lifecycle.watching.device_scores import DeviceScores

app = typer.Typer(help="The prediction log.", no_args_is_help=True)

ConfigPath = Annotated[Path, typer.Argument(help="Config file of the workspace")]


@app.command()
def verify(
    config: ConfigPath,
    contains: Annotated[str, typer.Option(help="A digest of a last line, noted earlier elsewhere: it must be a line's")] = "",
) -> None:
    """Read every line and follow the chain; a line that was changed, added or taken out ends with code 5.

    Note the digest that is printed on another machine: whoever wrote the whole log anew does not have it in his.
    """
    checked = _log(config).check(contains=contains)
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
    text = io.StringIO()
    table = csv.DictWriter(text, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    lines = 0
    for line in _log(config).lines():
        for row in _rows(line):
            table.writerow(row)
            lines += 1
    try:
        write_atomically(target, text.getvalue().encode())
    except OSError as trouble:
        raise StoreError(f"{target} cannot be written", got=error_name(trouble), remedy="see that there is room") from trouble
    typer.echo(f"{target}: {lines} lines, under pseudonyms")


@app.command()
def watch(
    config: ConfigPath,
    since: Annotated[str, typer.Option(help="A date: exams scored before it do not count, the baseline begins anew")] = "",
    baseline: Annotated[int, typer.Option(min=50, help="Exams of a device by which its later ones are judged")] = BASELINE,
) -> None:
    """Say whether each device's scores go on as they began, and what is recalled by its software; a change ends with code 4.

    A cumulative sum over the exams of each device (CUSUM), in the order in which the model in use scored them.
    """
    from tasks.adapters.lifecycle.watching.device_scores import scores_by_device
    from tasks.adapters.store.exam_store import open_store
    from tasks.adapters.store.manifest import read_manifest

    run = load_config(config)
    manifest = read_manifest(open_store(exam_store_dir(run)))
    devices = scores_by_device(_log(config).lines(), manifest, since=since, baseline=baseline)
    for device in devices:
        typer.echo("\n".join(_watched(device)))
    changed = [device.name for device in devices if device.alarm is not None]
    if changed:
        raise ValidationFailed(
            f"The scores of {len(changed)} of {len(devices)} devices are not what they were",
            expected="scores that go on as they began",
            got="; ".join(changed),
            remedy="look at its images and at what was changed on it, choose thresholds anew, then watch --since that day",
        )


# ---------------------------------------------------------------------------------------------------------------------


def _watched(device: DeviceScores) -> list[str]:
    lines = [f"{device.name}: {device.exams} exams"]
    for software in device.softwares:
        recalled = "no threshold" if software.recalled is None else f"{100 * software.recalled / software.exams:.1f} % recalled"
        lines.append(f"  software {software.name}: {software.exams} exams, mean score {software.mean_score:.3f}, {recalled}")
    if device.needed:
        return [*lines, f"  not watched yet: {device.needed} more exams are needed"]
    if device.alarm is None:
        return [*lines, "  as it began"]
    way = "higher" if device.alarm.is_upward else "lower"
    after = device.alarm.exam - device.alarm.began + 1
    return [
        *lines,
        f"  ALARM: {way} by {abs(device.alarm.shift):.1f} standard deviations since {device.began_exam}, scored "
        f"{device.began_utc[:10]}; told {after} exams later",
    ]


_COLUMNS = (
    "number", "when_utc", "kind", "patient_id", "exam_id", "image_id", "laterality", "view_position", "benign_score",
    "malignant_score", "benign_calibrated", "malignant_calibrated", "malignant_threshold", "malignant_recalled",
    "gate_warnings", "model", "preprocessing", "code_version", "data_version", "run",
)  # fmt: skip


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
