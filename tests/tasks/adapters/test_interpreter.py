"""How a Python is started: without the folder where its user stands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.adapters.interpreter import SAFE_ENVIRONMENT, import_path, path_without, python_command

SHOW = "import json, sys; print(json.dumps([sys.path, sys.flags.safe_path]))"


def shown(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> tuple[list[str], bool]:
    """The module path of a started interpreter, and whether it is safe."""
    said = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    path, is_safe = json.loads(said.stdout)
    return path, is_safe


def test_our_interpreter_does_not_look_where_it_stands(tmp_path: Path) -> None:
    """Neither by the empty entry nor by the folder's name."""
    path, is_safe = shown(python_command("-c", SHOW), tmp_path)
    assert is_safe and not {"", str(tmp_path)} & {*path}


def test_an_interpreter_that_a_library_starts_does_not_either(tmp_path: Path) -> None:
    """It has no flag of ours, but our environment."""
    path, is_safe = shown([sys.executable, "-c", SHOW], tmp_path, {**SAFE_ENVIRONMENT})
    assert is_safe and not {"", str(tmp_path)} & {*path}


def test_a_script_by_path_does_not_bring_its_folder(tmp_path: Path) -> None:
    """Python puts a script's own folder first unless it is told not to."""
    (tmp_path / "script.py").write_text(SHOW)
    path, is_safe = shown(python_command(str(tmp_path / "script.py")), Path("/"))
    assert is_safe and str(tmp_path) not in path


def test_a_child_gets_our_module_path_without_the_empty_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """In an interactive Python the empty entry is first."""
    monkeypatch.setattr(sys, "path", ["", "/a", "/b"])
    assert import_path() == ["/a", "/b"]


def test_the_working_directory_leaves_the_module_path() -> None:
    """``python -m`` put it there; it stays for who stands in the checkout that is running."""
    path = ["", "/here", "/own", "/site"]
    assert path_without(path, "/here", "/own") == ["/own", "/site"]
    assert path_without(path, "/own", "/own") == ["/here", "/own", "/site"]
