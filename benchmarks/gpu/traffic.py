"""Kernels and bytes of a computation, counted as it is dispatched: what an eager run moves if no cache helps it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.network.model_table import Record


class Traffic(TorchDispatchMode):
    """Inside, every operation counts once, and the bytes of its tensors, each tensor once an operation. Views move nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels, self.moved = 0, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs the operation and counts it."""
        made = func(*args, **(kwargs or {}))
        tensors = {id(one): one for one in tree_flatten((args, kwargs, made))[0] if isinstance(one, Tensor)}
        is_view = any(one.alias_info is not None and not one.alias_info.is_write for one in func._schema.returns)
        if not is_view:
            self.kernels += 1
            self.moved += sum(one.nbytes for one in tensors.values())
        return made


def counted(call: Callable[[], object], images: int) -> Record:
    """Gflop and GB an image, and kernels, of one call."""
    with FlopCounterMode(display=False) as flop:
        call()
    with Traffic() as traffic:
        call()
    return {
        "flop_per_image": flop.get_total_flops() / images,
        "bytes_per_image": traffic.moved / images,
        "kernels": traffic.kernels,
    }
