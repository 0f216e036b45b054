"""Checkpoints: what comes back is what was saved, bit for bit, or it is refused; a stop never costs the last good one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gmic_model.learning.exam_loader import Batch
from gmic_model.learning.learner import Learner, new_learner, random_state, set_random_state
from gmic_model.learning.steps import train_steps
from mammo_tests.batches import whole_steps
from mammo_tests.forking import forking
from schemas.config.network import GMICConfig, GMICVariant
from schemas.config.training import TrainConfig
from schemas.errors import CheckpointError
from tasks.adapters.models.checkpoints import (
    TRAINING,
    epoch_dir,
    flatten_training,
    latest_checkpoint,
    load_checkpoint,
    partial_dir,
    prune_checkpoints,
    restore_training,
    save_checkpoint,
    trained_weights,
)
from tasks.adapters.models.model_files import SIDECAR, WEIGHTS, sealed

REPOSITORY = Path(__file__).parents[4]
MODEL = GMICConfig(image_size=(64, 48), patch_size=(16, 16), K=2, local_dim=8, attention_dim=8)


def _tensors(seed: int, size: int = 50) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "layer.weight": torch.randn(size, 4, generator=generator),
        "layer.steps": torch.tensor(7),
        "empty": torch.zeros(0),
    }


def _save(folder: Path, seed: int, **about: Any) -> str:
    return save_checkpoint(folder, weights=_tensors(seed), training=_tensors(seed + 1), model=MODEL, about=about)


def _is_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def _flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


# ------------------------------------------------------------------------------------------------------------ round trip


def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    """Weights, training state, model config and everything said about it."""
    digest = _save(tmp_path / "epoch-0000", 1, epochs=[{"epoch": 0, "train_loss": 0.5}])
    loaded = load_checkpoint(tmp_path / "epoch-0000", with_training=True)
    assert _is_equal(loaded.weights, _tensors(1))
    assert _is_equal(loaded.training, _tensors(2))
    assert loaded.model_config == MODEL
    assert loaded.sidecar["epochs"] == [{"epoch": 0, "train_loss": 0.5}]
    assert loaded.sha256 == digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-0000"]


def test_training_state_is_read_only_when_asked_for(tmp_path: Path) -> None:
    """Prediction does not read twice the network's size for nothing, nor fail on it."""
    _save(tmp_path / "epoch-0000", 1)
    (tmp_path / "epoch-0000" / TRAINING).unlink()
    assert load_checkpoint(tmp_path / "epoch-0000").training == {}
    with pytest.raises(CheckpointError, match=r"training.safetensors cannot be read"):
        load_checkpoint(tmp_path / "epoch-0000", with_training=True)


def test_saving_again_under_the_same_name_replaces_it(tmp_path: Path) -> None:
    """An epoch that is trained again after damage takes the place of the damaged folder, and leaves nothing beside it."""
    _save(tmp_path / "epoch-0000", 1)
    _save(tmp_path / "epoch-0000", 5)
    assert _is_equal(load_checkpoint(tmp_path / "epoch-0000").weights, _tensors(5))
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-0000"]


@pytest.mark.parametrize("name", [WEIGHTS, TRAINING])
def test_one_altered_bit_is_refused_wherever_it_is(tmp_path: Path, name: str) -> None:
    """First, middle and last byte of either file; safetensors itself would load all but the first."""
    for place in (0, -1, 600):
        _save(tmp_path / "epoch-0000", 1)
        _flip(tmp_path / "epoch-0000" / name, place)
        with pytest.raises(CheckpointError, match=rf"{name} was altered or damaged\. Expected: sha256 .*Got: .*Remedy: "):
            load_checkpoint(tmp_path / "epoch-0000", with_training=True)


def test_a_changed_word_of_a_sidecar_is_refused(tmp_path: Path) -> None:
    """Other steps, another epoch's score: who reads the curve would believe it. A former release has no digest."""
    folder = tmp_path / "epoch-0000"
    _save(folder, 1, steps=41, epochs=[{"tuning_malignant_auroc": 0.75, "is_best": True}])
    said = (folder / SIDECAR).read_text()
    assert load_checkpoint(folder).sidecar["steps"] == 41
    for word, other in (('"steps": 41', '"steps": 42'), ("0.75", "0.85"), ("true", "false"), ('"epochs"', '"epocks"')):
        (folder / SIDECAR).write_text(said.replace(word, other))
        with pytest.raises(CheckpointError, match=r"checkpoint\.json was altered or damaged.*Remedy: restore it"):
            load_checkpoint(folder)
    former = json.loads(said)
    del former["content_sha256"]
    (folder / SIDECAR).write_text(json.dumps(former))
    assert load_checkpoint(folder).sidecar["steps"] == 41


