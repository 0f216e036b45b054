"""The search on a real server: what a run leaves, what a kill costs, what it asks before it starts."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployments.configuration import load_config
from flows.search import search
from gmic_model.model import GMIC
from mammo_tests.training_store import ingested, make_store, small_config, with_baseline
from schemas.config.run import RunConfig, Stage
from schemas.errors import ConfigError, TrainingError
from tasks.adapters.models.checkpoints import load_checkpoint, save_checkpoint
from tasks.adapters.training.request import started_weights
from tasks.adapters.workspace import Workspace
from tasks.search import search_study
from tasks.stage import save_report

RunFlow = Callable[..., Any]

pytestmark = pytest.mark.e2e


def config_of(workspace: Path, epochs: int = 2, **changes: Any) -> RunConfig:
    """Four trials of two epochs of a ResNet-22, two at a time."""
    config: RunConfig = with_baseline(small_config(workspace, epochs=epochs))
    ranges = {"train.learning_rate": {"log10": [-5.5, -3.8]}, "train.saliency_weight": {"log10": [-5.0, -2.8]}}
    workers = {"kind": "processes", "count": 2}
    search_section = {"trials": 4, "ensemble_size": 2, "workers": workers, "ranges": ranges, **changes}
    return RunConfig.model_validate({**config.model_dump(), "search": search_section})


def gpus_of_trials(pid: int) -> set[str]:
    """The GPUs that the training processes of trials may see."""
    seen = set[str]()
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "/trial-" in " ".join(child.cmdline()):
                seen.add(child.environ().get("CUDA_VISIBLE_DEVICES", "all"))
    return seen


def trial_tags(ran: Any) -> set[str]:
    """Tags of the run's trials, which a Prefect concurrency limit counts by."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    ran.task_states("trial")  # waits until the server knows them
    runs = ran.client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[ran.flow_run_id])))
    return {tag for run in runs if run.name.startswith("trial") for tag in run.tags}


def check_what_it_left(config: RunConfig, ran: Any) -> None:
    """As many trials as are wanted; the best in ensemble.json with digests that verify; a page that loads nothing."""
    trials = config.search.trials
    assert (ran.report.trials_complete, ran.report.trials_failed, ran.report.trials_pruned) == (trials, 0, 0)
    records = search_study(config).records()
    assert [record.number for record in records if record.state == "complete"] == list(range(trials))
    members = json.loads(ran.report.ensemble_path.read_text())["checkpoints"]
    aurocs = sorted((record.auroc for record in records if record.auroc is not None), reverse=True)
    assert [member["tuning_malignant_auroc"] for member in members] == aurocs[: config.search.ensemble_size]
    assert all(
        load_checkpoint(ran.report.ensemble_path.parent / member["path"]).sha256 == member["sha256"] for member in members
    )
    ready = load_config(Path(ran.report.next_command.removeprefix("mammo evaluate ")))
    assert ready.evaluate.ensemble == ran.report.ensemble_path
    page = ran.report.page_path.read_text()
    assert all(model.checkpoint_sha256[:12] in page for model in ran.report.best)
    assert page.count("<polyline") == trials and page.count("train.learning_rate</t") >= 2 and "script-src" not in page
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", page)


@pytest.mark.usefixtures("trains_here")
def test_a_search_leaves_its_best_as_an_ensemble(tmp_path: Path, run_flow: RunFlow) -> None:
    """Two trials at a time, on a GPU each, the published first. Another run finds that all have ended, and measures nothing.

    Each trial begins with the file that the config names. They train in this process, one after the other: that a trial's own
    process sees its GPU alone is in ``tests/tasks/test_search.py``.
    """
    workers = {"kind": "gpu", "devices": [5, 7]}
    config = config_of(tmp_path / "ws", epochs=1, with_published=True, trials=2, ensemble_size=1, workers=workers)
    other = small_config(tmp_path).model
    save_checkpoint(tmp_path / "begun", weights=GMIC(other).state_dict(), training={}, model=other, about={})
    start = {"localization": tmp_path / "begun"}
    config = RunConfig.model_validate({**config.model_dump(), "train": {**config.train.model_dump(), "start": start}})
    make_store(config, exams=8)
    ran = run_flow(search, config)
    check_what_it_left(config, ran)
    assert trial_tags(ran) == {"gpu"}
    records = search_study(config).records()
    assert records[0].parameters["train.learning_rate"] == pytest.approx(4.134e-6)
    trials = [started_weights(folder) for folder in ran.report.ensemble_path.parent.glob("trial-*/run")]
    assert len(trials) == 2 and None not in trials
    assert all([(part.source, bool(part.taken)) for part in begun.parts] == [("begun", True)] for begun in trials if begun)
    again = run_flow(search, config)
    assert again.report.forecast is None and again.report.best == ran.report.best


