"""An open file whose reader believes no length beyond its end, and no end before its length."""

from __future__ import annotations

import errno
import os
import sys
from io import BufferedReader, FileIO
from types import TracebackType
from typing import Any, Final

from schemas.errors import FileDeferred, deferred_by

_SMALL: Final = 1 << 16

BEYOND: Final = "beyond what is here"
"""Reason of a deferral: of a file whose first bytes are here more was read."""


class BoundedReader(BufferedReader):
    """Reads a file; asked for more than it holds it gives what it holds, and makes no room for the rest first.

    A length field of four bytes in a file of two kilobytes would otherwise take four gigabytes, to be found empty.

    Args:
        descriptor: Of a plain file; it is closed with the reader.
        present_bytes: Only so many of its first bytes are here, and behind them there is a hole; None = it is whole. Whoever
            leaves the reader, with or without an error, after a byte of the hole was read gets FileDeferred (``BEYOND``):
            nothing that was found out tells anything of the file.
    """

    def __init__(self, descriptor: int, *, present_bytes: int | None = None) -> None:
        self._file = _WholeFile(descriptor, present_bytes)
        super().__init__(self._file)
        self._size = os.fstat(descriptor).st_size

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /) -> None:
        """Closes it; see ``present_bytes``."""
        super().__exit__(kind, error, trace)
        if self._file.has_read_beyond:
            raise FileDeferred.because(BEYOND) from None

    def read(self, size: int | None = -1, /) -> bytes:
        """At most ``size`` bytes from where the reader is.

        Raises:
            OSError: The disk or the share fails: also if it gives nothing more, and the file goes on (EIO).
        """
        if size is not None and size > _SMALL:
            size = min(size, max(0, self._size - self.tell()))
        return super().read(size)


class _WholeFile(FileIO):
    """A share that is going away can say that a file ends where it does not. Its content must not be blamed for that.

    A file that was made shorter meanwhile ends where it says: that it changed is noticed by its size.
    """

    def __init__(self, descriptor: int, present_bytes: int | None) -> None:
        super().__init__(descriptor)
        self._present_bytes = sys.maxsize if present_bytes is None else present_bytes
        self.has_read_beyond = False

    def _read_to(self, end: int) -> None:
        self.has_read_beyond |= end > self._present_bytes

    def readinto(self, buffer: Any, /) -> int:
        """As ``FileIO``; the system's errors are never such as content can cause."""
        got: int | None = 0
        try:
            got = super().readinto(buffer)
        except OSError as error:
            if deferred_by(error) is not None:
                raise
        self._read_to(self.tell())
        if not got and memoryview(buffer).nbytes:
            self._require_end()
        return got or 0

    def readall(self) -> bytes:
        """As ``FileIO``."""
        content: bytes = super().readall()
        self._read_to(self.tell())
        self._require_end()
        return content

    def _require_end(self) -> None:
        if self.tell() < os.fstat(self.fileno()).st_size:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
