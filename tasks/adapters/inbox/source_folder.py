"""The folder that exams arrive in: which files it holds, whether new ones came, and which are complete (rule F07).

Nothing is opened here; only names, sizes and times are looked at.

What cannot be listed (a folder without permission, an over-long path, a share that is gone) is counted by its error's name; no
error leaves this module with a path in it, for a path may spell a name.

A file is taken when its size and times have not changed for a while: whoever copies it may be slow, and nothing in a file's
first half says that there will be a second.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from schemas.errors import ConfigError, SourceUnavailable, error_name
from tasks.adapters.gate.gate_settings import GateSettings
from tasks.adapters.gate.source_file import SourceFile, file_fingerprint, is_left_out
from tasks.adapters.pseudonyms import Pseudonyms

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a source folder holds.

    Attributes:
        files: In the order of their paths.
        unreadable: Folders and files that could not be looked at, counted by error, as ``{"EACCES": 1}``.
    """

    files: tuple[SourceFile, ...]
    unreadable: Mapping[str, int]


def source_files(source_dir: Path, pseudonyms: Pseudonyms) -> Listing:
    """Every file below the folder, in the order of paths; links and pipes too, which the gate refuses.

    Left out: what has a leading dot (also folders: `.Trash`, macOS' `._x`), names for unfinished files, DICOMDIR.
    """
    found, unreadable = [], Counter[str]()
    for path in sorted(Path(entry.path) for entry in _walk(source_dir, unreadable)):
        try:
            status = path.lstat()
        except FileNotFoundError:  # taken away while we looked
            continue
        except OSError as error:
            unreadable[error_name(error)] += 1
            continue
        file_id = pseudonyms.file_id(path.relative_to(source_dir).as_posix())
        found.append(SourceFile(file_id=file_id, lies_at=path, fingerprint=file_fingerprint(status)))
    return Listing(files=tuple(found), unreadable=unreadable)


def named_files(files: Sequence[SourceFile], gate: GateSettings) -> Sequence[SourceFile]:
    """Those that come in: all of them, or those that the subjects file names.

    Raises:
        LabelError: The subjects file cannot be read.
    """
    return files if gate.subjects_csv is None else [file for file in files if gate.named(file.path) is not None]


def told_subjects(files: Sequence[SourceFile], gate: GateSettings, pseudonyms: Pseudonyms) -> dict[str, str]:
    """file_id -> digest of what the subjects file says of it; nothing where there is no such file.

    Raises:
        LabelError: The subjects file cannot be read.
    """
    named = ((file.file_id, gate.named(file.path)) for file in files) if gate.subjects_csv is not None else ()
    return {
        file_id: pseudonyms.subject_digest(
            said.patient, said.exam, said.laterality.value, said.view_position.value, said.acquisition or ""
        )
        for file_id, said in named
        if said is not None
    }


def require_apart(workspace_dir: Path, source_dir: Path) -> None:
    """Asked before anything is made of a workspace, by whatever writes into it and reads exams.

    Raises:
        ConfigError: The workspace lies in the source folder, be it by a link.
    """
    # Not ``Path.resolve``: a circle of links is no error of this question.
    inside, outside = (Path(os.path.realpath(path)) for path in (workspace_dir, source_dir))
    if inside.is_relative_to(outside):
        raise ConfigError(
            "The workspace lies inside the source folder: what a run writes would be taken for exams",
            expected="two folders, none of them inside the other",
            remedy="set workspace_dir to a folder outside ingest.source_dir",
        )


def complete_files(files: Sequence[SourceFile], *, settle_s: float) -> list[SourceFile]:
    """Those that nobody is writing: not touched for ``settle_s``, or not changed while this waits that long.

    An object of a bucket is whole once it is listed.

    Waits only if some were touched lately; a time in the future (another machine's clock) counts as lately.
    """
    now_s = time.time()
    touched = {file.file_id for file in files if settle_s > 0 and file.stored is None and now_s - _touched_s(file) < settle_s}
    if touched:
        time.sleep(settle_s)
    return [file for file in files if file.file_id not in touched or _is_unchanged(file)]


