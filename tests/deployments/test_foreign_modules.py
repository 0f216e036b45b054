"""Files of our modules' and libraries' names where the user stands: whatever we start runs the installed ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.config.run import RunConfig

ROOT = Path(__file__).parents[2]
MAMMO = Path(sys.executable).with_name("mammo")
FOREIGN = ("tasks", "flows", "schemas", "deployments", "prefect", "torch")
# It says who imported it, so that a failing test names the process that is not safe.
MODULE = """
import pathlib, sys, traceback
with pathlib.Path({marker!r}).open("a") as file:
    command = pathlib.Path("/proc/self/cmdline").read_text().replace(chr(0), " ")
    file.write(command + "\\n" + "".join(traceback.format_stack()))
"""


@pytest.fixture
def foreign_dir(tmp_path: Path) -> Path:
    """A folder with the six files; each leaves its name in ``tmp_path/ran`` when somebody imports it."""
    folder, ran = tmp_path / "here", tmp_path / "ran"
    folder.mkdir()
    ran.mkdir()
    for name in FOREIGN:
        (folder / f"{name}.py").write_text(MODULE.format(marker=str(ran / name)))
    return folder


def environment(home: Path) -> dict[str, str]:
    """A shell's in which this checkout is what ``mammo`` means, and where nothing says that Python is to be safe."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "PYTHONSAFE"))}
    return {**kept, "PREFECT_HOME": str(home), "PYTHONPATH": str(ROOT)}


def who_ran(tmp_path: Path) -> dict[str, str]:
    """The foreign modules that somebody imported, with the command lines of those who did."""
    return {path.name: path.read_text() for path in (tmp_path / "ran").iterdir()}


def written_config(make_config: Callable[..., RunConfig], path: Path, cohort: Path, **changes: Any) -> Path:
    """The tiny run as a YAML file; two training processes, so that torchrun is among what is started."""
    config = make_config(path.with_suffix(""), cohort, **changes)
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return path


def test_the_foreign_modules_tell_who_imports_them(foreign_dir: Path, tmp_path: Path) -> None:
    """A Python that is not safe runs them: the test below can fail."""
    subprocess.run([sys.executable, "-c", "import torch"], cwd=foreign_dir, env=environment(tmp_path), check=True)
    assert list(who_ran(tmp_path)) == ["torch"]


@pytest.mark.e2e
def test_a_pipeline_runs_our_modules(
    foreign_dir: Path, tmp_path: Path, cohort_dir: Path, make_config: Callable[..., RunConfig]
) -> None:
    """Server, nannies, gate children, torchrun and its processes: none looks where the user stands."""
    path = written_config(make_config, tmp_path / "run.yaml", cohort_dir, **{"train.processes": 2})
    command = [str(MAMMO), "pipeline", str(path)]
    said = subprocess.run(
        command, cwd=foreign_dir, env=environment(tmp_path), stderr=subprocess.PIPE, text=True, check=False, timeout=900
    )
    assert who_ran(tmp_path) == {}
    assert said.returncode == 0, said.stderr


@pytest.mark.e2e
def test_a_workstation_runs_our_modules(
    foreign_dir: Path,
    tmp_path: Path,
    cohort_dir: Path,
    make_config: Callable[..., RunConfig],
    until: Callable[..., bool],
) -> None:
    """Its server, its registration, its workers and the ingest that they start when the inbox has exams."""
    path = written_config(make_config, tmp_path / "run.yaml", cohort_dir, **{"ingest.dask.n_workers": 1})
    (tmp_path / "service.yaml").write_text("{settle_s: 1.0}")
    command = [str(MAMMO), "serve", str(path), "--service", str(tmp_path / "service.yaml")]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(command, cwd=foreign_dir, env=environment(tmp_path), stdout=said, stderr=said)
    try:
        is_done = until((tmp_path / "run" / "ingest" / "report.json").exists, timeout_s=600)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=120)
    assert who_ran(tmp_path) == {}
    assert is_done, (tmp_path / "said").read_text()
