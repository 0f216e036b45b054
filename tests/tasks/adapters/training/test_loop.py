"""The loop of epochs: it goes on where the newest checkpoint is, of this very training, and keeps the last good one."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from gmic_model.learning.processes import ALONE
from mammo_tests.training_store import EVERY_OPTION, curve, divided, request, small_config, with_baseline
from schemas.config.network import GMICVariant
from schemas.config.run import RunConfig
from schemas.errors import CheckpointError, TrainingError
from schemas.exam import Split
from schemas.reports.data import SplitReport
from schemas.reports.training import EnsembleMember
from tasks.adapters.models.checkpoints import latest_checkpoint, load_checkpoint
from tasks.adapters.models.image_reference import kept_reference
from tasks.adapters.models.model_files import SIDECAR, kept_terms, members_of, sealed
from tasks.adapters.models.seen_patients import SeenBy, read_seen_patients
from tasks.adapters.models.start_files import open_start
from tasks.adapters.store.manifest import read_splits
from tasks.adapters.store.store_settings import mark_terms
from tasks.adapters.training.process_main import serve
from tasks.adapters.training.request import Purpose, said_in, started_weights, training_request
from tasks.adapters.workspace import Workspace

ROOT = Path(__file__).parents[4]
TERMS = "The terms of EMBED forbid passing on data and weights made of this set."


# A process that has imported everything and forks a training, then another that it kills again and again: neither the two nor
# the kills cost an import each. argv: repository, the request of each, kills.
_KILLER = """
import os, random, signal, sys, time
sys.path[:0] = [sys.argv[1]]
from tasks.adapters.interpreter import imported_at_once
with imported_at_once():
    from tasks.adapters.training.process_main import main
def begun(request):
    pid = os.fork()
    if pid == 0:
        main(request)
        os._exit(0)
    return pid
started = time.monotonic()
if os.waitpid(begun(sys.argv[2]), 0)[1]:
    sys.exit(1)
seconds = (time.monotonic() - started) / 5
chance = random.Random(5)
for kill in range(int(sys.argv[4])):
    pid = begun(sys.argv[3])
    time.sleep(chance.uniform(0.2, 1.0) * seconds)
    if os.waitpid(pid, os.WNOHANG) == (0, 0):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
sys.exit(os.waitpid(begun(sys.argv[3]), 0)[1] != 0)
"""


@pytest.fixture(scope="module")
def trained(stored: tuple[Path, SplitReport], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training of one epoch."""
    workspace, splits = stored
    run_dir = tmp_path_factory.mktemp("trained") / "run"
    serve(request(with_baseline(small_config(workspace, epochs=1)), splits, run_dir=run_dir), ALONE)
    return run_dir


@pytest.mark.parametrize("kills", [2, pytest.param(12, marks=pytest.mark.long)])
def test_kills_at_random_moments_do_not_change_the_curve(few: tuple[Path, SplitReport], tmp_path: Path, kills: int) -> None:
    """Killed without warning again and again, within steps, evaluation and writing: losses and weights are the same bits.

    Weights are averaged and the rate rises, so both sets of weights and the position must come back; every option of the recipe
    is on. The ResNet-22 has no random patches: ``test_checkpoints`` shows that the random state comes back.
    """
    workspace, splits = few
    config = small_config(
        workspace, epochs=4, checkpoint_steps=1, ema_decay=0.9, warmup_steps=3, keep_checkpoints=1, **EVERY_OPTION
    )
    config = with_baseline(config)
    asked_of = {name: request(config, splits, run_dir=tmp_path / name) for name in ("unbroken", "killed")}
    paths = [tmp_path / f"{name}.json" for name in asked_of]
    for path, asked in zip(paths, asked_of.values(), strict=True):
        asked.run_dir.mkdir()
        path.write_text(asked.model_dump_json())
    command = [sys.executable, "-c", _KILLER, str(ROOT), *map(str, paths), str(kills)]
    subprocess.run(command, check=True, cwd=ROOT, timeout=600)
    outcomes = []
    for asked in asked_of.values():
        checkpoint = latest_checkpoint(asked.run_dir)
        assert checkpoint is not None and checkpoint.folder.name == "epoch-0003"
        outcomes.append((curve(asked.run_dir), checkpoint.sidecar["sha256"]))
        assert not [path.name for path in asked.run_dir.iterdir() if path.name.startswith((".", "partial"))]
    assert len(outcomes[0][0]) == 4
    assert outcomes[0] == outcomes[1]


