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
from gmic_model.weights import torchvision_name

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "begin-with-other-weights.md"


def test_the_page_s_commands_show_import_and_verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ResNet-18 under torchvision's names: shown, made ours, verified; what cannot be evaluated says so."""
    monkeypatch.chdir(tmp_path)
    state = {torchvision_name(name): value for name, value in ResNet18().state_dict().items()}
    torch.save({**state, "conv1.weight": state["conv1.weight"].repeat(1, 3, 1, 1)}, "resnet18.pth")
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
