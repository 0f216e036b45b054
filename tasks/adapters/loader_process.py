"""How long a loader process lives: no longer than the process that it reads for."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from functools import partial


def end_with_this_process() -> Callable[[int], None]:
    """What a loader process of this process does first (``worker_init_fn`` of torch's ``DataLoader``): watch that we live.

    torch's own watch is on the parent. Under ``forkserver`` that is the fork server, which lives as long as a child holds its
    pipe: after a ``kill -9`` of the reader, each would wait for the other for ever.
    """
    return partial(_end_with, os.getpid())


def _end_with(reader_pid: int, worker: int) -> None:
    try:
        reader = os.pidfd_open(reader_pid)
    except ProcessLookupError:
        os._exit(1)
    threading.Thread(target=_exit_after, args=(reader,), name="end-with-reader", daemon=True).start()


def _exit_after(process: int) -> None:
    ended = select.poll()
    ended.register(process, select.POLLIN)
    ended.poll()
    os._exit(1)
