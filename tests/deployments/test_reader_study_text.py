"""The reader study in a terminal: every part of Figure 3 and its text, the paper's numbers beside its own file only."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from deployments.cli import app
from deployments.reader_study_text import interval_text
from schemas.reports.report import Interval


def text_of(scores_csv: Path) -> str:
    """What the command prints."""
    result = CliRunner().invoke(app, ["reproduce", "reader-study", "--resamples", "30", "--scores", str(scores_csv)])
    assert result.exit_code == 0, result.output
    return result.output


def test_table_holds_readers_model_hybrids_and_comparison(scores_csv: Path) -> None:
    """Every part of Figure 3 and its text, without the paper's numbers beside another site's."""
    text = text_of(scores_csv)
    for part in (
        "80 breasts of 40 exams", "mean of readers", "best reader", "model net", "mean of hybrids, 0.5 x reader + 0.5 x model",
        "best weight", "Reader2", "readers - model", "readers - hybrids", "random readers, random cases", "PPV",
        "the readers' mean specificity", "share of the reader", "Research use only",
    ):  # fmt: skip
        assert part in text
    assert "paper" not in text and "2020" not in text
    assert "recall rate and PPV as in an evaluation, exams as clusters" in text  # of which none is a bootstrap's


def test_public_column_says_whose_network_it_is(scores_csv: Path) -> None:
    """With the public ensemble's column the note and the paper's numbers appear."""
    scores_csv.write_text(scores_csv.read_text().replace("AI_net", "AI_GMIC_top5"))
    text = text_of(scores_csv)
    assert "later (2020) network" in text and "paper" in text


def test_an_interval_that_is_not_there_says_why() -> None:
    """One class only gives no number; too few exams give a number without an interval."""
    assert interval_text(Interval(value=0.8119, low=0.7, high=0.9)) == "0.8119 (0.700-0.900)"
    assert interval_text(Interval(value=0.5, low=None, high=None)) == "0.5000 (interval not defined: too few exams)"
    assert interval_text(Interval(value=None, low=None, high=None)) == "not defined (one class only)"
