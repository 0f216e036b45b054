"""Training seen from its task: a process of its own, or several under torchrun, that end when the task does.

A network that takes all memory, a CUDA context that is lost, a kill: the task's process survives and says what happened.
The child gets SIGKILL from the kernel when its parent dies, however that dies (prctl PR_SET_PDEATHSIG), torchrun's children
likewise; a task that is cancelled kills the whole process group.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import schemas.errors
from schemas.errors import ConfigError, MammoError, TrainingError
from tasks.adapters.interpreter import SAFE_ENVIRONMENT, THREADS_SLEEP_SOON, import_path, python_command
from tasks.adapters.training.request import TrainingRequest, said_in
from tasks.adapters.workspace import write_atomically

logger = logging.getLogger(__name__)

_LINES_KEPT = 40
_VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
# torchrun's own process: argv is parent's pid, then what torchrun gets.
_BOOT_TORCHRUN: Final = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
del sys.argv[1]
from torch.distributed.run import main
main()
"""
# A training process: argv is its parent's pid (0 = torchrun's, not known here) and the request.
_BOOT: Final = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]) and (int(sys.argv[1]) or os.getppid() == 1):
    os._exit(1)
from tasks.adapters.interpreter import imported_at_once
with imported_at_once():
    from tasks.adapters.training.process_main import main
main(sys.argv[2])
"""


def run_training(
    request: TrainingRequest,
    on_message: Callable[[Mapping[str, Any]], None],
    *,
    gpu: int | None = None,
    patience_s: float = 30.0,
) -> None:
    """Runs a request in ``request.fit.processes`` processes and passes on what they say.

    Args:
        request: What to do.
        on_message: Called with each message; an exception from it ends the training.
        gpu: The one GPU that the training may see; None = all that this process sees.
        patience_s: A process that has said its error and has not ended by then, as one that hangs with others, is ended.

    Raises:
        MammoError: What the training raised, of the same type; a TrainingError if it died.
    """
    request_path = request.run_dir / "request.json"
    write_atomically(request_path, request.model_dump_json(indent=1).encode())
    asked = request_path.stat()
    process = subprocess.Popen(
        _command(request.fit.processes, str(request_path)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # its own group: one signal ends torchrun and all that it started
        env=training_environment(gpu),
    )
    try:
        error, tail = _listened(process, on_message, patience_s)
        code = process.wait()
    finally:
        _kill_group(process)
    if error is not None:
        _forget_refused(request_path, asked)
        raise _rebuilt(error)
    if code != 0:
        logger.error("the training process said last:\n%s", "\n".join(tail))
        raise TrainingError(
            "The training process ended before its work was done",
            got=f"signal {-code}" if code < 0 else f"exit code {code}; its last words are in the log",
            remedy="run the same command again: it goes on after the last checkpoint. Signal 9 is often too little memory: "
            "lower train.batch_exams or raise train.accumulation",
        )


def training_environment(gpu: int | None) -> dict[str, str]:
    """The environment of this process, with the modules it can import and, for one machine, traffic on loopback only.

    A GPU is counted among those that this process may see: a scheduler gave it these, and the others are not its own.

    Raises:
        ConfigError: It may not see so many.
    """
    changes = {**SAFE_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(import_path()), "GLOO_SOCKET_IFNAME": "lo"}
    inherited = {**THREADS_SLEEP_SOON, **os.environ}
    visible = inherited.get(_VISIBLE)
    if gpu is None:
        return {**inherited, **changes}
    if visible is None:
        return {**inherited, **changes, _VISIBLE: str(gpu)}
    names = [name.strip() for name in visible.split(",") if name.strip()]
    if gpu >= len(names):
        raise ConfigError(
            f"search.workers.devices names GPU {gpu}, which this process may not see",
            expected=f"numbers below {len(names)}: they count the GPUs of {_VISIBLE}",
            got=f"{_VISIBLE}={visible}",
            remedy=f"name devices from 0, or widen {_VISIBLE}",
        )
    return {**inherited, **changes, _VISIBLE: names[gpu]}


# ---------------------------------------------------------------------------------------------------------------------


def _command(processes: int, request_path: str) -> list[str]:
    own_pid = str(os.getpid())
    if processes == 1:
        return python_command("-c", _BOOT, own_pid, request_path)
    torchrun = python_command("-c", _BOOT_TORCHRUN, own_pid, "--standalone", "--nproc-per-node", str(processes))
    return [*torchrun, "--no-python", *python_command("-c", _BOOT, "0", request_path)]


def _listened(
    process: subprocess.Popen[str], on_message: Callable[[Mapping[str, Any]], None], patience_s: float
) -> tuple[Mapping[str, Any] | None, Sequence[str]]:
    error: Mapping[str, Any] | None = None
    tail: deque[str] = deque(maxlen=_LINES_KEPT)
    last_call = threading.Timer(patience_s, _kill, [process])
    last_call.daemon = True
    try:
        for line in process.stdout or ():
            message = said_in(line)
            if message is None:
                tail.append(line.rstrip())
            elif message["kind"] == "warning":
                logger.warning("%s", message["text"])
            elif message["kind"] != "error":
                on_message(message)
            elif error is None:  # of several processes the first to fail tells why
                error = message
                last_call.start()  # the others may wait for it in an exchange that never ends
    finally:
        last_call.cancel()
    return error, tail


def _forget_refused(request_path: Path, asked: os.stat_result) -> None:
    """What was refused before it began leaves no folder; where another process has asked since, or has begun, it is theirs."""
    with contextlib.suppress(OSError):  # the other was refused too and was first; or it has begun, and the folder is not empty
        if [path.name for path in request_path.parent.iterdir()] == [request_path.name] and os.path.samestat(
            request_path.stat(), asked
        ):
            request_path.unlink()
            request_path.parent.rmdir()


def _rebuilt(message: Mapping[str, Any]) -> MammoError:
    kind = getattr(schemas.errors, str(message["type"]), MammoError)
    error: MammoError = kind(str(message["message"]))
    return error


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _kill_group(process: subprocess.Popen[str]) -> None:
    _kill(process)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
