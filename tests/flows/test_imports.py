"""What a command imports before it knows that it needs it: torch costs more than a second of CPU, Dask half of one."""

from __future__ import annotations

import json
import subprocess
import sys

from deployments.local_run import STAGES_ALONE

HEAVY = {"torch", "dask", "distributed", "great_expectations", "optuna", "mlflow", "pydicom", "imagecodecs", "scipy.optimize"}
_IMPORTS = """
import json, sys
for verb in sys.argv[2:]:
    __import__(f"flows.{verb}")
print(json.dumps(sorted(set(json.loads(sys.argv[1])) & set(sys.modules))))
"""


def heavy_modules_of(*verbs: str) -> set[str]:
    """Which of them a new interpreter has when it has imported these flows."""
    command = [sys.executable, "-c", _IMPORTS, json.dumps(sorted(HEAVY)), *verbs]
    return set(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def test_a_finished_stage_brings_no_heavy_library() -> None:
    """Its flow is imported to say that nothing is to be done."""
    assert {"validate", "train", "explain"} <= STAGES_ALONE
    assert heavy_modules_of(*sorted(STAGES_ALONE)) == set()


def test_predict_brings_what_it_needs() -> None:
    """The network, and neither worker processes nor what evaluation, search and data checks need; DICOM is read in a child."""
    assert heavy_modules_of("predict") == {"torch"}
