"""A prediction is in the log before it is anywhere else, and stays there whatever weights come later."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner, Result

from deployments.cli import app
from deployments.commands.examination.course import devices_as_they_began
from deployments.words import prediction_text
from gmic_model.networks.registry import build_network
from mammo_tests.training_store import make_store, small_config, with_baseline
from schemas.config.evaluation import WatchConfig
from schemas.config.run import RunConfig
from schemas.errors import ConfigError, StoreBusy, StoreError, ValidationFailed
from schemas.reports.clinic import KeptThreshold, OperatingPointsFile
from schemas.reports.data import IngestReport
from schemas.reports.life.decisions import DeviceThreshold, PromotionAnswer, SiteThresholds
from schemas.reports.pages import PredictReport
from schemas.reports.report import Interval, Provenance
from tasks.adapters.lifecycle import said_scores
from tasks.adapters.lifecycle.model_registry import Registry
from tasks.adapters.lifecycle.prediction_log import PredictionLog
from tasks.adapters.lifecycle.watching.device_streams import devices_of
from tasks.adapters.lock import held_lock
from tasks.adapters.models.checkpoints import load_checkpoint, save_checkpoint
from tasks.adapters.models.model_files import OPERATING_POINTS
from tasks.adapters.pages.gallery import drawn_views
from tasks.adapters.scoring import prediction
from tasks.adapters.scoring.scored_views import ScoredView, score_rows
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import read_manifest
from tasks.adapters.workspace import Workspace
from tasks.predict import predict_exams
from tasks.watch import watch_devices


@dataclass(frozen=True)
class Site:
    """Two published exams and two networks, the first with a locked threshold."""

    config: RunConfig
    ingested: IngestReport

    def predict(self, network: str) -> Any:
        """What ``mammo predict`` does once the exams are in."""
        return predict_exams.fn(self.config, self.ingested, self.config.workspace_dir / network)

    @property
    def log(self) -> PredictionLog:
        """The workspace's."""
        return PredictionLog(Workspace(self.config.workspace_dir).prediction_log_dir)

    def lines(self, kind: str) -> list[dict[str, Any]]:
        """Those of a kind, oldest first."""
        return [line for line in self.log.lines() if line["kind"] == kind]

    def mammo(self, *arguments: str) -> Result:
        """``mammo log ...``."""
        path = self.config.workspace_dir / "config.yaml"
        path.write_text(self.config.model_dump_json())
        return CliRunner().invoke(app, ["log", arguments[0], str(path), *arguments[1:]])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Made once for all tests."""
    root = tmp_path_factory.mktemp("made") / "w"
    config = with_baseline(small_config(root))
    splits = make_store(config, exams=2)
    for seed, name in enumerate(("first", "second")):
        torch.manual_seed(seed)
        weights = build_network(config.model).state_dict()
        sha256 = save_checkpoint(root / name, weights=weights, training={}, model=config.model, about={})
        if name == "first":
            (root / name / OPERATING_POINTS).write_text(_points(sha256).model_dump_json())
    return Site(config=config, ingested=_ingested(config, splits.data_version))


@pytest.fixture(scope="module")
def foretold(made: Site, tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, PredictReport]:
    """A prediction of the first weights, made once for all tests."""
    site = _copied(made, tmp_path_factory.mktemp("foretold"))
    return site, site.predict("first")


@pytest.fixture
def site(made: Site, tmp_path: Path) -> Site:
    """Nothing was predicted yet."""
    return _copied(made, tmp_path)


@pytest.fixture
def predicted(foretold: tuple[Site, PredictReport], tmp_path: Path) -> Site:
    """The first weights have predicted."""
    return _copied(foretold[0], tmp_path)


def _copied(site: Site, folder: Path) -> Site:
    config = site.config.model_copy(update={"workspace_dir": folder / "w"})
    shutil.copytree(site.config.workspace_dir, config.workspace_dir)
    store_dir = Workspace(config.workspace_dir).store_dir
    return Site(config=config, ingested=site.ingested.model_copy(update={"store_dir": store_dir}))


def _ingested(config: RunConfig, data_version: str) -> IngestReport:
    counts = dict.fromkeys(
        ("files_found", "images_published", "images_new", "exams", "exams_incomplete", "labelled_breasts", "orphan_labels",
         "unlabelled_breasts"), 0,
    )  # fmt: skip
    return IngestReport(
        store_dir=Workspace(config.workspace_dir).store_dir, data_version=data_version, quarantined_by_reason={},
        warnings_by_rule={}, **counts,
    )  # fmt: skip


def _points(sha256: str) -> OperatingPointsFile:
    of_target = {
        "sensitivity": 1.0, "kept_specificity": 0.9, "breasts": 4, "positive_breasts": 1, "patients": 2, "positive_patients": 1,
    }  # fmt: skip
    point = KeptThreshold(specificity=0.9, threshold=0.1, **of_target)
    made = Provenance(
        code_version="1", config_sha256="", data_version="", preprocess_version="", seed=0, created_utc="2026-01-01"
    )
    return OperatingPointsFile(checkpoint_sha256=sha256, provenance=made, by_finding={"malignant": (point,)})


def test_two_predictions_of_one_workspace_go_one_after_the_other(predicted: Site) -> None:
    """Of other weights each would write among the other's scores; the second is refused, and waits where it is told to."""
    site = predicted
    folder = Workspace(site.config.workspace_dir).stage_dir("predict")
    before = (folder / "weights").read_text()
    with held_lock(folder, purpose="predict"), pytest.raises(StoreBusy, match="predict by pid"):
        site.predict("second")
    assert (folder / "weights").read_text() == before
    assert site.predict("second").images_new == 8


