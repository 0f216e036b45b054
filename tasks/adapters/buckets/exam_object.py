"""A file of an exam that is an object of a bucket: what the listing said of it, and its bytes in a file without a name.

    descriptor = fetched(found)                            all of it
    descriptor = fetched(found, length=FIRST_BYTES)        as long as the object, and behind its first bytes nothing is there

The file has no name: nobody else opens it, and nothing is left of it, whatever ends the process. It lies in the folder for
temporary files of this process (``TMPDIR``). The object is the one that was listed, by its entity tag, or none.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from schemas.errors import FileDeferred, PeerRefused, PeerUnavailable, error_name

FIRST_BYTES: Final = 1 << 16
"""What a header is looked for in. Those of mammograms have a tenth of it, unless a private table comes before the pixels."""

AWAY: Final = "the object store does not answer"
"""Reason of a deferral: of the next object nothing else is to be expected."""

CHANGED: Final = "changed while it was read"
"""Reason of a deferral: another object is there than the one that was listed."""


@dataclass(frozen=True, slots=True)
class ExamObject:
    """An object as it was listed. Its key stays in memory, out of logs too: it may spell a name.

    Attributes:
        url: The bucket and the prefix.
        key: Below the prefix.
        etag: Changes when the content does; some servers make it of the content, so it stays in memory, too.
    """

    url: str
    key: str = field(repr=False)
    size_bytes: int
    etag: str = field(repr=False)

    @property
    def path(self) -> Path:
        """Its name among paths: its key below what ``ingest.source_dir`` is then. Not kept: a million take too much."""
        return Path(self.url) / self.key

    def __str__(self) -> str:
        """For the terminal of whoever asks where a file is."""
        return f"{self.url}/{self.key}"


def fetched(found: ExamObject, *, length: int | None = None) -> int:
    """A descriptor of a file without a name that holds an object, or its first bytes and a hole as long as the rest.

    Raises:
        FileDeferred: The object is gone, is another one by now, may not be read, or the server does not answer.
        ConfigError: The client is not installed here, or the environment does not say where the server is.
    """
    with tempfile.TemporaryFile() as file:
        reason = ""
        try:
            for part in _parts(found, length):
                file.write(part)
            file.flush()
            expected = found.size_bytes if length is None else min(length, found.size_bytes)
            if file.tell() != expected:
                reason = error_name(OSError(errno.EIO, ""))
            file.truncate(found.size_bytes)
            file.seek(0)
        except _Reason as why:
            reason = why.args[0]
        except OSError as error:  # of the disk of temporary files
            reason = error_name(error)
        if reason:
            raise FileDeferred.because(reason)
        return os.dup(file.fileno())


class _Reason(Exception):
    pass


def _parts(found: ExamObject, length: int | None) -> Iterable[bytes | memoryview]:
    """The bytes; trouble of the server is told apart from trouble of the disk that they are written to."""
    if not found.size_bytes:
        return
    from tasks.adapters.buckets.bucket import Bucket, PutLost  # late: an extra, of which a folder of files knows nothing

    bucket = Bucket(found.url)
    try:
        if length is None:
            yield from bucket.parts(found.key, if_match=found.etag)
        else:
            length = min(length, found.size_bytes)
            yield bucket.get(found.key, if_match=found.etag, length=length)[0]
        return
    except PeerUnavailable:
        reason = AWAY
    except PeerRefused:
        reason = "EACCES"
    except FileNotFoundError:
        reason = "ENOENT"
    except PutLost:
        reason = CHANGED
    raise _Reason(reason)
