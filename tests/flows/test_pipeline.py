"""The whole pipeline on real services: what it leaves, what it shows, and that starting it again redoes nothing."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pydicom
import pytest

from flows.crossvalidate import crossvalidate
from flows.evaluate import evaluate
from flows.explain import explain
from flows.ingest import ingest
from flows.pipeline import pipeline
from flows.predict import predict
from flows.table1 import table1
from mammo_tests.foreign_modules import ForeignFolder, foreign_folder, unsafe
from mammo_tests.kept_bytes import kept_bytes
from mammo_tests.trained_here import trained_here
from mammo_tests.training_store import with_baseline
from schemas.config.run import RunConfig, Stage
from schemas.errors import CheckpointError, ConfigError
from schemas.reports.training import EpochRecord
from tasks.adapters.store.exam_store import open_store, read_row
from tasks.adapters.store.manifest import published_rows, read_manifest
from tasks.adapters.training.request import started_weights
from tasks.adapters.workspace import Workspace

pytestmark = pytest.mark.e2e

MAMMO = Path(sys.executable).with_name("mammo")
STAGES = ("validate", "split", "train", "evaluate", "explain")
SMALL = {"preprocess.window_px": (192, 128), "model.image_size": (192, 128)}
"""A quarter of the cohort's images, as much as a small breast takes: much of this module's time is the network's."""
RunFlow = Callable[[Any, RunConfig], Any]
MakeConfig = Callable[..., RunConfig]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, cohort_dir: Path, make_config: MakeConfig) -> RunConfig:
    """The config of the module's workspace; every test leaves the workspace finished."""
    return make_config(tmp_path_factory.mktemp("pipeline"), cohort_dir, **SMALL)


@pytest.fixture(scope="module")
def first(config: RunConfig, run_flow: RunFlow) -> Any:
    """The first, uninterrupted run. It trains in this process; the one that is killed, below, in a process of its own."""
    with trained_here():
        return run_flow(pipeline, config)


def checkpoint_times(config: RunConfig) -> dict[str, int]:
    """When each checkpoint was written."""
    return {str(path): path.stat().st_mtime_ns for path in config.workspace_dir.glob("train/*/epoch-*/weights.safetensors")}


def curve(epochs: tuple[EpochRecord, ...]) -> list[dict[str, Any]]:
    """A training curve without its speed."""
    return [epoch.model_dump(exclude={"images_per_s", "memory_mib"}) for epoch in epochs]


def executed(states: dict[str, str]) -> set[str]:
    """The skippable stages that a run executed."""
    return {stage for stage in STAGES if states[stage] == "Completed"}


# ---------------------------------------------------------------------------------------------------- what it leaves


def test_first_run_executes_every_stage_under_readable_names(first: Any) -> None:
    """One flow run, named after the config, whose tasks are the stages."""
    assert re.fullmatch(r"pipeline-tiny-\d{4}-\d\d-\d\d-32-images-32-new-2-refused", first.name)
    tasks = {"scan-source", "inspect-batch", "plan-shards", "ingest-batch", "publish-exams", *STAGES, "report"}
    states = first.task_states(*tasks)
    assert set(states) == tasks
    assert set(states.values()) == {"Completed"}


def test_first_run_stores_every_good_file_and_names_the_bad_ones(first: Any, config: RunConfig) -> None:
    """8 exams of 4 views are stored; the text file and the cut file are refused, each with a reason, and the rest goes on."""
    ingested = first.report.ingest
    assert (ingested.files_found, ingested.images_published, ingested.images_new, ingested.exams) == (34, 32, 32, 8)
    assert (ingested.labelled_breasts, ingested.unlabelled_breasts, ingested.orphan_labels) == (16, 0, 0)
    refused = pd.read_csv(ingested.store_dir / "quarantine.csv")
    assert len(refused) == 2 and set(ingested.quarantined_by_reason) >= {"F05"}
    assert refused["message"].str.contains("Expected: ").all()
    assert len(read_manifest(open_store(ingested.store_dir))) == 32


def test_first_run_scores_every_test_image(first: Any) -> None:
    """2 of 8 patients are test patients: 8 images, each with two scores between 0 and 1."""
    scores = pd.read_parquet(first.report.evaluation.scores_path)
    assert len(scores) == first.report.evaluation.images == 8
    assert scores[["benign_score", "malignant_score"]].stack().between(0, 1).all()
    assert scores["image_id"].is_unique


