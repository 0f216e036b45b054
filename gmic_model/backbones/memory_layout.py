"""Memory layout of the activations: channels last wherever that is faster. The numbers are the same.

On a CPU weights stay contiguous, for a convolution takes the layout of what it reads; a GPU would lay them out anew in each
pass (``placed``). In channels-last layout a forward pass on a CPU
takes three quarters of the time, and tensor cores want it. Training on a CPU is the exception: torch's kernel for the weight
gradient of a 3 x 3 convolution is two to four times slower in that layout, and its BatchNorm adds a channel's values one after
the other in fp32, which puts the variance of a mammogram's constant background 0.3 % off. There only the stem is channels
last, whose weight gradient is five times faster that way (``benchmarks/RESULTS.md``).
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

NetworkT = TypeVar("NetworkT", bound=nn.Module)


def placed(network: NetworkT, device: torch.device) -> NetworkT:
    """The network on its device; on a GPU its kernels lie as its activations do. Files keep no layout, so any may be loaded."""
    is_channels_last = any(getattr(module, "channels_last", False) for module in network.modules())
    if device.type != "cpu" and is_channels_last:
        return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
    return network.to(device)


def as_channels_last(values_N1HW: Tensor) -> Tensor:
    """A view whose strides say channels last, which layers hand on; with one channel torch cannot tell the layouts apart."""
    images, _, rows, columns = values_N1HW.shape
    return values_N1HW.reshape(images, rows, columns, 1).permute(0, 3, 1, 2)


def in_training_layout(features_NDHW: Tensor, *, is_training: bool) -> Tensor:
    """The stem's features in the memory layout that the following layers train fastest in."""
    if not is_training or features_NDHW.device.type != "cpu":
        return features_NDHW
    if torch.compiler.is_compiling():
        return features_NDHW.contiguous()
    contiguous_NDHW: Tensor = _Contiguous.apply(features_NDHW)  # type: ignore[no-untyped-call]
    return contiguous_NDHW


class _Contiguous(torch.autograd.Function):
    """Hands the gradient back in channels-last layout, which the stem's pooling otherwise makes of it in four copies."""

    @staticmethod
    def forward(_ctx: Any, features_NDHW: Tensor) -> Tensor:
        return features_NDHW.contiguous()

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].contiguous(memory_format=torch.channels_last)
