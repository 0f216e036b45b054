"""A file on its way in: where it lies, whether it changed, and what an unfinished one is called."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tasks.adapters.workspace import UNFINISHED

_ENDINGS: Final = (".crdownload", ".filepart", UNFINISHED, ".partial", ".tmp")
"""What browsers, file transfer programs and this program call a file that they are still writing."""

UNFINISHED_NAMES: Final = f"a leading dot or an ending {', '.join(_ENDINGS[:-1])} or {_ENDINGS[-1]} in its name"
"""What an unfinished file has, in words; a phrase of rule F07."""


def is_unfinished(name: str) -> bool:
    """True if a file or folder of this name is being written, or hidden: it is nobody's exam yet (rule F07)."""
    return name.startswith(".") or name.endswith(_ENDINGS)


def file_fingerprint(status: os.stat_result) -> str:
    """Size and modification time: a file with the same fingerprint is taken to be unchanged."""
    return f"{status.st_size}-{status.st_mtime_ns}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file of the source folder. ``path`` stays in memory, out of logs too: it may spell a name."""

    file_id: str
    path: Path = field(repr=False)
    fingerprint: str
