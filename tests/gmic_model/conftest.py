"""The released network's weights by recipe, and its recorded numbers. See tests/golden/parity/README.md."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

PARITY_DIR = Path(__file__).parents[1] / "golden" / "parity"

GAINS = {
    "left_postprocess_net.gn_conv_last.weight": -0.35,
    "mil_attn_V.weight": 0.3,
    "mil_attn_U.weight": 0.3,
    "mil_attn_w.weight": 4.0,
    "classifier_linear.weight": 0.4,
    "fusion_dnn.weight": 0.1,
}


def tensor_by_recipe(key: str, shape: list[int]) -> torch.Tensor:
    """A tensor of the released network that follows from its name."""
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    normal = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    if key.endswith("running_mean") or key.endswith(".bias"):
        values = 0.1 * normal
    elif key.endswith("running_var"):
        values = 1 + 0.2 * np.abs(normal)
    elif normal.ndim == 1:
        values = 1 + 0.1 * normal
    else:
        gain = GAINS.get(key, 0.5 if key.endswith("conv2.weight") else 1.0)
        values = normal * gain * np.sqrt(2 / np.prod(shape[1:]))
    return torch.from_numpy(values.astype(np.float32))


@pytest.fixture(scope="session")
def parity_dir() -> Path:
    """Folder of the recorded numbers."""
    return PARITY_DIR


@pytest.fixture(scope="session")
def released_state() -> dict[str, torch.Tensor]:
    """A state dict under the released names."""
    shapes = json.loads((PARITY_DIR / "nyu_state_dict_shapes.json").read_text())
    return {key: tensor_by_recipe(key, shape) for key, shape in shapes.items()}


@pytest.fixture(scope="session")
def recorded_forward() -> dict[str, np.ndarray]:
    """Input and outputs of the 736 x 480 case."""
    with np.load(PARITY_DIR / "small_736x480.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def recorded_losses() -> dict[str, Any]:
    """Losses and gradient norms of the 736 x 480 case."""
    recorded: dict[str, Any] = json.loads((PARITY_DIR / "small_losses_grads.json").read_text())
    return recorded
