"""The networks of the folds are one model: it scores by their mean, and no patient of the cohort may judge it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gmic_model.networks.registry import build_network
from mammo_tests.training_store import make_store, small_config, with_baseline
from schemas.errors import MammoError
from schemas.reports.data import IngestReport
from tasks.adapters.models.checkpoints import save_checkpoint
from tasks.adapters.models.model_files import read_ensemble
from tasks.adapters.models.seen_patients import seen_patients
from tasks.adapters.models.whole_models import load_model
from tasks.adapters.store.manifest import read_splits
from tasks.adapters.workspace import Workspace
from tasks.crossvalidate import fold_runs, pool_folds
from tasks.evaluate import evaluate_network
from tasks.split import split_patients


def test_the_networks_of_the_folds_are_one_model(tmp_path: Path) -> None:
    """Two folds: the file names both networks in order, the model scores by their mean, its own patients are refused."""
    config = with_baseline(small_config(tmp_path))
    few = config.evaluate.model_copy(update={"bootstrap_resamples": 5})
    config = config.model_copy(update={"split": config.split.model_copy(update={"folds": 2}), "evaluate": few})
    made = make_store(config, exams=12, with_masks=False)
    ingested = IngestReport(
        store_dir=Workspace(tmp_path).store_dir, data_version=made.data_version, files_found=48, images_published=48,
        images_new=0, exams=12, exams_incomplete=0, quarantined_by_reason={}, warnings_by_rule={}, labelled_breasts=24,
        orphan_labels=0, unlabelled_breasts=0,
    )  # fmt: skip
    evaluated, folders = [], []
    for seed, run in enumerate(fold_runs(config)):
        splits = split_patients.body(run, ingested)
        divided = read_splits(splits.splits_path).groupby("split")["patient_id"].unique()
        seen = seen_patients("key", {}, trained=divided["train"], tuned=divided["tuning"])
        torch.manual_seed(seed)
        weights, folder = build_network(config.model).state_dict(), run.workspace_dir / "weights"
        save_checkpoint(folder, weights=weights, training={}, model=config.model, about={}, patients=seen)
        named = run.model_copy(update={"evaluate": few.model_copy(update={"checkpoints": (folder,)})})
        evaluated.append(evaluate_network.body(named, splits, None))
        folders.append(folder)
    report = pool_folds.fn(config, evaluated)
    assert report.ensemble_path == tmp_path / "crossvalidate" / "ensemble.json"
    assert [member.path for member in read_ensemble(report.ensemble_path)] == folders
    assert "ensemble.json</code> beside this page" in report.page_path.read_text(encoding="utf-8")

    together = load_model(report.ensemble_path)
    image_N1HW = torch.randn(2, 1, *config.preprocess.window_px)
    with torch.inference_mode():
        alone = [load_model(folder).network.eval()(image_N1HW).y_NC.double() for folder in folders]
        mean_NC = together.network.eval()(image_N1HW).y_NC
    assert torch.equal(mean_NC, torch.stack(alone).mean(dim=0)) and not torch.equal(alone[0], alone[1])

    judged = config.model_copy(
        update={
            "split": config.split.model_copy(update={"folds": None}),
            "evaluate": few.model_copy(update={"ensemble": report.ensemble_path}),
        }
    )
    with pytest.raises(MammoError, match="have seen patients by whom they would be judged"):
        evaluate_network.body(judged, split_patients.body(judged, ingested), None)
