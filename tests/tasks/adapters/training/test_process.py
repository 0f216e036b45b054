"""Training processes: what they learn does not depend on kills or on how many they are, and they never outlive their task."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
import torch
import torch.distributed as dist

from gmic_model.learning.learner import new_learner
from gmic_model.learning.processes import ALONE
from mammo_tests.foreign_modules import foreign_folder
from mammo_tests.training_store import EVERY_OPTION, curve, make_store, request, small_config
from schemas.errors import ConfigError, StoreBusy, StoreError, TrainingError
from schemas.reports.data import SplitReport
from tasks.adapters.lock import held_lock
from tasks.adapters.models.checkpoints import load_checkpoint
from tasks.adapters.training.process import run_training, training_environment
from tasks.adapters.training.process_main import main, serve
from tasks.adapters.training.request import MARK, Purpose, TrainingRequest
from tasks.adapters.training.training_data import training_data
from tasks.adapters.training.tuning import measure_findings

ROOT = Path(__file__).parents[4]


def run(asked: TrainingRequest) -> list[Mapping[str, Any]]:
    """Everything that the training said."""
    said: list[Mapping[str, Any]] = []
    run_training(asked, said.append)
    return said


def test_two_processes_learn_what_one_does(
    stored: tuple[Path, SplitReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same global batch over two gloo processes, batch statistics over both: the loss curves differ by less than 1e-5.

    At the paper's learning rate, rising, with two parts a step, clipped gradients and the running mean of the weights, which
    is what tunes; with every option beyond the paper, whose draws know nothing of processes.
    """
    workspace, splits = stored
    fit = {"epochs": 2, "learning_rate": 1.6e-5, "batch_exams": 4, "accumulation": 2, "clip_gradient_norm": 0.5}
    fit |= {"ema_decay": 0.5, "warmup_steps": 2}
    fit |= EVERY_OPTION
    config = small_config(workspace, **fit)
    serve(request(config, splits, run_dir=tmp_path / "1"), ALONE)
    config = small_config(workspace, **fit, processes=2, sync_batch_norm=True)
    foreign = foreign_folder(tmp_path)
    monkeypatch.chdir(foreign.path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    run(request(config, splits, run_dir=tmp_path / "2"))  # torchrun
    assert foreign.who_ran() == {}
    assert_equal_curves(curve(tmp_path / "1"), curve(tmp_path / "2"))
    longer = small_config(workspace, **{**fit, "epochs": 3})  # as many processes as one likes: one goes on with the work of two
    serve(request(longer, splits, run_dir=tmp_path / "2", identity=request(config, splits).identity), ALONE)
    assert len(curve(tmp_path / "2")) == 3


# Two gloo processes as torchrun would start them, that cost one import together. argv: repository, request.
_TEAM = """
import os, socket, sys
sys.path[:0] = [sys.argv[1]]
from tasks.adapters.training.process_main import main
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    os.environ["MASTER_PORT"] = str(free.getsockname()[1])
os.environ.update(MASTER_ADDR="127.0.0.1", WORLD_SIZE="2", GLOO_SOCKET_IFNAME="lo")
helper = os.fork()
os.environ["RANK"] = os.environ["LOCAL_RANK"] = "0" if helper else "1"
main(sys.argv[2])
if helper:
    sys.exit(os.waitpid(helper, 0)[1])
os._exit(0)
"""


@pytest.mark.long
def test_recomputed_activations_in_two_processes_learn_what_two_parts_in_one_do(
    stored: tuple[Path, SplitReport], tmp_path: Path
) -> None:
    """Each process, and each part, normalises by its own exams: the losses of training differ by less than 1e-5.

    Recomputed in the two, kept in the one; clipping, warm-up and running mean in both. Tuning measures what is kept.
    """
    workspace, splits = stored
    fit = {"epochs": 2, "learning_rate": 1.6e-5, "batch_exams": 4, "clip_gradient_norm": 0.5}
    fit |= {"ema_decay": 0.5, "warmup_steps": 2}
    serve(request(small_config(workspace, **fit, accumulation=2), splits, run_dir=tmp_path / "1"), ALONE)
    config = small_config(workspace, **fit, processes=2, checkpoint_activations=True)
    path = tmp_path / "2.json"
    path.write_text(request(config, splits, run_dir=tmp_path / "2").model_dump_json())
    subprocess.run([sys.executable, "-c", _TEAM, str(ROOT), str(path)], check=True, cwd=ROOT, timeout=600)
    assert_equal_curves(curve(tmp_path / "1"), curve(tmp_path / "2"), of_tuning=False)
    # What was recorded is of the weights that are kept: each process has a running mean of statistics, of its own exams.
    alone = small_config(workspace)
    data = training_data(alone, splits)
    learner = new_learner(alone.model, alone.train)
    learner.network.load_state_dict(load_checkpoint(tmp_path / "2" / "epoch-0001").weights)
    kept = measure_findings(learner, data.tuning, data.views, config=alone.train, processes=ALONE, batch_images=4)
    assert kept.localization_f1 == pytest.approx(curve(tmp_path / "2")[1]["tuning_localization_f1"], abs=1e-6)
    assert kept.loss == pytest.approx(curve(tmp_path / "2")[1]["tuning_loss"], abs=1e-6)


@pytest.mark.parametrize(
    ("visible", "gpu", "expected"), [(None, 1, "1"), ("2,3", 0, "2"), ("2,3", 1, "3"), ("GPU-5a, GPU-5b", 1, "GPU-5b")]
)
def test_a_gpu_is_one_of_those_that_were_given(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, gpu: int, expected: str
) -> None:
    """A scheduler's CUDA_VISIBLE_DEVICES is counted in, not replaced: the other cards are somebody else's."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert training_environment(gpu)["CUDA_VISIBLE_DEVICES"] == expected
    assert training_environment(None).get("CUDA_VISIBLE_DEVICES") == visible


def test_a_gpu_that_was_not_given_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two are visible, the third is asked for."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    with pytest.raises(
        ConfigError, match=r"devices names GPU 2, which this process may not see.*Got: CUDA_VISIBLE_DEVICES=4,5"
    ):
        training_environment(2)


def test_an_error_is_said_while_the_processes_still_stand(
    stored: tuple[Path, SplitReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that took its group down first would wait for others that wait for it, and nobody would hear why."""
    workspace, splits = stored
    asked = request(small_config(workspace, processes=2), splits, run_dir=tmp_path / "run", purpose=Purpose.MEASURE)
    broken = asked.model_copy(update={"splits": splits.model_copy(update={"splits_path": tmp_path / "gone"})})
    path = tmp_path / "asked.json"
    path.write_text(broken.model_dump_json())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1}.items():
        monkeypatch.setenv(name, str(value))
    stood: list[bool] = []
    monkeypatch.setattr("tasks.adapters.training.process_main.say", lambda message: stood.append(dist.is_initialized()))
    try:
        with pytest.raises(SystemExit):
            main(str(path))
        assert stood == [True]
    finally:
        dist.destroy_process_group()


