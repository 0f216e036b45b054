"""The gate's child process, seen from its parent: foreign files are read there, so what they break is not the run.

    child = child_of_this_thread(limits)
    image = child.prepare(PrepareImage(...))      raises GateRejection: F10 took too long, F11 too much memory or a crash
                                                  raises FileDeferred: what failed was not the file

A file is deferred, not refused, when the disk or the share answers with an error, when a time-out comes while its bytes are
awaited, and when somebody else ends the child: the kernel that is out of memory, or an operator.

The child opens no file, and has no way to (``walls``): it gets a descriptor of the one at hand, which is opened here.

One child serves one thread, file after file, and is started again after a crash, a time-out, trouble with memory, or
``files_per_child`` files. It is a plain subprocess: Dask's workers are daemonic and may have no children by multiprocessing.
Pixels come back through anonymous shared memory, which has no name to be left behind; every number about them is checked.
"""

from __future__ import annotations

import ctypes
import json
import logging
import mmap
import os
import pickle
import signal
import socket
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gmic_model.preprocess import PreparedView
from schemas.config.ingest import GateLimits
from schemas.errors import FileDeferred, GateChildFailed, GateRejection, MammoError
from schemas.exam import ImageRecord
from tasks.adapters.buckets.exam_object import FIRST_BYTES
from tasks.adapters.dicom.bounded_reader import BEYOND
from tasks.adapters.gate.messages import (
    ANSWER,
    MEMORY,
    PIXELS_BYTES,
    READ_AT,
    SHARED_BYTES,
    Answer,
    DrawThumbnail,
    Errand,
    InspectHeader,
    PreparedImage,
    PrepareImage,
    Request,
    receive,
    send,
)
from tasks.adapters.gate.opening import opened_for
from tasks.adapters.interpreter import import_path, python_command
from tasks.adapters.pseudonyms import Pseudonyms, open_key

logger = logging.getLogger(__name__)

_START_TIMEOUT_S: Final = 60.0
_FROM_OUTSIDE: Final = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""Signals that no decoder's crash raises: the kernel out of memory sends the first, people and batch systems the others."""
_LIBC: Final = ctypes.CDLL(None)
# One thread per library: a pool per core would take the address space that is meant for the file. Set before numpy is imported.
# pydicom brings requests and tqdm in to download its samples: a child has no network, and starts quicker without them. Nor does
# pydantic look through all that is installed for plugins.
_BOOT: Final = """
import os, sys, json
os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", PYDANTIC_DISABLE_PLUGINS="__all__")
sys.modules.update(requests=None, tqdm=None)
sys.path[:] = json.loads(sys.argv[1])
from tasks.adapters.interpreter import imported_at_once
with imported_at_once():
    from tasks.adapters.gate.child_main import serve
serve(*(int(argument) for argument in sys.argv[2:]))
"""


DEFAULT_LIMITS: Final = GateLimits()


class _Lost(Exception):
    """The child died or did not answer in time; says which, so that the file gets its reason code.

    Attributes:
        deferral: Why it is not the file's doing; "" = it is.
    """

    def __init__(self, code: str, got: str, *, deferral: str = "") -> None:
        super().__init__(got)
        self.code, self.got, self.deferral = code, got, deferral


