"""Evaluate: what a second evaluation says of the first, and whom a network may not be judged on."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from schemas.errors import StoreError
from schemas.reports.evaluation import FindingMetrics
from schemas.reports.report import Interval
from tasks.adapters.scoring.metrics_table import metrics_markdown
from tasks.evaluate import refuse_other_splits


def _metrics(auroc: float | None) -> dict[str, FindingMetrics]:
    found = Interval(value=auroc, low=0.1, high=0.9)
    given: dict[str, Any] = dict.fromkeys(("localization_f1", "localization_precision", "localization_recall"))
    return {
        "malignant": FindingMetrics(breasts=8, positive_breasts=2, auroc=found, auprc=found, localization_images=0, **given)
    }


def test_each_metric_has_its_difference_to_the_evaluation_before() -> None:
    """0.75 after 0.5 is +0.250; where either is not defined there is no difference."""
    table = metrics_markdown(_metrics(0.75), _metrics(0.5))
    assert table.count("+0.250") == 2 and "8 (2 positive)" in table
    assert "+" not in metrics_markdown(_metrics(0.75), _metrics(None)).splitlines()[2]
    assert "difference" not in metrics_markdown(_metrics(0.75))


def test_a_network_is_not_judged_on_patients_it_may_have_seen(tmp_path: Path) -> None:
    """The splits were made anew after the training: its training patients may be among the test patients now."""
    path = tmp_path / "splits.parquet"
    path.write_bytes(b"first")
    digest = hashlib.sha256(b"first").hexdigest()
    splits, trained = SimpleNamespace(splits_path=path), SimpleNamespace(splits_sha256=digest)
    refuse_other_splits(splits, trained)  # type: ignore[arg-type]
    path.write_bytes(b"second")
    with pytest.raises(StoreError, match="another division of the patients"):
        refuse_other_splits(splits, trained)  # type: ignore[arg-type]
