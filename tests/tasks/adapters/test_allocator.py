"""Freed memory stays in the process, and nobody looks for garbage where there is none."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.adapters.allocator import uncollected

ROOT = Path(__file__).parents[3]
FAULTS = """
import resource
from tasks.adapters.allocator import keep_freed_memory
import numpy as np

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        np.ones(16 * 2**20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

np.ones(48 * 2**20, np.uint8)
given_back = faults()
took = keep_freed_memory()
faults()
print(took, given_back, faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the setting is glibc's")
def test_large_arrays_reuse_their_pages() -> None:
    """Four times 16 MiB: some thousand page faults (of 4 KiB) before, next to none after."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = subprocess.run(
        [sys.executable, "-c", FAULTS], env=environment, capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    if said[0] == "False":
        pytest.skip("not glibc")
    assert int(said[2]) < int(said[1]) / 4


def test_the_collector_rests_inside_and_is_as_before_afterwards() -> None:
    """Also where the block ends badly, and where it was at rest before."""
    with pytest.raises(KeyError), uncollected():
        assert not gc.isenabled()
        with uncollected():
            raise KeyError
    assert gc.isenabled()
