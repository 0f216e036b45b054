"""``mammo weights``: the commands of the page on weights to begin with, as it prints them."""

from __future__ import annotations

import hashlib
import re
import shlex
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from deployments.cli import app
from gmic_model.backbones.resnet import ResNet18
from gmic_model.model import GMIC
from gmic_model.weights import torchvision_name
from mammo_tests.training_store import small_config
from schemas.config.recipe import StartConfig
from schemas.errors import CheckpointError
from schemas.reports.training import EnsembleMember
from tasks.adapters.models.checkpoints import load_checkpoint, save_checkpoint
from tasks.adapters.models.model_files import write_ensemble
from tasks.adapters.models.start_files import open_start, require_start

SMALL = small_config(Path("nowhere")).model
PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "begin-with-other-weights.md"


def test_the_page_s_commands_show_import_and_verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ResNet-18 under torchvision's names: shown, made ours, verified; what cannot be evaluated says so.

    Whoever imports and whoever verifies say alike that ImageNet's pictures are of no patient.
    """
    monkeypatch.chdir(tmp_path)
    state = {torchvision_name(name): value for name, value in ResNet18().state_dict().items()}
    state |= {"conv1.weight": state["conv1.weight"].repeat(1, 3, 1, 1), "fc.weight": torch.zeros(1000, 512)}
    torch.save(state | {"fc.bias": torch.zeros(1000)}, "resnet18.pth")
    digest = hashlib.sha256(Path("resnet18.pth").read_bytes()).hexdigest()
    commands = re.findall(r"^mammo (weights .*)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert [command.split()[1] for command in commands] == ["show", "import", "verify"]
    said = []
    for command in commands:
        ran = CliRunner().invoke(app, shlex.split(command.replace("resnet18-f37072fd.pth", "resnet18.pth")))
        assert ran.exit_code == 0, ran.output
        said.append(ran.output)
    assert f"resnet18.pth: torchvision's ResNet-18, sha256 {digest}" in said[0]
    assert f"Imported from resnet18.pth, sha256 {digest}" in said[1]
    assert "intact" in said[2] and "weights without a network" in said[2]
    assert "Patients it has seen: no patient" in said[1] and said[2].rstrip().endswith("has seen no patient")


def test_of_an_ensemble_each_network_is_shown_and_verified(tmp_path: Path) -> None:
    """By its file or the folder that it lies in; it begins no training, and a network that was changed since is found."""
    members = []
    for seed in range(2):
        torch.manual_seed(seed)
        folder = tmp_path / f"fold-{seed}" / "epoch-0001"
        save_checkpoint(folder, weights=GMIC(SMALL).state_dict(), training={}, model=SMALL, about={})
        members.append(EnsembleMember(path=folder, sha256=load_checkpoint(folder).sha256))
    write_ensemble(tmp_path / "ensemble.json", members)
    for verb, of_each in (("show", "It can begin: network"), ("verify", ": intact, sha256 ")):
        for path in (tmp_path / "ensemble.json", tmp_path):
            ran = CliRunner().invoke(app, ["weights", verb, str(path)])
            assert ran.exit_code == 0 and "an ensemble of 2" in ran.output and ran.output.count(of_each) == 2, ran.output
    start = StartConfig(network=tmp_path / "ensemble.json")
    for refused in (lambda: require_start(start), lambda: open_start(tmp_path)):
        with pytest.raises(CheckpointError, match=r"names the networks of an ensemble.*fold-0/epoch-0001, .*fold-1/epoch-0001"):
            refused()
    write_ensemble(tmp_path / "ensemble.json", [members[0], members[1].model_copy(update={"sha256": "0" * 64})])
    ran = CliRunner().invoke(app, ["weights", "verify", str(tmp_path / "ensemble.json")])
    assert isinstance(ran.exception, CheckpointError) and "other weights than were reported" in str(ran.exception)
