"""A training in an MLflow store: one run with every epoch once, whatever stops; no store stops it; nothing else leaves."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gmic_model.learning.processes import ALONE
from mammo_tests.training_store import make_store, request, small_config, with_baseline
from schemas.config.run import RunConfig
from schemas.config.training import MlflowConfig
from schemas.errors import ConfigError
from schemas.reports.data import SplitReport
from tasks.adapters.models.checkpoints import load_checkpoint
from tasks.adapters.training.mlflow_log import (
    ExperimentRun,
    RunFacts,
    experiment_run,
    former_training_key,
    mark_stopped,
    training_key,
)
from tasks.adapters.training.process import run_training
from tasks.adapters.training.process_main import serve
from tasks.adapters.training.request import said_in


@pytest.fixture(scope="module", autouse=True)
def mlflow_is_installed() -> None:
    """Imported by the one worker that has these tests: it takes a second."""
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")


ROOT = Path(__file__).parents[4]

FACTS = RunFacts(key="k", name="train/1", parameters={"fit.epochs": 3}, tags={"mammo.seed": "0"})


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SplitReport]:
    """A workspace with a small store and its splits."""
    workspace = tmp_path_factory.mktemp("workspace")
    return workspace, make_store(small_config(workspace))


def watched(workspace: Path, uri: str, **train: Any) -> RunConfig:
    """A training of a ResNet-22 that tells a store."""
    config: RunConfig = small_config(workspace, tracking={"tensorboard": False, "mlflow": {"tracking_uri": uri}}, **train)
    return with_baseline(config)


def client_of(uri: str) -> Any:
    """Another client of the same store."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def runs_of(uri: str) -> list[Any]:
    """All runs of the experiment."""
    client = client_of(uri)
    found = client.get_experiment_by_name("mammography-gmic")
    return [] if found is None else list(client.search_runs([found.experiment_id]))


def steps_of(uri: str, run: Any, name: str = "train/loss") -> list[int]:
    """Epochs of a curve, as the store has them."""
    return sorted(point.step for point in client_of(uri).get_metric_history(run.info.run_id, name))


def points(epochs: int) -> list[dict[str, float | None]]:
    """A curve of as many epochs."""
    return [{"train/loss": 1.0 - epoch, "tuning/malignant_auroc": None} for epoch in range(epochs)]


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the adapter sets in the environment ends with the test."""
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "MLFLOW_ALLOW_FILE_STORE"):
        monkeypatch.setenv(name, "true")


@pytest.fixture
def file_uri(tmp_path: Path) -> str:
    """A store of files."""
    return f"file://{tmp_path}/runs"


# ------------------------------------------------------------------------------------------------------- a real training


def test_a_killed_training_has_one_run_with_every_epoch_once(
    stored: tuple[Path, SplitReport], tmp_path: Path, file_uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The store is not there for an epoch, which the task's log says once; then the training is killed, and goes on.

    One run: epochs 0 to 2, parameters, the best epoch and its digest. No name of a patient, exam, image or folder in it.
    """
    workspace, splits = stored
    asked = request(watched(workspace, file_uri, epochs=3), splits, run_dir=workspace / "train" / "abc")
    (tmp_path / "runs").touch()  # a file where the store's folder should be

    def stop(message: Mapping[str, Any]) -> None:
        if message["kind"] == "epoch" and message["record"]["epoch"] == 1:
            raise KeyboardInterrupt
        if message["kind"] == "epoch":
            (tmp_path / "runs").unlink()

    with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):  # answered with a SIGKILL of the whole group
        run_training(asked, stop)
    warnings = [record.getMessage() for record in caplog.records if "MLflow" in record.getMessage()]
    assert len(warnings) == 1 and warnings[0].startswith("MLflow cannot be told (")
    serve(asked, ALONE)
    (run,) = runs_of(file_uri)
    assert run.info.status == "FINISHED" and run.info.run_name == "train/abc"
    assert steps_of(file_uri, run) == steps_of(file_uri, run, "tuning/malignant_auroc") == [0, 1, 2]
    assert run.data.params["fit.learning_rate"] == "0.001" and run.data.params["model.kind"] == "resnet-22"
    kept = load_checkpoint(asked.run_dir / run.data.tags["checkpoint"])
    assert run.data.tags["checkpoint_sha256"] == kept.sha256 and run.data.tags["mammo.seed"] == "0"
    best = kept.sidecar["epochs"][int(run.data.tags["checkpoint"][-4:])]
    assert run.data.metrics["best/tuning/malignant_auroc"] == best["tuning_malignant_auroc"]
    content = b"".join(path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file())
    for secret in ("P000", "P001", "E000", "I0000", str(workspace)):
        assert secret.encode() not in content