def test_report_is_one_file_that_needs_no_other(first: Any) -> None:
    """The page holds the metrics and the panels, and asks no server for anything.

    Of an exam with a failure it shows the breast that failed, of another all views. Which of both hangs on rounding.
    """
    page, explained = first.report.report_path.read_text(), first.report.explanation
    failed = {(failure.exam_id, failure.laterality) for failure in explained.failures}
    shown = [image for image in explained.images if not failed or (image.exam_id, image.laterality) in failed]
    assert "AUROC" in page and len(explained.images) == 4 and page.count("data:image/jpeg") == len(shown) >= 2
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", page)
    for image in first.report.explanation.images:
        assert image.panel_path.read_bytes().startswith(b"\x89PNG") and image.saliency_path.exists()


def test_gallery_has_a_page_for_each_explained_exam(first: Any) -> None:
    """One exam of four views: its page, the list that names it, and for each view saliency in the source image's frame."""
    explained = first.report.explanation
    (exam_id,) = {image.exam_id for image in explained.images}
    pages = {path.name: path.read_text() for path in explained.gallery_path.parent.iterdir()}
    assert set(pages) == {"index.html", f"{exam_id}.html"} and f'href="{exam_id}.html"' in pages["index.html"]
    assert pages[f"{exam_id}.html"].count("data:image/webp") == 4
    assert first.report.pdf_path is None  # this config wants none
    for image in explained.images:
        with np.load(image.saliency_path) as arrays:
            assert arrays["saliency_source_CHW"].shape == (2, *arrays["source_shape_px"])


def test_artifacts_of_every_kind_are_on_the_server(first: Any) -> None:
    """People see tables, markdown, links and finished progress bars in the Prefect UI."""
    artifacts = first.artifacts()
    kinds = {key: artifact.type for key, artifact in artifacts.items()}
    assert {kinds[key] for key in ("gate-results", "data-checks", "splits", "training-curve")} == {"table"}
    assert (kinds["metrics"], kinds["panels"], kinds["report"]) == ("markdown", "markdown", "markdown")
    assert "report.html" in artifacts["report"].data
    assert "AUROC" in artifacts["metrics"].data
    assert len(json.loads(artifacts["training-curve"].data)) == 2
    bars = [key for key, kind in kinds.items() if kind == "progress"]
    assert {"ingest-0-progress", "train-progress", "evaluate-progress", "explain-progress"} <= set(bars)
    assert all(float(artifacts[key].data) == 100.0 for key in bars)


# ------------------------------------------------------------------------------------------------- nothing is redone


def test_second_run_redoes_nothing(first: Any, config: RunConfig, run_flow: RunFlow) -> None:
    """Every stage is Cached, no file is inspected or written again, no checkpoint is touched, the numbers are the same."""
    before = checkpoint_times(config)
    again = run_flow(pipeline, config)
    states = again.task_states(*STAGES)
    assert executed(states) == set() and {states[stage] for stage in STAGES} == {"Cached"}
    assert not {"inspect-batch", "ingest-batch"} & set(states)
    assert again.report.ingest.images_new == 0 and again.report.ingest.images_published == 32
    assert checkpoint_times(config) == before
    assert again.report.model_dump(exclude={"ingest"}) == first.report.model_dump(exclude={"ingest"})


def test_force_reruns_that_stage_and_no_other(first: Any, config: RunConfig, run_flow: RunFlow) -> None:
    """``force: [evaluate]`` executes evaluate; it comes to the same scores, so what it feeds stays Cached."""
    states = run_flow(pipeline, config.model_copy(update={"force": (Stage.EVALUATE,)})).task_states(*STAGES)
    assert executed(states) == {"evaluate"}


@pytest.mark.usefixtures("trains_here")
def test_forced_training_begins_anew_and_reaches_the_same_weights(first: Any, config: RunConfig, run_flow: RunFlow) -> None:
    """Every checkpoint is written again, from the same seed to the same digest, so evaluate and explain stay Cached."""
    before = checkpoint_times(config)
    again = run_flow(pipeline, config.model_copy(update={"force": (Stage.TRAIN,)}))
    after = checkpoint_times(config)
    assert before.keys() == after.keys() and all(after[path] > before[path] for path in before)
    assert again.report.train.checkpoint_sha256 == first.report.train.checkpoint_sha256
    assert curve(again.report.train.epochs) == curve(first.report.train.epochs)
    assert executed(again.task_states(*STAGES)) == {"train"}


