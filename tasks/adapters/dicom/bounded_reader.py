"""An open file whose reader believes no length beyond its end, and no end before its length."""

from __future__ import annotations

import errno
import os
from io import BufferedReader, FileIO
from typing import Any, Final

from schemas.errors import deferred_by

_SMALL: Final = 1 << 16


class BoundedReader(BufferedReader):
    """Reads a file; asked for more than it holds it gives what it holds, and makes no room for the rest first.

    A length field of four bytes in a file of two kilobytes would otherwise take four gigabytes, to be found empty.

    Args:
        descriptor: Of a plain file; it is closed with the reader.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(_WholeFile(descriptor))
        self._size = os.fstat(descriptor).st_size

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

    def readinto(self, buffer: Any, /) -> int:
        """As ``FileIO``; the system's errors are never such as content can cause."""
        got: int | None = 0
        try:
            got = super().readinto(buffer)
        except OSError as error:
            if deferred_by(error) is not None:
                raise
        if not got and memoryview(buffer).nbytes:
            self._require_end()
        return got or 0

    def readall(self) -> bytes:
        """As ``FileIO``."""
        content: bytes = super().readall()
        self._require_end()
        return content

    def _require_end(self) -> None:
        if self.tell() < os.fstat(self.fileno()).st_size:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
