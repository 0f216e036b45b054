"""The inbox as other systems fill it: an object is there whole or not at all, once, and its name tells nobody whose it is.

A folder for each exam, a file for each content: ``<exam>/<image>-<content>.dcm``, all three digests. The same bytes again are
the file that is there; other bytes under the same SOPInstanceUID are a second file, for the gate's rule I06. What is there is
asked of the disk, never of a memory of it: a file that somebody moved on is written again.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from schemas.errors import ConfigError, error_name
from tasks.adapters.pacs.encoded_object import Incomplete, Named, data_set_start, whole_file
from tasks.adapters.workspace import UNFINISHED, sync

_DIGITS: Final = 24
_CONTENT_DIGITS: Final = 12
_PIECE_BYTES: Final = 1 << 20
_HEAD_BYTES: Final = 1 << 12
"""In which the file meta information is expected to end."""
PUSHED: Final = "push"
FETCHED: Final = "fetch"
"""Who writes what is not finished: each sweeps away what an earlier life of its own left."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What other systems' objects become below a source folder.

    Attributes:
        root: The source folder.
        writer: ``PUSHED`` or ``FETCHED``.
    """

    root: Path
    writer: str
    _new: set[Path] = field(default_factory=set, init=False, repr=False, compare=False)
    """Folders of exams that the root's own entry of may not be on the disk yet."""
    _unsettled: set[Path] = field(default_factory=set, init=False, repr=False, compare=False)

    @property
    def lock_dir(self) -> Path:
        """Held by the one process of this writer; hidden, so that nobody takes it for an exam."""
        return self.root / f".{self.writer}"

    def prepare(self) -> None:
        """Makes the source folder if it is not there.

        Raises:
            ConfigError: It cannot be made, or not be written.
        """
        got = ""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as trouble:
            got = error_name(trouble)
        if got or not os.access(self.root, os.R_OK | os.W_OK | os.X_OK):
            raise ConfigError(
                f"The inbox {self.root} cannot be written",
                expected="a folder that is there or can be made, and that we may write",
                got=got or "no right to",
                remedy="correct ingest.source_dir, or the folder's rights",
            )

    def sweep(self) -> int:
        """Deletes what a killed process left unfinished: nobody was told that it arrived. One process of a writer at a time."""
        self.prepare()
        leftovers = list(self.root.glob(f".*.{self.writer}{UNFINISHED}"))
        for leftover in leftovers:
            leftover.unlink(missing_ok=True)
        return len(leftovers)

    def free_bytes(self) -> int:
        """Room on the inbox's disk."""
        return shutil.disk_usage(self.root).free

    def size_bytes(self) -> int:
        """What lies in the inbox, finished or not."""
        total = 0
        for folder, _, names in os.walk(self.root):
            for name in names:
                try:
                    total += (Path(folder) / name).lstat().st_size
                except OSError:  # moved on while we looked
                    continue
        return total

    def take(self, named: Named, head: bytes, content: memoryview) -> bool:
        """Writes an object; on the disk, and findable, when this returns. True if it is new.

        Args:
            named: Whose it is.
            head: Preamble and file meta information.
            content: Its encoded data set, as it came.

        Raises:
            OSError: The disk is full or the folder cannot be written; nothing is left of it then.
        """
        final = self._place(named, hashlib.sha256(content).hexdigest())
        if final.exists():
            return False
        with self._beside() as (file, path):
            file.write(head)
            file.write(content)
            self._finish(file, path, final)
        self._sync_folder(final.parent)
        return True

    @contextmanager
    def aside(self) -> Iterator[Aside]:
        """A file to write that is nobody's exam yet, the owner's only; gone when the block ends, unless it was ``adopted``.

        Raises:
            OSError: The disk is full or the folder cannot be written.
        """
        with self._beside() as (file, path):
            yield Aside(file, path)

    def adopt(self, aside: Aside, *, sop_uid: str) -> bool:
        """Gives a file that was written aside its place, if it is whole and the object that was asked for. True if it is new.

        Its content is on the disk then; its name is when ``settle`` has returned.

        Raises:
            Incomplete: It is not.
            OSError: The disk is full or the folder cannot be written.
        """
        aside.file.flush()
        if aside.size_bytes == 0:
            raise Incomplete("What arrived is empty")
        with mmap.mmap(aside.file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as content:
            named, start = whole_file(content)
        if named.sop_uid != sop_uid:
            raise Incomplete("Another object arrived than was asked for")
        final = self._place(named, aside.digest_from(start))
        if final.exists():
            return False
        self._finish(aside.file, aside.path, final)
        self._unsettled.add(final.parent)
        return True

    def settle(self) -> None:
        """Makes the names of what was adopted durable: a folder of an exam is synced once, not once for each image.

        Until then a power cut may undo what was fetched, and the next run fetches it again.

        Raises:
            OSError: The disk cannot be written.
        """
        while self._unsettled:
            with suppress(FileNotFoundError):  # moved on, by whoever empties the inbox
                self._sync_folder(self._unsettled.pop())

    def has(self, study_uid: str, sop_uid: str) -> bool:
        """True if the inbox holds some content of an image now."""
        return any((self.root / _digest(study_uid)).glob(f"{_digest(sop_uid)}-*.dcm"))

    def held(self, sop_uids: Collection[str]) -> set[str]:
        """Those of which the inbox holds some content now."""
        by_digest = {_digest(sop_uid): sop_uid for sop_uid in sop_uids}
        return {by_digest[path.name[:_DIGITS]] for path in self.root.glob("*/*.dcm") if path.name[:_DIGITS] in by_digest}

    def _place(self, named: Named, digest: str) -> Path:
        name = f"{_digest(named.sop_uid)}-{digest[:_CONTENT_DIGITS]}.dcm"
        return self.root / _digest(named.study_uid) / name

    @contextmanager
    def _beside(self) -> Iterator[tuple[BinaryIO, Path]]:
        path = self.root / f".{secrets.token_hex(8)}.{self.writer}{UNFINISHED}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file, path
        finally:
            path.unlink(missing_ok=True)

    def _finish(self, file: BinaryIO, path: Path, final: Path) -> None:
        file.flush()
        os.fsync(file.fileno())
        if not final.parent.is_dir():
            final.parent.mkdir(exist_ok=True, mode=0o700)
            self._new.add(final.parent)
        path.rename(final)

    def _sync_folder(self, folder: Path) -> None:
        sync(folder)
        if folder in self._new:
            sync(self.root)
            self._new.discard(folder)


class Aside:
    """A file that is nobody's exam yet. Its digest is taken of what passes, not read from the disk again.

    Attributes:
        file: Open for writing.
        path: Its name until it is adopted.
        size_bytes: Written so far.
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file, self.path, self.size_bytes = file, path, 0
        self._head: bytearray | None = bytearray()
        self._start: int | None = None
        self._digest = hashlib.sha256()
        self._on_its_way = 0

    def write(self, piece: bytes | bytearray | memoryview) -> None:
        """The next bytes."""
        self.file.write(piece)
        self.size_bytes += len(piece)
        if self.size_bytes - self._on_its_way >= _PIECE_BYTES:
            _begin_writing_back(self.file.fileno(), self._on_its_way, self.size_bytes - self._on_its_way)
            self._on_its_way = self.size_bytes
        if self._head is None:
            self._digest.update(piece)
            return
        self._head += piece
        if len(self._head) < _HEAD_BYTES:
            return
        with memoryview(self._head) as head:
            self._start = data_set_start(head)
            self._digest.update(head[self._start :])
        self._head = None

    def digest_from(self, start: int) -> str:
        """Of the file's bytes from a place on, which is where its data set begins."""
        if self._start == start:
            return self._digest.hexdigest()
        # A head that is short, or in which the place could not be found. Read, not mapped: four large objects would be a
        # hundred megabytes of ours.
        digest = hashlib.sha256()
        while piece := os.pread(self.file.fileno(), _PIECE_BYTES, start):
            digest.update(piece)
            start += len(piece)
        return digest.hexdigest()


def _begin_writing_back(descriptor: int, start: int, count: int) -> None:
    """Has the kernel write to the disk while the network goes on, so that the sync at the end finds little left to wait for."""
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):  # a hint: what the disk could not take, the sync says
            os.posix_fadvise(descriptor, start, count, os.POSIX_FADV_DONTNEED)


def _digest(uid: str) -> str:
    return hashlib.sha256(uid.strip("\0 ").encode()).hexdigest()[:_DIGITS]
