"""``mammo plan``: the page of a million images is what the command prints, and prices are used as they are given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deployments.cli import app
from schemas.errors import ConfigError
from schemas.reports.precision import ScalePlan

PAGE = Path(__file__).parents[4] / "docs" / "explanation" / "a-million-images.md"


def test_the_page_shows_what_the_command_prints() -> None:
    """Every table of the page, line by line."""
    result = CliRunner().invoke(app, ["plan"])
    assert result.exit_code == 0, result.output
    printed = [line for line in result.output.splitlines() if line.startswith("| ")]
    written = set(PAGE.read_text("utf-8").splitlines())
    assert len(printed) > 20 and [line for line in printed if line not in written] == []


def test_prices_and_a_bucket_are_used_as_given() -> None:
    """Money for core-hours and for terabytes a month; of a bucket objects are said, and what is not known of it."""
    arguments = ["plan", "--images", "32000", "--cores", "4", "--store", "s3", "--core-hour", "0.1", "--tb-month", "20"]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    plan = ScalePlan.model_validate(json.loads(result.output))
    assert plan.cores == (4,) and plan.objects == 2000 and plan.store_cost_a_month is not None
    said = CliRunner().invoke(app, arguments).output
    assert "| objects of the pixels in the bucket | 2,000 |" in said and f"{plan.store_cost_a_month:,.2f}" in said
    assert "| money |" in said and "one put" in said


def test_a_network_without_width_is_refused() -> None:
    """A sentence, not a division by nothing."""
    result = CliRunner().invoke(app, ["plan", "--network-gbit", "0"])
    assert isinstance(result.exception, ConfigError)
    with pytest.raises(ConfigError, match="--network-gbit has no meaning"):
        raise result.exception