@pytest.mark.parametrize("sidecar", ["", "[]", "{}", '{"sha256": []}', '{"sha256": {}}', None])
def test_a_sidecar_that_says_nothing_is_refused(tmp_path: Path, sidecar: str | None) -> None:
    """Empty, of another form or gone: a CheckpointError, never a KeyError."""
    folder = tmp_path / "epoch-0000"
    _save(folder, 1)
    (folder / SIDECAR).unlink()
    if sidecar is not None:
        (folder / SIDECAR).write_text(sidecar)
    with pytest.raises(CheckpointError):
        load_checkpoint(folder)


def test_a_network_this_version_does_not_know_is_refused(tmp_path: Path) -> None:
    """A model section with an unknown key names itself as that, not as a pydantic error."""
    folder = tmp_path / "epoch-0000"
    _save(folder, 1)
    sidecar = json.loads((folder / SIDECAR).read_text())
    sidecar["model"]["attention_heads"] = 3
    (folder / SIDECAR).write_bytes(sealed(sidecar))
    with pytest.raises(CheckpointError, match="describes no network of this version"):
        _ = load_checkpoint(folder).model_config


# --------------------------------------------------------------------------------------------------------- which is taken


def test_the_newest_checkpoint_that_verifies_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Epoch 2 has a flipped bit in its moments, epoch 1 was deleted half way: training goes on from epoch 0, and says why."""
    assert latest_checkpoint(tmp_path) is None
    for epoch in range(3):
        _save(tmp_path / f"epoch-{epoch:04d}", epoch)
    assert latest_checkpoint(tmp_path).folder.name == "epoch-0002"  # type: ignore[union-attr]
    _flip(tmp_path / "epoch-0002" / TRAINING, -1)
    assert latest_checkpoint(tmp_path).folder.name == "epoch-0001"  # type: ignore[union-attr]
    (tmp_path / "epoch-0001" / SIDECAR).unlink()
    taken = latest_checkpoint(tmp_path)
    assert taken is not None
    assert taken.folder.name == "epoch-0000"
    assert _is_equal(taken.training, _tensors(1))
    assert "epoch-0002" in caplog.text
    assert "epoch-0001" in caplog.text


def test_pruning_keeps_the_last_ones_and_the_best(tmp_path: Path) -> None:
    """Of six, the last two and epoch 1 stay; what a killed writer left goes."""
    for epoch in range(6):
        _save(tmp_path / f"epoch-{epoch:04d}", epoch)
    (tmp_path / ".epoch-0006.123.part").mkdir()
    prune_checkpoints(tmp_path, keep_last=2, keep_also={tmp_path / "epoch-0001"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-0001", "epoch-0004", "epoch-0005"]
    prune_checkpoints(tmp_path, keep_last=3, keep_also={tmp_path / "epoch-0005"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-0001", "epoch-0004", "epoch-0005"]


# ---------------------------------------------------------------------------------------------------------------- resume


def _batch(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        torch.randn(2, 1, 64, 48, generator=generator),
        torch.randint(0, 2, (2, 2), generator=generator),
        torch.tensor([0, 1]),
    )


CONFIG = TrainConfig(learning_rate=1e-3, device="cpu")
CPU = torch.device("cpu")


def _train(learner: Learner, steps: range) -> None:
    for _ in train_steps(learner, whole_steps(_batch(step) for step in steps), CONFIG):
        pass


def _fresh(seed: int) -> Learner:
    # Random patches draw from the global generator in every step: its state must come back too.
    return new_learner(MODEL.model_copy(update={"variant": GMICVariant.RANDOM}), CONFIG.model_copy(update={"seed": seed}))


def _state(learner: Learner) -> dict[str, Tensor]:
    return flatten_training(learner.optimizer, [random_state(CPU)])


def test_a_resumed_training_gives_the_bits_of_an_unbroken_one(tmp_path: Path) -> None:
    """Two steps, saved, loaded into another network, two more steps: every weight and moment equals four steps at once."""
    learner = _fresh(0)
    _train(learner, range(4))
    unbroken = {name: tensor.clone() for name, tensor in learner.network.state_dict().items()}
    moments = {name: tensor.clone() for name, tensor in _state(learner).items()}

    learner = _fresh(0)
    _train(learner, range(2))
    weights = learner.network.state_dict()
    save_checkpoint(tmp_path / "epoch-0000", weights=weights, training=_state(learner), model=MODEL, about={})

    learner = _fresh(99)
    checkpoint = load_checkpoint(tmp_path / "epoch-0000", with_training=True)
    learner.network.load_state_dict(trained_weights(checkpoint))
    set_random_state(restore_training(learner.optimizer, checkpoint.training), CPU)
    _train(learner, range(2, 4))
    resumed = learner.network.state_dict()
    assert [name for name in unbroken if not torch.equal(unbroken[name], resumed[name])] == []
    assert _is_equal(_state(learner), moments)


def test_a_partial_epoch_is_newer_than_the_epoch_before_it(tmp_path: Path) -> None:
    """Epoch 0 < 120 steps of epoch 1 < epoch 1, whatever the names sort like; the end of an epoch deletes its part."""
    for seed, folder in enumerate((epoch_dir(tmp_path, 0), partial_dir(tmp_path, 1, 20), partial_dir(tmp_path, 1, 120))):
        _save(folder, seed)
    latest = latest_checkpoint(tmp_path)
    assert latest is not None and latest.folder.name == "partial-0001-000120"
    _save(epoch_dir(tmp_path, 1), 7)
    latest = latest_checkpoint(tmp_path)
    assert latest is not None and latest.folder.name == "epoch-0001"
    prune_checkpoints(tmp_path, keep_last=2, keep_also=())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-0000", "epoch-0001"]


def test_weights_alone_do_not_continue_a_training() -> None:
    """A checkpoint without moments is refused with words, not a KeyError."""
    with pytest.raises(CheckpointError, match=r"Got: weights only"):
        restore_training(torch.optim.Adam([torch.zeros(1, requires_grad=True)]), {})


# ---------------------------------------------------------------------------------------------------------------- faults


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("too_large", ["tensors", "sidecar"])
def test_a_full_disk_leaves_the_previous_checkpoint(small_disk: Path, too_large: str) -> None:
    """The next one does not fit: an error with the remedy, the one before loads, nothing half-written is left."""
    run_dir = small_disk / "run"
    _save(run_dir / "epoch-0000", 1)
    weights = _tensors(5, 200_000 if too_large == "tensors" else 50)  # times 16 bytes: 3.2 MB
    about = {"more": "x" * 3_000_000} if too_large == "sidecar" else {}
    with pytest.raises(CheckpointError, match=r"(No space left|StorageFull).*Remedy: make room"):
        save_checkpoint(run_dir / "epoch-0001", weights=weights, training=_tensors(6), model=MODEL, about=about)
    taken = latest_checkpoint(run_dir)
    assert taken is not None
    assert _is_equal(taken.weights, _tensors(1))
    assert [path.name for path in run_dir.iterdir()] == ["epoch-0000"]


# A run's argument: the folder to save in.
_SAVER = """
sys.path[:0] = [sys.argv[1]]
from pathlib import Path
import torch
from schemas.config.run import GMICConfig
from tasks.adapters.models.checkpoints import prune_checkpoints, save_checkpoint
def run(run_dir):
    for epoch in range(10_000):
        tensors = {"weight": torch.full((200_000,), float(epoch))}
        folder = Path(run_dir) / f"epoch-{epoch:04d}"
        save_checkpoint(folder, weights=tensors, training=tensors, model=GMICConfig(), about={"epoch": epoch})
        print(epoch, flush=True)
        prune_checkpoints(Path(run_dir), keep_last=2, keep_also={folder})
