"""The lease of the one writer of a store in a bucket: an object that only one can make, renewed while the writer lives.

It ends by itself ``LEASE`` after its last renewal, by the server's clock alone: who asks puts an object of its own and compares
what the server says of both. No machine's clock is asked, so none need be right.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

from schemas.errors import MammoError, StoreBusy
from tasks.adapters.buckets.bucket import Bucket, PutLost, bucket_at

logger = logging.getLogger(__name__)

LEASE: Final = timedelta(minutes=10)
"""After its last renewal a lease has run out, and others may take it."""
_RENEWALS: Final = 5
"""In the time of a lease: four may fail before somebody else may take it."""
_SECONDS_BETWEEN_TRIES: Final = 2.0
WRITER: Final = "writer.json"
"""Name of the lease below a store's address."""


@contextmanager
def held_lease(url: str, *, purpose: str, wait_s: float = 0.0, lasts: timedelta = LEASE) -> Iterator[None]:
    """Holds the lease of an address for one writer; without an address it holds nothing.

    Args:
        url: Of the store.
        purpose: What for: named to others who want it meanwhile.
        wait_s: How long to wait for another writer.
        lasts: After its last renewal.

    Raises:
        StoreBusy: Another holds it, still after ``wait_s``; the message names its pid, host and purpose.
        PeerUnavailable: The object store cannot be asked.
    """
    if not url:
        yield
        return
    bucket = bucket_at(url)
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "purpose": purpose, "id": uuid4().hex}
    deadline_s = time.monotonic() + wait_s
    while (etag := _taken(bucket, holder, lasts)) is None:
        if time.monotonic() >= deadline_s:
            raise StoreBusy(
                f"The store at {url} is in use",
                expected="one writer at a time",
                got=_named(bucket),
                remedy=f"wait for it to end, or stop it; if its machine is gone, {lasts.total_seconds() / 60:.0f} minutes",
            )
        time.sleep(_SECONDS_BETWEEN_TRIES)
    renewed = _Renewed(bucket, holder, etag, lasts)
    try:
        yield
    finally:
        renewed.end()


class _Renewed:
    """Renews a lease in a thread until it is ended, or another has taken it."""

    def __init__(self, bucket: Bucket, holder: dict[str, Any], etag: str, lasts: timedelta) -> None:
        self._bucket, self._holder, self._etag = bucket, holder, etag
        self._every_s, self._ended = lasts.total_seconds() / _RENEWALS, threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def _renew(self) -> None:
        renewals = 0
        while not self._ended.wait(self._every_s):
            renewals += 1
            try:
                self._etag = self._bucket.put(WRITER, _content(self._holder, renewals), instead_of=self._etag)
            except PutLost:
                logger.error(
                    "ALERT another writer has taken the lease of %s: what this run publishes will be refused", self._bucket.url
                )
                return
            except MammoError as trouble:
                logger.warning("the lease of %s could not be renewed: %s", self._bucket.url, trouble)

    def end(self) -> None:
        """Gives the lease back, if it is still ours."""
        self._ended.set()
        self._thread.join()
        with suppress(MammoError):  # it runs out by itself
            there = self._bucket.head(WRITER)
            if there is not None and there.etag == self._etag:
                self._bucket.delete(WRITER)


def _taken(bucket: Bucket, holder: dict[str, Any], lasts: timedelta) -> str | None:
    """The entity tag of the lease that is ours now; None = another's."""
    with suppress(PutLost):
        return bucket.put(WRITER, _content(holder, 0), is_new=True)
    with suppress(PutLost):
        there = bucket.head(WRITER)
        if there is None:
            return bucket.put(WRITER, _content(holder, 0), is_new=True)
        asked = f"{WRITER}.asked-{uuid4().hex}"
        bucket.put(asked, b"")
        now = bucket.head(asked)
        bucket.delete(asked)
        if now is not None and now.modified - there.modified > lasts:
            return bucket.put(WRITER, _content(holder, 0), instead_of=there.etag)
    return None


def _content(holder: dict[str, Any], renewals: int) -> bytes:
    """Of each renewal another one: equal content has an equal entity tag, which would tell nobody of it."""
    return json.dumps({**holder, "renewals": renewals}).encode()


def _named(bucket: Bucket) -> str:
    try:
        holder = json.loads(bucket.get(WRITER)[0])
        return f"{holder['purpose']} by pid {holder['pid']} on {holder['host']}"
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return "another process"
