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
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from tasks.adapters.pacs.encoded_object import Incomplete, Named, whole_file
from tasks.adapters.workspace import UNFINISHED, sync

_DIGITS: Final = 24
_CONTENT_DIGITS: Final = 12
_PIECE_BYTES: Final = 1 << 20
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

    @property
    def lock_dir(self) -> Path:
        """Held by the one process of this writer; hidden, so that nobody takes it for an exam."""
        return self.root / f".{self.writer}"

    def sweep(self) -> int:
        """Deletes what a killed process left unfinished: nobody was told that it arrived. One process of a writer at a time."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
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
        with self.aside() as (file, path):
            file.write(head)
            file.write(content)
            self._finish(file, path, final)
        return True

    @contextmanager
    def aside(self) -> Iterator[tuple[BinaryIO, Path]]:
        """A file to write that is nobody's exam yet, the owner's only; gone when the block ends, unless it was ``adopted``.

        Raises:
            OSError: The disk is full or the folder cannot be written.
        """
        path = self.root / f".{secrets.token_hex(8)}.{self.writer}{UNFINISHED}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file, path
        finally:
            path.unlink(missing_ok=True)

    def adopt(self, file: BinaryIO, path: Path, *, sop_uid: str) -> bool:
        """Gives a file that was written aside its place, if it is whole and the object that was asked for. True if it is new.

        Raises:
            Incomplete: It is not.
            OSError: The disk is full or the folder cannot be written.
        """
        file.flush()
        if os.fstat(file.fileno()).st_size == 0:
            raise Incomplete("What arrived is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as content:
            named, start = whole_file(content)
        digest = _digest_from(file.fileno(), start)  # read, not mapped: four large objects would be a hundred megabytes of ours
        if named.sop_uid != sop_uid:
            raise Incomplete("Another object arrived than was asked for")
        final = self._place(named, digest)
        if final.exists():
            return False
        self._finish(file, path, final)
        return True

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

    def _finish(self, file: BinaryIO, path: Path, final: Path) -> None:
        file.flush()
        os.fsync(file.fileno())
        is_new_folder = not final.parent.is_dir()
        final.parent.mkdir(exist_ok=True, mode=0o700)
        path.rename(final)
        sync(final.parent)
        if is_new_folder:
            sync(self.root)


def _digest_from(descriptor: int, start: int) -> str:
    """Of a file's bytes from a place on."""
    digest = hashlib.sha256()
    while piece := os.pread(descriptor, _PIECE_BYTES, start):
        digest.update(piece)
        start += len(piece)
    return digest.hexdigest()


def _digest(uid: str) -> str:
    return hashlib.sha256(uid.strip("\0 ").encode()).hexdigest()[:_DIGITS]
