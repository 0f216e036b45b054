"""From an evaluation to the model in use and back, through the command line, on a small store."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.utilities.callables import parameter_schema
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner, Result

from deployments.cli import app
from deployments.commands.backup import backup, restore
from flows.promote import promote
from gmic_model.metrics.delong import delong_test
from gmic_model.networks.registry import build_network
from mammo_tests.training_store import divided, make_store, small_config, with_baseline
from schemas.config.evaluation import EvaluateConfig, PromotionConfig
from schemas.config.recipe import StartConfig
from schemas.config.run import RunConfig
from schemas.config.training import MlflowConfig
from schemas.errors import CheckpointError, ConfigError
from schemas.exam import Split
from schemas.reports.clinic import OperatingPointsFile
from schemas.reports.data import SplitReport
from schemas.reports.training import EnsembleMember, StartedPart, StartedWeights, TrainReport
from tasks.adapters.inbox.ledger import Ledger
from tasks.adapters.lifecycle.in_use import asked_answer, folder_in_use, meant_model, points_in_use, put_back, put_into_use
from tasks.adapters.lifecycle.kept_evaluations import evaluation_of_start, read_kept_evaluation
from tasks.adapters.models.checkpoints import load_checkpoint, save_checkpoint
from tasks.adapters.models.model_files import OPERATING_POINTS, ensemble_sha256, members_of, write_ensemble
from tasks.adapters.models.seen_patients import seen_patients
from tasks.adapters.models.whole_models import load_model
from tasks.adapters.pages.withdrawn import forget_pages
from tasks.adapters.provenance import provenance
from tasks.adapters.scoring.metrics_table import evaluation_text
from tasks.adapters.scoring.scored_views import score_rows
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import read_manifest
from tasks.adapters.store.views import stored_views
from tasks.adapters.training.mlflow_log import client_of
from tasks.adapters.workspace import Workspace
from tasks.evaluate import evaluate_network
from tasks.predict import find_checkpoint
from tasks.promote import promote_model
from tasks.rollback import roll_back

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
        scored: torch.Tensor = load_model(folder).network.eval()(torch.rand(1, 1, 192, 128)).y_NC
    return scored


def test_an_evaluation_keeps_the_breasts_of_each_of_its_weights(made: Site) -> None:
    """Two networks in one evaluation: two tables of 40 test breasts, and one of their mean, which is a model too."""
    mean = ensemble_sha256(members_of([made.workspace.root / "net-0", made.workspace.root / "net-1"]))
    kept = [read_kept_evaluation(made.workspace, sha256) for sha256 in (*made.digests, mean)]
    assert [len(found[1]) for found in kept if found is not None] == [40, 40, 40]
    assert len(list(made.workspace.kept_evaluations_dir.glob("*.json"))) == 3


def test_what_a_training_brought_stands_beside_what_it_began_with(site: Site) -> None:
    """Fine-tuned weights and those that they began with, paired on the breasts that both scored: report, page and terminal.

    Nobody has to score the latter first. Beside scikit-learn's AUROCs and DeLong's test; weights that began with none have no
    such comparison.
    """
    root = site.workspace.root
    site.workspace.kept_evaluations_dir.joinpath(f"{site.digests[0]}.json").unlink()
    began = StartedPart(part="network", source="net-0", sha256=site.digests[0], form="ours", taken=(), left=())
    torch.manual_seed(2)
    save_checkpoint(
        site.workspace.root / "tuned", weights=build_network(site.config.model).state_dict(), training={},
        model=site.config.model, about={"start": StartedWeights(parts=(began,), fresh=()).model_dump(mode="json")},
    )  # fmt: skip
    named = EvaluateConfig(checkpoints=(root / "tuned",))
    trained = TrainReport(
        checkpoint_path=root / "tuned", checkpoint_sha256=members_of(named.checkpoints)[0].sha256, run_dir=root, epochs=(),
        best_epoch=0, train_exams=0, provenance=provenance(site.config, site.splits, seed=2),
    )  # fmt: skip
    began_with = site.config.train.model_copy(update={"start": StartConfig(network=root / "net-0")})
    report = evaluate_network.body(site.config.model_copy(update={"train": began_with}), site.splits, trained)
    kept = read_kept_evaluation(site.workspace, site.digests[0])
    assert [scoring.model_sha256 for scoring in report.scorings[-2:]] == [site.digests[0], trained.checkpoint_sha256]
    both = pd.read_parquet(report.scores_path.with_name("breast_scores.parquet"))
    assert kept is not None
    both = both.merge(kept[1], on=["patient_id", "exam_id", "laterality"], suffixes=("", "_before"))
    found = report.by_finding["malignant"].before_and_after
    assert found is not None and (found.sha256, found.source, found.compared) == (site.digests[0], "net-0", 40)
    pair = both["malignant_score"], both["malignant_score_before"]
    after, before = (float(roc_auc_score(both["malignant"], score)) for score in pair)
    assert (found.auroc_before.value, found.auroc_after.value) == pytest.approx((before, after))
    assert found.auroc_gain.value == pytest.approx(after - before)
    assert found.auroc_gain.low is not None and found.auroc_gain.high is not None
    assert found.auroc_gain.low < after - before < found.auroc_gain.high
    tested = delong_test(*pair, both["malignant"], patient_B=both["patient_id"].to_numpy(str))
    assert tested is not None and found.gain_p_value == pytest.approx(tested.p_value)
    ends = f"{found.auroc_gain.low:+.3f} to {found.auroc_gain.high:+.3f}"
    assert f"{after - before:+.3f} ({ends})" in evaluation_text(report)
    assert report.page_path is not None
    assert f'{after - before:+.3f} <small class="reach">{ends}</small>' in report.page_path.read_text()
    one, other = (EnsembleMember(path=site.workspace.root / f"net-{number}", sha256=site.digests[number]) for number in (0, 1))
    assert evaluation_of_start(site.workspace, [one], named) is None
    assert evaluation_of_start(site.workspace, [report.models[0], other], named) is None


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


def test_a_registry_of_mlflow_is_told_what_is_in_use(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A version for each set of weights, the alias goes with promotion and rollback; a store that is away stops nothing."""
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_ALLOW_FILE_STORE", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    uri = (tmp_path / "mlflow").as_uri()
    store = MlflowConfig(tracking_uri=uri)
    tracked = site.config.train.model_copy(update={"tracking": site.config.train.tracking.model_copy(update={"mlflow": store})})
    promotion = EASY.model_copy(update={"mlflow_model": "gmic"})
    config = site.config.model_copy(update={"train": tracked, "promotion": promotion})
    for number in (0, 1):
        model = meant_model(config, str(site.workspace.root / f"net-{number}"))
        put_into_use(config, model, asked_answer(config, model), who="Ada", why="better")
    client = client_of(store)
    assert client.get_model_version_by_alias("gmic", "in-use").tags["mammo.sha256"] == site.digests[1]
    put_back(config, who="Ada", why="recall fell")
    assert client.get_model_version_by_alias("gmic", "in-use").tags["mammo.sha256"] == site.digests[0]
    assert len(client.search_model_versions("name = 'gmic'")) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow", "w"]
    shutil.rmtree(tmp_path / "mlflow")
    (tmp_path / "mlflow").write_text("away")
    model = meant_model(config, site.digests[1])
    put_into_use(config, model, asked_answer(config, model), who="Ada", why="again")
    assert "MLflow's registry cannot be told" in caplog.text


