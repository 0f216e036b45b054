"""What a command imports before it knows that it needs it: torch costs more than a second of CPU, Dask half of one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable

from deployments.cli import verbs_asked_for
from deployments.local_run import STAGES_ALONE
from deployments.verbs import VERBS

HEAVY = {"torch", "dask", "distributed", "great_expectations", "optuna", "mlflow", "pydicom", "imagecodecs", "scipy.optimize"}
FOLDER_SCORING = "deployments.commands.life.folder_scoring"
_IMPORTS = """
import json, sys
for module in sys.argv[2:]:
    __import__(module)
print(json.dumps(sorted(set(json.loads(sys.argv[1])) & set(sys.modules))))
"""


def heavy_modules_of(*modules: str, heavy: Iterable[str] = HEAVY) -> set[str]:
    """Which of them a new interpreter has when it has imported these modules."""
    command = [sys.executable, "-c", _IMPORTS, json.dumps(sorted(heavy)), *modules]
    return set(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def test_the_command_line_itself_brings_no_heavy_library() -> None:
    """Every verb's module is imported to say what verbs there are: none brings arrays, tables or torch before it has work."""
    modules = {verb.runs.partition(":")[0] for verb in VERBS if verb.runs} | {"deployments.cli", "deployments.local_run"}
    heavy = HEAVY | {"numpy", "pandas", "prefect", "scipy.special", "cv2", "zarr"}
    assert heavy_modules_of(*sorted(modules), heavy=heavy) == set()


def test_a_command_brings_nothing_of_other_verbs() -> None:
    """A program waits for each module that `mammo infer` imports before it asks the process that stays."""
    others = {verb.runs.partition(":")[0] for verb in VERBS} - {"", "deployments.configuration", FOLDER_SCORING}
    asks = (FOLDER_SCORING, "tasks.adapters.lifecycle.inference.warm_process")
    heavy = others | HEAVY | {"numpy", "rich.console", "deployments.server", "schemas.reports.evaluation"}
    assert heavy_modules_of("deployments.cli", *asks, heavy=heavy) == set()
    assert {verb.name for verb in verbs_asked_for(["infer", "run.yaml"])} == {"infer"}
    for whole in ([], ["--help"], ["infre"]):
        assert verbs_asked_for(whole) == VERBS, whole


def test_a_finished_stage_and_an_ingest_bring_no_heavy_library() -> None:
    """A stage's flow is imported to say that nothing is to be done; a run of a handful of files is mostly what it imports.

    A pipeline and a cross-validation train in processes of their own, and their pages show pictures that are drawn already.
    """
    assert {"validate", "train", "explain"} <= STAGES_ALONE
    verbs = sorted({*STAGES_ALONE, "ingest", "pipeline", "crossvalidate"})
    assert heavy_modules_of(*(f"flows.{verb}" for verb in verbs)) == set()


def test_predict_brings_what_it_needs() -> None:
    """The network, and neither worker processes nor what evaluation, search and data checks need; DICOM is read in a child."""
    assert heavy_modules_of("flows.predict") == {"torch"}
