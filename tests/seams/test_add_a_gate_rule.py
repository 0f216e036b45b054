"""Whoever follows the page about gate rules has a rule."""

from __future__ import annotations

from pathlib import Path

from mammo_tests.seams import copy_of_repository

PAGE = "docs/how-to/add-a-gate-rule.md"


def test_the_page_s_steps_add_a_rule(tmp_path: Path) -> None:
    """Two files are touched; the rule is in the table and on the generated page, and the rules' tests pass with it."""
    copy = copy_of_repository(tmp_path)
    steps = copy.follow(PAGE)
    assert len({step.path for step in steps}) == 2
    copy.python("-m", "ruff", "check", *(step.path for step in steps))
    copy.python("-m", "ruff", "format", "--check", *(step.path for step in steps))
    said = copy.python("-c", "from tasks.adapters.gate.rules.table import RULES; print(RULES['V16'].by, RULES['V16'].demand)")
    assert said == "gate.rules.view ViewCodeSequence holds one code\n"
    copy.python("-m", "mammo_tests.reference", "write")
    page = (copy.root / "docs" / "reference" / "gate-rules.md").read_text(encoding="utf-8")
    assert "| V16 | warn | ViewCodeSequence holds one code | `gate.rules.view` |\n" in page
    copy.pytest(
        "--noconftest",
        "tests/tasks/adapters/gate/rules",
        "tests/docs/test_reference.py",
        "-k",
        "V16 or every_rule or test_reference",
    )


def test_a_rule_without_an_image_that_breaks_it_is_found(tmp_path: Path) -> None:
    """The first step alone leaves a red test that names what is missing."""
    copy = copy_of_repository(tmp_path)
    copy.follow(PAGE)
    table = copy.root / "tests" / "tasks" / "adapters" / "gate" / "rules" / "test_table.py"
    table.write_text("".join(line for line in table.read_text().splitlines(keepends=True) if '"V16"' not in line))
    said = copy.failing_pytest(
        "--noconftest", "tests/tasks/adapters/gate/rules/test_table.py", "-k", "has_an_image_that_breaks_it"
    )
    assert "V16" in said
