"""``mammo demo --dataset NAME ROOT``: a public data set from its folder as downloaded to the report, in the ordinary way."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

import typer
import yaml

from deployments.configuration import load_config
from deployments.console import shown_progress
from deployments.local_run import run_verb
from deployments.server.prefect_server import prefect_server
from deployments.words import set_demo_text
from schemas.config.run import RunConfig
from schemas.errors import DatasetError
from schemas.reports.pages import PipelineReport
from tasks.adapters.datasets.catalogue import data_set_named
from tasks.adapters.datasets.conversion.convert import convert, policies_of, require_outside
from tasks.adapters.datasets.conversion.output import CONFIG_FILE
from tasks.adapters.datasets.named_subjects import read_subjects
from tasks.adapters.datasets.published.reading import DataSet

FIRST_LOOK: Final = Path("first-look.yaml")
_FEWEST_PATIENTS: Final = 2
"""One to train and one to test."""


def run_set_demo(name: str, root: Path, *, workspace: Path, seed: int) -> PipelineReport:
    """Converts the set into ``workspace/<its name>`` and runs the pipeline there; run again, it resumes.

    A part of the set will do: what is not there is counted, and the counts that differ from the published ones are marked.

    Raises:
        ConfigError: There is no such set, or the workspace lies in its folder.
        DatasetError: Something of the set is not as it was published, or too little of it is here to train and test on.
    """
    data_set = data_set_named(name)
    target = workspace / data_set.facts.name
    require_outside(root, target)
    started = time.monotonic()
    done = convert(data_set, root, target, policies=policies_of(data_set.facts, ()), is_partial=True)
    typer.echo("\n".join(done.page))
    config = first_look_config(target, seed)
    _require_enough(data_set, config, cast("Mapping[str, Any]", done.content["counts"]))
    with prefect_server(config.workspace_dir) as ui_address:
        typer.echo(f"\nPrefect UI: {ui_address}", err=True)
        with shown_progress():
            report = cast("PipelineReport", run_verb("pipeline", config))
        typer.echo(set_demo_text(report, target / CONFIG_FILE, minutes=(time.monotonic() - started) / 60))
        if sys.stdin.isatty() and sys.stdout.isatty():
            typer.echo(f"The Prefect UI is at {ui_address} until you press Enter.")
            sys.stdin.readline()
    return report


def first_look_config(target: Path, seed: int) -> RunConfig:
    """The config that the conversion wrote, with the small network and the few epochs of the shipped first look."""
    written = yaml.safe_load((target / CONFIG_FILE).read_text(encoding="utf-8"))
    return load_config(FIRST_LOOK, {"split.seed": seed, "train.seed": seed, **_dotted(written)})


def _dotted(content: Mapping[str, Any]) -> dict[str, Any]:
    """Each setting of a config by its path: those of a section win one by one, not the section as a whole."""
    return {
        f"{section}.{key}" if key else section: value
        for section, settings in content.items()
        for key, value in (settings.items() if isinstance(settings, dict) else (("", settings),))
    }


def _require_enough(data_set: DataSet, config: RunConfig, counts: Mapping[str, Any]) -> None:
    """A network is trained on some patients that are here and tested on others, and learns from findings that are known."""
    facts, ingest = data_set.facts, config.ingest
    named = read_subjects(ingest.subjects_csv).by_path.items() if ingest.subjects_csv else ()
    here = {subject.patient for path, subject in named if (ingest.source_dir / path).is_file()}
    if len(here) < _FEWEST_PATIENTS:
        raise DatasetError(
            f"Too little of {facts.title} is here to train and to test on",
            expected=f"images of at least {_FEWEST_PATIENTS} patients",
            got=f"images of {len(here)}",
            remedy=f"it needs {', '.join(facts.needs)}: get more of it from {facts.get}",
        )
    if not (counts["benign"] or counts["malignant"]):
        raise DatasetError(
            f"What is here of {facts.title} gives nothing to learn from",
            expected="breasts that are known to hold a benign or a malignant finding",
            got="no breast of it is known to hold a finding",
            remedy="take more of the set, or another set: docs/how-to/use-a-public-data-set.md says what each is good for",
        )
