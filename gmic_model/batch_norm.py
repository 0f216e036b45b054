"""BatchNorm whose training statistics are right on a CPU in channels-last layout too.

PyTorch's channels-last CPU kernel adds all N x H x W values of a channel one after the other in fp32. A mammogram's constant
background makes that sum drift: at 735 x 479 the variance is 0.3 % off, and the error grows with the batch. The same sums
added pairwise are right to 1e-7, so the fast layout can train. Nothing else is changed, and nothing at all in eval mode, on
other devices or layouts, or under ``torch.compile``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  torch's own spelling
from torch import Tensor, nn


class BatchNorm(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` with the paper's code's settings (eps 1e-5, momentum 0.1, affine)."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalises (N, C, H, W); the parameter keeps torch's name."""
        if self.training and not torch.compiler.is_compiling() and _is_cpu_channels_last(input):
            return self._train_forward(input)
        return super().forward(input)

    def _train_forward(self, values_NCHW: Tensor) -> Tensor:
        mean_C, variance_C = _moments(values_NCHW.detach())
        values = values_NCHW.shape[0] * values_NCHW.shape[2] * values_NCHW.shape[3]
        with torch.no_grad():
            if self.running_mean is not None and self.running_var is not None and self.momentum is not None:
                self.running_mean.lerp_(mean_C.to(self.running_mean.dtype), self.momentum)
                unbiased_C = variance_C * (values / max(values - 1, 1))
                self.running_var.lerp_(unbiased_C.to(self.running_var.dtype), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        normalised_NCHW: Tensor = _Normalise.apply(values_NCHW, self.weight, self.bias, mean_C, variance_C, self.eps)  # type: ignore[no-untyped-call]
        return normalised_NCHW


class _Normalise(torch.autograd.Function):
    """Normalise by given batch moments; the gradient is that of batch normalisation, moments included."""

    @staticmethod
    def forward(
        ctx: Any, values_NCHW: Tensor, weight_C: Tensor, bias_C: Tensor, mean_C: Tensor, variance_C: Tensor, eps: float
    ) -> Tensor:
        ctx.save_for_backward(values_NCHW, weight_C, mean_C, (variance_C + eps).rsqrt())
        ctx.eps = eps
        return F.batch_norm(values_NCHW, mean_C, variance_C, weight_C, bias_C, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        values_NCHW, weight_C, mean_C, inverse_std_C = ctx.saved_tensors
        wanted = list(ctx.needs_input_grad[:3])
        values_grad, weight_grad, bias_grad = torch.ops.aten.native_batch_norm_backward(
            gradients[0], values_NCHW, weight_C, None, None, mean_C, inverse_std_C, True, ctx.eps, wanted
        )
        return values_grad, weight_grad, bias_grad, None, None, None


def _moments(values_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance per channel, in two passes: the values' own offset cannot cancel digits."""
    values_NCHW = values_NCHW if values_NCHW.dtype == torch.float64 else values_NCHW.float()
    values = values_NCHW.shape[0] * values_NCHW.shape[2] * values_NCHW.shape[3]
    mean_C = values_NCHW.sum(dim=(0, 2, 3)) / values
    return mean_C, (values_NCHW - mean_C[:, None, None]).square_().sum(dim=(0, 2, 3)) / values


def _is_cpu_channels_last(values_NCHW: Tensor) -> bool:
    return (
        values_NCHW.device.type == "cpu"
        and values_NCHW.is_contiguous(memory_format=torch.channels_last)
        and not values_NCHW.is_contiguous()
    )