def test_ingest_refuses_to_be_forced(config: RunConfig, run_flow: RunFlow, first: Any) -> None:
    """The ledger decides file by file; a force that did nothing would be a lie."""
    with pytest.raises(ConfigError, match="delete exam_store"):
        run_flow(ingest, config.model_copy(update={"force": (Stage.INGEST,)}))


LOST = [
    ("validate", "evaluate/scores.parquet", "explain/*.png"),
    pytest.param(("validate", "train"), marks=pytest.mark.long),  # to train anew: as where it is forced, above
]


@pytest.mark.parametrize("lost", LOST, ids=" ".join)
def test_lost_results_are_made_again(first: Any, config: RunConfig, run_flow: RunFlow, lost: tuple[str, ...]) -> None:
    """A stage whose folder, or a file it reported, was deleted executes again; the others stay Cached."""
    for name in lost:
        for path in config.workspace_dir.glob(name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        assert not list(config.workspace_dir.glob(name))
    again = run_flow(pipeline, config)
    assert executed(again.task_states(*STAGES)) == {name.split("/")[0] for name in lost}
    assert all(list(config.workspace_dir.glob(name)) for name in lost)
    assert again.report.train.checkpoint_sha256 == first.report.train.checkpoint_sha256


def test_results_of_another_config_are_not_taken_for_ours(first: Any, config: RunConfig, run_flow: RunFlow) -> None:
    """A run with other settings writes over a stage's folder; going back, the stage executes again: two exams, then one."""
    other = config.model_copy(update={"explain": config.explain.model_copy(update={"exams": 2})})
    assert len(run_flow(pipeline, other).report.explanation.images) == 8
    back = run_flow(pipeline, config)
    assert executed(back.task_states(*STAGES)) == {"explain"}
    assert len(back.report.explanation.images) == 4


def test_altered_weights_stop_evaluate_and_leave_training_finished(first: Any, config: RunConfig, run_flow: RunFlow) -> None:
    """A flipped bit is refused with what to do; with the bytes restored the run goes on at evaluate, without training."""
    weights = first.report.train.checkpoint_path / "weights.safetensors"
    good = weights.read_bytes()
    shutil.rmtree(config.workspace_dir / "evaluate")
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=r"altered or damaged.*force train"):
        run_flow(pipeline, config)
    weights.write_bytes(good)
    assert executed(run_flow(pipeline, config).task_states(*STAGES)) == {"evaluate"}


def test_named_checkpoints_are_evaluated_alone_and_together(
    first: Any, config: RunConfig, run_flow: RunFlow, tmp_path: Path
) -> None:
    """Two epochs as an ensemble, on this store from another workspace: each one's numbers, their mean's, traceable scores."""
    folders = sorted(first.report.train.run_dir.glob("epoch-*"))
    named = config.evaluate.model_copy(update={"checkpoints": tuple(folders)})
    elsewhere = {"workspace_dir": tmp_path, "store_dir": first.report.ingest.store_dir, "evaluate": named}
    shutil.copytree(config.workspace_dir / "split", tmp_path / "split")
    report = run_flow(evaluate, config.model_copy(update=elsewhere)).report
    assert [member.path for member in report.models] == folders and report.model_sha256 != report.models[0].sha256
    models, mean = (pd.read_parquet(tmp_path / "evaluate" / f"{name}.parquet") for name in ("model_scores", "scores"))
    assert set(models["model_sha256"]) == {member.sha256 for member in report.models}
    assert mean["malignant_score"].tolist() == pytest.approx(
        models.groupby("row", sort=False)["malignant_score"].mean()[mean["row"]].tolist()
    )
    assert set(mean["data_version"]) == {first.report.split.data_version} and set(mean["model_sha256"]) == {report.model_sha256}
    breasts, exams = (pd.read_csv(tmp_path / "evaluate" / f"{name}_scores.csv") for name in ("breast", "exam"))
    assert len(breasts) == 3 * 4 and len(exams) == 3 * 2 and set(breasts["model"]) == {"ensemble", "model-1", "model-2"}
    assert len(report.by_finding["malignant"].models) == 2


ROWS = [("gmic-loc", "gmic"), pytest.param(("resnet-22", "gmic-loc", "gmic"), marks=pytest.mark.long)]


