"""``mammo reproduce reader-study``: a table, JSON, a figure, and one message where the file is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

from typer.testing import CliRunner, Result

from deployments.cli import app
from schemas.reports.reader_study import ReaderStudyReport


def _reproduce(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["reproduce", "reader-study", "--resamples", "30", *(str(one) for one in arguments)])


def test_json_is_the_whole_report(scores_csv: Path) -> None:
    """It parses, and validates as the report's type."""
    result = _reproduce("--scores", scores_csv, "--json", "--hybrid-weight", "0.3")
    report = ReaderStudyReport.model_validate(json.loads(result.output))
    assert report.hybrid_weight == 0.3 and report.resamples == 30 and len(report.readers) == 3
    assert report.source_sha256 and len(report.weight_curve) == 21


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
