"""Several models beside their mean: each alone, mean and spread, and DeLong's difference."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from gmic_model.metrics.ranking import Metric
from mammo_tests.measures import every_measure
from schemas.config.evaluation import EvaluateConfig
from schemas.reports.evaluation import FindingMetrics
from tasks.adapters.scoring.model_ranking import ScoredBefore, spread, with_before, with_models, with_ranking


def _tables(models: int, breasts: int = 120) -> list[pd.DataFrame]:
    rng = np.random.default_rng(0)
    label_B = (rng.random(breasts) < 0.3).astype(int)
    patient_B = np.repeat([f"P{patient}" for patient in range(breasts // 2)], 2)
    return [
        pd.DataFrame({"patient_id": patient_B, "model_sha256": f"sha{model}", "score": rng.normal(label_B), "label": label_B})
        for model in range(models)
    ]


def _measured(tables: list[pd.DataFrame]) -> FindingMetrics:
    mean = tables[0].assign(score=np.mean([table["score"] for table in tables], axis=0))
    metrics = with_ranking(mean, mean, 0.9)
    named = {f"model-{index}": table for index, table in enumerate(tables, start=1)}
    return with_models(metrics, mean, named, [metrics] * len(tables), 0.9)


def test_mean_and_spread_are_those_of_scikit_learn() -> None:
    """Mean and standard deviation (n - 1) of five AUROCs and average precisions, as Table 1 gives its five models."""
    tables = _tables(5)
    measured = _measured(tables)
    for found, measure in ((measured.auroc_of_models, roc_auc_score), (measured.auprc_of_models, average_precision_score)):
        values = [measure(table["label"], table["score"]) for table in tables]
        assert found is not None and found.mean.value == pytest.approx(np.mean(values), abs=1e-12)
        assert found.standard_deviation == pytest.approx(np.std(values, ddof=1), abs=1e-12)


def test_the_means_interval_is_that_of_equal_models() -> None:
    """Three times the same scores have one model's interval; different models' errors average out: theirs is narrower."""
    tables = _tables(3)
    for metric in Metric:
        alone, thrice = (spread(metric, [tables[0]] * times, 0.9).mean for times in (1, 3))
        assert (thrice.low, thrice.high) == pytest.approx((alone.low, alone.high))
        mixed = spread(metric, tables, 0.9).mean
        assert None not in (mixed.low, mixed.high, alone.low, alone.high)
        assert (mixed.high or 0) - (mixed.low or 0) < 0.95 * ((alone.high or 0) - (alone.low or 0))


def test_patients_stand_beside_breasts() -> None:
    """60 patients of two breasts; with the finding, those who have it in some breast."""
    (table,) = _tables(1)
    measured = with_ranking(table, table, 0.9)
    assert (measured.breasts, measured.patients) == (120, 60)
    assert measured.positive_patients == table[table["label"] == 1]["patient_id"].nunique() < measured.positive_breasts


def test_each_model_stands_beside_the_mean_score() -> None:
    """Names and digests stay with their scores; the difference is the model's AUROC less the ensemble's."""
    measured = _measured(_tables(3))
    assert [(model.name, model.sha256) for model in measured.models] == [
        ("model-1", "sha0"),
        ("model-2", "sha1"),
        ("model-3", "sha2"),
    ]
    for model in measured.models:
        assert model.minus_ensemble is not None and model.auroc.value is not None and measured.auroc.value is not None
        assert model.minus_ensemble.difference == pytest.approx(model.auroc.value - measured.auroc.value)
        assert 0.0 < model.minus_ensemble.p_value <= 1.0


def test_one_class_is_not_defined() -> None:
    """Without a positive breast nothing is 0.5 and nothing stops."""
    measured = _measured([table.assign(label=0) for table in _tables(2)])
    assert measured.auroc.value is None and measured.exam_auroc is not None and measured.exam_auroc.value is None
    assert measured.auroc_of_models is not None and measured.auroc_of_models.mean.value is None
    assert all(model.minus_ensemble is None for model in measured.models)


@pytest.mark.parametrize(("patients", "is_tested"), [(40, True), (6, False)])
def test_what_a_training_brought_has_no_p_without_an_interval(patients: int, is_tested: bool) -> None:
    """Of two patients with a finding: a difference is shown, and nothing that looks like its proof."""
    rng = np.random.default_rng(3)
    label_B = (np.arange(patients) % 3 == 0).astype(int)
    columns = {"patient_id": "P", "exam_id": "E"}
    breasts = pd.DataFrame({name: [f"{letter}{number}" for number in range(patients)] for name, letter in columns.items()})
    scores = {f"{name}_score": rng.normal(label_B) for name in ("benign", "malignant")}
    breasts = breasts.assign(laterality="L", benign=label_B, malignant=label_B, **scores)
    then = breasts.assign(malignant_score=rng.normal(label_B), benign_score=rng.normal(label_B))
    before = ScoredBefore(sha256="b4" * 32, source="epoch-0001", scored_utc="2026-03-01T08:00:00Z", breasts=then)
    found = with_before({name: every_measure() for name in ("benign", "malignant")}, breasts, before, EvaluateConfig())
    for metrics in found.values():
        both = metrics.before_and_after
        assert both is not None and both.compared == patients and both.auroc_gain.value is not None
        assert (both.auroc_gain.low is not None, both.gain_p_value is not None) == (is_tested, is_tested)
