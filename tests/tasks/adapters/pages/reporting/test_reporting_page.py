"""The page of reporting guidelines."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from mammo_tests.run_report import make_config, make_report
from schemas.reports.evaluation import TestScoring
from tasks.adapters.pages.reporting.answers import Answer
from tasks.adapters.pages.reporting.checklists import CHECKLISTS, Item
from tasks.adapters.pages.reporting.reporting_page import (
    EVALUATION_SECTIONS,
    IN_PART,
    KNOWN,
    TO_STATE,
    answered,
    render_beside_evaluation,
    render_reporting,
)
from tasks.adapters.workspace import Workspace

HOSTILE = "<script>alert(1)</script>"


def written(folder: Path, **changes: object) -> str:
    """The page of a run, with a line in its log of scorings."""
    scoring = TestScoring(when_utc="2026-03-04T15:00:00", model_sha256="9f" * 32, models=1, splits_sha256="1", test_patients=62)
    report = make_report(folder)
    report = report.model_copy(update={"evaluation": report.evaluation.model_copy(update={"scorings": (scoring,)} | changes)})
    path = render_reporting(
        report,
        config=make_config(folder),
        report_page="report.html",
        output_path=folder / "reporting.html",
        created=datetime(2026, 3, 4, 15, 6, tzinfo=UTC),
    )
    return path.read_text(encoding="utf-8")


def test_every_item_has_its_line_and_the_counts_add_up(tmp_path: Path) -> None:
    """96 lines; of each list those filled, filled in part and left to the authors are all of its items."""
    page = written(tmp_path)
    for checklist in CHECKLISTS:
        table = page[page.index(f'<section id="{checklist.key}"') :].split("</section>")[0]
        assert re.findall(r'<th scope="row">(\w+)</th>', table) == [item.number for item in checklist.items]
        counts = re.search(r"of (\d+) items (\d+) are filled from this run, (\d+) in part, (\d+) are to be stated", table)
        assert counts is not None
        total, *parts = map(int, counts.groups())
        assert total == len(checklist.items) == sum(parts) and min(parts) > 0
        assert table.count("<em>To be stated by the authors") == parts[1] + parts[2]


def test_who_has_to_say_it_follows_from_what_is_known() -> None:
    """All, a part, or nothing; a topic that has no sentence in this run is the authors'."""
    item = Item(number="1", part="Data", asks="What?", topic="x")
    assert answered(item, {"x": Answer(said=("So.",))}).status == KNOWN
    assert answered(item, {"x": Answer(said=("So.",), left="why")}).status == IN_PART
    assert answered(item, {"x": Answer(said=(), left="why")}).status == TO_STATE
    assert answered(item, {}).status == TO_STATE


def test_the_log_of_test_scorings_is_on_it(tmp_path: Path) -> None:
    """When, by which weights, how many patients; that there is none is said."""
    assert re.search(r"2026-03-04T15:00:00</th><td><code>9f9f9f9f9f9f</code></td>.*62</td>", written(tmp_path))
    assert "kept no log" in written(tmp_path, scorings=())


def test_it_loads_nothing_and_links_to_the_report_only(tmp_path: Path) -> None:
    """Names are text, and links lead to the page itself or to sections of the report beside it."""
    page = written(tmp_path, interval_method=HOSTILE)
    assert HOSTILE not in page and "&lt;script&gt;" in page and "default-src 'none'" in page
    links = set(re.findall(r'(?:href|src)="([^"]*)"', page))
    assert all(re.fullmatch(r"#\w+|report\.html(#\w+)?|data:,", link) for link in links) and "report.html#cohort" in links
    assert str(tmp_path) not in page


def test_an_evaluation_has_it_without_a_pipeline(tmp_path: Path) -> None:
    """Of given weights no training is told; links lead to sections that the evaluation's page has; a fold is named."""
    config, report, page = make_config(tmp_path), make_report(tmp_path), tmp_path / "evaluation.html"
    assert render_beside_evaluation(config, report.split, None, report.evaluation, page) is None
    Workspace(tmp_path).write_report("ingest", report.ingest)
    path = render_beside_evaluation(config, report.split, None, report.evaluation, page)
    assert path == tmp_path / "reporting.html"
    given = path.read_text(encoding="utf-8")
    links = set(re.findall(r'href="(evaluation.html#\w+)"', given))
    assert "The weights were given" in given and "12 epochs" not in given and "1 checks of" not in given
    assert links and links <= {f"evaluation.html#{name}" for name in EVALUATION_SECTIONS}
    Workspace(tmp_path).write_report("validate", report.validation)
    split = report.split.model_copy(update={"divided_by": "folds", "fold": 2})
    config = config.model_copy(update={"split": config.split.model_copy(update={"folds": 5, "fold": 2})})
    render_beside_evaluation(config, split, report.train, report.evaluation, page)
    trained = path.read_text(encoding="utf-8")
    assert "12 epochs" in trained and "1 checks of 1,480 images" in trained and "Fold 2 of 5 tests" in trained


def test_it_is_accessible(tmp_path: Path, accessibility_faults: Callable[[Path], list[str]]) -> None:
    """axe-core finds nothing serious."""
    written(tmp_path)
    assert accessibility_faults(tmp_path / "reporting.html") == []
