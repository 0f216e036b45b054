"""A process that has imported what a program needs and forks it as often as it is asked: all runs together cost one import."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_LOOP = """
gc.freeze()
gc.enable()
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        print("begun", os.getpid(), flush=True)
        run(line.rstrip())
        os._exit(0)
    print("\x04ended", os.waitpid(pid, 0)[1], flush=True)
"""


class Forking:
    """Runs the function ``run(argument)`` of a program, one run at a time.

    Attributes:
        exit_code: Of the run that ended last; minus the signal that killed it.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.exit_code: int | None = None

    def begin(self, argument: object) -> int:
        """Starts a run; its process id."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{argument}\n")
        self._process.stdin.flush()
        begun, pid = self._process.stdout.readline().split()
        assert begun == "begun"
        return int(pid)

    def lines(self) -> Iterator[str]:
        """What the run prints, to its end; a line that a killed run had not finished is not said.

        Where PYTHONUNBUFFERED is set, ``print`` writes a line and its end one after the other, and a kill comes between
        the two: the next thing that is printed then stands in the same line.
        """
        assert self._process.stdout is not None
        for line in self._process.stdout:
            _unfinished, ended, status = line.partition("\x04ended")
            if ended:
                self.exit_code = os.waitstatus_to_exitcode(int(status))
                return
            yield line.strip()


@contextmanager
def forking(program: str, *arguments: str, env: Mapping[str, str] | None = None) -> Iterator[Forking]:
    """The process, until the block ends; the program finds the arguments in ``sys.argv``. Errors go where this process's do."""
    command = [sys.executable, "-P", "-c", f"import gc, os, sys\ngc.disable()\n{program}{_LOOP}", *arguments]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True, env=env
    )
    with process:
        try:
            yield Forking(process)
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(timeout=600) == 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
