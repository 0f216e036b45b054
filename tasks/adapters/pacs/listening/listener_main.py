"""The listener as a process: started by ``mammo serve`` and ``mammo pacs listen``, it ends with a signal.

``python -m tasks.adapters.pacs.listening.listener_main FILE``: a JSON file with the sections that it needs (``Listening``).
One line on standard output says that it listens; what it logs afterwards are counts and warnings.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.config.pacs import PacsConfig
from schemas.config.section import Config
from schemas.errors import MammoError
from tasks.adapters.interpreter import python_command, say_listening
from tasks.adapters.lock import held_lock
from tasks.adapters.pacs.peers import require_extra
from tasks.adapters.workspace import write_atomically

if TYPE_CHECKING:
    from tasks.adapters.pacs.listening.listener import Listener


class Listening(Config):
    """What the process is asked for."""

    pacs: PacsConfig
    inbox_dir: Path


def listener_command(pacs: PacsConfig, inbox_dir: Path, home: Path) -> list[str]:
    """The command that starts the process; leaves the file that it reads in ``home``, the owner's only."""
    path = home / "listener.json"
    write_atomically(path, Listening(pacs=pacs, inbox_dir=inbox_dir).model_dump_json().encode())
    return python_command("-m", "tasks.adapters.pacs.listening.listener_main", str(path))


def listen(asked: Listening, ready: Callable[[Listener], None]) -> None:
    """Listens until SIGTERM or Ctrl-C; what is being received then is not kept, and its sender is told nothing.

    Args:
        asked: Who we are and where exams go.
        ready: Called with the listener when it listens.

    Raises:
        ConfigError: It cannot listen.
        StoreBusy: Another listener writes into this folder.
    """
    require_extra()
    from tasks.adapters.pacs.listening.listener import Listener  # late: it brings pydicom

    listener = Listener(asked.pacs, asked.inbox_dir)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    listener.arrivals.prepare()
    with held_lock(listener.arrivals.lock_dir, purpose="listener"):
        server = listener.start()
        ready(listener)
        ended.wait()
        server.shutdown()


def main() -> None:
    """The process."""
    os.umask(0o077)
    log = logging.StreamHandler()
    log.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(log)
    logging.getLogger().setLevel(logging.INFO)
    try:
        asked = Listening.model_validate_json(Path(sys.argv[1]).read_bytes())
        listen(asked, lambda listener: say_listening(listener.limits.port))
    except MammoError as error:
        sys.exit(f"mammo: {error}")


if __name__ == "__main__":
    main()
