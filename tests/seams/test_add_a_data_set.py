"""Whoever follows the page about data sets has a profile."""

from __future__ import annotations

from pathlib import Path

from mammo_tests.seams import copy_of_repository


def test_the_page_s_steps_add_a_data_set(tmp_path: Path) -> None:
    """Three files are touched; the profile is found by name and on the generated page, and profiles' tests pass with it."""
    copy = copy_of_repository(tmp_path)
    steps = copy.follow("docs/how-to/add-a-data-set.md")
    assert len({step.path for step in steps}) == 3
    copy.python("-m", "ruff", "check", *(step.path for step in steps))
    copy.python("-m", "ruff", "format", "--check", *(step.path for step in steps))
    said = copy.python(
        "-c",
        "from tasks.adapters.datasets.catalogue import PROFILES, profile_named; "
        "print('county' in PROFILES, profile_named('county').title)",
    )
    assert said == "True the county's archive of computed radiography\n"
    copy.python("-m", "mammo_tests.reference", "write")
    page = (copy.root / "docs" / "reference" / "gate-rules.md").read_text(encoding="utf-8")
    assert "| `county` | the county's archive of computed radiography | K05 L02 X09 | L01 |\n" in page
    copy.pytest(
        "--noconftest",
        "tests/tasks/adapters/datasets/sets",
        "tests/tasks/adapters/datasets/test_sets.py",
        "tests/tasks/adapters/gate/test_advice.py",
        "tests/docs/test_reference.py",
    )
