"""The processes that train one network together, by ``torch.distributed``; one process alone needs none of it.

How they are started is ``tasks/adapters/training/process.py``. What each of them computes is in ``steps.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.parallel import DistributedDataParallel

from gmic_model.backbones.batch_norm import BatchNorm

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Processes:
    """This process's place among the processes.

    Attributes:
        rank: 0 to size - 1; 0 writes files and speaks.
        size: Processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_leader(self) -> bool:
        """True for the one process that writes and speaks."""
        return self.rank == 0

    def total(self, value: float) -> float:
        """Sum over the processes."""
        return value if self.size == 1 else float(sum(self.gathered(value)))

    def gathered(self, item: ItemT) -> list[ItemT]:
        """Every process's item, by rank, in every process."""
        if self.size == 1:
            return [item]
        items: list[Any] = [None] * self.size
        dist.all_gather_object(items, item)
        return items

    def wait_for_all(self) -> None:
        """Blocks until every process of the training has arrived here (a barrier)."""
        if self.size > 1:
            dist.barrier()

    def share_statistics(self, network: nn.Module, averaged: Mapping[str, Tensor] | None = None) -> None:
        """The leader's running statistics for all, and their running mean: each process's own have seen its own exams last."""
        if self.size > 1:
            for name, buffer in network.named_buffers():
                dist.broadcast(buffer, 0)
                if averaged is not None:
                    dist.broadcast(averaged[name], 0)


ALONE = Processes()
"""One process, no other."""


@contextmanager
def joined_processes(*, processes: int, on_gpu: bool) -> Iterator[Processes]:
    """This process among those that torchrun started together; NCCL between GPUs, gloo between CPU processes.

    Where an error leaves the block the group is left as it is: the others may wait in an exchange for ever, and to take the
    group down would be to wait with them. The process ends, and torchrun ends the others.
    """
    if processes == 1:
        yield ALONE
        return
    dist.init_process_group("nccl" if on_gpu else "gloo")
    if on_gpu:
        torch.cuda.set_device(dist.get_rank())
    yield Processes(dist.get_rank(), dist.get_world_size())
    dist.destroy_process_group()


def shared_network(network: nn.Module, device: torch.device, *, sync_batch_norm: bool, has_idle_weights: bool) -> nn.Module:
    """The network as its processes train it together: gradients are averaged over them in each backward pass.

    Args:
        network: This process's copy; all must be equal.
        device: Where it is.
        sync_batch_norm: Replace batch statistics by those of all processes: torch's on GPUs, ``GlobalBatchNorm`` on CPUs.
        has_idle_weights: True if the loss leaves some weights without a gradient.
    """
    if sync_batch_norm:
        _synchronise(network, on_gpu=device.type == "cuda")
    return DistributedDataParallel(
        network,
        device_ids=[device] if device.type == "cuda" else None,
        broadcast_buffers=not sync_batch_norm,
        find_unused_parameters=has_idle_weights,
    )


class GlobalBatchNorm(BatchNorm):
    """Batch normalisation whose statistics are those of all processes, for gloo, which torch's SyncBatchNorm cannot use.

    Two passes, mean first: as precise as one process with the whole batch. The gradient flows through the exchange.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalises (N, C, H, W)."""
        if not self.training:
            return super().forward(input)
        dims = (0, 2, 3)
        local = torch.cat([input.sum(dim=dims), input.new_tensor([input.numel() / input.shape[1]])])
        whole: Tensor = all_reduce(local)  # type: ignore[no-untyped-call]
        values = whole[-1].detach()
        mean_C = whole[:-1] / values
        centred_NCHW = input - mean_C[:, None, None]
        squares_C: Tensor = all_reduce(centred_NCHW.square().sum(dim=dims))  # type: ignore[no-untyped-call]
        variance_C = squares_C / values
        with torch.no_grad():
            if self.running_mean is not None and self.running_var is not None and self.momentum is not None:
                self.running_mean.lerp_(mean_C, self.momentum)
                self.running_var.lerp_(variance_C * (values / (values - 1).clamp(min=1)), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        scale_C = self.weight * (variance_C + self.eps).rsqrt()
        return centred_NCHW * scale_C[:, None, None] + self.bias[:, None, None]


def _synchronise(network: nn.Module, *, on_gpu: bool) -> None:
    if on_gpu:
        nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.__class__ = GlobalBatchNorm  # the same weights, buffers and settings; another forward
