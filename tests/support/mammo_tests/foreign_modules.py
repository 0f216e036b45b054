"""A folder to start commands in that holds files of our modules' and libraries' names, each of which tells when it is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
NAMES = ("tasks", "flows", "schemas", "deployments", "prefect", "torch")
# It says who imported it, so that a failing test names the process that is not safe.
_MODULE = """
import pathlib, sys, traceback
with pathlib.Path({marker!r}).open("a") as file:
    command = pathlib.Path("/proc/self/cmdline").read_text().replace(chr(0), " ")
    file.write(command + "\\n" + "".join(traceback.format_stack()))
"""


@dataclass(frozen=True)
class ForeignFolder:
    """Where a user stands who has a ``tasks.py`` of their own."""

    path: Path
    ran_dir: Path

    def who_ran(self) -> dict[str, str]:
        """The foreign modules that somebody imported, with the command lines of those who did."""
        return {path.name: path.read_text() for path in self.ran_dir.iterdir()}


def foreign_folder(beside: Path) -> ForeignFolder:
    """Makes the folder with the six files, and the one where they leave their names."""
    folder = ForeignFolder(beside / "here", beside / "ran")
    folder.path.mkdir()
    folder.ran_dir.mkdir()
    for name in NAMES:
        (folder.path / f"{name}.py").write_text(_MODULE.format(marker=str(folder.ran_dir / name)))
    return folder


def unsafe(environment: Mapping[str, str]) -> dict[str, str]:
    """A shell's in which this checkout is what ``mammo`` means, and where nothing says that Python is to be safe."""
    return {name: value for name, value in environment.items() if name != "PYTHONSAFEPATH"} | {"PYTHONPATH": str(ROOT)}