def test_a_process_that_hangs_after_its_error_is_ended(
    stored: tuple[Path, SplitReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says what is wrong and then waits for ever, as one of several may in an exchange: the error arrives all the same."""
    workspace, splits = stored
    error = {"kind": "error", "type": "StoreError", "message": "the store is gone"}
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\necho '{MARK}{json.dumps(error)}'\nexec sleep 600\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(StoreError, match="the store is gone"):
        run_training(request(small_config(workspace), splits, run_dir=tmp_path / "run"), lambda message: None, patience_s=0.1)


def assert_equal_curves(one: list[dict[str, Any]], two: list[dict[str, Any]], *, of_tuning: bool = True) -> None:
    """To 1e-5, and not because nothing was learnt."""
    for first, second in zip(one, two, strict=True):
        assert second["train_loss"] == pytest.approx(first["train_loss"], abs=1e-5)
        if of_tuning:  # running statistics, of one process each
            assert second["tuning_localization_f1"] == pytest.approx(first["tuning_localization_f1"], abs=1e-5)
            assert second["tuning_malignant_auroc"] == first["tuning_malignant_auroc"]
    assert abs(one[0]["train_loss"] - one[1]["train_loss"]) > 1e-4


_TASK = """
import sys
sys.path[:0] = [sys.argv[1]]
from pathlib import Path
from tasks.adapters.training.process import run_training
from tasks.adapters.training.request import TrainingRequest
asked = TrainingRequest.model_validate_json(Path(sys.argv[2]).read_bytes())
run_training(asked, lambda message: print(message["kind"], flush=True))
"""


@pytest.fixture
def task_process(stored: tuple[Path, SplitReport], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A task whose training, of two processes with a loader thread each, has begun."""
    workspace, splits = stored
    asked = request(small_config(workspace, epochs=500, processes=2, loader_workers=1), splits, run_dir=tmp_path / "run")
    path = tmp_path / "asked.json"
    path.write_text(asked.model_dump_json())
    process = subprocess.Popen([sys.executable, "-c", _TASK, str(ROOT), str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "start\n"
    yield process
    process.kill()
    process.wait()


def test_a_killed_task_leaves_no_process(task_process: subprocess.Popen[str]) -> None:
    """Kill -9 of the task: torchrun and both trainers are gone within seconds (a busy machine gets a minute)."""
    children: list[psutil.Process] = []
    deadline = time.monotonic() + 120
    while len(children) < 3 and time.monotonic() < deadline:
        time.sleep(0.2)
        children = [child for child in psutil.Process(task_process.pid).children(recursive=True) if child.is_running()]
    assert len(children) >= 3  # torchrun, two trainers
    task_process.send_signal(signal.SIGKILL)
    task_process.wait()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive, [child.cmdline() for child in alive]


def test_a_process_that_dies_within_a_line_is_said_to_have_died(
    stored: tuple[Path, SplitReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had begun to say is no message, and a message that follows a library's unfinished line is one."""
    workspace, splits = stored
    program = tmp_path / "python"
    says = f"loading...{MARK}{json.dumps({'kind': 'start'})}\n{MARK}{json.dumps({'kind': 'epoch'})[:-4]}"
    program.write_text(f"#!/bin/sh\nprintf '%s' '{says}'\nkill -9 $$\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    said: list[Mapping[str, Any]] = []
    with pytest.raises(TrainingError, match=r"ended before its work was done.*Got: signal 9"):
        run_training(request(small_config(workspace), splits, run_dir=tmp_path / "run"), said.append)
    assert said == [{"kind": "start"}]


def test_idle_threads_of_a_training_sleep_soon(
    stored: tuple[Path, SplitReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They do not take the core from the thread that they wait for; what the user's environment asks for is left."""
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert training_environment(None)["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    workspace, splits = stored
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\necho \'{MARK}{{"kind": "start", "spins": \'$GOMP_SPINCOUNT\'}}\'\nexec sleep 600\n')
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    said: list[Mapping[str, Any]] = []

    def listen(message: Mapping[str, Any]) -> None:
        said.append(message)
        raise InterruptedError("that was all")

    with pytest.raises(InterruptedError, match="that was all"):  # what the listener raises ends the training
        run_training(request(small_config(workspace), splits, run_dir=tmp_path / "run"), listen)
    assert said == [{"kind": "start", "spins": 1000}]


# ---------------------------------------------------------------------------------------------------------- bad input


def test_a_store_of_another_preprocessing_is_refused(stored: tuple[Path, SplitReport], tmp_path: Path) -> None:
    """The store's version, then a setting, differ from what the config would make: said with both, nothing is trained."""
    workspace, splits = stored
    other = tmp_path / "workspace"
    shutil.copytree(workspace / "exam_store", other / "exam_store")
    settings_path = other / "exam_store" / "store.json"
    settings = json.loads(settings_path.read_text())
    settings_path.write_text(json.dumps({**settings, "preprocess_version": "0"}))
    with pytest.raises(StoreError, match=r"another preprocessing.*Got: version 0\. Remedy: "):
        serve(request(small_config(other), splits), ALONE)
    settings_path.write_text(json.dumps(settings))
    config = small_config(other)
    config = config.model_copy(update={"preprocess": config.preprocess.model_copy(update={"crop_buffer_px": 7})})
    with pytest.raises(StoreError, match=r"other crop_buffer_px"):
        serve(request(config, splits), ALONE)
    assert not list(other.glob("train/*/epoch-*"))


def test_splits_without_positives_fewer_patches_and_a_held_folder_are_said(
    stored: tuple[Path, SplitReport], tmp_path: Path
) -> None:
    """No finding in the train split; K = 7 on a map of 6 cells; a folder that another training holds."""
    workspace, splits = stored
    config = small_config(tmp_path / "healthy")
    with pytest.raises(TrainingError, match=r"No training exam has a finding.*labelled benign or malignant"):
        serve(request(config, make_store(config, exams=4, malignant_every=99), run_dir=tmp_path / "none"), ALONE)
    config = small_config(workspace)
    many = config.model_copy(update={"model": config.model.model_copy(update={"K": 7})})
    with pytest.raises(ConfigError, match=r"fewer patches than K.*at most 6.*3 x 2 cells.*Got: 7"):
        serve(request(many, splits, run_dir=tmp_path / "many"), ALONE)
    with held_lock(tmp_path / "held", purpose="train"), pytest.raises(StoreBusy, match="is in use"):
        serve(request(config, splits, run_dir=tmp_path / "held"), ALONE)


@pytest.mark.parametrize("purpose", [Purpose.TRAIN, Purpose.PRETRAIN])
def test_batches_of_one_value_are_a_sentence(
    purpose: Purpose,
    stored: tuple[Path, SplitReport],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A single image with a single patch (K = 1): torch's own error would end the process in a traceback.

    What is to be changed is a field of the section that is trained by.
    """
    workspace, splits = stored
    monkeypatch.setattr(
        "tasks.adapters.training.process_main.serve", lambda *_: torch.nn.BatchNorm2d(2).train()(torch.zeros(1, 2, 1, 1))
    )
    asked = request(small_config(workspace), splits, run_dir=tmp_path, purpose=purpose)
    (tmp_path / "request.json").write_text(asked.model_dump_json())
    with pytest.raises(SystemExit) as ended:
        main(str(tmp_path / "request.json"))
    assert ended.value.code == TrainingError.exit_code
    said = capsys.readouterr().out
    assert "batch normalisation can tell no spread" in said and f"raise {purpose.value}.batch_exams" in said


def test_a_training_that_is_refused_leaves_no_folder(stored: tuple[Path, SplitReport], tmp_path: Path) -> None:
    """It would stand beside the runs, with nothing in it but what was asked.

    The error arrives from the process with its type.
    """
    workspace, splits = stored
    config = small_config(workspace)
    config = config.model_copy(update={"model": config.model.model_copy(update={"K": 40})})
    with pytest.raises(ConfigError):
        run(request(config, splits, run_dir=tmp_path / "runs" / "refused"))
    assert list((tmp_path / "runs").iterdir()) == []


_OTHER_ASKS: Final = "open(path + '.new', 'w').close(); os.replace(path + '.new', path)"
_OTHER_WAS_FIRST: Final = "os.unlink(path); os.rmdir(os.path.dirname(path))"


@pytest.mark.parametrize("other", [_OTHER_ASKS, _OTHER_WAS_FIRST])
def test_of_two_that_are_refused_in_one_folder_each_is_told_why(
    other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: tuple[Path, SplitReport]
) -> None:
    """Workers of a search measure in one folder: neither takes away what the other's has yet to read, or fails at it."""
    workspace, splits = stored
    asked = request(small_config(workspace), splits, run_dir=tmp_path / "measure")
    error = json.dumps({"kind": "error", "type": "ConfigError", "message": "it cannot be trained"})
    refused = f"import os, sys; path = sys.argv[1]; {other}; print({MARK + error!r})"
    monkeypatch.setattr(
        "tasks.adapters.training.process.python_command", lambda *said: [sys.executable, "-c", refused, said[-1]]
    )
    with pytest.raises(ConfigError, match="it cannot be trained"):
        run(asked)
    assert asked.run_dir.exists() == (other == _OTHER_ASKS)
