"""What a run says to the items: every topic is there, and sentences are those of its reports."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mammo_tests.run_report import make_config, make_report
from schemas.reports.evaluation import JudgedPatients, TestScoring
from schemas.reports.pages import PipelineReport
from schemas.reports.training import EnsembleMember
from tasks.adapters.pages.reporting.answers import SECTIONS, answers
from tasks.adapters.pages.reporting.checklists import CHECKLISTS

HERE = Path(__file__).parents[5]


def said(folder: Path, topic: str, report: PipelineReport | None = None, **config: Any) -> str:
    """The sentences to a topic, as one."""
    return " ".join(answers(report or make_report(folder), make_config(folder, **config))[topic].said)


def test_each_topic_of_an_item_has_its_answer_and_each_answer_its_item(tmp_path: Path) -> None:
    """No item names a topic that nothing answers, and nothing is answered that nobody asks."""
    asked = {item.topic for checklist in CHECKLISTS for item in checklist.items} - {""}
    assert asked == set(answers(make_report(tmp_path), make_config(tmp_path)))


def test_answers_point_to_sections_of_the_report() -> None:
    """Each has that heading on the report's template, or on one that it takes in."""
    folder = HERE / "tasks" / "adapters" / "pages" / "templates"
    page = (folder / "report.html.jinja").read_text("utf-8")
    taken_in = re.findall(r'"(\w+\.html\.jinja)"', page)
    template = page + "".join((folder / name).read_text("utf-8") for name in taken_in)
    assert dict(re.findall(r'<h2 id="(\w+)-title">([^<]+)</h2>', template)).items() >= SECTIONS.items()


def test_sentences_are_of_the_reports(tmp_path: Path) -> None:
    """Counts, seeds, versions and intervals stand in them as the reports have them."""
    report = make_report(tmp_path)
    auroc = report.evaluation.by_finding["malignant"].auroc
    assert f"Malignant: AUROC {auroc.value:.3f} ({auroc.low:.3f}-{auroc.high:.3f})" in said(tmp_path, "performance")
    assert "1,498 files were looked at under the rules of profile clinical-strict: 1,480 images of 372 exams" in said(
        tmp_path, "eligibility"
    )
    assert "Test 62 patients, 88 exams" in said(tmp_path, "numbers").replace("test 62", "Test 62")
    assert "Epoch 11 of 12" in said(tmp_path, "selection") and "seed 0" in said(tmp_path, "partition")
    assert "0.1.0+g3705e30" in said(tmp_path, "software") and "at specificity 0.9" in said(tmp_path, "diagnostic")
    assert "phantom" in said(tmp_path, "source") and "phantom" not in said(tmp_path, "source", phantom=None)


def test_given_weights_are_not_said_to_be_trained_here(tmp_path: Path) -> None:
    """Evaluated weights that the run did not train: nothing of its training is said of them; an external division is."""
    report = make_report(tmp_path)
    given = report.evaluation.model_copy(
        update={"model_sha256": "ab" * 32, "models": (EnsembleMember(path=tmp_path / "w", sha256="ab" * 32),)}
    )
    external = report.split.model_copy(update={"divided_by": "external"})
    report = report.model_copy(update={"evaluation": given, "split": external})
    for topic in ("training", "building", "imbalance", "initial_weights"):
        assert "epochs of" not in said(tmp_path, topic, report) and "checkpoint.json beside them" in said(
            tmp_path, topic, report
        )
    assert said(tmp_path, "goal", report).startswith("External evaluation") and "AUROC" in said(tmp_path, "external", report)
    assert "AUROC" not in said(tmp_path, "internal", report) and "AUROC" in said(tmp_path, "internal")


def test_what_is_known_of_the_test_patients_is_said(tmp_path: Path) -> None:
    """Whether they were looked up, and how often they were scored."""
    scoring = TestScoring(when_utc="2026-03-04T15:00:00", model_sha256="9f" * 32, models=1, splits_sha256="1", test_patients=62)
    report = make_report(tmp_path)
    looked = report.evaluation.model_copy(
        update={"patients": JudgedPatients(is_checked=True), "scorings": (scoring, scoring.model_copy())}
    )
    report = report.model_copy(update={"evaluation": looked})
    assert "each was looked up" in said(tmp_path, "disjoint", report)
    assert "scored 2 times since 2026-03-04" in said(tmp_path, "selection", report)
    assert "not known whether" in said(tmp_path, "disjoint")


def test_no_folder_is_named(tmp_path: Path) -> None:
    """Neither the workspace nor the file of labels."""
    every = answers(make_report(tmp_path), make_config(tmp_path)).values()
    text = " ".join(sentence for answer in every for sentence in (*answer.said, answer.left))
    assert str(tmp_path) not in text and "Smith" not in text and "Jane" not in text