def test_the_recipe_for_small_cohorts_trains(few: tuple[Path, SplitReport], tmp_path: Path) -> None:
    """Every option that small-cohort.yaml turns on goes together; a training whose last epoch was no better one is over.

    The first mean of as many epochs as choose is the best so far, whatever was before it.
    """
    workspace, splits = few
    train = yaml.safe_load((ROOT / "deployments" / "configs" / "small-cohort.yaml").read_text("utf-8"))["train"]
    train["recipe"] = {**train["recipe"], "stop_after_epochs": 1, "remeasured_exams": 2, "best_of_epochs": 2}
    config = with_baseline(small_config(workspace, **{**train, "epochs": 3, "keep_checkpoints": 3}))
    asked = request(config, splits, run_dir=tmp_path / "run")
    serve(asked, ALONE)
    assert [epoch["is_best"] for epoch in curve(asked.run_dir)][:2] == [True, True] and len(curve(asked.run_dir)) == 3
    shutil.rmtree(asked.run_dir / "epoch-0002")
    sidecar = asked.run_dir / "epoch-0001" / SIDECAR
    sidecar.write_bytes(sealed(json.loads(sidecar.read_text().replace('"is_best": true', '"is_best": false'))))
    serve(asked, ALONE)
    assert [epoch["is_best"] for epoch in curve(asked.run_dir)] == [False, False]