def test_images_and_exams_are_logged_with_what_was_decided(predicted: Site, foretold: tuple[Site, PredictReport]) -> None:
    """Eight images, two exams, their mean scores, threshold, decision, weights and code; nothing again if nothing is new."""
    site, report = predicted, foretold[1]
    images, exams = site.lines("image"), site.lines("exam")
    assert (len(images), len(exams)) == (8, 2)
    assert {line["image_id"]: line["scores"] for line in images} == {image.image_id: image.scores for image in report.images}
    for exam in exams:
        for side, scores in exam["scores"].items():
            assert scores == pytest.approx(report.breast_scores[f"{exam['exam_id']} {side}"])
        assert exam["thresholds"] == {"malignant": 0.1} and exam["recalled"] == {"malignant": True}
        assert exam["patient_id"].startswith("P") and exam["calibrated_scores"] is None and exam["code_version"]
        assert exam["model"] == images[0]["model"] and exam["preprocessing"].startswith("robust-")
    site.predict("first")
    assert site.log.check().lines == 10


def test_a_device_is_recalled_by_the_site_s_own_threshold_where_one_is_in_use(site: Site) -> None:
    """Its exams are decided by it, and the line says so; the locked one would have recalled them."""
    workspace = Workspace(site.config.workspace_dir)
    manifest = read_manifest(open_store(workspace.store_dir))
    devices = devices_of(manifest)
    name, software = devices[manifest["exam_id"].iloc[0]]
    sha256 = load_checkpoint(workspace.root / "first").sha256
    own = DeviceThreshold(
        name=name, software=software, threshold=2.0, exams=700, patients=650, expected=Interval(value=0.1, low=0.08, high=0.12)
    )
    with Registry(workspace) as registry:
        registry.register(sha256, workspace.root / "first", source="train")
        answer = PromotionAnswer(sha256=sha256, in_use_sha256="", splits_sha256="", data_version="", rules=())
        registry.promote(answer, workspace.root / "first", who="Ada", why="better")
        thresholds = SiteThresholds(model_sha256=sha256, finding="malignant", devices=(own,))
        registry.use_thresholds(thresholds, registry.used(), who="Ada", why="new software")
    site.predict("first")
    for exam in site.lines("exam"):
        is_own = devices[exam["exam_id"]] == (name, software)
        assert exam["thresholds"] == {"malignant": 2.0 if is_own else 0.1}
        assert exam["recalled"] == {"malignant": not is_own}
        assert exam.get("thresholds_of_site", []) == (["malignant"] if is_own else [])


