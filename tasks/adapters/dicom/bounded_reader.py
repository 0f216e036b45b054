"""An open file whose reader believes no length beyond its end."""

from __future__ import annotations

import os
from io import BufferedReader, FileIO
from typing import Final

_SMALL: Final = 1 << 16


class BoundedReader(BufferedReader):
    """Reads a file; asked for more than it holds it gives what it holds, and makes no room for the rest first.

    A length field of four bytes in a file of two kilobytes would otherwise take four gigabytes, to be found empty.

    Args:
        descriptor: Of a plain file; it is closed with the reader.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(FileIO(descriptor))
        self._size = os.fstat(descriptor).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """At most ``size`` bytes from where the reader is."""
        if size is not None and size > _SMALL:
            size = min(size, max(0, self._size - self.tell()))
        return super().read(size)
