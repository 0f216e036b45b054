"""The page of an acceptance: all that was found stands on it, as it does in a terminal, and it is accessible."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mammo_tests.measures import interval
from mammo_tests.run_report import make_config, make_report
from schemas.config.evaluation import AcceptanceRule
from schemas.reports.evaluation import JudgedPatients, LockedMetrics
from schemas.reports.life.acceptance import (
    AcceptanceReport,
    CohortCounts,
    DeviceRecall,
    GroupRecall,
    ImageShift,
    RuleResult,
    Verdict,
)
from schemas.reports.pages import Failure, FailureKind
from schemas.reports.report import Interval
from tasks.adapters.pages.evaluations import acceptance_page
from tasks.adapters.pages.evaluations.acceptance_page import acceptance_text, write_acceptance_page


@pytest.fixture
def report(tmp_path: Path) -> AcceptanceReport:
    """Everything that a site can be told, of exams without a label."""
    rates = ("recall_rate", "read_recall_rate", "recall_less_readers", "read_recalled", "read_not_recalled")
    counts = ("exams", "patients", "images", "left_out_patients", "labelled_exams", "positive_exams", "read_exams")
    nothing = Interval(value=None, low=None, high=None)
    device = DeviceRecall(
        name="HOLOGIC, Inc. Selenia Dimensions D0123456789abcdef01234567", software="1.9.0.1", exams=1802, patients=1640,
        mean_score=0.21, recall_rate=interval(0.101), is_within=True, proposed=0.4177, expected=interval(0.099),
        needed_patients=0, found=interval(0.812), unlike=(),
    )  # fmt: skip
    few = {
        "software": "1.10.1.2",
        "exams": 61,
        "is_within": None,
        "proposed": None,
        "expected": nothing,
        "found": nothing,
        "unlike": ("tissue_fraction",),
        "needed_patients": 343,
    }
    return AcceptanceReport(
        model_sha256="ab" * 32,
        model_dir=tmp_path / "models" / "abababababab",
        verdict=Verdict.REFUSED,
        rules=(
            RuleResult(rule=AcceptanceRule.RECALL, is_met=False, is_remark=False, reason="30.1% of 2,001 exams."),
            RuleResult(rule=AcceptanceRule.IMAGES, is_met=False, is_remark=True, reason="Unlike those: pixel_mean."),
            RuleResult(rule=AcceptanceRule.GROUPS, is_met=None, is_remark=True, reason="No group is large enough."),
            RuleResult(rule=AcceptanceRule.LOCKED, is_met=True, is_remark=False, reason="A threshold lies beside the weights."),
        ),
        finding="malignant",
        threshold=0.4321,
        threshold_basis="specificity 0.90 on the tuning split of the weights' own site",
        target=0.1,
        target_basis="as the config states it",
        cohort=CohortCounts(
            **{name: 2001 + place for place, name in enumerate(counts)},
            **{name: interval(0.301 + place / 1000) for place, name in enumerate(rates)},
        ),
        groups=(GroupRecall(attribute="age", group="50 to 59", exams=812, recall_rate=interval(0.31), is_within=False),),
        devices=(device, device.model_copy(update=few)),
        images=(
            ImageShift(column="pixel_mean", excess=0.61, is_shifted=True, here="median 900 to 950", there="median 400 to 420"),
            ImageShift(column="tissue_fraction", excess=-0.02, is_shifted=False, here="median 0.3 to 0.4", there="as here"),
        ),
        image_note="",
        failures=(
            Failure(
                finding="malignant",
                kind=FailureKind.FALSE_NEGATIVE,
                exam_id="E12",
                laterality="L",
                score=0.02,
                threshold=0.4321,
            ),
        ),
        evaluation=None,
        patients=JudgedPatients(is_checked=True),
        provenance=make_report(tmp_path).evaluation.provenance,
        page_path=tmp_path / "accept" / "acceptance.html",
        gallery_path=tmp_path / "accept" / "gallery" / "index.html",
    )


def test_all_that_was_found_stands_on_the_page(report: AcceptanceReport, tmp_path: Path) -> None:
    """Each measure with its meaning, each rule with its reason; one device has a threshold, one is told what is missing."""
    write_acceptance_page(make_config(tmp_path), report)
    page, said = report.page_path.read_text("utf-8"), acceptance_text(report)
    for field in CohortCounts.model_fields.values():
        assert str(field.title).replace("'", "&#39;") in page and str(field.description).replace("'", "&#39;") in page
    assert all(rule.reason in page and rule.reason in said for rule in report.rules)
    assert (
        "0.4177" in page
        and "81.2%, 80.2–82.2" in page
        and "unlike training: tissue_fraction" in page
        and "343 more patients needed" in page
    )
    assert "proposed threshold 0.4177" in said and "343 more patients needed" in said and "REFUSED" in said
    assert "not met      images as in training (remark)" in said
    assert ">606 exams</td>" in page and ">1,401 exams</td>" in page  # of 2,007 that readers decided on, 30.2 % recalled
    for words in ("1.10.1.2", "50 to 59", "pixel_mean", "median 400 to 420", "gallery/E12.html", "No breast has a label"):
        assert words in page


def test_without_a_threshold_no_other_points_rates_are_shown(
    report: AcceptanceReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A point that lies above every score has no threshold either, and is none of this model's use."""
    monkeypatch.setattr(acceptance_page, "write_evaluation_page", lambda _, evaluated: evaluated.scores_path)
    evaluated = make_report(tmp_path).evaluation
    points = evaluated.by_finding["malignant"].operating_points
    locked = LockedMetrics(points=(points[0].model_copy(update={"threshold": None}),), intercept=None, slope=None)
    metrics = evaluated.by_finding["malignant"].model_copy(update={"locked": locked})
    of_finding = evaluated.model_copy(update={"by_finding": {"malignant": metrics}})
    shown = {}
    for basis in ("", report.threshold_basis):
        one = report.model_copy(update={"evaluation": of_finding, "threshold": None, "threshold_basis": basis})
        write_acceptance_page(make_config(tmp_path), one)
        shown[basis] = '<th scope="row">Sensitivity</th>' in one.page_path.read_text("utf-8")
    assert shown == {"": False, report.threshold_basis: True}


def test_the_page_is_accessible(
    report: AcceptanceReport, tmp_path: Path, accessibility_faults: Callable[[Path], list[str]]
) -> None:
    """axe-core finds nothing serious at 1280 and 1920 pixels, light and dark, and the page is no wider than its window."""
    write_acceptance_page(make_config(tmp_path), report)
    assert accessibility_faults(report.page_path) == []