def test_results_know_the_thresholds_of_the_model_in_use(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """What goes back to a PACS says them of the weights that predicted: the promoted ones, not those trained last."""
    points = OperatingPointsFile(
        checkpoint_sha256=site.digests[0], provenance=provenance(site.config, site.splits, seed=0), by_finding={}
    )
    (site.workspace.root / "net-0" / OPERATING_POINTS).write_text(points.model_dump_json())
    assert points_in_use(site.config, site.digests[0]) is None
    assert site.mammo("promote", str(site.workspace.root / "net-0"), "--why", "first").exit_code == 0
    assert points_in_use(site.config, site.digests[0]) == points and points_in_use(site.config, site.digests[1]) is None
    assert "results say no thresholds" not in caplog.text
    (damaged,) = site.workspace.models_dir.rglob(OPERATING_POINTS)
    damaged.write_text("{")
    assert points_in_use(site.config, site.digests[0]) is None and "results say no thresholds" in caplog.text


def test_an_ensemble_is_one_model(site: Site) -> None:
    """Named by its file, promoted with its thresholds, the mean of its networks as the evaluation took it, and back again."""
    root = site.workspace.root
    members = members_of([root / "net-0", root / "net-1"])
    write_ensemble(root / "both" / "ensemble.json", members)
    assert site.mammo("promote", str(root / "net-0"), "--why", "first").exit_code == 0
    before = scores(find_checkpoint.fn(site.config))
    said = site.mammo("promote", str(root / "both" / "ensemble.json"), "--why", "two see more")
    assert said.exit_code == 0 and "not worse than the one in use" in said.output, said.output
    for folder in ("net-0", "net-1", "both"):
        shutil.rmtree(root / folder)
    used = load_model(find_checkpoint.fn(site.config))
    assert (used.sha256, used.networks) == (ensemble_sha256(members), 2) and used.folder.parent == site.workspace.models_dir
    kept, manifest = read_kept_evaluation(site.workspace, used.sha256), read_manifest(open_store(site.workspace.store_dir))
    assert kept is not None
    views = stored_views(open_store(site.workspace.store_dir), manifest, site.config.preprocess.window_px)
    exam = kept[1][(kept[1]["exam_id"] == "E000") & (kept[1]["laterality"] == "L")]
    rows = manifest.loc[(manifest["exam_id"] == "E000") & (manifest["laterality"] == "L"), "row"].tolist()
    found = [view.score_C for view in score_rows(used.network, views, rows, batch_images=1, device=torch.device("cpu"))]
    assert exam["malignant_score"].item() == pytest.approx(float(np.mean([score_C[1] for score_C in found])), abs=1e-12)
    assert site.mammo("rollback", "--why", "recall fell").exit_code == 0
    assert torch.equal(scores(find_checkpoint.fn(site.config)), before)


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


def test_the_form_promotes_rolls_back_and_says_why_not(site: Site, prefect_api: str) -> None:
    """It only asks unless told; who and why must be filled in; a refused run fails with the rule, and shows all rules."""
    config = site.config.model_copy(update={"promotion": EASY})
    strict = site.config.model_copy(update={"promotion": EASY.model_copy(update={"margin": 1e-9})})
    one, two = (digest[:8] for digest in site.digests)
    for folder in ("net-0", "net-1"):
        site.mammo("promote", str(site.workspace.root / folder), "--dry-run")
    assert promote(config, why="first", by="Ada", model=one).is_allowed and folder_in_use(site.workspace) is None
    with pytest.raises(ConfigError, match="who and why"):
        promote_model.fn(config, one, why=" ", by="Ada", only_ask=False)
    promote_model.fn(config, one, why="first", by="Ada", only_ask=False)
    refused = promote(strict, why="newer", by="Ada", model=two, only_ask=False, return_state=True)
    assert refused.is_failed() and "not worse than the one in use: AUROC" in str(refused.message)
    with get_client(sync_client=True) as client:
        (table,) = client.read_artifacts(
            artifact_filter=ArtifactFilter(
                key=ArtifactFilterKey(any_=["promotion"]),
                flow_run_id=ArtifactFilterFlowRunId(any_=[refused.state_details.flow_run_id]),
            )
        )
    assert "NOT MET" in str(table.data) and two in str(table.description)
    promote_model.fn(config, two, why="better", by="Ada", only_ask=False)
    assert roll_back.fn(config, why="recall fell", by="Bob").sha256 == site.digests[0]
    fields = parameter_schema(promote)
    assert set(fields.required) == {"config", "why", "by"} and all(
        fields.properties[name].get("description") for name in ("why", "by", "model", "only_ask")
    )


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
