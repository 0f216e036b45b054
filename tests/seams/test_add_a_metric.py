"""Whoever follows the page about metrics has one on the report page."""

from __future__ import annotations

from pathlib import Path

from mammo_tests.seams import copy_of_repository

PAGE = "docs/how-to/add-a-metric.md"

_DRAWN = """
import sys
from pathlib import Path

import pandas as pd

from gmic_model.metrics.bootstrap import Bootstrap
from tasks.adapters.pages.report_page import render_report
from tasks.adapters.scoring.model_ranking import with_ranking

sys.path.insert(0, "tests/tasks/adapters/pages")
from test_report_page import CREATED, make_config, make_report

folder = Path(sys.argv[1])
breasts = pd.DataFrame({"patient_id": list("ABCD"), "score": [0.9, 0.1, 0.7, 0.3], "label": [1, 0, 1, 0]})
metrics = with_ranking(breasts, breasts, Bootstrap(resamples=10, confidence=0.95, seed=0))
report = make_report(folder)
evaluated = report.evaluation.model_copy(update={"by_finding": {"malignant": metrics}})
report = report.model_copy(update={"evaluation": evaluated})
path = folder / "report.html"
render_report(report, config=make_config(folder), scores=[], output_path=path, created=CREATED)
"""


def test_the_page_s_steps_put_a_metric_on_the_report_page(tmp_path: Path) -> None:
    """No file of the pages is touched; the page has the metric's title, value and meaning."""
    copy = copy_of_repository(tmp_path)
    touched = {step.path for step in copy.follow(PAGE)}
    assert len(touched) == 4 and not any("pages" in path for path in touched)
    copy.python("-m", "ruff", "check", *touched)
    copy.python("-m", "ruff", "format", "--check", *touched)
    copy.python("-c", _DRAWN, str(tmp_path))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    # (0.9 + 0.7) / 2 - (0.1 + 0.3) / 2
    row = '<th scope="row">Separation</th><td class="number">0.600</td>'
    meaning = "<td>Mean score of breasts with the finding less without</td>"
    assert row + meaning in page
    copy.pytest(
        "--noconftest",
        "tests/gmic_model/metrics/test_separation.py",
        "tests/tasks/adapters/scoring/test_model_ranking.py",
        "tests/tasks/adapters/pages/test_measures.py",
    )