"""


def test_a_line_that_a_killed_run_had_not_finished_is_not_said() -> None:
    """As ``print`` leaves one where PYTHONUNBUFFERED is set: the test below reads what was reported, to the last line."""
    with forking("def run(_):\n    os.write(1, b'5\\n6')\n    os.kill(os.getpid(), 9)") as killed:
        killed.begin("")
        assert list(killed.lines()) == ["5"] and killed.exit_code == -signal.SIGKILL


def test_kill_at_any_moment_leaves_a_checkpoint_that_was_reported(tmp_path: Path) -> None:
    """SIGKILL at three random moments of saving and pruning: what loads is whole and not older than the last one reported."""
    moments = np.random.default_rng(5)
    with forking(_SAVER, str(REPOSITORY)) as saver:
        for kill in range(3):
            run_dir = tmp_path / str(kill)
            pid = saver.begin(run_dir)
            said = saver.lines()
            assert str(2 + kill) in said  # reads so far
            time.sleep(float(moments.uniform(0.0, 0.05)))
            os.kill(pid, signal.SIGKILL)
            reported = [int(line) for line in said]
            taken = latest_checkpoint(run_dir)
            assert taken is not None and saver.exit_code == -signal.SIGKILL
            assert taken.sidecar["epoch"] >= max([2 + kill, *reported])
            assert (taken.weights["weight"] == taken.sidecar["epoch"]).all()
            assert (taken.training["weight"] == taken.sidecar["epoch"]).all()
            shutil.rmtree(run_dir)
