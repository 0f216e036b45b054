"""``mammo reproduce precision``: the page that says how is followed, and what has no meaning is a sentence."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deployments.cli import app
from schemas.errors import ConfigError
from schemas.reports.precision import PrecisionReport

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "plan-a-study.md"


def test_the_page_s_commands_print_what_it_shows() -> None:
    """Each command of the page runs, and what the page shows of the first is its first lines."""
    blocks = re.findall(r"```\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    commands = [block for block in blocks if block.startswith("mammo ")]
    printed = []
    for command in commands:
        result = CliRunner().invoke(app, command.split()[1:])
        assert result.exit_code == 0, result.output
        printed.append(result.output)
    assert len(commands) == 2 and printed[0].startswith(blocks[1])
    assert re.search(
        r"^sensitivity +0\.8 +0\.\d+-0\.\d+ +0\.1\d\d \(at most 0\.2\) +6\d +10,\d{3} +2\d,\d{3}$", printed[0], re.M
    )
    assert re.search(r"^AUROC +0\.85 +0\.\d+-0\.\d+ +0\.1\d\d +40 +200 +400$", printed[1], re.M)


def test_json_is_the_whole_plan() -> None:
    """It parses, and validates as the report's type; rows by value and width, then by value and number of patients."""
    arguments = ["--sensitivity", "0.9", "--specificity", "0.8", "--width", "0.2", "--positives", "50", "--prevalence", "0.1"]
    result = CliRunner().invoke(app, ["reproduce", "precision", "--json", "--breasts", "1", *arguments])
    report = PrecisionReport.model_validate(json.loads(result.output))
    assert [(row.measure, row.wanted_width) for row in report.rows] == [
        ("sensitivity", 0.2), ("specificity", 0.2), ("sensitivity", None), ("specificity", None),
    ]  # fmt: skip
    assert report.rows[-1].patients == report.rows[-1].breasts == 500


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--width", "0.1"], "nothing to plan"),
        (["--sensitivity", "0.8"], "nothing to plan"),
        (["--sensitivity", "80", "--width", "0.1"], "--sensitivity has no meaning"),
        (["--auroc", "0.8", "--width", "0"], "--width has no meaning"),
        (["--auroc", "0.8", "--positives", "4"], "--positives has no interval"),
        (["--auroc", "0.8", "--positives", "9", "--prevalence", "1"], "--prevalence has no meaning"),
    ],
)
def test_what_has_no_meaning_is_said(arguments: list[str], said: str) -> None:
    """A sentence with what was expected, no traceback."""
    result = CliRunner().invoke(app, ["reproduce", "precision", *arguments])
    assert isinstance(result.exception, ConfigError) and said in str(result.exception)
