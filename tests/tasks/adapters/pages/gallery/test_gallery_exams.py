"""Which exams the gallery shows, and what it says of their breasts."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from schemas.reports.evaluation import CalibrationBin, CalibrationReport, FindingMetrics
from schemas.reports.pages import FailureKind
from schemas.reports.report import Interval
from tasks.adapters.pages.gallery.gallery_exams import ExamNotes, choose_exams, find_failures

NONE = Interval(value=None, low=None, high=None)


def scored() -> pd.DataFrame:
    """Ten exams with one breast each, two views whose malignant scores differ by 0.02; benign is not known."""
    malignant = {
        "E0": (1, 0.1),
        "E1": (1, 0.3),
        "E2": (1, 0.9),
        "E3": (0, 0.95),
        "E4": (0, 0.7),
        "E5": (0, 0.2),
        "E6": (255, 0.99),
    }
    return pd.DataFrame(
        [
            {
                "image_id": f"I{exam}{view}", "exam_id": exam, "patient_id": exam, "laterality": "L", "view_position": view,
                "benign": 255, "malignant": label, "benign_score": 0.5, "malignant_score": score + step,
                "gate_warnings": "X07" if (exam, view) == ("E0", "CC") else "",
            }
            for exam, (label, score) in malignant.items()
            for view, step in (("CC", -0.01), ("MLO", 0.01))
        ]
    )  # fmt: skip


def metrics(threshold: float | None = 0.5) -> dict[str, FindingMetrics]:
    """Malignant with a threshold and two bins; benign not measured."""
    bins = tuple(
        CalibrationBin(
            lowest_score=low, highest_score=high, breasts=3, positive_breasts=positive, mean_score=(low + high) / 2,
            observed=Interval(value=positive / 3, low=0.1, high=0.9),
        )
        for low, high, positive in ((0.1, 0.3, 2), (0.7, 0.95, 1))
    )  # fmt: skip
    calibration = CalibrationReport(
        binning="", bins=bins, brier=NONE, brier_of_prevalence=None, expected_calibration_error=NONE, mean_score=None,
        prevalence=None,
    )  # fmt: skip
    values: dict[str, Any] = {
        "breasts": 6, "positive_breasts": 3, "auroc": NONE, "auprc": NONE, "localization_images": 0, "localization_f1": None,
        "localization_precision": None, "localization_recall": None,
    }  # fmt: skip
    malignant = FindingMetrics(**values, subgroup_threshold=threshold, calibration=calibration)
    return {"malignant": malignant, "benign": FindingMetrics(**values)}


def test_the_worst_failures_come_first() -> None:
    """Missed: lowest score first; false alarms: highest first; a breast whose label is not known is neither."""
    found = find_failures(scored(), metrics(), 4)
    told = [(one.kind, one.exam_id, round(one.score, 6)) for one in found]
    assert told == [
        (FailureKind.FALSE_NEGATIVE, "E0", 0.1),
        (FailureKind.FALSE_NEGATIVE, "E1", 0.3),
        (FailureKind.FALSE_POSITIVE, "E3", 0.95),
        (FailureKind.FALSE_POSITIVE, "E4", 0.7),
    ]
    assert [one.exam_id for one in find_failures(scored(), metrics(), 1)] == ["E0", "E3"]
    assert find_failures(scored(), metrics(None), 4) == ()


def test_exams_are_chosen_failures_first_then_findings() -> None:
    """Worst miss, worst alarm, second miss, second alarm; then the malignant exam that went well; views as they hang."""
    scores = scored()
    chosen = choose_exams(scores, find_failures(scores, metrics(), 4), 6)
    assert list(dict.fromkeys(chosen["exam_id"])) == ["E0", "E3", "E1", "E4", "E2", "E5"]
    assert chosen["view_position"].tolist()[:4] == ["CC", "MLO", "CC", "MLO"]
    assert choose_exams(scores, (), 2)["exam_id"].unique().tolist() == ["E0", "E1"]


def test_right_hangs_before_left() -> None:
    """R CC, L CC, R MLO, L MLO."""
    scores = scored()
    both = pd.concat([scores, scores.assign(laterality="R", image_id=scores["image_id"] + "R")])
    lines = choose_exams(both, (), 1)
    assert (lines["laterality"] + lines["view_position"]).tolist() == ["RCC", "LCC", "RMLO", "LMLO"]


def test_a_breast_has_score_range_similar_breasts_and_verdict() -> None:
    """E0: mean of 0.09 and 0.11, in the bin where 2 of 3 had it, missed; its benign label is not known, nor is the verdict."""
    exam = ExamNotes(scores=scored(), by_finding=metrics()).exam("E0", (), ("Exam E0 has 2 of 4 standard views.",))
    benign, malignant = exam.breasts
    assert malignant.score == pytest.approx(0.1) and malignant.view_scores == pytest.approx((0.09, 0.11))
    assert malignant.similar is not None and malignant.similar.positive_breasts == 2
    assert (malignant.label, malignant.verdict) == ("present", "false negative")
    assert (benign.label, benign.verdict, benign.similar) == ("not known", "", None)
    assert exam.warnings == ("Exam E0 has 2 of 4 standard views.", "L CC: gate warning X07")