@pytest.mark.usefixtures("trains_here")
@pytest.mark.parametrize("variants", ROWS, ids=" ".join)
def test_table_1_trains_its_rows_and_goes_on_where_it_stopped(
    first: Any, config: RunConfig, run_flow: RunFlow, tmp_path: Path, variants: tuple[str, ...]
) -> None:
    """Two rows from one training on the pipeline's store and split; again, nothing is redone and the table is the same.

    The training begins with the pipeline's network, as the config says. The long one has a row from a training of its own, as
    the folds of a cross-validation have; it begins with the backbone alone, for its saliency layer is another.
    """
    part = "localization" if "resnet-22" in variants else "network"
    rows = {"rows": variants, "seeds": (3,), "is_store_ready": True}
    shutil.copytree(config.workspace_dir / "split", tmp_path / "split")
    changes = {
        "workspace_dir": tmp_path,
        "store_dir": first.report.ingest.store_dir,
        "train": {**config.train.model_dump(), "epochs": 1, "start": {part: first.report.train.checkpoint_path}},
    }
    run = RunConfig.model_validate({**config.model_dump(), **changes, "table1": rows})
    ran = run_flow(table1, run)
    found = {row.variant.value: row for row in ran.report.rows}
    assert set(found) == set(variants)
    assert found["gmic"].model_sha256 == found["gmic-loc"].model_sha256
    assert len({row.model_sha256 for row in found.values()}) == len(variants) - 1
    assert found["gmic"].by_finding["malignant"].auroc.mean.value is not None
    trainings = [started_weights(run_dir) for run_dir in tmp_path.glob("table1/*/train/*") if run_dir.is_dir()]
    assert len(trainings) == len(variants) - 1
    assert all([part.sha256 for part in begun.parts] == [first.report.train.checkpoint_sha256] for begun in trainings if begun)
    assert None not in trainings
    scores = [pd.read_parquet(tmp_path / f"table1/row-{row}/evaluate/scores.parquet") for row in ("gmic", "gmic-loc")]
    assert scores[0]["malignant_score"].tolist() != scores[1]["malignant_score"].tolist()
    assert "| gmic | 1 | 0.900 |" in ran.report.markdown_path.read_text()
    again = run_flow(table1, run)
    states = again.task_states("train", "evaluate", "write-table1")
    assert states == {"train": "Cached", "evaluate": "Cached", "write-table1": "Completed"}
    assert again.report.rows == ran.report.rows


def test_a_verb_alone_finds_what_the_pipeline_left(first: Any, config: RunConfig, run_flow: RunFlow) -> None:
    """``mammo explain`` after ``mammo pipeline`` has nothing to do."""
    alone = run_flow(explain, config)
    assert alone.name.startswith("explain-tiny-")
    assert alone.task_states("explain") == {"explain": "Cached"}


def test_verbs_print_their_report_as_json(first: Any, config: RunConfig, tmp_path: Path, mammo: Callable[..., Any]) -> None:
    """``--json``: standard output holds the report and nothing else; progress goes to standard error."""
    path = tmp_path / "config.yaml"
    path.write_text(config.model_dump_json())
    for verb in ("split", "train", "pipeline"):
        answer = mammo(verb, path, "--json")
        assert answer.code == 0
        printed = json.loads(answer.stdout)
        wanted = first.report if verb == "pipeline" else getattr(first.report, verb)
        assert printed.keys() == wanted.model_dump().keys()
    assert printed["train"]["checkpoint_sha256"] == first.report.train.checkpoint_sha256
    assert "found 34 files, 0 of them new or changed" in answer.stderr


def test_predict_takes_the_weights_of_its_workspace(first: Any, config: RunConfig, run_flow: RunFlow) -> None:
    """Without ``checkpoint`` predict uses what was trained here; no view is missing, every breast has two scores.

    Of each view it says how much of the breast lies outside this module's small window, and of nothing else that it is missing.
    """
    predicted = run_flow(predict, config).report
    assert len(predicted.images) == 32 and len(predicted.breast_scores) == 16
    assert all("the rest lies outside its window" in said for said in predicted.missing)
    assert {*next(iter(predicted.breast_scores.values()))} == {"benign", "malignant"}
    assert first.report.train.checkpoint_sha256[:12] in predicted.report_path.read_text()


