"""A file on its way in: where it lies, whether it changed, and what an unfinished one is called."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path


def file_fingerprint(status: os.stat_result) -> str:
    """Size and modification time: a file with the same fingerprint is taken to be unchanged."""
    return f"{status.st_size}-{status.st_mtime_ns}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file of the source folder. ``path`` stays in memory, out of logs too: it may spell a name."""

    file_id: str
    path: Path = field(repr=False)
    fingerprint: str
