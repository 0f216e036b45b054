"""Whoever follows the page about cross-validation has every patient judged once, and a page that says so."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from gmic_model.metrics.ranking import auroc
from gmic_model.networks.registry import build_network
from mammo_tests.seams import ROOT
from mammo_tests.training_store import make_store, small_config, with_baseline
from schemas.config.run import RunConfig
from schemas.errors import ConfigError, StoreError
from schemas.reports.clinic import CrossValidationReport, FoldMetrics, PooledMetrics
from schemas.reports.data import IngestReport
from schemas.reports.evaluation import EvaluationReport
from tasks.adapters.models.checkpoints import save_checkpoint
from tasks.adapters.pages.evaluations.crossvalidation_page import pooled_markdown
from tasks.adapters.workspace import Workspace
from tasks.crossvalidate import fold_runs, pool_folds
from tasks.evaluate import evaluate_network
from tasks.split import split_patients

PAGE = "docs/how-to/cross-validate.md"


def _config(workspace: Path) -> RunConfig:
    """The page's config on the small store."""
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / PAGE).read_text(encoding="utf-8"), flags=re.DOTALL)
    named = RunConfig.model_validate(yaml.safe_load(block))
    return with_baseline(small_config(workspace)).model_copy(update={"split": named.split, "name": named.name})


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, list[EvaluationReport], CrossValidationReport]:
    """Thirty patients in the page's five folds; each fold is judged by weights of its own, which nobody has trained."""
    config = _config(tmp_path_factory.mktemp("folded"))
    made = make_store(config, exams=30, with_masks=False)
    ingested = IngestReport(
        store_dir=Workspace(config.workspace_dir).store_dir, data_version=made.data_version, files_found=120,
        images_published=120, images_new=0, exams=30, exams_incomplete=0, quarantined_by_reason={}, warnings_by_rule={},
        labelled_breasts=60, orphan_labels=0, unlabelled_breasts=0,
    )  # fmt: skip
    evaluated = []
    for seed, run in enumerate(fold_runs(config)):
        torch.manual_seed(seed)
        weights, folder = build_network(config.model).state_dict(), run.workspace_dir / "weights"
        save_checkpoint(folder, weights=weights, training={}, model=config.model, about={}, patients=None)
        named = run.evaluate.model_copy(update={"checkpoints": (folder,), "bootstrap_resamples": 5})
        splits = split_patients.body(run, ingested)
        assert (splits.divided_by, splits.fold, splits.counts["test"].patients) == ("folds", seed + 1, 6)
        evaluated.append(evaluate_network.body(run.model_copy(update={"evaluate": named}), splits, None))
    return config, evaluated, pool_folds.fn(config, evaluated)


def test_every_patient_is_judged_once_and_all_are_pooled(
    folded: tuple[RunConfig, list[EvaluationReport], CrossValidationReport],
) -> None:
    """Five tables hold the thirty patients; the pooled numbers are those of the tables under each other."""
    _, evaluated, report = folded
    tables = [pd.read_parquet(one.scores_path.with_name("breast_scores.parquet")) for one in evaluated]
    together = pd.concat(tables)
    assert together["patient_id"].nunique() == 30 and len(together) == 60
    pooled = report.by_finding["malignant"]
    assert (pooled.patients, pooled.positive_patients, pooled.breasts, pooled.positive_breasts) == (30, 10, 60, 10)
    assert pooled.auroc.value == pytest.approx(auroc(together["malignant_score"], together["malignant"]))
    alone = [auroc(table["malignant_score"], table["malignant"]) for table in tables]
    assert [fold.auroc.value for fold in pooled.folds] == pytest.approx(alone)
    assert pooled.mean_auroc == pytest.approx(np.mean([area for area in alone if area is not None]))
    of_use = [one.by_finding["malignant"].subgroup_threshold for one in evaluated]
    thresholds = [np.inf if threshold is None else threshold for threshold in of_use]  # above every tuning score: recall none
    recalled = pd.concat([table["malignant_score"] >= at for table, at in zip(tables, thresholds, strict=True)])
    assert pooled.sensitivity.value == pytest.approx(recalled[together["malignant"] == 1].mean())
    assert pooled.specificity.value == pytest.approx(1 - recalled[together["malignant"] == 0].mean())
    assert pooled.auroc.low is not None and pooled.auroc.low < pooled.auroc.high < 1.0 + 1e-9  # type: ignore[operator]


def test_the_page_has_every_number_of_every_fold(
    folded: tuple[RunConfig, list[EvaluationReport], CrossValidationReport],
) -> None:
    """Each measured field is drawn; each fold names its weights; what an interval does not hold is said."""
    _, evaluated, report = folded
    page = report.page_path.read_text(encoding="utf-8")
    fields = (*FoldMetrics.model_fields.values(), *PooledMetrics.model_fields.values())
    for title in (field.title for field in fields if field.title is not None):
        assert f'<th scope="row">{title}' in page
    assert all(one.model_sha256[:12] in page for one in evaluated)
    assert "folds share most of their training patients is not in them" in page
    assert "malignant | 60 (10 positive) | 30 (10 positive)" in pooled_markdown(report)
    assert Workspace(evaluated[0].scores_path.parents[3]).read_report("crossvalidate", CrossValidationReport) == report


def test_folds_of_two_divisions_are_not_pooled(
    folded: tuple[RunConfig, list[EvaluationReport], CrossValidationReport],
) -> None:
    """A patient who is judged twice would count twice."""
    config, evaluated, _ = folded
    with pytest.raises(StoreError, match="6 patients in two folds"):
        pool_folds.fn(config, [evaluated[0], *evaluated])


def test_a_cross_validation_says_what_it_needs(tmp_path: Path) -> None:
    """The number of folds, all of them, and no weights that exist already; one fold alone is named for the single stages."""
    config = _config(tmp_path)
    runs = fold_runs(config)
    assert [run.split.fold for run in runs] == [1, 2, 3, 4, 5] and len({run.workspace_dir for run in runs}) == 5
    for changed in (
        {"split": config.split.model_copy(update={"folds": None})},
        {"split": config.split.model_copy(update={"fold": 2})},
        {"evaluate": config.evaluate.model_copy(update={"checkpoints": (tmp_path,)})},
    ):
        with pytest.raises(ConfigError, match="cross-validation"):
            fold_runs(config.model_copy(update=changed))
    with pytest.raises(ConfigError, match=r"none is named to test.*mammo crossvalidate"):
        make_store(config, exams=2, with_masks=False)
        ingested = IngestReport.model_construct(store_dir=Workspace(tmp_path).store_dir, data_version="v")
        split_patients.body(config, ingested)
    for wrong in ({"folds": 5, "external": True}, {"fold": 1}, {"folds": 5, "fold": 6}):
        with pytest.raises(ValueError, match="fold"):
            RunConfig.model_validate({"workspace_dir": tmp_path, "ingest": {"source_dir": "s"}, "split": wrong})
