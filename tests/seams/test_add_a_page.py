"""Whoever follows the page about pages has a page."""

from __future__ import annotations

from pathlib import Path

from mammo_tests.seams import copy_of_repository

PAGE = "docs/how-to/add-a-page.md"


def test_the_page_s_steps_write_a_page(tmp_path: Path) -> None:
    """A template, a module and a test; the page is written, and the house's rules hold with it."""
    copy = copy_of_repository(tmp_path)
    touched = {step.path for step in copy.follow(PAGE)}
    assert len(touched) == 3
    modules = [path for path in touched if path.endswith(".py")]
    copy.python("-m", "ruff", "check", *modules)
    copy.python("-m", "ruff", "format", "--check", *modules)
    copy.pytest(
        "--noconftest",
        "tests/tasks/adapters/pages/test_splits_page.py",
        "tests/test_architecture.py",
        "-k",
        "splits_page or ten_modules or house_style or readable_size",
    )
