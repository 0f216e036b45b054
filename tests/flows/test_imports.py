"""What a command imports before it knows that it needs it: torch costs more than a second of CPU, Dask half of one.

One new interpreter imports in steps, and says after each what it has. What is not there then was brought by no module of that
step or of one before it.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from deployments.cli import verbs_asked_for
from deployments.local_run import STAGES_ALONE
from deployments.verbs import VERBS

HEAVY = {"torch", "dask", "distributed", "great_expectations", "optuna", "mlflow", "pydicom", "imagecodecs", "scipy.optimize"}
FOLDER_SCORING = "deployments.commands.life.folder_scoring"
COMMANDS = {verb.runs.partition(":")[0] for verb in VERBS if verb.runs} | {"deployments.cli", "deployments.local_run"}
STAGES = {f"flows.{verb}" for verb in {*STAGES_ALONE, "ingest", "pipeline", "crossvalidate"}}
STEPS = {
    "infer": ["deployments.cli", FOLDER_SCORING, "tasks.adapters.lifecycle.inference.warm_process"],
    "commands": sorted(COMMANDS),
    "stages": sorted(STAGES),
    "predict": ["flows.predict"],
}
"""A step's name to what is imported in it."""
_IMPORTS = """
import json, sys
for step, modules in json.loads(sys.argv[1]).items():
    for module in modules:
        __import__(module)
    print(json.dumps([step, sorted(sys.modules)]))
"""


@pytest.fixture(scope="module")
def imported() -> dict[str, set[str]]:
    """What a new interpreter has after each step."""
    command = [sys.executable, "-c", _IMPORTS, json.dumps(STEPS)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {step: set(modules) for step, modules in map(json.loads, said.splitlines())}


def test_a_command_brings_nothing_of_other_verbs(imported: dict[str, set[str]]) -> None:
    """A program waits for each module that `mammo infer` imports before it asks the process that stays."""
    others = {verb.runs.partition(":")[0] for verb in VERBS} - {"", "deployments.configuration", FOLDER_SCORING}
    heavy = others | HEAVY | {"numpy", "rich.console", "deployments.server", "schemas.reports.evaluation"}
    assert heavy & imported["infer"] == set()
    assert {verb.name for verb in verbs_asked_for(["infer", "run.yaml"])} == {"infer"}
    for whole in ([], ["--help"], ["infre"]):
        assert verbs_asked_for(whole) == VERBS, whole


def test_the_command_line_itself_brings_no_heavy_library(imported: dict[str, set[str]]) -> None:
    """Every verb's module is imported to say what verbs there are: none brings arrays, tables or torch before it has work."""
    heavy = HEAVY | {"numpy", "pandas", "prefect", "scipy.special", "cv2", "zarr"}
    assert heavy & imported["commands"] == set() and imported["commands"] >= COMMANDS


def test_a_finished_stage_and_an_ingest_bring_no_heavy_library(imported: dict[str, set[str]]) -> None:
    """A stage's flow is imported to say that nothing is to be done; a run of a handful of files is mostly what it imports.

    A pipeline and a cross-validation train in processes of their own, and their pages show pictures that are drawn already.
    """
    assert {"validate", "train", "explain"} <= STAGES_ALONE
    assert HEAVY & imported["stages"] == set() and imported["stages"] >= STAGES


def test_predict_brings_what_it_needs(imported: dict[str, set[str]]) -> None:
    """The network, and neither worker processes nor what evaluation, search and data checks need; DICOM is read in a child."""
    assert HEAVY & imported["predict"] == {"torch"}