def test_other_weights_add_and_the_first_score_again_bit_for_bit(predicted: Site) -> None:
    """First, second, first: thirty lines, no earlier one changed, and the first weights say the same bits twice."""
    site = predicted
    for network in ("second", "first"):
        site.predict(network)
    assert (site.log.check().lines, site.log.check().fault) == (30, "")
    scored = [[line["scores"] for line in site.lines("exam")][index : index + 2] for index in (0, 2, 4)]
    assert scored[0] == scored[2] != scored[1]
    assert site.lines("exam")[2]["recalled"] == {}  # the second has no locked threshold
    shutil.rmtree(Workspace(site.config.workspace_dir).stage_dir("predict"))
    assert site.log.check().lines == 30


def test_a_score_that_cannot_be_logged_is_not_given_out(site: Site) -> None:
    """The log cannot be written: no table, no panel, no page; when it can, everything is scored and logged."""
    folder = site.log.folder
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("in the way")  # root writes everywhere, so rights would not stop this test
    with pytest.raises(StoreError, match="no score is given out"):
        site.predict("first")
    predicted = Workspace(site.config.workspace_dir).stage_dir("predict")
    assert not [path for path in predicted.rglob("*") if path.suffix in (".png", ".npz", ".csv", ".parquet", ".html")]
    folder.unlink()
    site.predict("first")
    assert site.log.check().lines == 10 and (predicted / "scores.csv").exists()


def test_scores_of_a_former_release_are_entered_once(predicted: Site) -> None:
    """Scored before there was a log: with the next prediction they are in it, marked, without being scored again."""
    site = predicted
    shutil.rmtree(site.log.folder)
    (Workspace(site.config.workspace_dir).stage_dir("predict") / "logged").unlink()
    for _ in range(2):
        assert site.predict("first").images_new == 0
    assert len(site.lines("image")) == 8 and all(line["scored_before_the_log"] for line in site.lines("image"))
    assert len(site.lines("exam")) == 2


@pytest.mark.parametrize("with_panels", [True, False])
def test_a_prediction_that_is_broken_off_keeps_what_it_has_scored(
    predicted: Site, foretold: tuple[Site, PredictReport], monkeypatch: pytest.MonkeyPatch, with_panels: bool
) -> None:
    """Stopped at the sixth of eight images, it goes on with the fifth; scores are those of a run in one piece."""
    site, whole = predicted, foretold[1]
    config = site.config.model_copy(update={"predicted_panels": with_panels})
    broken = Site(config=config, ingested=site.ingested)
    folder = Workspace(config.workspace_dir).stage_dir("predict")
    shutil.rmtree(folder)
    scored: list[int] = []

    def stopped(*inputs: Any, **options: Any) -> Iterator[ScoredView]:
        for view in score_rows(*inputs, **options):
            if len(scored) == 5:
                raise KeyboardInterrupt
            scored.append(view.row)
            yield view

    monkeypatch.setattr(drawn_views, "PART_IMAGES", 2)
    monkeypatch.setattr(drawn_views, "score_rows", stopped)
    with pytest.raises(KeyboardInterrupt):
        broken.predict("first")
    assert len(scored) == 5 and not (folder / "scores.parquet").exists()
    monkeypatch.setattr(drawn_views, "score_rows", score_rows)
    report = broken.predict("first")
    assert report.images_new == 4 and report.images_scored == 8
    assert (report.images, report.breast_scores) == (whole.images, whole.breast_scores)
    assert len(report.panels) == len(list(folder.glob("*.png"))) == (8 if with_panels else 0)
    assert sorted(path.name for path in folder.iterdir() if path.suffix not in (".png", ".npz")) == [
        "lock", "logged", "report.html", "report.json", "scores.csv", "scores.parquet", "weights",
    ]  # fmt: skip
    assert len(site.lines("exam")) == 4 and site.log.check().fault == ""


