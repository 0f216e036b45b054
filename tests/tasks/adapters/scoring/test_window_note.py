"""A prediction says when its images are of another size than those that the network was trained on."""

from __future__ import annotations

from pathlib import Path

import pytest

from gmic_model.networks.registry import build_network
from schemas.config.network import GMICConfig
from tasks.adapters.models.whole_models import WholeModel
from tasks.adapters.scoring.prediction import window_note


@pytest.mark.parametrize(("window_px", "said"), [((64, 48), ""), ((128, 96), "128 x 96 pixels")])
def test_another_window_is_said(window_px: tuple[int, int], said: str) -> None:
    """A network takes images of any size; locked thresholds and measures are of the size that it learnt."""
    network = build_network(GMICConfig(image_size=(64, 48), patch_size=(16, 16), K=2))
    model = WholeModel(folder=Path("epoch-0001"), sha256="0" * 64, network=network, networks=1, terms=())
    note = window_note(model, window_px)
    assert note == "" if not said else said in note and "64 x 48" in note