def test_a_server_that_is_not_there_does_not_stop_training(
    stored: tuple[Path, SplitReport], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody listens: the epoch is trained, and one warning is said."""
    workspace, splits = stored
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets this port meanwhile
        uri = f"http://127.0.0.1:{free.getsockname()[1]}"
        serve(request(watched(workspace, uri, epochs=1), splits, run_dir=tmp_path / "run"), ALONE)
    assert (tmp_path / "run" / "epoch-0000").is_dir()
    said = [message for message in map(said_in, capsys.readouterr().out.splitlines()) if message is not None]
    said = [message for message in said if message["kind"] != "step"]  # a slow machine speaks within an epoch too
    assert [message["kind"] for message in said] == ["start", "warning", "epoch"]
    assert said[1]["text"].endswith("; training goes on and tells it later")


_OFFLINE = """
import gc, socket, sys
gc.disable()  # what is imported is there to stay
from pathlib import Path
sys.path[:0] = [sys.argv[1]]
asked = []
def refuse(self, address):
    asked.append(address)
    raise OSError("no network in this test")
socket.socket.connect = refuse
socket.getaddrinfo = lambda *address, **more: refuse(None, address)
from tasks.adapters.training.mlflow_log import RunFacts, experiment_run
from schemas.config.training import MlflowConfig
facts = RunFacts(key="k", name="n", parameters={}, tags={})
with experiment_run(MlflowConfig(tracking_uri=sys.argv[2]), facts, print) as run:
    run.show([{"train/loss": 1.0}])
from mlflow.telemetry import get_telemetry_client
from mlflow.telemetry.utils import is_telemetry_disabled
assert is_telemetry_disabled() and get_telemetry_client() is None
assert not asked, asked
"""


def test_a_file_store_is_told_without_any_network(tmp_path: Path, file_uri: str) -> None:
    """A process that no CI variable protects: MLflow's telemetry is off, and no address is looked up or connected to."""
    ours = ("PATH", "PYTHONPATH", "HOME", "LANG", "LD_LIBRARY_PATH")
    environment = {name: os.environ[name] for name in ours if name in os.environ}
    command = [sys.executable, "-c", _OFFLINE, str(ROOT), file_uri]
    ran = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr
    (run,) = runs_of(file_uri)
    assert steps_of(file_uri, run) == [0]


# --------------------------------------------------------------------------------------------------------------- the run


def test_sqlite_keeps_each_epoch_once(tmp_path: Path) -> None:
    """Two processes one after the other, as it were: one epoch, then all three again; provenance and parameters beside them."""
    uri = f"sqlite:///{tmp_path}/tracking.sqlite"
    for epochs in (1, 3):
        with experiment_run(MlflowConfig(tracking_uri=uri), FACTS, pytest.fail) as run:
            run.show(points(epochs))
    (found,) = runs_of(uri)
    assert steps_of(uri, found) == [0, 1, 2] and found.info.status == "FINISHED"
    assert found.data.params == {"fit.epochs": "3"} and found.data.tags["mammo.seed"] == "0"


def test_a_store_that_refuses_slowly_is_left_alone_for_a_while(file_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt of 2 s is followed by none for 20 s: whoever does not answer costs at most a tenth of the training."""
    attempts, now_s = [], 100.0

    def refuse(config: MlflowConfig) -> Any:
        nonlocal now_s
        attempts.append(now_s)
        now_s += 2.0
        raise OSError("busy")

    monkeypatch.setattr("tasks.adapters.training.mlflow_log.time.monotonic", lambda: now_s)
    monkeypatch.setattr("tasks.adapters.training.mlflow_log.client_of", refuse)
    run = ExperimentRun(MlflowConfig(tracking_uri=file_uri), FACTS, lambda text: None)
    for epoch in range(5):
        run.show(points(epoch + 1))
        now_s += 8.0
    assert attempts == [100.0, 126.0]


def test_a_training_begun_anew_gets_a_run_of_its_own(file_uri: str) -> None:
    """After three epochs the curve begins again at the first: a second run. The same three epochs once more: no third."""
    config = MlflowConfig(tracking_uri=file_uri)
    for epochs in (3, 1, 1):
        with experiment_run(config, FACTS, pytest.fail) as run:
            run.show(points(epochs))
    assert sorted(len(steps_of(file_uri, run)) for run in runs_of(file_uri)) == [1, 3]


def test_a_training_whose_workspace_was_moved_goes_on_with_its_run(tmp_path: Path, file_uri: str) -> None:
    """Its key holds no place. The run that a former release began under one that did is gone on with where it lies."""
    splits = SplitReport(splits_path=tmp_path / "splits.parquet", data_version="d", counts={})
    asked = [request(small_config(tmp_path / place), splits) for place in ("here", "there")]
    keys = {training_key("identity", one.name) for one in asked}
    assert len(keys) == 1 and training_key("another", asked[0].name) not in keys
    config = MlflowConfig(tracking_uri=file_uri)
    former = former_training_key("identity", asked[0].run_dir)
    for facts, epochs in ((replace(FACTS, key=former), 1), (replace(FACTS, key=keys.pop(), former_key=former), 3)):
        with experiment_run(config, facts, pytest.fail) as run:
            run.show(points(epochs))
    assert [steps_of(file_uri, run) for run in runs_of(file_uri)] == [[0, 1, 2]]


def test_how_a_training_ended_is_said(file_uri: str) -> None:
    """An error: FAILED. Stopped from outside, as a pruned trial is: KILLED."""
    config = MlflowConfig(tracking_uri=file_uri)
    with pytest.raises(ValueError, match="diverged"), experiment_run(config, FACTS, pytest.fail) as run:
        run.show(points(1))
        raise ValueError("diverged")
    assert [run.info.status for run in runs_of(file_uri)] == ["FAILED"]
    mark_stopped(config, "another", FACTS.key)
    assert [run.info.status for run in runs_of(file_uri)] == ["KILLED"]


# ------------------------------------------------------------------------------------------------------------- bad input


def test_without_mlflow_a_config_that_asks_for_it_is_refused(
    stored: tuple[Path, SplitReport], tmp_path: Path, file_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first epoch, with the command that installs it."""
    workspace, splits = stored
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ConfigError, match=r"MLflow is not installed.*pip install .*\[mlflow\]"):
        serve(request(watched(workspace, file_uri), splits, run_dir=tmp_path / "run"), ALONE)
    assert not list((tmp_path / "run").glob("epoch-*"))


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("databricks", "pattern"),
        ("mlruns", "pattern"),
        ("https://me:word@server", "MLFLOW_TRACKING_PASSWORD, not in tracking_uri"),
    ],
)
def test_a_uri_that_is_no_store_or_holds_a_password_is_refused(uri: str, said: str) -> None:
    """A config is shown in the Prefect UI: it is no place for a password."""
    with pytest.raises(ValueError, match=said):
        MlflowConfig(tracking_uri=uri)
