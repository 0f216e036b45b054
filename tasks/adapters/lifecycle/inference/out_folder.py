"""The folder that an answer is written to: apart from the input, one caller's at a time, and without an earlier answer.

Nothing heavy is imported here: the command asks it before anything is loaded.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from schemas.errors import ConfigError, StoreBusy, StoreError, error_name

RESULT: Final = "result.json"
SCORES: Final = "scores.csv"


@contextmanager
def callers_own(source_dir: Path, out_dir: Path) -> Iterator[None]:
    """Inside, no other call writes there, and what an earlier one left is gone.

    However this call ends, no result of another exam can be taken for its own.

    Raises:
        ConfigError: One folder lies in the other; nothing is written.
        StoreBusy: Another call writes there.
        StoreError: The output folder cannot be written.
    """
    require_two_folders(source_dir, out_dir)
    try:
        out_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(out_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as trouble:
        raise cannot_be_written(trouble) from trouble
    try:
        _lock(descriptor)
        try:
            forget(out_dir)
        except OSError as trouble:
            raise cannot_be_written(trouble) from trouble
        yield
    finally:
        os.close(descriptor)


def forget(out_dir: Path) -> None:
    """Takes away what an earlier answer left.

    Raises:
        OSError: It cannot be taken away.
    """
    for name in (RESULT, SCORES):
        (out_dir / name).unlink(missing_ok=True)


def require_two_folders(source_dir: Path, out_dir: Path) -> None:
    """Asked before anything is read or written.

    Raises:
        ConfigError: One lies in the other, be it by a link.
    """
    inside, outside = (Path(os.path.realpath(path)) for path in (source_dir, out_dir))
    if inside.is_relative_to(outside) or outside.is_relative_to(inside):
        raise ConfigError(
            "Input and output are one folder, or one lies in the other: results would be taken for exams",
            expected="two folders, none of them inside the other",
        )


def cannot_be_written(trouble: OSError) -> StoreError:
    """What a caller is told whose output folder is full, is none or is not his."""
    return StoreError(
        "The output folder cannot be written, so no result is left there",
        expected="a folder of this user on a disk with room",
        got=error_name(trouble),
        remedy="make room and run the same command again: the files are scored, and logged, once more",
    )


# ---------------------------------------------------------------------------------------------------------------------


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as taken:
        raise StoreBusy(
            "Another call writes into this output folder",
            expected="one call at a time",
            remedy="wait for that one, or give this one a folder of its own",
        ) from taken
    except OSError:  # a share that knows no locks of folders: the caller's own order counts there
        return