@pytest.mark.usefixtures("trains_here")
def test_a_cross_validation_trains_and_judges_each_fold_and_goes_on_where_it_stopped(
    first: Any, config: RunConfig, run_flow: RunFlow
) -> None:
    """Two folds of the pipeline's eight patients: a network for each, all judged once; a lost page is made without training."""
    folds = with_baseline(config)
    folds = RunConfig.model_validate(
        {
            **folds.model_dump(),
            "split": {"folds": 2, "tuning_fraction": 0.25},
            "train": {**folds.train.model_dump(), "epochs": 1},
        }
    )
    ran = run_flow(crossvalidate, folds)
    ran.task_states("split", "train", "evaluate", "crossvalidate")
    ended = Counter[str]()
    for run in ran.client.read_task_runs(flow_run_filter=_with_id(ran.flow_run_id)):
        ended[run.name.rsplit("-", 1)[0]] += run.state_name == "Completed"
    assert {name: ended[name] for name in ("split", "train", "evaluate", "crossvalidate")} == {
        "split": 2, "train": 2, "evaluate": 2, "crossvalidate": 1
    }  # fmt: skip
    pooled = ran.report.by_finding["malignant"]
    assert (pooled.patients, pooled.breasts, len(pooled.folds)) == (8, 16, 2)
    assert len({fold.model_sha256 for fold in pooled.folds}) == 2
    folder = config.workspace_dir / "crossvalidate"
    trained = {path: path.stat().st_mtime_ns for path in folder.glob("fold-*/train/*/epoch-*/weights.safetensors")}
    ran.report.page_path.unlink()
    again = run_flow(crossvalidate, folds)
    assert again.report.by_finding == ran.report.by_finding and again.report.page_path.exists()
    assert len(trained) == 2 and all(path.stat().st_mtime_ns == before for path, before in trained.items())


# ------------------------------------------------------------------------------------------------- another machine

RESTORE_PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "restore-on-another-machine.md"


def _commands(page: Path) -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    return [line.split()[1:] for block in blocks for line in block.splitlines()]


@pytest.fixture
def gone(first: Any, config: RunConfig, cohort_dir: Path, tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    """``gone(cohort)``: the pipeline's workspace is no more, and its exams lie there; until the test has ended."""
    moved = [(config.workspace_dir, tmp_path / "gone")]

    def move(cohort: Path) -> None:
        moved.append((cohort_dir, cohort))
        for here, there in moved:
            here.rename(there)

    yield move
    for here, there in moved:
        if there.exists():
            there.rename(here)


def test_a_workspace_is_restored_on_another_machine(
    first: Any,
    config: RunConfig,
    gone: Callable[[Path], None],
    tmp_path: Path,
    make_config: MakeConfig,
    mammo: Callable[..., Any],
) -> None:
    """Another place for all: same rows, pseudonyms, pixels, splits and numbers; the training is finished before."""
    old, new, place = config.workspace_dir, tmp_path / "new", tmp_path / "elsewhere.yaml"
    place.write_text(make_config(new, tmp_path / "cohort", **SMALL).model_dump_json())
    before, splits = read_manifest(open_store(Workspace(old).store_dir)), Workspace(old).splits_path.read_bytes()

    def follow(command: list[str], workspace: Path) -> Any:
        known = {"WORKSPACE": workspace, "CONFIG": place, "day.tar": tmp_path / "day.tar"}
        done = mammo(*(known.get(word, word) for word in command))
        assert done.code == 0, done.stderr
        return done

    backup, *rest = _commands(RESTORE_PAGE)
    assert (backup[0], [command[0] for command in rest]) == ("backup", ["restore", "ingest", "scrub", "train", "evaluate"])
    follow(backup, old)
    gone(tmp_path / "cohort")
    said = {command[0]: follow(command, new) for command in rest}

    assert "32 of 32 images must be read again" in said["restore"].stdout
    assert "Finished before" in said["train"].stderr
    store = open_store(Workspace(new).store_dir)
    assert read_manifest(store).drop(columns=["batch_date"]).equals(before.drop(columns=["batch_date"]))
    assert all(read_row(store, row).any() for row in published_rows(store).values())
    assert Workspace(new).splits_path.read_bytes() == splits
    again = json.loads(mammo("evaluate", place, "--json").stdout)
    assert again["by_finding"] == json.loads(first.report.evaluation.model_dump_json())["by_finding"]


# ------------------------------------------------------------------------------------------------------- new exams


def test_new_exams_extend_the_store_and_leave_old_shards_alone(
    tmp_path: Path, cohort_dir: Path, make_config: MakeConfig, run_flow: RunFlow
) -> None:
    """Three exams, then one more: 12 + 4 images; the bytes and times of the three old shards are what they were."""
    source = tmp_path / "cohort"
    exams = sorted(path for path in (cohort_dir / "dicom").iterdir() if path.is_dir())
    shutil.copytree(cohort_dir, source, ignore=shutil.ignore_patterns(*(exam.name for exam in exams[3:]), "CANARY-*"))
    config = make_config(tmp_path / "workspace", source, **SMALL)
    assert run_flow(ingest, config).report.images_new == 12
    old = shard_states(config)
    assert len(old) == 3
    shutil.copytree(exams[3], source / "dicom" / exams[3].name)
    extended = run_flow(ingest, config)
    assert (extended.report.images_new, extended.report.images_published) == (4, 16)
    new = shard_states(config)
    assert len(new) == 4 and old.items() <= new.items()
    manifest = read_manifest(open_store(extended.report.store_dir))
    assert sorted(manifest["row"]) == list(range(16))


def shard_states(config: RunConfig) -> dict[str, tuple[int, str]]:
    """File name -> time and digest of every pixel shard."""
    folder = config.workspace_dir / "exam_store" / "pixels.zarr" / "pixels" / "c"
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.rglob("*")
        if path.is_file()
    }


