"""A graphics card that is there and is not used: told, for a training on the CPU takes a hundred times as long."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gmic_model.devices import Device, torch_in_words
from schemas.config.training import FitConfig

SIGNS: Final = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidia0"))
"""What a machine with a card and its driver has."""


def unused_card(config: FitConfig, device: Device, signs: Sequence[Path] = SIGNS) -> str:
    """A sentence where ``device: auto`` fell back to the CPU beside a card; empty elsewhere."""
    if device.type != "cpu" or config.device != "auto" or not any(sign.exists() for sign in signs):
        return ""
    return (
        f"The network computes on the CPU, though this machine has a graphics card: {torch_in_words()} "
        "sees none. Install a torch that fits its driver (`nvidia-smi` names it); train.device: cpu says that it is meant so"
    )
