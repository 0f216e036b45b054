"""Model files of before there were kinds of networks."""

from __future__ import annotations

import json
import lzma
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from schemas.config.ingest import PreprocessConfig
from schemas.config.network import GMICConfig, GMICVariant, NetworkConfig, ResNet22Config
from schemas.errors import CheckpointError
from schemas.reports.training import EnsembleMember
from tasks.adapters.models.checkpoints import Checkpoint, load_checkpoint
from tasks.adapters.models.networks import load_member, require_preprocessing
from tasks.adapters.provenance import config_preprocessing

KEPT = Path(__file__).parents[3] / "golden" / "before_networks"
SIZE = (192, 128)


def test_weights_and_images_agree_on_what_is_done_with_large_breasts(tmp_path: Path) -> None:
    """Weights that were trained on breasts shrunk to the window are refused where they are cut, and the other way round."""
    sidecar = {"provenance": {"preprocess_version": "robust-1"}, "preprocess": {"oversize": "shrink"}}
    shrunk = Checkpoint(folder=tmp_path, weights={}, training={}, sidecar=sidecar)
    require_preprocessing(shrunk, "robust-1+shrink")
    with pytest.raises(CheckpointError, match="another preprocessing"):
        require_preprocessing(shrunk, "robust-1")
    former = replace(shrunk, sidecar={"provenance": {"preprocess_version": "robust-1"}})
    require_preprocessing(former, "robust-1")
    settings = PreprocessConfig(oversize="shrink", pixel_spacing_mm=0.1)
    assert f"{config_preprocessing(settings)}{settings.fitting}" == "robust-1+0.1mm+shrink"


@pytest.mark.parametrize(
    ("name", "config"),
    [
        (
            "gmic-loc",
            GMICConfig(variant=GMICVariant.LOC, image_size=SIZE, patch_size=64, K=2, local_dim=8, attention_dim=8, top_t=0.1),
        ),
        ("resnet-22", ResNet22Config(kind="resnet-22", image_size=SIZE)),
    ],
)
def test_a_checkpoint_of_before_says_the_same(name: str, config: NetworkConfig, tmp_path: Path) -> None:
    """Its config, weights and prediction of one image: those that commit 3a2551d wrote (tests/golden/before_networks)."""
    shutil.copyfile(KEPT / name / "checkpoint.json", tmp_path / "checkpoint.json")
    packed = (KEPT / name / "weights.safetensors.xz").read_bytes()
    (tmp_path / "weights.safetensors").write_bytes(lzma.decompress(packed))
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.model_config == config
    network = load_member(EnsembleMember(path=tmp_path, sha256=checkpoint.sha256), window_px=SIZE).eval()
    rows, columns = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")
    image_N1HW = (torch.sin(rows * 0.31) * torch.cos(columns * 0.17))[None, None].float()
    with torch.inference_mode():
        output = network(image_N1HW)
    kept = json.loads((KEPT / name / "output.json").read_text())
    for field, values in kept.items():
        torch.testing.assert_close(getattr(output, field), torch.tensor(values), rtol=1e-4, atol=1e-5)