class GateChild:
    """Starts the child when it is first asked. Not for sharing between threads."""

    def __init__(self, limits: GateLimits = DEFAULT_LIMITS) -> None:
        self.limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._memory: mmap.mmap | None = None
        self._files_served = 0
        self._is_worn = False
        self._walls: tuple[str, ...] = ()
        self._pseudonyms: dict[Path, Pseudonyms] = {}
        self._owner_pid = os.getpid()

    def __enter__(self) -> GateChild:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The running child's process id."""
        return None if self._process is None else self._process.pid

    def walls(self) -> tuple[str, ...]:
        """What stands around the child (``walls.ALL_WALLS``), which is started for it.

        Raises:
            GateChildFailed: It does not start.
        """
        self._start_if_needed()
        return self._walls

    def inspect(self, request: InspectHeader) -> ImageRecord:
        """Takes a header through the gate.

        Raises:
            GateRejection: The file is refused, or broke the child (F10, F11).
            FileDeferred: It cannot be read at the moment.
        """
        record = self._ask_of_header(request).record
        if record is None:
            raise _nonsense()
        return record

    def mask_fault(self, request: InspectHeader) -> str:
        """Why the request's mask cannot be used for the image whose header it names, in words; "" = it can.

        Raises:
            GateRejection, FileDeferred: As ``inspect``.
        """
        return self._ask_of_header(request).mask_fault

    def prepare(self, request: PrepareImage) -> PreparedImage:
        """Takes a file through the whole gate and crops it.

        Raises:
            GateRejection: The file is refused, or broke the child (F10, F11).
            FileDeferred: It cannot be read at the moment.
        """
        answer = self._ask(request)
        if answer.record is None or answer.geometry is None:
            raise _nonsense()
        pixels_HW = self._shared(answer.shape_px, np.uint16, offset=0)
        mask_HW = self._shared(answer.shape_px, np.uint8, offset=pixels_HW.nbytes) if answer.has_mask else None
        return PreparedImage(
            record=answer.record,
            prepared=PreparedView(
                pixels_HW=pixels_HW,
                geometry=answer.geometry,
                tissue_fraction=answer.tissue_fraction,
                seen_fraction=answer.seen_fraction,
            ),
            lesion_seen_fraction=answer.lesion_seen_fraction,
            lesions_beyond=answer.lesions_beyond,
            mask_HW=mask_HW,
            is_mask_unusable=bool(answer.mask_fault),
            pixel_sha256=answer.pixel_sha256,
            warnings=answer.warnings,
            background_median=answer.background_median,
        )

    def thumbnail(self, request: DrawThumbnail) -> NDArray[np.uint8]:
        """A small grey picture, shape (rows, columns), of whatever decodes; no rule is asked.

        Raises:
            GateRejection: It does not decode.
        """
        return self._shared(self._ask(request).shape_px, np.uint8, offset=0)

    def close(self) -> None:
        """Ends the child at once; what it held is gone with it."""
        process, self._process = self._process, None
        if process is not None and os.getpid() == self._owner_pid:  # a forked copy of the parent must not end it
            process.kill()
            process.wait()
        if self._connection is not None:
            self._connection.close()
        if self._memory is not None:
            self._memory.close()
        self._connection = self._memory = None

    # ---------------------------------------------------------------------------------------------------------- inside

    def _ask_of_header(self, request: InspectHeader) -> Answer:
        """Asks with the first bytes of an object, and with all of it where the child read on, or broke off."""
        if request.stored is not None and not request.with_digest and request.stored.size_bytes > FIRST_BYTES:
            try:
                return self._ask(replace(request, present_bytes=FIRST_BYTES))
            except FileDeferred as deferred:
                if deferred.reason != BEYOND:
                    raise
            except GateRejection as rejection:
                if not {"F10", "F11"} & set(rejection.reason_codes):
                    raise
        return self._ask(request)

    def _ask(self, request: Request) -> Answer:
        for _ in range(2):
            errand = Errand(request=request, pseudonyms=self._key_of(request))
            descriptors = opened_for(request, self.limits.timeout_s)
            try:
                self._start_if_needed()
                is_fresh = self._files_served == 0
                answer = self._exchange(errand, descriptors)
            except _Lost as lost:
                self.close()
                # A crash may be the late effect of an earlier file: only a fresh child's crash is this file's doing.
                if is_fresh or lost.code == "F10":
                    raise FileDeferred.because(lost.deferral) if lost.deferral else _refusal(lost) from None
                continue
            except BaseException:  # Ctrl-C while waiting: the answer on its way must not be taken for the next file's
                self.close()
                raise
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
            self._files_served += 1
            self._is_worn = answer.is_worn or self._files_served >= self.limits.files_per_child
            if answer.deferral == MEMORY or (answer.refusal is not None and "F11" in answer.refusal.rules):
                self.close()
                if not is_fresh:  # earlier files may have left too little
                    continue
            if answer.deferral:
                raise FileDeferred.because(answer.deferral)
            if answer.refusal is not None:
                raise GateRejection.of(answer.refusal)
            return answer
        raise AssertionError  # the second child is fresh

    def _key_of(self, request: Request) -> Pseudonyms | None:
        """The key of the request's pseudonyms, read once for each child."""
        if isinstance(request, DrawThumbnail):
            return None
        gate = request.gate
        try:
            made = self._pseudonyms[gate.key_path] = self._pseudonyms.get(gate.key_path) or open_key(gate.key_path)
        except MammoError as error:  # it tells nothing of the file
            raise FileDeferred.because(type(error).__name__) from None
        if gate.key_id not in ("", made.key_id):  # another file was put there: no store holds pseudonyms of two keys
            raise FileDeferred.because("ConfigError")
        return made

    def _start_if_needed(self) -> None:
        if self._process is not None and self._process.poll() is None and not self._is_worn:
            return
        self.close()
        ours, theirs = socket.socketpair()
        pixels_fd = os.memfd_create("gate-pixels")
        try:
            os.ftruncate(pixels_fd, SHARED_BYTES)
            self._connection, self._memory = ours, mmap.mmap(pixels_fd, SHARED_BYTES)
            numbers = (theirs.fileno(), pixels_fd, os.getpid(), self.limits.memory_bytes)
            self._process = subprocess.Popen(
                python_command("-c", _BOOT, json.dumps(import_path()), *map(str, numbers)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # decoders write there what they read
                pass_fds=(theirs.fileno(), pixels_fd),
                start_new_session=True,  # Ctrl-C is for the parent to handle: the file at hand is finished first
            )
        finally:
            theirs.close()
            os.close(pixels_fd)
        self._files_served, self._is_worn = 0, False
        self._pseudonyms.clear()
        self._await_ready()

    def _await_ready(self) -> None:
        try:
            self._walls = self._receive(time.monotonic() + _START_TIMEOUT_S).walls
        except _Lost as lost:
            self.close()
            raise GateChildFailed(
                "The gate's child process does not start",
                expected="a Python that can import tasks.adapters.gate.child_main",
                got=lost.got,
                remedy="run `python -c 'import tasks.adapters.gate.child_main'` to see why; check the machine's free memory",
            ) from None

    def _exchange(self, errand: Errand, descriptors: list[int]) -> Answer:
        deadline_s = time.monotonic() + self.limits.timeout_s
        assert self._connection is not None and self._memory is not None  # noqa: S101  # started just before
        self._memory[READ_AT] = 0
        computed_before_s = self._computed_s()
        try:
            self._connection.settimeout(self.limits.timeout_s)
            send(self._connection, pickle.dumps(errand), descriptors)
        except OSError:
            raise self._death() from None
        try:
            return self._receive(deadline_s)
        except _Lost as lost:
            has_waited = self._computed_s() - computed_before_s < self.limits.timeout_s / 2
            if lost.code == "F10" and not self._memory[READ_AT] and has_waited:
                raise _Lost("F10", lost.got, deferral="time-out") from None
            raise

    def _computed_s(self) -> float:
        """Processor time of the child: one that waits for a disk uses none, one that is led in circles uses all."""
        clock = ctypes.c_int()  # clock_getcpuclockid(3): a hundredth of the time that reading it in /proc takes
        if self.pid is None or _LIBC.clock_getcpuclockid(self.pid, ctypes.byref(clock)):
            return 0.0
        with suppress(OSError):  # it has just ended
            return time.clock_gettime(clock.value)
        return 0.0

    def _receive(self, deadline_s: float) -> Answer:
        assert self._connection is not None  # noqa: S101  # started just before
        try:
            content = receive(self._connection, deadline_s=deadline_s)
            answer = None if content is None else ANSWER.validate_json(content)
        except TimeoutError:
            raise _Lost("F10", f"no answer within {self.limits.timeout_s:g} s") from None
        except OSError:
            answer = None
        except ValueError:  # also pydantic's ValidationError
            raise _Lost("F11", "the reader answered nonsense") from None
        if answer is None:
            raise self._death()
        return answer

    def _death(self) -> _Lost:
        assert self._process is not None  # noqa: S101  # started just before
        try:
            code = self._process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            return _Lost("F11", "the reader stopped answering")
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return _Lost("F11", f"the reader {how}", deferral=signal.Signals(-code).name if -code in _FROM_OUTSIDE else "")

    def _shared(self, shape_px: tuple[int, int], dtype: type[np.uint16 | np.uint8], *, offset: int) -> NDArray[Any]:
        """A copy of an image in the shared memory."""
        rows, columns = shape_px
        if self._memory is None or min(shape_px) < 1 or offset + rows * columns * np.dtype(dtype).itemsize > PIXELS_BYTES:
            raise _nonsense()
        shared_P = np.frombuffer(self._memory, dtype, rows * columns, offset)
        return shared_P.reshape(rows, columns).copy()


_own = threading.local()


def child_of_this_thread(limits: GateLimits) -> GateChild:
    """The calling thread's child; another with other limits replaces it.

    The kernel ends a child with the thread that started it, so each thread has its own.
    """
    child: GateChild | None = getattr(_own, "child", None)
    if child is None or child.limits != limits:
        if child is not None:
            child.close()
        child = _own.child = GateChild(limits)
    return child


def _refusal(lost: _Lost) -> GateRejection:
    what = "took too long to read" if lost.code == "F10" else "broke the process that read it"
    return GateRejection(
        f"The file {what}",
        reason_codes=(lost.code,),
        got=lost.got,
        remedy="copy or export it again; raise ingest.file_timeout_s or ingest.file_memory_mib if it is a sound image",
    )


def _nonsense() -> GateRejection:
    return _refusal(_Lost("F11", "the reader answered nonsense"))
