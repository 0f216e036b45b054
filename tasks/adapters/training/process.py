"""Training seen from its task: a process of its own, or several under torchrun, that end when the task does.

A network that takes all memory, a CUDA context that is lost, a kill: the task's process survives and says what happened.
The child gets SIGKILL from the kernel when its parent dies, however that dies (prctl PR_SET_PDEATHSIG), torchrun's children
likewise; a task that is cancelled kills the whole process group.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import schemas.errors
from schemas.errors import MammoError, TrainingError
from tasks.adapters.interpreter import SAFE_ENVIRONMENT, THREADS_SLEEP_SOON, import_path, python_command
from tasks.adapters.training.request import MARK, TrainingRequest
from tasks.adapters.workspace import write_atomically

logger = logging.getLogger(__name__)

_LINES_KEPT = 40
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


def run_training(request: TrainingRequest, on_message: Callable[[Mapping[str, Any]], None], *, gpu: int | None = None) -> None:
    """Runs a request in ``request.fit.processes`` processes and passes on what they say.

    Args:
        request: What to do.
        on_message: Called with each message; an exception from it ends the training.
        gpu: The one GPU that the training may see; None = all that this process sees.

    Raises:
        MammoError: What the training raised, of the same type; a TrainingError if it died.
    """
    request_path = request.run_dir / "request.json"
    write_atomically(request_path, request.model_dump_json(indent=1).encode())
    process = subprocess.Popen(
        _command(request.fit.processes, str(request_path)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # its own group: one signal ends torchrun and all that it started
        env=_environment(gpu),
    )
    try:
        error, tail = _listened(process, on_message)
        code = process.wait()
    finally:
        _kill_group(process)
    if error is not None:
        raise _rebuilt(error)
    if code != 0:
        logger.error("the training process said last:\n%s", "\n".join(tail))
        raise TrainingError(
            "The training process ended before its work was done",
            got=f"signal {-code}" if code < 0 else f"exit code {code}; its last words are in the log",
            remedy="run the same command again: it goes on after the last checkpoint. Signal 9 is often too little memory: "
            "lower train.batch_exams or raise train.accumulation",
        )


# ---------------------------------------------------------------------------------------------------------------------


def _command(processes: int, request_path: str) -> list[str]:
    own_pid = str(os.getpid())
    if processes == 1:
        return python_command("-c", _BOOT, own_pid, request_path)
    torchrun = python_command("-c", _BOOT_TORCHRUN, own_pid, "--standalone", "--nproc-per-node", str(processes))
    return [*torchrun, "--no-python", *python_command("-c", _BOOT, "0", request_path)]


def _environment(gpu: int | None) -> dict[str, str]:
    """The environment of this process, with the modules it can import and, for one machine, traffic on loopback only."""
    changes = {**SAFE_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(import_path()), "GLOO_SOCKET_IFNAME": "lo"}
    if gpu is not None:
        changes["CUDA_VISIBLE_DEVICES"] = str(gpu)
    return {**THREADS_SLEEP_SOON, **os.environ, **changes}


def _listened(
    process: subprocess.Popen[str], on_message: Callable[[Mapping[str, Any]], None]
) -> tuple[Mapping[str, Any] | None, Sequence[str]]:
    error: Mapping[str, Any] | None = None
    tail: deque[str] = deque(maxlen=_LINES_KEPT)
    for line in process.stdout or ():
        if not line.startswith(MARK):
            tail.append(line.rstrip())
            continue
        message: dict[str, Any] = json.loads(line.removeprefix(MARK))
        if message["kind"] == "warning":
            logger.warning("%s", message["text"])
        elif message["kind"] != "error":
            on_message(message)
        elif error is None:  # of several processes the first to fail tells why
            error = message
    return error, tail


def _rebuilt(message: Mapping[str, Any]) -> MammoError:
    kind = getattr(schemas.errors, str(message["type"]), MammoError)
    error: MammoError = kind(str(message["message"]))
    return error


def _kill_group(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
