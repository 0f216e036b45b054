"""Opening a file of the source folder: the one that the scan found, or none.

    descriptor = open_source(path, source_dir)      refused: F01 a link, or no plain file; F07 an unfinished name
                                                    deferred: the disk, the share
    descriptor = open_exam(path, source_dir, stored)    the same, or an object of a bucket in a file without a name

Between scan and read whoever writes to the inbox may put a link in a file's place, or in that of a folder on the way. The scan
follows no link, so none may be on the way now: the kernel is asked to go down from the source folder and to refuse links and
``..`` (openat2, Linux 5.6); where it does not know that call we go down one folder after another. The source folder itself may
be reached by links: it is the operator's word.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from schemas.errors import FileDeferred, error_name
from tasks.adapters.buckets.exam_object import FIRST_BYTES, ExamObject, fetched
from tasks.adapters.gate.messages import DrawThumbnail, InspectHeader, Request
from tasks.adapters.gate.rules.file import LARGEST_FILE_BYTES
from tasks.adapters.gate.rules.rule import Broken
from tasks.adapters.gate.rules.table import refuse
from tasks.adapters.gate.source_file import is_unfinished

# O_NONBLOCK: opening a pipe must not wait for its writer.
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER_FLAGS: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC

_NO_REGULAR_FILE: Final = frozenset({errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EXDEV})
"""How links, sockets, devices and ways out answer to being opened; every other answer is the disk's or the share's."""


def opened_for(request: Request, timeout_s: float) -> list[int]:
    """Descriptors of the file that a request is about, and of its mask.

    Raises:
        GateRejection: As ``open_source``.
        FileDeferred: One of them cannot be opened at the moment.
    """
    source_dir = request.source_dir if isinstance(request, DrawThumbnail) else request.gate.source_dir
    present_bytes = request.present_bytes if isinstance(request, InspectHeader) else None
    opens = partial(open_exam, request.path, source_dir, request.stored, present_bytes=present_bytes)
    descriptors = [in_time(opens, timeout_s)]
    mask_path = None if isinstance(request, DrawThumbnail) else request.mask_path
    if mask_path is not None:
        try:
            descriptors.append(in_time(partial(open_named, mask_path), timeout_s))
        except FileDeferred:
            os.close(descriptors[0])
            raise
    return descriptors


def open_exam(path: Path, source_dir: Path, stored: ExamObject | None, *, present_bytes: int | None = None) -> int:
    """A descriptor of a file of the source folder, or of one that holds an object of a bucket.

    Args:
        path: The file, or the object's name.
        source_dir: The folder.
        stored: The object; None = it is a file.
        present_bytes: So many first bytes of the object do; None = it is fetched whole, unless it is larger than any image.

    Raises:
        GateRejection: As ``open_source``.
        FileDeferred: It cannot be opened, or fetched, at the moment.
    """
    if stored is None:
        return open_source(path, source_dir)
    _refuse_unfinished(path)
    is_too_large = stored.size_bytes > LARGEST_FILE_BYTES  # F04 needs no more than its beginning
    return fetched(stored, length=FIRST_BYTES if is_too_large else present_bytes)


def open_source(path: Path, source_dir: Path) -> int:
    """A descriptor of a plain file below the source folder; what is checked is the open file: nobody can swap it in between.

    Raises:
        GateRejection: It is a link, another kind of file, outside the folder (F01), or has an unfinished file's name (F07).
        FileDeferred: It cannot be opened at the moment.
    """
    _refuse_unfinished(path)
    parts = path.relative_to(source_dir).parts if path.is_relative_to(source_dir) else ()
    if not parts or ".." in parts:
        refuse((Broken("F01", "outside the source folder"),), None)
    failure: OSError | None = None
    descriptor = -1
    try:
        descriptor = open_below(source_dir, parts)
        is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError as error:
        failure, is_regular = error, False
    if failure is not None:  # outside the except block: the system's error quotes the path, which may name a patient
        if failure.errno not in _NO_REGULAR_FILE:
            raise FileDeferred.because(error_name(failure))
        refuse((Broken("F01", os.strerror(failure.errno or 0)),), None)
    if not is_regular:
        os.close(descriptor)
        refuse((Broken("F01", "not a regular file"),), None)
    return descriptor


def _refuse_unfinished(path: Path) -> None:
    if is_unfinished(path.name):
        refuse((Broken("F07", "a name for unfinished files"),), None)


def open_below(folder: Path, parts: tuple[str, ...]) -> int:
    """A descriptor of what lies below a folder, by names of which none may be a link.

    Raises:
        OSError: ELOOP if one is; else what the disk says.
    """
    top = os.open(folder, _FOLDER_FLAGS)
    try:
        try:
            return _open_by_kernel(top, "/".join(parts))
        except OSError as error:
            if error.errno not in _KERNEL_DOES_NOT_KNOW:
                raise
        return open_step_by_step(top, parts)
    finally:
        os.close(top)


_KERNEL_DOES_NOT_KNOW: Final = frozenset({errno.ENOSYS, errno.EPERM, errno.EAGAIN})
"""How openat2 answers in an older kernel, and in a container that does not let it through; EAGAIN: names change just now."""
_OPENAT2: Final = 437  # the same on every machine
_RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x04, 0x08


class _HowToOpen(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long


def _open_by_kernel(top: int, name: str) -> int:
    how = _HowToOpen(_FLAGS, 0, _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS)
    size = ctypes.c_size_t(ctypes.sizeof(how))
    descriptor = int(_LIBC.syscall(_OPENAT2, top, os.fsencode(name), ctypes.byref(how), size))
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return descriptor


def open_step_by_step(top: int, parts: tuple[str, ...]) -> int:
    """The same without openat2: each folder is opened in the one above it."""
    folder = os.dup(top)
    try:
        for name in parts[:-1]:
            try:
                below = os.open(name, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=folder)
            except NotADirectoryError:
                if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None
                raise
            os.close(folder)
            folder = below
        return os.open(parts[-1], _FLAGS, dir_fd=folder)
    finally:
        os.close(folder)


def open_named(path: Path) -> int:
    """A descriptor of a file that the operator placed; links are followed.

    Raises:
        FileDeferred: It cannot be opened at the moment.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        failure = error_name(error)
    raise FileDeferred.because(failure)  # outside the except block: the system's error quotes the path


