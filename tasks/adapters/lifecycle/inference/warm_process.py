"""A process that stays, with the network loaded, and answers ``mammo infer`` of the same workspace and config.

It listens on a socket in the workspace (``infer/socket``, the owner's only), which nobody reaches over a network. A question is
a line of JSON with two folders, the answer a line of JSON: the result as it lies in the output folder. Paths may spell a name:
they are in no log. Questions are answered one after the other.

Nothing heavy is imported here before a question is to be answered: who only asks has no need of a network.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from schemas.config.run import RunConfig
from schemas.errors import MammoError, PeerUnavailable
from schemas.reports.life.inferred import InferResult
from tasks.adapters.lock import held_lock
from tasks.adapters.workspace import Workspace

_SOCKET: Final = "socket"
_QUESTION_S: Final = 10.0
_LONGEST_QUESTION: Final = 2**16
_WAITING: Final = 64


def asked(config: RunConfig, source_dir: Path, out_dir: Path) -> InferResult | None:
    """The answer of the process that stays for this workspace; None if there is none, or it is of another config or release.

    Raises:
        MammoError: The output folder cannot be written, or one folder lies in the other.
        PeerUnavailable: The process ended before it answered.
    """
    question = {"config": _identity(config), "source_dir": str(source_dir), "out_dir": str(out_dir)}
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            with _address(Workspace(config.workspace_dir).scoring_dir) as address:
                connection.connect(address)
            connection.sendall(json.dumps(question).encode() + b"\n")
            with connection.makefile("rb") as stream:
                said = json.loads(stream.readline() or b"null")
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except (OSError, ValueError) as broken:
            raise _gone() from broken
    if said is None:
        raise _gone()
    if "error" in said:
        raise _Told(said["error"], said["exit_code"])
    return None if said.get("is_other") else InferResult.model_validate(said)


class WarmProcess:
    """The side that answers. One at a time in a workspace; it may begin before there are weights.

    Raises:
        StoreBusy: Another process does that here.
    """

    def __init__(self, config: RunConfig) -> None:
        from tasks.adapters.lifecycle.inference.scorer import Scorer  # late: torch

        self._config = config
        with ExitStack() as opened:
            folder = Workspace(config.workspace_dir).scoring_dir
            opened.enter_context(held_lock(folder, purpose="scoring"))
            self._scorer = opened.enter_context(Scorer(config))
            self._listener = opened.enter_context(socket.socket(socket.AF_UNIX))
            (folder / _SOCKET).unlink(missing_ok=True)  # a killed one's
            with _address(folder) as address:
                self._listener.bind(address)
            opened.callback((folder / _SOCKET).unlink, missing_ok=True)
            (folder / _SOCKET).chmod(0o600)
            self._listener.listen(_WAITING)
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._opened.close()

    def load(self) -> None:
        """Loads the weights before the first question comes.

        Raises:
            MammoError: There are none, or they may not be used: it is asked again with every question.
        """
        self._scorer.ready()

    def answer_next(self) -> None:
        """Waits for the next question and answers it; one that nobody understands, or of another user, is not answered."""
        from tasks.adapters.lifecycle.inference.folder_contract import answer

        connection, _ = self._listener.accept()
        with connection:
            question = _question(connection)
            if question is None:
                return
            if question["config"] != _identity(self._config):
                said = json.dumps({"is_other": True})
            else:
                try:
                    folders = Path(question["source_dir"]), Path(question["out_dir"])
                    said = answer(self._config, self._scorer, *folders).model_dump_json()
                except MammoError as error:
                    said = json.dumps({"error": str(error), "exit_code": error.exit_code})
            with suppress(OSError):  # who asked is gone; the result lies in its folder
                connection.sendall(said.encode() + b"\n")


# ---------------------------------------------------------------------------------------------------------------------


class _Told(MammoError):
    """An error that the process met, as it said it."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code  # type: ignore[misc]  # of this error: it is one of many


def _question(connection: socket.socket) -> dict[str, str] | None:
    peer = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    if peer[1] != os.getuid():
        return None
    connection.settimeout(_QUESTION_S)
    try:
        with connection.makefile("rb") as stream:
            question = json.loads(stream.readline(_LONGEST_QUESTION))
    except (OSError, ValueError):
        return None
    is_whole = isinstance(question, dict) and all(
        isinstance(question.get(name), str) for name in ("config", "source_dir", "out_dir")
    )
    return question if is_whole else None


def _identity(config: RunConfig) -> str:
    return hashlib.sha256(f"{version('mammography-gmic')} {config.model_dump_json()}".encode()).hexdigest()


@contextmanager
def _address(folder: Path) -> Iterator[str]:
    """A socket's address may have 108 bytes; a workspace's path may have more, so the folder goes by its descriptor."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{_SOCKET}"
    finally:
        os.close(descriptor)


def _gone() -> PeerUnavailable:
    return PeerUnavailable("The scoring process ended before it answered", remedy="run the same command again")
