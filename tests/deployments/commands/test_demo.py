"""The demo's seed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from deployments.commands.demo import place_phantom_key, prediction_config, run_demo
from schemas.errors import ConfigError, NoExamsFound
from tasks.adapters.interpreter import import_path, python_command
from tasks.adapters.pseudonyms import open_key
from tasks.adapters.workspace import Workspace


def test_the_seed_alone_fixes_the_pseudonyms_of_the_phantoms(tmp_path: Path) -> None:
    """Split and training order follow the pseudonyms: with the same key two workspaces give the same table."""
    patients = []
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        place_phantom_key(tmp_path / name, seed)
        patients.append(open_key(Workspace(tmp_path / name).key_path).patient_id("PHANTOM-0001"))
    assert patients[0] == patients[1] != patients[2]


def test_the_environment_does_not_choose_how_many_threads_train_the_demo(tmp_path: Path) -> None:
    """One thread rounds otherwise than two, and Dask's nannies set these variables in the process that starts them."""
    program = (
        "import sys, torch; from pathlib import Path; from deployments.commands.demo import demo_config; "
        "from gmic_model.devices import choose_device; "
        "before = torch.get_num_threads(); choose_device(demo_config(Path(sys.argv[1]), 0).train); "
        "print(before, torch.get_num_threads())"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(import_path()), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    said = subprocess.run(
        python_command("-c", program, str(tmp_path)), env=environment, check=True, capture_output=True, text=True
    ).stdout
    assert said.split() == ["1", "2"]


def test_a_key_that_is_there_stays(tmp_path: Path) -> None:
    """A resumed demo goes on under the pseudonyms its store was written with."""
    before = open_key(Workspace(tmp_path).key_path, creates=True).key_id
    place_phantom_key(tmp_path, 0)
    assert open_key(Workspace(tmp_path).key_path).key_id == before


def test_real_mammograms_never_get_the_known_key(tmp_path: Path) -> None:
    """``mammo demo --dicom`` writes real images to another workspace, whose key is random."""
    place_phantom_key(tmp_path, 0)
    real = prediction_config(tmp_path, tmp_path, "cbis-ddsm", tmp_path / "checkpoint").workspace_dir
    assert open_key(Workspace(real).key_path, creates=True).key_id != open_key(Workspace(tmp_path).key_path).key_id


def test_what_real_input_lacks_is_said_before_the_cohort_is_drawn(tmp_path: Path) -> None:
    """A file instead of a folder, a folder that is not there, a profile with a typo: refused at once, nothing is written."""
    file = tmp_path / "one.dcm"
    file.touch()
    workspace = tmp_path / "demo"
    for folder, profile, error, said in (
        (file, "cbis-ddsm", NoExamsFound, "Got: a file"),
        (tmp_path / "gone", "cbis-ddsm", NoExamsFound, "Got: no such folder"),
        (tmp_path, "cbis-dsm", ConfigError, "did you mean cbis-ddsm"),
    ):
        with pytest.raises(error, match=said):
            run_demo(workspace=workspace, dicom_dir=folder, profile=profile, seed=0)
    assert not workspace.exists()