# -------------------------------------------------------------------------------------------------------- in good time


def in_time(opens: Callable[[], int], seconds: float) -> int:
    """The descriptor that a function opens. A share that hangs can be interrupted by nobody, so it is opened in a thread.

    Each thread that asks has one that opens for it, file after file, until a share hangs.

    Raises:
        FileDeferred: It takes longer. The thread is left behind, and closes what it may open one day.
        BaseException: Whatever the function raises.
    """
    opener: _Opener | None = getattr(_OWN, "opener", None)
    if opener is None or opener.owner_pid != os.getpid():  # a forked process has no thread but its first
        opener = _OWN.opener = _Opener()
    call = _Call(opens)
    opener.calls.put(call)
    try:
        return call.result(seconds)
    finally:
        if not call.is_done:
            _OWN.opener = None


_OWN: Final = threading.local()


class _Opener:
    """A thread that opens files; it ends when nobody can ask it any more."""

    def __init__(self) -> None:
        self.owner_pid = os.getpid()
        self.calls: SimpleQueue[_Call | None] = SimpleQueue()
        threading.Thread(target=_run_calls, args=(self.calls,), daemon=True, name="open").start()

    def __del__(self) -> None:
        self.calls.put(None)


def _run_calls(calls: SimpleQueue[_Call | None]) -> None:
    while (call := calls.get()) is not None:
        call.run()
        del call  # what was asked for is not kept until the next is


class _Call:
    """One call of a function in another thread, whose result is wanted for a while only."""

    def __init__(self, opens: Callable[[], int]) -> None:
        self._opens = opens
        self._is_done = threading.Event()
        self._lock = threading.Lock()
        self._is_wanted = True
        self._descriptor: int | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            descriptor = self._opens()
        except BaseException as error:  # for the thread that waits
            self._error = error
        else:
            with self._lock:
                if self._is_wanted:
                    self._descriptor = descriptor
                else:
                    os.close(descriptor)
        self._is_done.set()

    @property
    def is_done(self) -> bool:
        return self._is_done.is_set()

    def result(self, seconds: float) -> int:
        self._is_done.wait(seconds)
        with self._lock:
            self._is_wanted = False
            if self._descriptor is not None:
                return self._descriptor
        raise self._error or FileDeferred.because("time-out")
