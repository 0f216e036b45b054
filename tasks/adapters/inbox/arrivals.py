"""The inbox folder: has something new arrived, and is it all there? Only names, sizes and times are looked at."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tasks.adapters.gate.source_file import is_unfinished


@dataclass(frozen=True, slots=True)
class InboxState:
    """What a folder holds, in three numbers: a million files cost no memory."""

    files: int
    size_bytes: int
    newest_ns: int


def inbox_state(folder: Path) -> InboxState:
    """Looks through a folder and its subfolders; a folder that is not there holds nothing."""
    files, size_bytes, newest_ns = 0, 0, 0
    pending = [folder]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except (FileNotFoundError, NotADirectoryError):
            continue  # moved away while we looked: the next look sees it
        for entry in entries:
            if is_unfinished(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                pending.append(Path(entry.path))
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            files += 1
            size_bytes += status.st_size
            newest_ns = max(newest_ns, status.st_mtime_ns, status.st_ctime_ns)  # a moved file keeps its mtime
    return InboxState(files=files, size_bytes=size_bytes, newest_ns=newest_ns)


class InboxWatch:
    """Says once for each change of an inbox that files have arrived, when the change is over.

    It forgets everything when its process ends and then reports what lies there once more: what is read twice changes nothing.

    Args:
        settle_s: The folder must not change for this long.
        longest_wait_s: A folder that never rests is reported this often all the same.
    """

    def __init__(self, *, settle_s: float, longest_wait_s: float) -> None:
        self._settle_s = settle_s
        self._longest_wait_s = longest_wait_s
        self._reported = InboxState(0, 0, 0)
        self._last = self._reported
        self._rests_since_s = 0.0
        self._changes_since_s: float | None = None

    def arrived(self, state: InboxState, now_s: float) -> bool:
        """True if the change that this look completes has not been reported; ``now_s`` is a monotonic clock."""
        if state != self._last:
            self._last, self._rests_since_s = state, now_s
        if state == self._reported or not state.files:
            self._changes_since_s = None
            return False
        if self._changes_since_s is None:
            self._changes_since_s = now_s
        is_at_rest = now_s - self._rests_since_s >= self._settle_s
        if not is_at_rest and now_s - self._changes_since_s < self._longest_wait_s:
            return False
        self._reported, self._changes_since_s = state, None
        return True