@pytest.mark.long
def test_a_killed_search_goes_on_with_the_trial_it_lost(tmp_path: Path, run_flow: RunFlow) -> None:
    """Kill -9 once a trial has finished an epoch: the rerun takes that trial over, from its checkpoint, under its number.

    Two trials at a time, each told a GPU of its own; the config says CPU, so that there is none does not matter.
    Afterwards: four trials, no fifth, the two best in ensemble.json. What `make test` shows of it: workers of one study take a
    killed one's trial over (``test_search_study.py``), and a killed training goes on (``test_loop.py``, ``test_pipeline.py``).
    """
    config = config_of(tmp_path / "workspace", with_published=True, workers={"kind": "gpu", "devices": [5, 7]})
    make_store(config)
    path = tmp_path / "search.yaml"
    path.write_text(config.model_dump_json())
    folder = config.workspace_dir / "search" / "paper"
    with (tmp_path / "log").open("w") as log:
        command = [sys.executable, "-m", "deployments.cli", "search", str(path)]
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
        deadline, gpus = time.monotonic() + 600, set[str]()
        try:
            while not (list(folder.glob("trial-*/run/epoch-0000/checkpoint.json")) and gpus == {"5", "7"}):
                gpus |= gpus_of_trials(process.pid)
                assert process.poll() is None and time.monotonic() < deadline, (gpus, (tmp_path / "log").read_text())
                time.sleep(0.02)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    lost = {int(done.parents[2].name[-4:]) for done in folder.glob("trial-*/run/epoch-0000/checkpoint.json")}
    kept = {done: done.stat().st_mtime_ns for done in folder.glob("trial-*/run/epoch-0000/checkpoint.json")}

    ran = run_flow(search, config)
    check_what_it_left(config, ran)
    records = search_study(config).records()
    assert lost <= {0, 1}
    assert trial_tags(ran) == {"gpu"}
    assert all(done.stat().st_mtime_ns == time_ns for done, time_ns in kept.items() if done.exists()), "an epoch was redone"
    assert records[0].parameters["train.learning_rate"] == pytest.approx(4.134e-6)  # the published ones come first
    assert records[3].parameters["train.saliency_weight"] == pytest.approx(9.407e-6)


def test_a_search_says_what_it_takes_before_it_starts(tmp_path: Path, run_flow: RunFlow) -> None:
    """Above the limit: hours, clock and disk in the message, the remedy, no trial begun; then the study of another config."""
    config = config_of(tmp_path / "workspace", confirm_above_hours=0.0)
    make_store(config)
    with pytest.raises(ConfigError, match=r"4 trials will take about .* each\), .* by the clock, .* GiB of .* free.*--yes"):
        run_flow(search, config)
    assert not list((config.workspace_dir / "search" / "paper").glob("trial-*"))
    other = config.model_copy(update={"train": config.train.model_copy(update={"batch_exams": 4})})
    with pytest.raises(ConfigError, match=r"study paper was begun with another config.*another name"):
        run_flow(search, other)
    save_report(config, Stage.INGEST, ingested(config.workspace_dir / "exam_store", "labels have changed", 12))
    with pytest.raises(ConfigError, match=r"begun with another config, data.*published since, give search.study another"):
        run_flow(search, config)


@pytest.mark.usefixtures("trains_here")
def test_a_tuning_split_without_positives_is_refused(tmp_path: Path, run_flow: RunFlow) -> None:
    """Nothing to choose trials by: said before the first one. A forecast's own process is in the test before."""
    config = config_of(tmp_path / "workspace")
    make_store(config, exams=8, malignant_every=5)  # exams 0 and 5; only 0 tunes
    import pandas as pd

    splits_path = Workspace(config.workspace_dir).splits_path
    splits = pd.read_parquet(splits_path)
    splits.loc[splits["patient_id"] == "P000", "split"] = "train"
    splits.to_parquet(splits_path, index=False)
    with pytest.raises(TrainingError, match="no malignant breast: there is nothing to choose trials by"):
        run_flow(search, config)
