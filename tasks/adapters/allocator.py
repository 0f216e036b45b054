"""Memory: what the C library does with what torch gives back, and when Python looks for what nobody needs."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD = -1  # mallopt(3)
_MMAP_THRESHOLD = -3
_KEPT_BYTES = 2**30


def keep_freed_memory() -> bool:
    """Keep up to 1 GiB of freed memory in this process for its next allocations, instead of giving it back each time.

    By default glibc returns every large tensor to the kernel at once, and each new one is handed out page by page, cleared: a
    fifth of a full-size forward pass on a CPU (``benchmarks/RESULTS.md``). A training step's peak rises by about
    100 MiB, a forward pass's does not; the process does not shrink afterwards. For processes that run the network.

    Returns:
        Whether the C library took the setting; others than glibc know no such setting and go on as ever.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _KEPT_BYTES)) and bool(mallopt(_TRIM_THRESHOLD, _KEPT_BYTES))


@contextmanager
def uncollected() -> Iterator[None]:
    """Inside, Python looks for no garbage: among records that stay there is none, and looking takes a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