def mask_files(masks_dir: Path, pseudonyms: Pseudonyms) -> Mapping[str, tuple[Path, str]]:
    """Lesion masks by image pseudonym, each with its fingerprint: ``LINK_TO_NOWHERE``, or of the file that a link leads to.

    Raises:
        SourceUnavailable: The folder or a mask cannot be looked at: nobody may take that for "no mask".
    """
    failure, masks = "", list[tuple[Path, str]]()
    try:
        with os.scandir(masks_dir) as entries:
            found = sorted(Path(entry.path) for entry in entries if entry.name.endswith(".png"))
        for path in found:
            with suppress(FileNotFoundError):  # taken away while we looked
                masks.append((path, _mask_fingerprint(path)))
    except OSError as error:
        failure = error_name(error)
    if failure:  # outside the except block: the system's error quotes a path
        raise SourceUnavailable("The lesion masks cannot be read at the moment", got=failure, remedy="run again")
    return {pseudonyms.image_id(path.stem): (path, fingerprint) for path, fingerprint in masks}


LINK_TO_NOWHERE: Final = "link to nowhere"
"""Fingerprint of a mask that is a link whose file is gone, or a circle of links."""


def with_other_mask(
    masks_dir: Path | None, stored: Mapping[str, tuple[str, str]], files: Sequence[SourceFile], pseudonyms: Pseudonyms
) -> list[str]:
    """Stored images whose lesion mask came, changed or went since, if their file is there to be read again.

    Where a link to a mask leads nowhere, what was stored of the mask stays: it may lie on a share that is away.

    Args:
        masks_dir: Where masks are now; None = nowhere, and stored ones stay.
        stored: By file, the image and the fingerprint of the mask that was stored (``Ledger.mask_fingerprints``).
        files: Those that are there.
        pseudonyms: Replace the SOPInstanceUIDs that masks are named by.
    """
    if masks_dir is None:
        return []
    masks, present = mask_files(masks_dir, pseudonyms), {file.file_id for file in files}
    found = {}
    for file_id, (image_id, fingerprint) in stored.items():
        is_now = masks.get(image_id, (None, ""))[1]
        if file_id in present and fingerprint != is_now and not (fingerprint and is_now == LINK_TO_NOWHERE):
            found[file_id] = image_id
    gone = sum(image_id not in masks for image_id in found.values())
    if gone:
        logger.warning("The masks of %d stored images are not in masks_dir any more: they go from the store too", gone)
    return list(found)


def _mask_fingerprint(path: Path) -> str:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        try:
            status = path.stat()
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP):
                return LINK_TO_NOWHERE
            # Whoever reads the mask meets this error again, and defers its image.
    return file_fingerprint(status)


def _walk(folder: Path, unreadable: Counter[str]) -> Iterator[os.DirEntry[str]]:
    """The one walk over a source folder: every finished file below it; a folder that goes meanwhile holds nothing."""
    pending = [folder]
    while pending:
        try:
            entries = os.scandir(pending.pop())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            unreadable[error_name(error)] += 1
            continue
        with entries:
            for entry in _entries(entries, unreadable):
                if is_left_out(entry.name):
                    continue
                try:  # a link is a file to refuse, not a folder to follow
                    is_folder = entry.is_dir(follow_symlinks=False)
                except OSError as error:
                    unreadable[error_name(error)] += 1
                    continue
                if is_folder:
                    pending.append(Path(entry.path))
                else:
                    yield entry


def _entries(entries: Iterator[os.DirEntry[str]], unreadable: Counter[str]) -> Iterator[os.DirEntry[str]]:
    """A folder's entries, up to where the disk stops giving them."""
    try:
        yield from entries
    except OSError as error:
        unreadable[error_name(error)] += 1


def _touched_s(file: SourceFile) -> float:
    try:
        status = file.path.lstat()
    except OSError:
        return time.time()
    # ctime: a copy may be given its original's mtime, nothing sets ctime.
    return max(status.st_mtime, status.st_ctime)


def _is_unchanged(file: SourceFile) -> bool:
    try:
        return file_fingerprint(file.path.lstat()) == file.fingerprint
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class InboxState:
    """What a folder holds, in three numbers: a million files cost no memory."""

    files: int
    size_bytes: int
    newest_ns: int


def inbox_state(folder: Path) -> InboxState:
    """Looks through a folder and its subfolders; a folder that is not there holds nothing."""
    files, size_bytes, newest_ns = 0, 0, 0
    for entry in _walk(folder, Counter()):  # what cannot be listed is for ingest to count
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:  # moved away while we looked, or not to be looked at: the next look sees it
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
