"""Processes that serve as long as ``mammo serve`` does: most are started again when they die, the server ends it with it."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from deployments.server.prefect_server import end_with_parent
from deployments.server.server_trouble import nobody_listens
from schemas.errors import ConfigError, MammoError
from tasks.adapters.interpreter import LISTENING

_SECONDS_BEFORE_RESTART: Final = 5.0
_SECONDS_TO_LISTEN: Final = 300.0  # a busy machine imports for a minute
_SECONDS_BETWEEN_LOOKS: Final = 0.1


class Lasting(Protocol):
    """What is looked after while ``mammo serve`` runs."""

    def keep_alive(self) -> None:
        """Does what is to be done where it has ended; called now and then."""


@dataclass(frozen=True, slots=True)
class LastingServer:
    """The Prefect server, whoever has started it. Without it nothing that arrives is ingested, so nothing may go on without it.

    It is not started again here: runs and workers have lost it, and a new start of all of them makes up for that.

    Attributes:
        address: As http://127.0.0.1:4200.
        home: Its folder, with its log.
    """

    address: str
    home: Path

    def keep_alive(self) -> None:
        """Asks whether it is there: nobody listens at the port of a process that has ended. A busy one is left alone.

        Raises:
            MammoError: It has ended.
        """
        if nobody_listens(self.address):
            raise self.has_ended()

    def has_ended(self) -> MammoError:
        """What is said where it has."""
        return MammoError(
            "The Prefect server of mammo serve has ended, and mammo serve with it: nothing would be ingested without it",
            expected="that it runs until mammo serve is stopped",
            got=f"nobody listens at {self.address}",
            remedy=f"start mammo serve again, as a system service does by itself: what is finished is kept, what was going "
            f"on is resumed; {self.home / 'server.log'} may say why it ended",
        )


@dataclass(slots=True)
class LastingProcess:
    """One process.

    Attributes:
        command: Its arguments.
        log_path: What it says is added here.
        listens: It says so once it does.
    """

    command: list[str]
    log_path: Path
    listens: bool = False
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    log_start: int = 0

    def start(self) -> None:
        """Starts it; it ends with this process."""
        self.started_s = time.monotonic()
        with self.log_path.open("ab") as log:
            self.log_start = log.tell()
            self.process = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C reaches the command, which ends the process in its turn
                preexec_fn=end_with_parent,
                umask=0o077,
            )

    def wait_until_it_listens(self) -> None:
        """Returns once it says so; at once where it does not listen.

        Raises:
            ConfigError: It has ended, or says nothing.
        """
        while self.listens:
            has_ended = self.process is not None and self.process.poll() is not None  # before its log is read
            said = self._said()
            if any(line.startswith(LISTENING) for line in said):
                return
            if has_ended or time.monotonic() - self.started_s > _SECONDS_TO_LISTEN:
                raise ConfigError(
                    "A process of mammo serve does not listen, so nothing was left running",
                    expected="that it says so",
                    got=said[-1] if said else "nothing",
                    remedy=f"see {self.log_path}; where another program has the port, name another in the config",
                )
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    def keep_alive(self) -> None:
        """Starts it again if it has ended, not at once."""
        if self.process is None or self.process.poll() is None:
            return
        if time.monotonic() - self.started_s > _SECONDS_BEFORE_RESTART:
            self.start()

    def _said(self) -> list[str]:
        with self.log_path.open("rb") as log:
            log.seek(self.log_start)
            return log.read().decode(errors="replace").splitlines()