def test_a_long_training_says_first_what_it_will_take_and_learns_the_same(
    few: tuple[Path, SplitReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps that are measured move nothing, and of patches that are drawn at random the same are drawn after them.

    A short training, or one that goes on, measures none.
    """
    workspace, splits = few
    said: list[Mapping[str, Any]] = []

    def stop_at_the_last(message: Mapping[str, Any]) -> None:
        said.append(message)
        if message["kind"] == kinds[-1]:
            raise KeyboardInterrupt

    monkeypatch.setattr("tasks.adapters.training.process_main.say", stop_at_the_last)
    for epochs, kinds in ((2, ["start", "epoch"]), (50, ["measured", "start", "epoch"]), (50, ["start"])):
        said.clear()
        fit = {**EVERY_OPTION, "recipe": {**EVERY_OPTION["recipe"], "schedule": "constant"}}
        config = small_config(workspace, epochs=epochs, **fit)
        config = config.model_copy(update={"model": config.model.model_copy(update={"variant": GMICVariant.RANDOM})})
        asked = request(config, splits, run_dir=tmp_path / str(epochs), is_measured_first=True)
        with pytest.raises(KeyboardInterrupt):
            serve(asked, ALONE)
        assert [message["kind"] for message in said if message["kind"] != "step"] == kinds
    short, long = (load_checkpoint(tmp_path / epochs / "epoch-0000") for epochs in ("2", "50"))
    assert short.sha256 == long.sha256
    assert said[-1]["epochs_done"] == 1


def test_statistics_that_nothing_was_begun_with_are_told_of(
    few: tuple[Path, SplitReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network from random weights has no running statistics to keep; one that begins with a file's has."""
    workspace, splits = few
    said: list[str] = []
    monkeypatch.setattr("tasks.adapters.training.process_main.say", lambda message: said.append(str(message)))
    fit: dict[str, Any] = {"epochs": 1, "recipe": {"batch_norm": "running"}}
    fresh = request(with_baseline(small_config(workspace, **fit)), splits, run_dir=tmp_path / "fresh")
    serve(fresh, ALONE)
    begun = with_baseline(small_config(workspace, **fit, start={"network": fresh.run_dir / "epoch-0000"}))
    told = len([text for text in said if "this one begins from random weights" in text])
    serve(request(begun, splits, run_dir=tmp_path / "begun"), ALONE)
    assert told == len([text for text in said if "this one begins from random weights" in text]) == 1


def test_what_will_come_out_at_the_end_is_told_at_the_beginning(
    stored: tuple[Path, SplitReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights to begin with that have seen who is to judge, and a tuning split of one class; of neither where all is well."""
    workspace, splits = stored
    said: list[str] = []
    monkeypatch.setattr("tasks.adapters.training.process_main.say", lambda message: said.append(str(message)))
    first = request(with_baseline(small_config(workspace, epochs=1)), splits, run_dir=tmp_path / "first")
    serve(first, ALONE)
    assert not [text for text in said if "warning" in text]
    # Of these, 7 tuned the first, the others trained it; none of 4 and 5 is malignant.
    split_of = {1: Split.TEST, 2: Split.TEST, 4: Split.TUNING, 5: Split.TUNING, 7: Split.TEST}
    parts = [split_of.get(patient, Split.TRAIN) for patient in range(12)]
    other = divided(tmp_path / "split" / "splits.parquet", parts, splits.data_version)
    begun = with_baseline(small_config(workspace, epochs=1, start={"network": first.run_dir / "epoch-0000"}))
    serve(request(begun, other, run_dir=tmp_path / "begun"), ALONE)
    seen, nothing = (text for text in said if "warning" in text)
    assert "epoch-0000 has seen 3 of 3 test patients and 2 of 2 tuning patients" in seen
    assert "Nothing in the tuning split can choose an epoch" in nothing and "The last epoch will be kept" in nothing


def test_a_diverging_loss_names_its_rows_and_keeps_the_last_good_checkpoint(
    stored: tuple[Path, SplitReport], trained: Path, tmp_path: Path
) -> None:
    """One good epoch; then the optimiser's moments are made infinite: exit with the store rows, epoch 0 is untouched."""
    workspace, splits = stored
    run_dir = shutil.copytree(trained, tmp_path / "run")
    kept = {path: path.read_bytes() for path in (run_dir / "epoch-0000").iterdir()}
    config = with_baseline(small_config(workspace, epochs=1, learning_rate=1e30))
    with pytest.raises(TrainingError, match=r"is not a finite number.*on store rows \[\d+, .*last good checkpoint is kept"):
        serve(request(config, splits, run_dir=tmp_path / "other"), ALONE)
    assert {path: path.read_bytes() for path in (run_dir / "epoch-0000").iterdir()} == kept
    assert not list((tmp_path / "other").glob("epoch-*"))


def test_a_checkpoint_of_another_config_is_refused_and_left_alone(
    stored: tuple[Path, SplitReport], trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another learning rate does not continue the run; the folder keeps its bytes. More loader threads do continue it."""
    workspace, splits = stored
    run_dir = shutil.copytree(trained, tmp_path / "run")
    before = {path: path.read_bytes() for path in (run_dir / "epoch-0000").iterdir()}
    with pytest.raises(CheckpointError, match=r"is a checkpoint of another training.*--force train; nothing was changed"):
        serve(request(with_baseline(small_config(workspace, epochs=1, learning_rate=2e-3)), splits, run_dir=run_dir), ALONE)
    assert {path: path.read_bytes() for path in (run_dir / "epoch-0000").iterdir()} == before
    capsys.readouterr()
    serve(request(with_baseline(small_config(workspace, epochs=1, keep_checkpoints=3)), splits, run_dir=run_dir), ALONE)
    (said,) = map(said_in, capsys.readouterr().out.splitlines())
    assert said is not None and said["kind"] == "start" and said["epochs_done"] == 1


def test_a_full_disk_stops_training_with_the_last_checkpoint_whole(stored: tuple[Path, SplitReport], tmp_path: Path) -> None:
    """A file system with room for one checkpoint: the second epoch cannot be kept; the first still verifies."""
    workspace, splits = stored
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        asked = request(with_baseline(small_config(workspace, epochs=3)), splits, run_dir=small / "run")
        with pytest.raises(CheckpointError, match=r"cannot be written.*room for \d+ MiB.*Remedy: make room"):
            serve(asked, ALONE)
        assert len(curve(asked.run_dir)) == 1
        assert not [path.name for path in asked.run_dir.iterdir() if path.name.startswith(".")]
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_pretraining_hands_its_network_to_training(few: tuple[Path, SplitReport], tmp_path: Path) -> None:
    """BI-RADS categories are learnt; training that begins with those weights has another first epoch than without them.

    It is the same training whether the run's own pre-training hands them on or the config names their folder.
    """
    workspace, splits = few
    content = with_baseline(small_config(workspace, epochs=1)).model_dump()
    train = {name: content["train"][name] for name in ("batch_exams", "num_threads", "device", "tracking")}
    config = type(small_config(workspace)).model_validate({**content, "pretrain": {"epochs": 2, **train}})
    pretraining = request(config, splits, purpose=Purpose.PRETRAIN, run_dir=tmp_path / "pretrain")
    serve(pretraining, ALONE)
    epochs = curve(pretraining.run_dir)
    assert [epoch["epoch"] for epoch in epochs] == [0, 1] and epochs[1]["tuning_loss"] is not None
    assert epochs[0]["train_loss"] == pytest.approx(1.0986, abs=0.2)  # ln 3: three groups, a head that knows nothing
    for name, pretrained in (("fresh", None), ("pretrained", pretraining.run_dir / "epoch-0001")):
        serve(request(config, splits, run_dir=tmp_path / name, pretrained=pretrained), ALONE)
    named = with_baseline(small_config(workspace, epochs=1, start={"localization": pretraining.run_dir / "epoch-0001"}))
    serve(training_request(named, splits, None, tmp_path / "named"), ALONE)
    losses = {name: curve(tmp_path / name)[0]["train_loss"] for name in ("fresh", "pretrained", "named")}
    assert losses["fresh"] != losses["pretrained"] == losses["named"]
    begun = {name: started_weights(tmp_path / name) for name in losses}
    assert begun["fresh"] is None
    for name in ("pretrained", "named"):
        said = begun[name]
        assert said is not None and "of who has learnt nothing" in str(said.parts[0].judged)
    with pytest.raises(CheckpointError, match="not trained on findings"):
        members_of([pretraining.run_dir / "epoch-0001"])
    split_of = read_splits(splits.splits_path).groupby("split")["patient_id"].agg(frozenset)
    for name in ("fresh", "pretrained"):
        last = max((tmp_path / name).glob("epoch-*"))
        seen = SeenBy.of([EnsembleMember(path=last, sha256="")], "key", {})
        everybody = split_of["train"] | split_of["tuning"]
        assert seen.in_training(everybody) == split_of["train"] and seen.at_all(everybody) == everybody


@pytest.mark.parametrize("target", ["hidden", "density"])
def test_pretraining_on_other_targets_goes_on_and_is_judged(
    stored: tuple[Path, SplitReport], tmp_path: Path, target: str
) -> None:
    """Stopped after its first epoch it ends in the same weights; each epoch stands beside who learnt nothing."""
    workspace, splits = stored
    content = small_config(workspace).model_dump()
    fit = {name: content["train"][name] for name in ("batch_exams", "num_threads", "device", "tracking", "learning_rate")}
    augment = {"rotation_deg": 10, "noise": 0.1, "drop_views": 0.2}
    pretrain = {"epochs": 2, "target": target, "augment": augment, "recipe": {"batch_norm": "remeasured"}, **fit}
    config = RunConfig.model_validate({**content, "pretrain": pretrain})
    digests = []
    for name in ("unbroken", "stopped"):
        asked = request(config, splits, purpose=Purpose.PRETRAIN, run_dir=tmp_path / name)
        if name == "stopped":
            shutil.copytree(tmp_path / "unbroken", asked.run_dir, ignore=shutil.ignore_patterns("epoch-0001"))
        serve(asked, ALONE)
        digests.append((load_checkpoint(asked.run_dir / "epoch-0001").sha256, curve(asked.run_dir)))
    assert digests[0] == digests[1]
    last = digests[0][1][-1]
    assert last["tuning_loss"] > 0 and last["baseline_loss"] > 0
    if target == "hidden":
        assert last["tuning_accuracy"] is last["baseline_accuracy"] is last["tuning_auroc"] is None
    else:  # of the tuning exams 3, 7 and 11 have a density, each one of its own, and nobody has the fourth
        assert (last["baseline_accuracy"], last["baseline_loss"]) == pytest.approx((1 / 3, math.log(3)))
        assert 0.0 <= last["tuning_auroc"] <= 1.0
    opened = open_start(tmp_path / "stopped" / "epoch-0001")
    assert opened.weights and all(name.startswith("localization.backbone.") for name in opened.weights)


def test_training_begins_with_files_and_says_what_of_them(few: tuple[Path, SplitReport], tmp_path: Path) -> None:
    """A checkpoint begins another training, as the page on fine-tuning says: frozen parts are its, the rest moves.

    The new checkpoint lists what was taken with the file's digest, and knows whom both have seen. Images of another spacing are
    refused with the remedy. What the terms of the first one's data forbid, the second carries too, from a store without terms.
    """
    workspace, splits = few
    marked = small_config(shutil.copytree(workspace, tmp_path / "marked"), epochs=1)
    mark_terms(Workspace(marked.workspace_dir).store, TERMS)
    first = request(marked, splits, run_dir=tmp_path / "first")
    serve(first, ALONE)
    begun_with = first.run_dir / "epoch-0000"
    page = (ROOT / "docs" / "how-to" / "fine-tune-on-a-new-site.md").read_text("utf-8")
    train = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])["train"]
    recipe = yaml.safe_load((ROOT / "deployments" / "configs" / "small-cohort.yaml").read_text("utf-8"))["train"]
    assert {name: value for name, value in train.items() if name not in {"start", "parts"}} == recipe  # as the page says
    start = dict.fromkeys((*train.pop("start"), "patches"), begun_with)
    config = small_config(workspace, **{**train, "epochs": 1, "start": start})
    asked = request(config, splits, run_dir=tmp_path / "second")
    serve(asked, ALONE)
    before, after = load_checkpoint(begun_with), load_checkpoint(asked.run_dir / "epoch-0000")
    assert kept_terms(before.sidecar) == kept_terms(after.sidecar) == (TERMS,)
    images = kept_reference(after.sidecar)
    assert images is not None and images.images == splits.counts["train"].images
    for name, value in before.weights.items():
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            is_frozen = name.startswith(("localization.backbone.", "mil.patch_network."))
            assert torch.equal(after.weights[name], value) is is_frozen, name
    started = started_weights(asked.run_dir)
    assert started is not None and started.fresh == ()
    assert [(part.part, part.source, part.sha256, len(part.taken), len(part.left)) for part in started.parts] == [
        ("network", "epoch-0000", before.sha256, len(before.weights), 0),
        ("patches", "epoch-0000", before.sha256, 120, len(before.weights) - 120),
    ]
    assert read_seen_patients(asked.run_dir / "epoch-0000") == read_seen_patients(begun_with)
    assert started_weights(first.run_dir) is None
    sidecar = json.loads((begun_with / SIDECAR).read_text())
    sidecar["provenance"]["preprocess_version"] = "robust-2+0.1mm"
    (begun_with / SIDECAR).write_bytes(sealed(sidecar))
    with pytest.raises(
        CheckpointError, match=r"epoch-0000 was trained on images of another preprocessing.*0\.1mm.*Remedy: leave"
    ):
        serve(request(config, splits, run_dir=tmp_path / "third"), ALONE)
    assert not list((tmp_path / "third").glob("epoch-*"))