_PREDICT_AND_STAND_STILL = """
import signal, sys
from pathlib import Path
from tasks.adapters.interpreter import imported_at_once
with imported_at_once():
    from schemas.config.run import RunConfig
    from schemas.reports.data import IngestReport
    from tasks.adapters.pages.gallery import drawn_views
    from tasks.predict import predict_exams
score_rows = drawn_views.score_rows
def sixth_never_comes(*inputs, **options):
    for count, view in enumerate(score_rows(*inputs, **options)):
        if count == 5:
            signal.pause()
        yield view
drawn_views.PART_IMAGES, drawn_views.score_rows = 2, sixth_never_comes
config, ingested = (Path(path).read_text() for path in sys.argv[1:3])
predict_exams.fn(RunConfig.model_validate_json(config), IngestReport.model_validate_json(ingested), Path(sys.argv[3]))
"""


def test_a_prediction_that_is_killed_scores_the_rest_alone(
    predicted: Site, foretold: tuple[Site, PredictReport], tmp_path: Path
) -> None:
    """``kill -9`` when four of eight images are written: the next run scores four, and leaves the tables of a whole one."""
    site, whole = predicted, foretold[1]
    killed = Site(config=site.config.model_copy(update={"predicted_panels": False}), ingested=site.ingested)
    folder = Workspace(killed.config.workspace_dir).stage_dir("predict")
    tables = [(folder / name).read_bytes() for name in ("scores.parquet", "scores.csv")]
    shutil.rmtree(folder)
    inputs = tmp_path / "config.json", tmp_path / "ingested.json"
    for path, said in zip(inputs, (killed.config, killed.ingested), strict=True):
        path.write_text(said.model_dump_json())
    command = [sys.executable, "-c", _PREDICT_AND_STAND_STILL, *map(str, inputs), str(tmp_path / "w" / "first")]
    told_path = tmp_path / "told.txt"
    with told_path.open("wb") as told, subprocess.Popen(command, stderr=told) as process:
        try:
            end_s = time.monotonic() + 600
            while len(list((folder / "parts").glob("*.parquet"))) < 2:
                assert process.poll() is None and time.monotonic() < end_s, told_path.read_text()
                time.sleep(0.05)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL and not (folder / "scores.parquet").exists()
    report = killed.predict("first")
    assert (report.images_new, report.images_scored, report.images) == (4, 8, whole.images)
    assert [(folder / name).read_bytes() for name in ("scores.parquet", "scores.csv")] == tables
    assert not (folder / "parts").exists() and site.log.check().fault == ""


