"""Files of our modules' and libraries' names where the user stands: whatever we start runs the installed ones.

The proof is where the processes are started anyway: a pipeline (``flows/test_pipeline.py``), a workstation
(``deployments/server/test_workstation.py``) and a training of two processes under torchrun
(``tasks/adapters/training/test_process.py``) are started in such a folder, and none of its files may have run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mammo_tests.foreign_modules import NAMES, foreign_folder, unsafe

ROOT = Path(__file__).parents[1]


def test_the_foreign_modules_tell_who_imports_them(tmp_path: Path) -> None:
    """A Python that is not safe runs them: those proofs can fail."""
    foreign = foreign_folder(tmp_path)
    command = [sys.executable, "-c", "import " + ", ".join(NAMES)]
    subprocess.run(command, cwd=foreign.path, env=unsafe(os.environ), check=True)
    assert sorted(foreign.who_ran()) == sorted(NAMES)


@pytest.mark.parametrize(
    "proof",
    ["flows/test_pipeline.py", "deployments/server/test_workstation.py", "tasks/adapters/training/test_process.py"],
)
def test_the_proofs_are_where_the_docstring_says(proof: str) -> None:
    """Each asks the folder that its processes were started in."""
    assert ".who_ran() == {}" in (ROOT / "tests" / proof).read_text()
