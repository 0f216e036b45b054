"""Several networks as one: how maps of one window become one map."""

from __future__ import annotations

import torch

from gmic_model.networks.mean_network import mean_maps


def test_maps_are_averaged_on_the_cells_of_the_first() -> None:
    """Cell by cell on one grid; a coarser or finer map is brought to it, and keeps what it says; no map has no voice."""
    first, same = torch.rand(2, 2, 6, 4), torch.rand(2, 2, 6, 4)
    none = torch.empty(2, 2, 0, 0)
    assert torch.allclose(mean_maps([first, same, none]), (first + same) / 2)
    assert mean_maps([none, first]).numel() == 0 and torch.equal(mean_maps([first]), first)
    zeros, ones = torch.zeros(1, 1, 6, 4), torch.ones(1, 1, 3, 2)
    assert torch.allclose(mean_maps([zeros, ones]), torch.full_like(zeros, 0.5))
    corner = torch.zeros(1, 1, 12, 8)
    corner[..., :6, 4:] = 1.0  # the upper right quarter
    mean = mean_maps([zeros, corner])
    assert mean[..., :3, 2:].min() == 0.5 and mean[..., 3:, :].max() == 0.0 and mean[..., :, :2].max() == 0.0
