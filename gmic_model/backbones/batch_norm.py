"""BatchNorm that can be computed a second time.

A layer that runs again for the same batch (activation checkpointing) must not count the batch twice: ``recomputation`` is the
context of such a run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F  # noqa: N812  torch's own spelling
from torch import Tensor, nn

_is_recomputation: ContextVar[bool] = ContextVar("is_recomputation", default=False)


@contextmanager
def recomputation() -> Iterator[None]:
    """Inside, training passes normalise as ever and leave the running statistics as they are."""
    token = _is_recomputation.set(True)
    try:
        yield
    finally:
        _is_recomputation.reset(token)


class BatchNorm(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` with the paper's code's settings (eps 1e-5, momentum 0.1, affine)."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalises (N, C, H, W); the parameter keeps torch's name."""
        if self.training and not torch.compiler.is_compiling() and _is_recomputation.get():
            return self._normalise_again(input)
        return super().forward(input)

    def _normalise_again(self, values_NCHW: Tensor) -> Tensor:
        """The same kernel on copies of the running statistics, so that what autograd keeps has the same shapes."""
        mean_C, variance_C = (None if kept is None else kept.clone() for kept in (self.running_mean, self.running_var))
        return F.batch_norm(
            values_NCHW, mean_C, variance_C, self.weight, self.bias, training=True, momentum=self.momentum or 0.0, eps=self.eps
        )
