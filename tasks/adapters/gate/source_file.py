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
    """A file of the source. Where it lies stays in memory, out of logs too: it may spell a name.

    Attributes:
        lies_at: Its path, or the object of a bucket that it is.
        fingerprint: Changes when its content does.
    """

    file_id: str
    lies_at: Path | ExamObject = field(repr=False)
    fingerprint: str

    @property
    def path(self) -> Path:
        """Where it lies; of an object a name and no place: its key below ``ingest.source_dir``."""
        return self.lies_at if isinstance(self.lies_at, Path) else self.lies_at.path

    @property
    def stored(self) -> ExamObject | None:
        """The object that it is; None = it is a file of a folder."""
        return self.lies_at if isinstance(self.lies_at, ExamObject) else None

    @property
    def place(self) -> str:
        """Where it is, for the terminal of whoever asks."""
        return str(self.lies_at)

    @property
    def changes_as(self) -> str:
        """The fingerprint that whoever reads the file can see; "" of an object, of which no other version is read."""
        return self.fingerprint if self.stored is None else ""
