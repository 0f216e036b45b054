"""Benchmarks are run once in a while, and no type checker reads them: what they take from our modules must be there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
OURS = ("benchmarks.", "gmic_model.", "schemas.", "tasks.", "flows.", "deployments.")


def _asked() -> Iterator[tuple[Path, str, str]]:
    """(who asks, of which module, for which name)."""
    for path in sorted((REPOSITORY / "benchmarks").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(OURS):
                yield from ((path, str(node.module), alias.name) for alias in node.names)


@cache
def _defined(module: str) -> set[str]:
    place = REPOSITORY.joinpath(*module.split("."))
    path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    if not path.exists():
        return set()
    names = set[str]()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def test_what_a_benchmark_takes_is_defined_there() -> None:
    """A part that moved takes its users along."""
    asked = list(_asked())
    assert len(asked) > 100
    lacking = [
        (path.name, module, name)
        for path, module, name in asked
        if name not in _defined(module) and not REPOSITORY.joinpath(*module.split("."), f"{name}.py").exists()
    ]
    assert not lacking
