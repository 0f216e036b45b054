"""BatchNorm in channels-last layout on a CPU."""

import pytest
import torch
from torch import Tensor

from gmic_model.batch_norm import BatchNorm


def mammogram_like(dtype: torch.dtype = torch.float32) -> Tensor:
    """Half texture, half constant background: what makes a sequential fp32 sum drift."""
    values = torch.randn(1, 8, 600, 400, generator=torch.Generator().manual_seed(0)).relu_()
    values[..., 200:] = 0.3137
    return values.to(dtype).to(memory_format=torch.channels_last)


def test_running_statistics_match_fp64() -> None:
    """Momentum 0.1 from 0 and 1: 0.1 mean and 0.9 + 0.1 var, right to 1e-6 where torch's own layer is off by more than 1e-4."""
    values = mammogram_like()
    exact_mean, exact_variance = values.double().mean((0, 2, 3)), values.double().var((0, 2, 3))
    ours, torchs = BatchNorm(8).train(), torch.nn.BatchNorm2d(8).train()
    ours(values)
    torchs(values)
    assert ours.running_mean is not None
    assert ours.running_var is not None
    assert torchs.running_mean is not None
    torch.testing.assert_close(ours.running_mean.double(), 0.1 * exact_mean, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(ours.running_var.double(), 0.9 + 0.1 * exact_variance, rtol=1e-6, atol=1e-8)
    assert ours.num_batches_tracked == 1
    drift = ((torchs.running_mean.double() - 0.1 * exact_mean) / (0.1 * exact_mean)).abs().max()
    assert drift > 1e-4, "torch's layer has become exact: this class can go"


def test_gradients_match_fp64() -> None:
    """Input, weight and bias gradients equal those of torch's layer in fp64."""
    values = torch.randn(2, 4, 5, 7, dtype=torch.float64).to(memory_format=torch.channels_last)
    weighting = torch.randn(2, 4, 5, 7, dtype=torch.float64)
    gradients = []
    for layer in (BatchNorm(4).double(), torch.nn.BatchNorm2d(4).double()):
        torch.nn.init.constant_(layer.weight, 1.7)
        leaf = values.clone().requires_grad_()
        torch.autograd.backward((layer.train()(leaf) * weighting).sum())
        gradients.append((leaf.grad, layer.weight.grad, layer.bias.grad))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("training", [True, False])
def test_bfloat16_stays_bfloat16(training: bool) -> None:
    """Under autocast the layer reads bf16 with fp32 weights and answers in bf16, in the same layout."""
    normalised = BatchNorm(8).train(training)(mammogram_like(torch.bfloat16))
    assert normalised.dtype == torch.bfloat16
    assert normalised.is_contiguous(memory_format=torch.channels_last)
