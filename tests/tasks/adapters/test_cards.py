"""A card that is there and not used is told."""

from __future__ import annotations

from pathlib import Path

import torch

from schemas.config.training import TrainConfig
from tasks.adapters.cards import unused_card


def test_a_card_beside_a_cpu_that_computes_is_told(tmp_path: Path) -> None:
    """``auto`` on the CPU of a machine with a driver: a sentence; not where the CPU was asked for, or there is no card."""
    driver, cpu = tmp_path / "version", torch.device("cpu")
    assert unused_card(TrainConfig(), cpu, [driver]) == ""
    driver.touch()
    assert "computes on the CPU, though this machine has a graphics card" in unused_card(TrainConfig(), cpu, [driver])
    assert unused_card(TrainConfig(device="cpu"), cpu, [driver]) == ""
    assert unused_card(TrainConfig(), torch.device("cuda", 0), [driver]) == ""