def test_of_very_many_images_the_last_are_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Report and page have the last exams; the table has all, and the page says so. Nothing of it is scored again."""
    monkeypatch.setattr(prediction, "REPORTED_IMAGES", 3)
    monkeypatch.setattr(said_scores, "LINES_AT_ONCE", 1)
    report = site.predict("first")
    assert len(report.images) == 4 and len(report.panels) == 4 and len(report.breast_scores) == 2
    assert report.images_scored == len(pd.read_csv(report.scores_path)) == 8 and len(site.lines("exam")) == 2
    page = Workspace(site.config.workspace_dir).stage_dir("predict").joinpath("report.html").read_text()
    assert "8 images scored" in page and "the last 4 images" in page
    assert "the last of 8 images" in prediction_text(report)
    assert site.predict("first").images_new == 0


def test_the_commands_verify_show_and_export(predicted: Site, tmp_path: Path) -> None:
    """The chain is told; an exam's lines are shown; the table is the owner's, with a line for each image and breast."""
    site = predicted
    whole = site.mammo("verify")
    assert whole.exit_code == 0 and "10 lines, whole" in whole.output
    digest = whole.output.split()[-1]
    assert site.mammo("verify", "--contains", digest).exit_code == 0
    assert isinstance(site.mammo("verify", "--contains", "0" * 64).exception, StoreError)
    exam = site.lines("exam")[0]["exam_id"]
    shown = [json.loads(line) for line in site.mammo("show", exam).output.splitlines()]
    assert [line["kind"] for line in shown] == ["image"] * 4 + ["exam"] and {line["exam_id"] for line in shown} == {exam}
    assert isinstance(site.mammo("show", "E").exception, ConfigError)
    target = tmp_path / "log.csv"
    assert site.mammo("export", str(target)).exit_code == 0 and target.stat().st_mode & 0o077 == 0
    table = pd.read_csv(target)
    assert table["kind"].tolist().count("image") == 8 and len(table) == 12
    assert table.loc[table["kind"] == "exam", "malignant_recalled"].all()
    path = site.log.files()[0]
    path.write_bytes(path.read_bytes().replace(b'"malignant": true', b'"malignant": false'))
    assert isinstance(site.mammo("verify").exception, StoreError)


def test_a_log_cut_off_together_with_its_head_is_missed_by_the_report_of_the_prediction(predicted: Site) -> None:
    """The last line and the file that knows it are gone: the chain fits, but the newest prediction knows more lines."""
    site = predicted
    (path,) = site.log.files()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    (site.log.folder / "head.json").unlink()
    assert site.log.check().fault == ""
    with pytest.raises(StoreError, match="line 10 was written and is missing"):
        raise site.mammo("verify").exception or AssertionError("nothing was missed")
    path.write_bytes(b"".join(lines))
    assert site.mammo("verify").exit_code == 0


def test_a_device_that_changed_ends_the_watch_with_code_4(tmp_path: Path) -> None:
    """Too few exams: it says how many are missing. Enough, and higher from one exam on: an alarm that names an exam near it.

    The service's run fails, so that whoever is told of failures is told, and the doctor says it as long as it stands.
    """
    config = with_baseline(small_config(tmp_path / "w"))
    splits = make_store(config, exams=90)
    site = Site(config=config, ingested=_ingested(config, splits.data_version))
    scores = [0.2 + 0.001 * (number * 37 % 50) + (0.4 if number >= 60 else 0.0) for number in range(90)]
    common = {"kind": "exam", "model": "m", "recalled": {"malignant": False}}
    site.log.append(
        [{**common, "exam_id": f"E{number:03d}", "scores": {"L": {"malignant": score}}} for number, score in enumerate(scores)]
    )
    few = site.mammo("watch")
    assert few.exit_code == 0 and "not watched yet: 911 more exams" in few.output
    (well,) = devices_as_they_began(config)
    assert well.is_well and (tmp_path / "w" / "watch" / "devices.html").exists()
    changed = site.mammo("watch", "--baseline", "50")
    assert isinstance(changed.exception, ValidationFailed) and "No page" in changed.output
    assert re.search(r"ALARM, score: higher by .* since E0[56]\d", changed.output)
    assert site.mammo("watch", "--baseline", "50", "--since", "2999-01-01").exit_code == 0
    assert isinstance(site.mammo("watch", "--since", "yesterday").exception, ConfigError)
    asked = config.model_copy(update={"watch": WatchConfig(baseline_exams=50)})
    with pytest.raises(ValidationFailed, match="1 of 1 devices"):
        watch_devices.fn(asked)
    (fault,) = devices_as_they_began(config)
    assert not fault.is_well and "score not as it began" in fault.found and "devices.html" in fault.remedy
