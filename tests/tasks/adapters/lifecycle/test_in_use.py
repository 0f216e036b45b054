"""From an evaluation to the model in use and back, through the command line, on a small store."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from deployments.cli import app
from deployments.commands.backup import backup, restore
from gmic_model.networks.registry import build_network
from mammo_tests.training_store import divided, make_store, small_config, with_baseline
from schemas.config.evaluation import EvaluateConfig, PromotionConfig
from schemas.config.run import RunConfig
from schemas.errors import CheckpointError, ConfigError
from schemas.exam import Split
from schemas.reports.data import SplitReport
from tasks.adapters.inbox.ledger import Ledger
from tasks.adapters.lifecycle.in_use import folder_in_use
from tasks.adapters.lifecycle.kept_evaluations import read_kept_evaluation
from tasks.adapters.models.checkpoints import load_checkpoint, save_checkpoint
from tasks.adapters.models.networks import load_network
from tasks.adapters.models.seen_patients import seen_patients
from tasks.adapters.pages.withdrawn import forget_pages
from tasks.adapters.workspace import Workspace
from tasks.evaluate import evaluate_network
from tasks.predict import find_checkpoint

EASY = PromotionConfig(minimum_patients=2, margin=0.99, subgroups=())


@dataclass(frozen=True)
class Site:
    """A workspace with splits, and two networks that were evaluated on its test patients."""

    config: RunConfig
    splits: SplitReport
    digests: tuple[str, str]

    @property
    def workspace(self) -> Workspace:
        """Where it all lies."""
        return Workspace(self.config.workspace_dir)

    def mammo(self, *arguments: str, **promotion: Any) -> Result:
        """``mammo model ...`` with the site's config, or with other rules."""
        rules = EASY.model_copy(update=promotion)
        path = self.config.workspace_dir / "config.yaml"
        path.write_text(self.config.model_copy(update={"promotion": rules}).model_dump_json())
        return CliRunner().invoke(app, ["model", arguments[0], str(path), *arguments[1:]])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Evaluated once for all tests."""
    root = tmp_path_factory.mktemp("site") / "w"
    config = with_baseline(small_config(root))
    version = make_store(config, exams=24, malignant_every=2).data_version
    parts = (*[Split.TEST] * 20, *[Split.TUNING] * 2, *[Split.TRAIN] * 2)
    splits = divided(root / "split" / "splits.parquet", parts, version)
    splits.splits_path.with_name("report.json").write_text(splits.model_dump_json())
    seen = seen_patients("key", {}, trained=["P022", "P023"], tuned=["P020", "P021"])
    for seed in (0, 1):
        torch.manual_seed(seed)
        weights = build_network(config.model).state_dict()
        save_checkpoint(root / f"net-{seed}", weights=weights, training={}, model=config.model, about={}, patients=seen)
    named = EvaluateConfig(checkpoints=(root / "net-0", root / "net-1"))
    report = evaluate_network.body(config.model_copy(update={"evaluate": named}), splits, None)
    return Site(config=config, splits=splits, digests=(report.models[0].sha256, report.models[1].sha256))


@pytest.fixture
def site(made: Site, tmp_path: Path) -> Site:
    """A copy that a test may change."""
    shutil.copytree(made.config.workspace_dir, tmp_path / "w")
    splits = made.splits.model_copy(update={"splits_path": tmp_path / "w" / "split" / "splits.parquet"})
    splits.splits_path.with_name("report.json").write_text(splits.model_dump_json())
    return Site(config=made.config.model_copy(update={"workspace_dir": tmp_path / "w"}), splits=splits, digests=made.digests)


def scores(folder: Path) -> torch.Tensor:
    """Of one image that is always the same."""
    torch.manual_seed(0)
    with torch.inference_mode():
        scored: torch.Tensor = load_network(load_checkpoint(folder)).eval()(torch.rand(1, 1, 192, 128)).y_NC
    return scored


def test_an_evaluation_keeps_the_breasts_of_each_of_its_weights(made: Site) -> None:
    """Two networks in one evaluation: two tables of 40 test breasts; the mean of both is of no model that could be used."""
    kept = [read_kept_evaluation(made.workspace, sha256) for sha256 in made.digests]
    assert [len(found[1]) for found in kept if found is not None] == [40, 40]
    assert len(list(made.workspace.kept_evaluations_dir.glob("*.json"))) == 2


def test_a_promotion_and_the_way_back(site: Site) -> None:
    """Nothing in use: as before. Promoted: predict takes the copy, which outlives its source. Back: the same bits as then."""
    assert folder_in_use(site.workspace) is None
    one, two = str(site.workspace.root / "net-0"), str(site.workspace.root / "net-1")
    first = site.mammo("promote", one, "--why", "first")
    assert first.exit_code == 0 and "No locked thresholds" in first.output, first.output
    then = scores(find_checkpoint.fn(site.config))
    second = site.mammo("promote", two, "--why", "better", "--by", "Ada")
    assert second.exit_code == 0 and "met        malignant: not worse than the one in use" in second.output, second.output
    shutil.rmtree(one)
    shutil.rmtree(two)
    assert find_checkpoint.fn(site.config) == site.workspace.models_dir / site.digests[1][:12]
    assert not torch.equal(scores(find_checkpoint.fn(site.config)), then)
    assert site.mammo("rollback", "--why", "recall fell").exit_code == 0
    assert torch.equal(scores(find_checkpoint.fn(site.config)), then)
    listed = site.mammo("list").output
    assert f"{site.digests[0][:12]}  in use" in listed and f"{site.digests[1][:12]}  retired" in listed
    history = site.mammo("list", "--history").output
    assert "promoted by Ada: better" in history and ": recall fell" in history
    assert site.mammo("rollback", "--why", "again").exception is not None


def test_what_must_be_refused_is_refused_and_changes_nothing(site: Site) -> None:
    """A margin that is not met; no reason; never evaluated; another preprocessing; weights that are gone: a sentence each."""
    assert site.mammo("promote", str(site.workspace.root / "net-0"), "--why", "first").exit_code == 0
    in_use = folder_in_use(site.workspace)
    digest = site.digests[1][:8]
    site.mammo("promote", str(site.workspace.root / "net-1"), "--dry-run")
    refused = site.mammo("promote", digest, "--why", "newer", margin=1e-9)
    assert isinstance(refused.exception, CheckpointError) and "NOT MET" in refused.output
    assert "forbid" in site.mammo("promote", digest, "--dry-run", margin=1e-9).output
    assert isinstance(site.mammo("promote", digest).exception, ConfigError)
    assert "in use already" in str(site.mammo("promote", site.digests[0][:8], "--why", "again").exception)
    torch.manual_seed(2)
    for name, about in (("new", {}), ("other", {"provenance": {"preprocess_version": "breast-0"}})):
        weights = build_network(site.config.model).state_dict()
        save_checkpoint(site.workspace.root / name, weights=weights, training={}, model=site.config.model, about=about)
    new = site.mammo("promote", str(site.workspace.root / "new"), "--why", "newer")
    assert "was not evaluated" in str(new.exception)
    other = site.mammo("promote", str(site.workspace.root / "other"), "--why", "newer")
    assert "another preprocessing" in str(other.exception)
    shutil.rmtree(site.workspace.root / "net-1")
    assert isinstance(site.mammo("promote", digest, "--why", "newer").exception, CheckpointError)
    assert "weights gone" in site.mammo("list").output
    assert folder_in_use(site.workspace) == in_use


def test_withdrawn_breasts_leave_the_kept_evaluations(site: Site) -> None:
    """Whoever was withdrawn judges no model; the evaluations stay for all others."""
    forget_pages(site.workspace, {"I0000", "E000"})
    kept = [read_kept_evaluation(site.workspace, sha256) for sha256 in site.digests]
    assert [sorted(set(found[1]["exam_id"]))[:1] for found in kept if found is not None] == [["E001"], ["E001"]]


def test_the_model_in_use_comes_back_with_a_backup(site: Site, tmp_path: Path) -> None:
    """Registry, weights and kept evaluations are in the archive."""
    assert site.mammo("promote", str(site.workspace.root / "net-0"), "--why", "first").exit_code == 0
    other = Workspace(tmp_path / "other")
    shutil.copytree(site.workspace.models_dir, other.models_dir)
    with Ledger(other.store.ledger_path):
        pass
    backup(other.root, tmp_path / "b.tar")
    shutil.rmtree(other.models_dir)
    restore(tmp_path / "b.tar", other.root)
    folder = folder_in_use(other)
    assert folder is not None and folder.is_relative_to(other.root) and load_checkpoint(folder).sha256 == site.digests[0]
    assert read_kept_evaluation(other, site.digests[0]) is not None
