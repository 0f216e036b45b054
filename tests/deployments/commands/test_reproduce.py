"""``mammo reproduce reader-study``: a table, JSON, a figure, and one message where the file is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from deployments.cli import app
from schemas.reports.reader_study import ReaderStudyReport


@pytest.fixture
def scores_csv(tmp_path: Path) -> Path:
    """Forty exams, three readers, one model; a reader's name that is markup."""
    rng = np.random.default_rng(1)
    label_B = (rng.random(80) < 0.3).astype(int)
    score_SB = 1 / (1 + np.exp(-(rng.normal(size=(4, 80)) + rng.normal(size=80) + 1.2 * label_B)))
    lines = ["case_ID,side,label,Reader1_POM,Reader2_POM,Reader<b>&_POM,AI_net_POM"]
    lines += [
        f"{breast // 2},{'LR'[breast % 2]},{label_B[breast]}," + ",".join(f"{score:.3f}" for score in score_SB[:, breast])
        for breast in range(80)
    ]
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(lines))
    return path


def _reproduce(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["reproduce", "reader-study", "--resamples", "30", *(str(one) for one in arguments)])


def test_table_holds_readers_model_hybrids_and_comparison(scores_csv: Path) -> None:
    """Every part of Figure 3 and its text, without the paper's numbers beside another site's."""
    result = _reproduce("--scores", scores_csv)
    assert result.exit_code == 0, result.output
    for part in (
        "80 breasts of 40 exams", "mean of readers", "best reader", "model net", "mean of hybrids, 0.5 x reader + 0.5 x model",
        "best weight", "Reader2", "readers - model", "readers - hybrids", "random readers, random cases", "PPV",
        "the readers' mean specificity", "share of the reader", "Research use only",
    ):  # fmt: skip
        assert part in result.output
    assert "paper" not in result.output and "2020" not in result.output


def test_json_is_the_whole_report(scores_csv: Path) -> None:
    """It parses, and validates as the report's type."""
    result = _reproduce("--scores", scores_csv, "--json", "--hybrid-weight", "0.3")
    report = ReaderStudyReport.model_validate(json.loads(result.output))
    assert report.hybrid_weight == 0.3 and report.resamples == 30 and len(report.readers) == 3
    assert report.source_sha256 and len(report.weight_curve) == 21


def test_public_column_says_whose_network_it_is(scores_csv: Path) -> None:
    """With the public ensemble's column the note and the paper's numbers appear."""
    scores_csv.write_text(scores_csv.read_text().replace("AI_net", "AI_GMIC_top5"))
    output = _reproduce("--scores", scores_csv).output
    assert "later (2020) network" in output and "paper" in output


def test_figure_is_one_svg_that_loads_nothing(scores_csv: Path, tmp_path: Path) -> None:
    """Well-formed, both charts, every reader's point, names as text, no link and no script."""
    figure = tmp_path / "out.svg"
    assert _reproduce("--scores", scores_csv, "--figure", figure).exit_code == 0
    root = ElementTree.fromstring(figure.read_text())  # noqa: S314 - our own file
    kinds = [element.get("class") for element in root.iter() if element.get("class")]
    assert kinds.count("dot reader-point") == 3 + 1  # and one in the legend
    assert {"line model", "line mean-reader", "line hybrid", "line best-reader", "line reader", "line bound"} <= set(kinds)
    text = figure.read_text()
    assert "<b>" not in text and "<script" not in text and "href" not in text


def test_wrong_input_is_one_message_and_its_exit_code(scores_csv: Path, tmp_path: Path) -> None:
    """Unknown model: 2. A missing file: 3. On stderr, without a stack trace."""
    for arguments, code, said in (
        (["--scores", str(scores_csv), "--model", "other"], 2, "one of net"),
        (["--scores", str(tmp_path / "none.csv")], 3, "cannot be read as CSV"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "deployments.cli", "reproduce", "reader-study", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert said in done.stderr and "Traceback" not in done.stderr


def test_figure_is_accessible(scores_csv: Path, tmp_path: Path, accessibility_faults: Callable[[Path], list[str]]) -> None:
    """The page that a browser shows of the SVG file: axe-core finds nothing serious."""
    figure = tmp_path / "figure.svg"
    assert _reproduce("--scores", scores_csv, "--figure", figure).exit_code == 0
    assert accessibility_faults(figure) == []
