"""Evaluate: what a second evaluation says of the first, and whom a network may not be judged on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gmic_model.networks.registry import build_network
from mammo_tests.training_store import divided, make_store, small_config
from schemas.config.evaluation import EvaluateConfig
from schemas.config.run import RunConfig, Stage
from schemas.errors import StoreError
from schemas.exam import Split
from schemas.reports.data import SplitReport
from schemas.reports.evaluation import FindingMetrics
from schemas.reports.report import Interval
from tasks.adapters.models.checkpoints import save_checkpoint
from tasks.adapters.scoring.metrics_table import metrics_markdown
from tasks.adapters.workspace import Workspace
from tasks.evaluate import evaluate_network, refuse_other_splits
from tasks.explain import explain_exams
from tasks.stage import NotFinished, save_report, stage, without_work


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


# ------------------------------------------------------------------------------------- one store, one network, two divisions


@dataclass(frozen=True)
class Judged:
    """A store of twelve patients, its weights, and two divisions of the patients.

    Attributes:
        config: Names the weights.
        first: P000 to P003 judge, P004 to P007 tune, the rest trains.
        second: P008 to P011 judge, the rest as before.
    """

    config: RunConfig
    first: SplitReport
    second: SplitReport


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """Fresh weights: nothing is trained here."""
    workspace = tmp_path_factory.mktemp("judged")
    config = small_config(workspace)
    version = make_store(config, with_masks=False).data_version
    weights = build_network(config.model).state_dict()
    save_checkpoint(workspace / "weights", weights=weights, training={}, model=config.model, about={})
    named = EvaluateConfig(checkpoints=(workspace / "weights",), bootstrap_resamples=10)
    return Judged(
        config=config.model_copy(update={"evaluate": named}),
        first=divided(workspace / "first.parquet", _PARTS, version),
        second=divided(workspace / "second.parquet", _PARTS[::-1], version),
    )


_PARTS = (*[Split.TEST] * 4, *[Split.TUNING] * 4, *[Split.TRAIN] * 4)


def test_named_weights_are_evaluated_again_when_the_patients_are_divided_anew(judged: Judged) -> None:
    """Same config, weights and data: the table of the former test patients is not given out for that of the present ones."""
    config, done_path = judged.config, Workspace(judged.config.workspace_dir).done_path("evaluate")
    report = save_report(config, Stage.EVALUATE, evaluate_network.body(config, judged.first, None))
    assert report.provenance.splits_sha256 == hashlib.sha256(judged.first.splits_path.read_bytes()).hexdigest()
    former = stage(Stage.EVALUATE, version=3, sections=("evaluate",), reads=lambda *_: (report.model_sha256, "data"))
    at_data = (
        judged.first.model_copy(update={"data_version": "data"}),
        judged.second.model_copy(update={"data_version": "data"}),
    )
    for key in (evaluate_network.key(config, at_data[0], None), former(evaluate_network.body).key(config, at_data[0], None)):
        done_path.write_text(f"{key} run")
        with without_work():
            assert evaluate_network(config, at_data[0], None) == report
            with pytest.raises(NotFinished):
                evaluate_network(config, at_data[1], None)


def test_an_exam_is_not_explained_by_an_evaluation_of_other_splits(judged: Judged) -> None:
    """Its test exams are not those of today: their pages would say scores of then."""
    made = SimpleNamespace(provenance=SimpleNamespace(splits_sha256="0" * 64))
    with pytest.raises(StoreError, match=r"another division of the patients.*mammo evaluate"):
        explain_exams.body(judged.config, judged.first, None, made)  # type: ignore[arg-type]
