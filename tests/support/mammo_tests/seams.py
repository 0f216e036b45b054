"""A temporary copy of the repository, in which a test follows the steps of a how-to page as a reader would.

    copy = copy_of_repository(tmp_path)
    copy.follow("docs/how-to/add-a-gate-rule.md")
    copy.python("-m", "pytest", *PYTEST, "tests/tasks/adapters/gate/test_rules.py")

A page's steps are its blocks of code. The paragraph above a block says where the block goes, in one of four forms:

    A new file `PATH`                the block is the file's content
    At the end of `PATH`             the block is added to the file
    In `PATH`, after `TEXT`          the block is put below the one line that holds this text
    In `PATH`, instead of `TEXT`     the block takes the place of that line

Blocks under other paragraphs are for reading, and nothing is done with them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
_COPIED = (
    "schemas", "gmic_model", "tasks", "flows", "deployments", "tests", "docs", "pyproject.toml", "constraints.txt", "README.md",
    "ARCHITECTURE.md",
)  # fmt: skip
_PLUGINS_WITHOUT_USE = ("cacheprovider", "xdist", "anyio", "zarr")  # the last imports zarr for a test of a word or two
PYTEST = ("-q", "-x", *(f"-pno:{name}" for name in _PLUGINS_WITHOUT_USE))
"""What a child's pytest is told."""
_LEFT_OUT = ("*-pytest-*.pyc", "*.pyc.*", ".*")
"""What is compiled already is copied with its source: a child imports a hundred modules, of which the steps change a few.

Not what pytest has made of the tests, in which their old path stands, nor what another worker is just writing.
"""
_STEP = re.compile(
    r"(?P<new>A new file|At the end of|In) `(?P<path>[^`\n]+)`(?:, (?P<where>after|instead of) `(?P<anchor>[^`\n]+)`)?"
    r"[^`]*\n```\w*\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Step:
    """One block of a page: ``where`` is "new", "end", "after" or "instead of"; ``anchor`` is the text of the line meant."""

    path: str
    where: str
    anchor: str
    text: str


def steps_of(page: str) -> Iterator[Step]:
    """The steps of a page's text, in their order."""
    for found in _STEP.finditer(page):
        where = {"A new file": "new", "At the end of": "end"}.get(found["new"], found["where"] or "")
        if where:
            yield Step(path=found["path"], where=where, anchor=found["anchor"] or "", text=found["text"])


@dataclass(frozen=True)
class Copy:
    """A copy of the repository that a test may change."""

    root: Path

    def follow(self, page: str) -> list[Step]:
        """Does what a page of the repository tells, and says what that was; a page without steps is a failure."""
        steps = list(steps_of((self.root / page).read_text(encoding="utf-8")))
        assert steps, f"{page} has no step"
        for step in steps:
            self._do(step)
        return steps

    def _do(self, step: Step) -> None:
        path = self.root / step.path
        if step.where == "new":
            assert not path.exists(), f"{step.path} exists already"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(step.text, encoding="utf-8")
            return
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        if step.where == "end":
            lines.append(step.text)
        else:
            at = [number for number, line in enumerate(lines) if step.anchor in line]
            assert len(at) == 1, f"{len(at)} lines of {step.path} hold {step.anchor!r}"
            lines[at[0] : at[0] + 1] = [step.text] if step.where == "instead of" else [lines[at[0]], step.text]
        path.write_text("".join(lines), encoding="utf-8")

    def python(self, *arguments: str) -> str:
        """What a Python that imports the copy prints; it must end well."""
        paths = os.pathsep.join(map(str, (self.root, self.root / "tests" / "support")))
        # Of pytest's own settings (PYTEST_ADDOPTS) none is the caller's: tests here read what the child says.
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        ours.pop("PYTHONDONTWRITEBYTECODE", None)
        # -P: nothing is imported from the current folder but by this path.
        run = subprocess.run(
            [sys.executable, "-P", *arguments],
            cwd=self.root,
            env={**ours, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout


def copy_of_repository(folder: Path) -> Copy:
    """The rooms, the tests and the docs, copied into a folder of their own."""
    root = folder / "repository"
    root.mkdir()
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns(*_LEFT_OUT))
        else:
            shutil.copy(source, root / name)
    return Copy(root)
