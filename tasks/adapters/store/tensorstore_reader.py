"""Reads a store's rows with tensorstore, an optional faster reader of the same files. The only module that imports tensorstore.

Where the extra ``tensorstore`` has put it, it is what reads (``train.store_reader: auto``). tensorstore's
threads do not survive a fork: arrays are opened in the process that reads.
"""

from __future__ import annotations

import os
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ConfigError, StoreError, extra_from

_INDEX_CACHE_BYTES: Final = 2**20
_OPENERS: Final[set[int]] = set()
"""Processes that have opened an array: this one, or one that it was forked from."""


def is_usable() -> bool:
    """True where tensorstore is installed, and no parent of this process used it before it was forked."""
    return _is_installed() and (not _OPENERS or os.getpid() in _OPENERS)


def read_chunk(array_dir: Path, row: int, size_px: tuple[int, int], grown_ns: int) -> NDArray[Any]:
    """One row of a zarr array, from the upper left corner, shape ``size_px``.

    Args:
        array_dir: Folder of the array's ``zarr.json``.
        row: Index along the first axis.
        size_px: (rows, columns) to read.
        grown_ns: Changes when the array has grown, so that it is opened again.

    Raises:
        ConfigError: tensorstore is not installed.
        StoreError: This process was forked from one that has read with tensorstore.
        ValueError: The bytes do not match their checksum.
        IndexError: There is no such row.
    """
    array, opener_pid = opened(array_dir, grown_ns)
    if opener_pid != os.getpid():  # it would wait for ever for threads that the fork did not copy
        raise StoreError(
            "tensorstore cannot be used in a forked process",
            expected="a process that opens the store itself",
            got="a process forked after its parent had read the store",
            remedy="start it with the multiprocessing context forkserver or spawn, or set train.store_reader to zarr",
        )
    return np.asarray(array[row, : size_px[0], : size_px[1]].read().result())


@lru_cache(maxsize=8)
def opened(array_dir: Path, grown_ns: int) -> tuple[Any, int]:
    """The array and the process that opened it. The last eight are kept: ``opened.cache_clear()`` forgets them."""
    try:
        import tensorstore
    except ImportError as missing:
        raise ConfigError(
            "The store reader tensorstore is not installed",
            expected="the extra tensorstore",
            remedy=f"{extra_from('tensorstore')}, or set train.store_reader to zarr",
        ) from missing
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(array_dir)},
        # Room for the shards' indices, which are checked against their files at each read; too little for an image.
        "context": {"cache_pool": {"total_bytes_limit": _INDEX_CACHE_BYTES}},
    }
    _OPENERS.add(os.getpid())
    return tensorstore.open(spec, open=True, read=True).result(), os.getpid()


@cache
def _is_installed() -> bool:
    return find_spec("tensorstore") is not None