# ---------------------------------------------------------------------------------------------------------- kill -9


def images_written(config: RunConfig) -> int:
    """Images that the ledger knows as stored."""
    ledger = config.workspace_dir / "exam_store" / "ledger.sqlite"
    if not ledger.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{ledger}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM images WHERE manifest IS NOT NULL").fetchone()[0])
    except sqlite3.OperationalError:  # its tables are just being made
        return 0


KILL_WHEN: dict[str, Callable[[RunConfig], bool]] = {
    "ingest has stored some images": lambda config: images_written(config) > 0,
    "train has finished an epoch": lambda config: bool(list(config.workspace_dir.glob("train/*/epoch-0000/checkpoint.json"))),
    "evaluate is done": lambda config: (config.workspace_dir / "evaluate" / "done").exists(),
}


def kill_pipeline(config: RunConfig, config_path: Path, is_time: Callable[[RunConfig], bool], foreign: ForeignFolder) -> str:
    """Runs ``mammo pipeline`` where foreign modules lie, kills it without warning at a moment; returns what it had printed."""
    with (config_path.with_suffix(".log")).open("a+") as log:
        process = subprocess.Popen(
            [str(MAMMO), "pipeline", str(config_path)],
            cwd=foreign.path,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=unsafe({**os.environ, "OMP_NUM_THREADS": "1"}),
        )
        deadline = time.monotonic() + 300  # a busy machine takes its time
        while not is_time(config):
            assert process.poll() is None and time.monotonic() < deadline, Path(log.name).read_text()
            time.sleep(0.01)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        _, alive = psutil.wait_procs(children, timeout=60)
        assert not alive, f"left running: {[child.cmdline() for child in alive]}"
        return Path(log.name).read_text()


MOMENTS = [("train has finished an epoch",), pytest.param(tuple(KILL_WHEN), marks=pytest.mark.long)]
"""A run killed in its ingest is in ``test_ingest_faults.py`` too, and a stage that was done before a run above."""


@pytest.fixture(scope="module", params=MOMENTS, ids=["once", "anywhere"])
def resumed(
    request: Any,
    first: Any,
    config: RunConfig,
    run_flow: RunFlow,
    cohort_dir: Path,
    make_config: MakeConfig,
    tmp_path_factory: Any,
) -> tuple[Any, RunConfig, dict[str, int], str]:
    """A pipeline killed at each moment, then finished: its last run, config, images stored at each kill, output."""
    workspace = tmp_path_factory.mktemp("killed")
    # The same pseudonyms as the uninterrupted run, so that the same exams make the same batches.
    shutil.copy2(config.workspace_dir / "pseudonym.key", workspace)
    # With a Dask worker, which looks for modules as the others, and ends with a run that is killed while it works.
    worker = {"ingest.dask": {"kind": "local", "n_workers": 1}}
    killed = make_config(workspace, cohort_dir, name=f"killed-{len(request.param)}-times-{os.getpid()}", **SMALL, **worker)
    config_path = tmp_path_factory.mktemp("configs") / "killed.yaml"
    config_path.write_text(killed.model_dump_json())
    facts = {}
    foreign = foreign_folder(tmp_path_factory.mktemp("foreign"))
    for moment in request.param:
        output = kill_pipeline(killed, config_path, KILL_WHEN[moment], foreign)
        facts[moment] = images_written(killed)
    assert foreign.who_ran() == {}  # server, nannies, gate children and trainings: none looks where the user stands
    with trained_here():
        return run_flow(pipeline, killed), killed, facts, output


