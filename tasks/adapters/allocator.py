"""The C library's memory allocator: what it does with memory that torch gives back."""

from __future__ import annotations

import ctypes

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
