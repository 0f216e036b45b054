"""How a Python is started: none of ours ever looks for modules in the folder where its user happens to stand.

``python -c``, ``python -m`` and ``python script.py`` put the working directory, or the script's own folder, before everything
that is installed: a file tasks.py or torch.py that lies there would run instead of the real one.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

SAFE_ENVIRONMENT: Final = {"PYTHONSAFEPATH": "1"}
"""For interpreters that a library starts on our behalf: Dask's nannies, a Prefect worker's flow runs, multiprocessing."""

THREADS_SLEEP_SOON: Final = {"GOMP_SPINCOUNT": "1000"}
"""How often a thread of torch looks for its next work before it sleeps. libgomp's 300,000 take the core from the thread that is
waited for: beside other work, two threads then took five times as long as one. libgomp lowers it by itself only
where its own process has more threads than cores, which is not so when other programs have the cores. It is read when torch is
imported."""


LISTENING: Final = '{"listening": '
"""How the line begins by which a process of ours says that it listens; its port follows."""


def say_listening(port: int) -> None:
    """Says it to whoever started this process and reads what it writes."""
    sys.stdout.write(f"{LISTENING}{port}}}\n")
    sys.stdout.flush()


def python_command(*arguments: str) -> list[str]:
    """The command that starts this interpreter again, without the working directory on its module path."""
    return [sys.executable, "-P", *arguments]


@contextmanager
def imported_at_once() -> Iterator[None]:
    """Inside, large libraries are imported without looking for garbage among what they make, which is there to stay.

    Python's collector otherwise goes through it over and over: a fifth of the time that torch or Prefect takes to import.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():  # once a process: what is garbage at that moment stays
            gc.freeze()
        if was_enabled:
            gc.enable()


def import_path() -> list[str]:
    """The module path of this process for a child of it: the empty entry, which means wherever one stands, stays behind."""
    return [folder for folder in sys.path if folder]


def path_without(path: Sequence[str], working_dir: str, own_root: str) -> list[str]:
    """A module path as ``python -P`` would have made it, for a process that ``python -m`` has started without it.

    Args:
        path: What ``sys.path`` is.
        working_dir: Where the user stands; its entry goes, and the empty one, which means the same.
        own_root: Where our packages lie. Whoever stands there in a checkout means these files: the entry stays.
    """
    return [folder for folder in path if folder and (folder != working_dir or folder == own_root)]