def test_a_pipeline_killed_anywhere_ends_as_if_it_had_not_been(first: Any, resumed: Any) -> None:
    """Same images, same curve, same weights, same scores as the uninterrupted run."""
    last = resumed[0].report
    assert last.ingest.data_version == first.report.ingest.data_version
    assert curve(last.train.epochs) == curve(first.report.train.epochs)
    assert last.train.checkpoint_sha256 == first.report.train.checkpoint_sha256
    assert last.evaluation.by_finding == first.report.evaluation.by_finding


def test_a_killed_pipeline_executes_each_stage_to_its_end_once(resumed: Any) -> None:
    """Over all runs every stage was Completed in one, and Cached in those after it.

    Evaluate may be killed within moments of its end, and a state is an event that may die with the process that sends it: of
    evaluate it is counted how often it was executed at all.
    """
    last, killed, facts, _ = resumed
    assert 0 < facts.get("ingest has stored some images", 1) < 32, "the first kill came too late to show anything"
    ended, executed = Counter[str](), Counter[str]()
    last.task_states(*STAGES)  # waits until the server knows how they ended
    for run in last.client.read_task_runs(flow_run_filter=_named(f"pipeline-{killed.name}"), limit=200):
        stage = run.name.rsplit("-", 1)[0]
        ended[stage] += run.state_name == "Completed"
        executed[stage] += run.state_name != "Cached"
    assert {stage: ended[stage] for stage in STAGES if stage != "evaluate"} == dict.fromkeys(set(STAGES) - {"evaluate"}, 1)
    assert executed["evaluate"] == 1
    is_evaluated_before = "evaluate is done" in facts
    assert ended["ingest-batch"] == 1 and (last.task_states("evaluate")["evaluate"] == "Cached") is is_evaluated_before


def _with_id(flow_run_id: Any) -> Any:
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    return FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))


def _named(flow_run_name: str) -> Any:
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName

    return FlowRunFilter(name=FlowRunFilterName(like_=flow_run_name))


# ------------------------------------------------------------------------------------------------------ identifiers


IDENTIFIERS = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


def _found(words: set[bytes], text: bytes) -> list[bytes]:
    """Those that are in the text. Most begin alike: where no such beginning is, the whole words need not be looked for."""
    begun = {beginning for beginning in {word[:5] for word in words} if beginning in text}
    return [word for word in words if word[:5] in begun and word in text]


def test_no_identifier_comes_out_anywhere(
    first: Any, resumed: Any, config: RunConfig, cohort_dir: Path, run_flow: RunFlow
) -> None:
    """No name, id or UID of the source is in any file, log, Prefect record or page; the run was killed and went on, too."""
    assert (config.workspace_dir / "predict").exists() or run_flow(predict, config)
    canaries = {b"CANARY", b"19410203"}
    for path in (cohort_dir / "dicom").rglob("*_*.dcm"):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        canaries |= {str(header[word].value).encode() for word in IDENTIFIERS}
    assert len(canaries) == 2 + 8 + 8 + 32 + 32
    killed_output = resumed[3].encode()
    places = [config.workspace_dir, resumed[1].workspace_dir]
    files = kept_bytes(*places, server_home=Path(os.environ["PREFECT_HOME"]))
    assert {"prefect.db", "server.log"} <= {path.name for path in files}
    content = [(str(path), text) for path, text in files.items() if path.name != "pseudonym.key"] + [("output", killed_output)]
    content += [(str(path), pd.read_parquet(path).to_csv().encode()) for path in files if path.suffix == ".parquet"]
    leaks = [(where, canary) for where, text in content for canary in _found(canaries, text) + _found(canaries, where.encode())]
    assert not leaks
