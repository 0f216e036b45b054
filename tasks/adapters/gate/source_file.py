"""A file on its way in: where it lies, whether it changed, and what an unfinished one is called."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tasks.adapters.buckets.exam_object import ExamObject
from tasks.adapters.workspace import UNFINISHED

_ENDINGS: Final = (".crdownload", ".filepart", UNFINISHED, ".partial", ".tmp")
"""What browsers, file transfer programs and this program call a file that they are still writing."""

UNFINISHED_NAMES: Final = f"a leading dot or an ending {', '.join(_ENDINGS[:-1])} or {_ENDINGS[-1]} in its name"
"""What an unfinished file has, in words; a phrase of rule F07."""


def is_unfinished(name: str) -> bool:
    """True if a file or folder of this name is being written, or hidden: it is nobody's exam yet (rule F07)."""
    return name.startswith(".") or name.endswith(_ENDINGS)


def is_left_out(name: str) -> bool:
    """True if nothing of this name, file or folder, is anybody's exam: unfinished, hidden, or a CD's list of its files."""
    return is_unfinished(name) or name == "DICOMDIR"


def file_fingerprint(status: os.stat_result) -> str:
    """Size and modification time: a file with the same fingerprint is taken to be unchanged."""
    return f"{status.st_size}-{status.st_mtime_ns}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file of the source. ``path`` stays in memory, out of logs too: it may spell a name.

    Attributes:
        path: Where it lies. Of an object of a bucket a name and no place: its key below ``ingest.source_dir``.
        fingerprint: Changes when its content does.
        stored: The object that it is; None = it is a file of a folder.
    """

    file_id: str
    path: Path = field(repr=False)
    fingerprint: str
    stored: ExamObject | None = None

    @property
    def place(self) -> str:
        """Where it is, for the terminal of whoever asks."""
        return str(self.path if self.stored is None else self.stored)

    @property
    def changes_as(self) -> str:
        """The fingerprint that whoever reads the file can see; "" of an object, of which no other version is read."""
        return self.fingerprint if self.stored is None else ""
