"""``render.py`` alone writes HTML: whatever else does would have to escape, to be whole and to have a policy by itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
ROOMS = ("schemas", "gmic_model", "tasks", "flows", "deployments")
MARKUP = ("<!doctype", "<html", "<body", "<table", "<div")
HOME = ROOT / "tasks" / "adapters" / "pages" / "render.py"


def written_elsewhere(tree: ast.Module) -> Iterator[str]:
    """Templates that are given to anything but ``write_page``, and documents or elements written by hand."""
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    given = {
        id(argument)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("write_page")
        for argument in node.args
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs | given:
            text = node.value.lower()
            if text.endswith(".html.jinja") or any(start in text for start in MARKUP):
                yield node.value


def test_pages_are_written_by_render_only() -> None:
    """A template's name stands in a call of ``write_page``, and no module has markup of a page in a string."""
    texts = {path: path.read_text() for room in ROOMS for path in (ROOT / room).rglob("*.py") if path != HOME}
    suspects = {path: text for path, text in texts.items() if any(start in text.lower() for start in (".html.jinja", *MARKUP))}
    assert suspects
    assert {path.name: found for path, text in suspects.items() if (found := [*written_elsewhere(ast.parse(text))])} == {}


@pytest.mark.parametrize(
    "line",
    [
        'path.write_text("<!DOCTYPE html>" + text)',
        'page = f"<html><body>{name}</body></html>"',
        'render_template("report.html.jinja", name=name)',
        'TEMPLATE = "report.html.jinja"',
    ],
)
def test_a_page_from_elsewhere_is_found(line: str) -> None:
    """The test above can fail."""
    assert [*written_elsewhere(ast.parse(line))]


def test_every_template_is_used() -> None:
    """A template that nobody renders is a page that nobody looks at."""
    texts = "".join(path.read_text() for path in (ROOT / "tasks").rglob("*") if path.suffix in (".py", ".jinja"))
    templates = [path.name for path in (HOME.parent / "templates").iterdir()]
    assert [name for name in templates if name not in texts] == []
