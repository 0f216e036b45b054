"""The pages of an evaluation and of a cross-validation by themselves: with all they can hold, accessible."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from mammo_tests.measures import every_measure, interval
from mammo_tests.run_report import make_config, make_report
from schemas.reports.clinic import CrossValidationReport, FoldMetrics, PooledMetrics
from schemas.reports.evaluation import EvaluationReport
from tasks.adapters.pages.evaluations.crossvalidation_page import write_crossvalidation_page
from tasks.adapters.pages.evaluations.evaluation_page import write_evaluation_page


def evaluated(folder: Path) -> EvaluationReport:
    """An evaluation whose every group of numbers is there, with its table of breasts."""
    report = make_report(folder).evaluation
    drawn = report.by_finding["malignant"]
    rng = np.random.default_rng(3)
    label_B = (rng.random(drawn.breasts) < 0.15).astype(np.int64)
    table = pd.DataFrame(
        {
            "exam_id": [f"E{breast // 2}" for breast in range(drawn.breasts)],
            "patient_id": [f"P{breast // 2}" for breast in range(drawn.breasts)],
            "laterality": ["L", "R"] * (drawn.breasts // 2),
            "model_sha256": report.model_sha256,
        }
        | {f"{finding}_score": 1.0 / (1.0 + np.exp(2.0 - rng.normal(label_B * 1.7))) for finding in ("benign", "malignant")}
        | dict.fromkeys(("benign", "malignant"), label_B)
    )
    table.to_parquet(report.scores_path.with_name("breast_scores.parquet"), index=False)
    full = every_measure(operating_points=drawn.operating_points, subgroups=drawn.subgroups)
    return report.model_copy(update={"by_finding": {"malignant": full, "benign": full}})


def folds(folder: Path) -> CrossValidationReport:
    """Five folds, one of which had no threshold."""
    each = tuple(
        FoldMetrics(
            name=f"fold {number}", model_sha256=f"{number}f" * 32, patients=204, positive_patients=21, breasts=405,
            positive_breasts=22, auroc=interval(0.9 - number / 100), auprc=interval(0.5), sensitivity=interval(0.8),
            threshold=None if number == 3 else 0.31, specificity=interval(0.9),
        )
        for number in range(1, 6)
    )  # fmt: skip
    pooled = PooledMetrics(
        folds=each, patients=1020, positive_patients=105, breasts=2025, positive_breasts=110, auroc=interval(0.87),
        mean_auroc=0.88, auroc_deviation=0.016, auprc=interval(0.5), sensitivity=interval(0.8), specificity=interval(0.9),
    )  # fmt: skip
    report = make_report(folder)
    return CrossValidationReport(
        folds=5, specificity=0.9, by_finding={"malignant": pooled, "benign": pooled}, data_version="a1" * 32,
        page_path=folder / "crossvalidation.html", provenance=report.evaluation.provenance,
    )  # fmt: skip


def test_both_pages_are_accessible(tmp_path: Path, accessibility_faults: Callable[[Path], list[str]]) -> None:
    """axe-core finds nothing serious at 1280 and 1920 pixels, light and dark, and no page is wider than its window."""
    page = write_evaluation_page(make_config(tmp_path), evaluated(tmp_path))
    report = folds(tmp_path)
    write_crossvalidation_page(make_config(tmp_path), report)
    assert accessibility_faults(page) == [] and accessibility_faults(report.page_path) == []
