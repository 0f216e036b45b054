"""S3 servers on loopback that are killed, one after the other: what each imports is imported once."""

from __future__ import annotations

import os
import signal
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mammo_tests.forking import Forking, forking
from mammo_tests.object_store import BUCKET, ENVIRONMENT
from mammo_tests.other_systems import until

_SERVER = """
import moto.s3.responses
from moto.server import main
def run(port):
    for told in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), told)
    main(["-p", port])
"""


class MortalStore:
    """A server's process. It keeps everything in memory: killed, and another started, there is an empty bucket."""

    def __init__(self, forks: Forking, port: int) -> None:
        self._forks = forks
        self._pid = forks.begin(port)
        self.exit_code: int | None = None

    def kill(self) -> None:
        """As a power cut does; it is gone when this returns."""
        if self.exit_code is None:
            os.kill(self._pid, signal.SIGKILL)
            deque(self._forks.lines(), maxlen=0)
            self.exit_code = self._forks.exit_code


@dataclass(frozen=True)
class MortalStores:
    """Starts servers, one at a time."""

    forks: Forking

    @contextmanager
    def on(self, port: int) -> Iterator[MortalStore]:
        """A server on a port, with its bucket; it ends with the block."""
        server = MortalStore(self.forks, port)
        try:
            assert until(lambda: _makes_bucket(port)), "the S3 server does not answer"
            yield server
        finally:
            server.kill()


@contextmanager
def mortal_stores() -> Iterator[MortalStores]:
    """The process that starts them, until the block ends."""
    with forking(_SERVER, env={**os.environ, **ENVIRONMENT}) as forks:
        yield MortalStores(forks)


def _makes_bucket(port: int) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/{BUCKET}", method="PUT")):
            return True
    except (urllib.error.URLError, OSError):
        return False
