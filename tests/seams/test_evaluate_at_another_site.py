"""Whoever follows the page about another site has the locked numbers first, on a page of the evaluation alone."""

from __future__ import annotations

import re
from pathlib import Path

import torch
import yaml

from gmic_model.networks.registry import build_network
from mammo_tests.seams import ROOT
from mammo_tests.training_store import divided, make_store, small_config, with_baseline
from schemas.config.evaluation import EvaluateConfig
from schemas.config.run import RunConfig
from schemas.exam import Split
from schemas.reports.data import IngestReport
from tasks.adapters.models.checkpoints import save_checkpoint
from tasks.adapters.models.seen_patients import seen_patients
from tasks.adapters.workspace import Workspace
from tasks.evaluate import evaluate_network
from tasks.split import split_patients

PAGE = "docs/how-to/evaluate-at-another-site.md"


def test_the_page_s_steps_judge_what_came_with_the_weights(tmp_path: Path) -> None:
    """The own site leaves both files beside the weights; the page's config at another applies them and shows them first."""
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    named = RunConfig.model_validate(yaml.safe_load(block))

    own = with_baseline(small_config(tmp_path / "own"))
    made = make_store(own, with_masks=False)
    tuned = [f"P{number:03d}" for number in (0, 3, 7, 11)]
    folder = tmp_path / named.evaluate.checkpoints[0]
    torch.manual_seed(0)
    save_checkpoint(
        folder, weights=build_network(own.model).state_dict(), training={}, model=own.model, about={},
        patients=seen_patients("key", {}, trained=[], tuned=tuned),
    )  # fmt: skip
    parts = [Split.TUNING if patient in tuned else Split.TEST for patient in (f"P{number:03d}" for number in range(12))]
    weights = EvaluateConfig(checkpoints=(folder,), bootstrap_resamples=5)
    splits = divided(own.workspace_dir / "splits.parquet", parts, made.data_version)
    evaluate_network.body(own.model_copy(update={"evaluate": weights}), splits, None)
    for name in re.findall(r"^\| `(\w+\.json)` \|", text, flags=re.MULTILINE):
        assert (folder / name).exists(), name

    there = with_baseline(small_config(tmp_path / named.workspace_dir))
    there = there.model_copy(
        update={"split": named.split, "evaluate": weights.model_copy(update={"clinic": named.evaluate.clinic})}
    )
    store = make_store(there, exams=9, with_masks=False, key_id="another key")
    ingested = IngestReport.model_construct(store_dir=Workspace(there.workspace_dir).store_dir, data_version=store.data_version)
    report = evaluate_network.body(there, split_patients.body(there, ingested), None)
    assert report.locked is not None and report.locked.kept is not None and not report.locked.is_own_site
    malignant = report.by_finding["malignant"]
    assert malignant.locked is not None and malignant.locked.points and malignant.locked.calibration_locked is not None
    assert {point.prevalence for point in malignant.restated} == {0.003} and malignant.restated[0].shifted_intercept is not None
    assert [curve.is_stated for curve in malignant.decision_curves] == [False, True]
    (page_path,) = re.findall(r"`our-clinic/(evaluate/\w+\.html)`", text)
    assert report.page_path == there.workspace_dir / page_path
    said = report.page_path.read_text(encoding="utf-8")
    assert said.index("Locked: picked") < said.index("Re-chosen here, on these test breasts")
    assert "Malignant, locked" in said and "It is not known whether the weights had seen these patients" in said
