"""Walls around the process that reads foreign bytes: what a decoder that is taken over still can do.

    standing = raise_walls()     ("Landlock", "seccomp"), fewer where the kernel has fewer; no way back

Behind them the process reads, writes and maps what it has open already, computes, and ends. It opens no file, makes no socket,
starts no process and no thread, runs no code that was not there, and signals nobody but itself. It still can ask whether a path
exists. Two walls, for each may have a hole: seccomp (Linux 3.5) lets the system calls on a list through, Landlock (5.13)
refuses files by their path, TCP (6.7), and the signals and sockets of others (6.12).

What seccomp keeps out answers ENOSYS, as a kernel does that is older than the C library: the library then takes its other way,
if it has one, and whoever asked for a file learns that there are none.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Collection
from dataclasses import dataclass
from errno import ENOSYS, ENOTTY, EPERM
from importlib.machinery import BuiltinImporter, FrozenImporter
from typing import Final

LANDLOCK: Final = "Landlock"
SECCOMP: Final = "seccomp"
ALL_WALLS: Final = (LANDLOCK, SECCOMP)

_PR_SET_NO_NEW_PRIVS: Final = 38


def raise_walls(wanted: Collection[str] = ALL_WALLS) -> tuple[str, ...]:
    """Raises the walls that this kernel has around the calling process, which has one thread, and says which stand.

    Nothing can be imported from then on: what will be needed must have been.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    sys.meta_path[:] = [BuiltinImporter, FrozenImporter]  # a clean "no such module" instead of an error of the disk
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return ()
    walls = {LANDLOCK: _raise_landlock, SECCOMP: _raise_seccomp}  # in this order: behind the second there is no other
    return tuple(name for name, stands in walls.items() if name in wanted and stands(libc))


# ------------------------------------------------------------------------------------------------------------ Landlock

_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # the same on every machine
_ASK_VERSION: Final = 1
_FILE_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 5: 16}
"""How many rights there are to files and folders, by the version of Landlock that brought them."""


def _raise_landlock(libc: ctypes.CDLL) -> bool:
    """Takes every right away and gives none back: no rule is added."""
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION)
    if version < 1:
        return False
    files = (1 << max(count for since, count in _FILE_RIGHTS.items() if version >= since)) - 1
    tcp = 0b11 if version >= 4 else 0  # to bind, to connect
    others = 0b11 if version >= 6 else 0  # abstract sockets and signals of processes outside
    attributes = struct.pack("=3Q", files, tcp, others)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return False
    try:
        return bool(libc.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), 0) == 0)
    finally:
        os.close(ruleset)


# ------------------------------------------------------------------------------------------------------------- seccomp


@dataclass(frozen=True, slots=True, kw_only=True)
class _Machine:
    """A kernel's numbers on one kind of machine: ``audit`` names it to filters, ``seccomp`` is the call that sets one."""

    audit: int
    seccomp: int
    allowed: frozenset[int]
    mapping: tuple[int, int]
    fcntl: int
    ioctl: int
    signalling: tuple[int, int]


_X86_64: Final = _Machine(
    audit=0xC000003E, seccomp=317, mapping=(9, 10), fcntl=72, ioctl=16, signalling=(62, 234),
    allowed=frozenset({
        0, 1, 17, 18, 19, 20,  # read write pread64 pwrite64 readv writev
        3, 5, 8, 262, 332,  # close fstat lseek newfstatat statx
        11, 12, 25, 28,  # munmap brk mremap madvise
        44, 45, 47, 7, 271, 270, 23,  # sendto recvfrom recvmsg poll ppoll pselect6 select
        13, 14, 15, 131, 127, 219,  # rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack rt_sigpending restart_syscall
        202, 24, 204, 35, 230, 228, 229, 96,  # futex sched_yield sched_getaffinity nanosleep clock_* gettimeofday
        39, 186, 110, 102, 104, 107, 108,  # getpid gettid getppid getuid getgid geteuid getegid
        98, 100, 63, 99, 318, 309, 334,  # getrusage times uname sysinfo getrandom getcpu rseq
        60, 231,  # exit exit_group
    }),
)  # fmt: skip
_AARCH64: Final = _Machine(
    audit=0xC00000B7, seccomp=277, mapping=(222, 226), fcntl=25, ioctl=29, signalling=(129, 131),
    allowed=frozenset({
        63, 64, 67, 68, 65, 66,
        57, 80, 62, 79, 291,
        215, 214, 216, 233,
        206, 207, 212, 73, 72,
        134, 135, 139, 132, 136, 128,
        98, 124, 123, 101, 115, 113, 114, 169,
        172, 178, 173, 174, 176, 175, 177,
        165, 153, 160, 179, 278, 168, 293,
        93, 94,
    }),
)  # fmt: skip
_MACHINES: Final = {"x86_64": _X86_64, "aarch64": _AARCH64}
_FIONBIO: Final = 0x5421  # the one request that a socket with a time limit needs
_PROT_EXEC: Final = 4
_F_GETLK, _F_DUPFD_CLOEXEC = 5, 1030  # fcntl's requests below the first copy a descriptor or ask for its flags

_SECCOMP_SET_MODE_FILTER: Final = 1
_EVERY_THREAD, _AS_FAST_AS_BEFORE = 1, 4  # the second: nothing is slowed down against programs that watch caches (4.17)
_KILL, _ALLOW, _ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _MACHINE_AT, _ARGUMENTS_AT = 0, 4, 16
_X32_BIT: Final = 0x40000000


class _SockFilter(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("if_so", ctypes.c_ubyte), ("if_not", ctypes.c_ubyte), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_SockFilter)))


_Step = tuple[int, int, int, int]
"""An instruction of a filter: what it does, how many steps are skipped if so and if not, and its number."""


def _raise_seccomp(libc: ctypes.CDLL) -> bool:
    machine = _MACHINES.get(platform.machine())
    if machine is None or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    steps = _filter_steps(machine, os.getpid())
    filters = (_SockFilter * len(steps))(*(_SockFilter(*step) for step in steps))
    program = _Program(len(steps), filters)
    return any(
        libc.syscall(machine.seccomp, _SECCOMP_SET_MODE_FILTER, flags, ctypes.byref(program)) == 0
        for flags in (_EVERY_THREAD | _AS_FAST_AS_BEFORE, _EVERY_THREAD)
    )


def _filter_steps(machine: _Machine, own_pid: int) -> list[_Step]:
    """The program that the kernel asks before each system call; both machines keep the lower half of a number first."""
    steps: list[_Step] = [
        (_LOAD, 0, 0, _MACHINE_AT),
        (_IF_EQUAL, 1, 0, machine.audit),  # 32-bit calls have other numbers
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    if machine is _X86_64:
        steps += [(_IF_AT_LEAST, 0, 1, _X32_BIT), (_RETURN, 0, 0, _KILL)]
    for number in sorted(machine.allowed):
        steps += [(_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    for number in machine.mapping:  # protection: third argument
        steps += _only_if(number, argument=2, test=(_IF_ANY_BIT, _PROT_EXEC), wanted=False, otherwise=EPERM)
    for number in machine.signalling:
        steps += _only_if(number, argument=0, test=(_IF_EQUAL, own_pid), wanted=True, otherwise=EPERM)
    steps += [  # a descriptor that is owned by another process would signal that one
        (_IF_EQUAL, 0, 5, machine.fcntl),
        (_LOAD, 0, 0, _ARGUMENTS_AT + 8),
        (_IF_EQUAL, 1, 0, _F_DUPFD_CLOEXEC),
        (_IF_AT_LEAST, 1, 0, _F_GETLK),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ERRNO | EPERM),
    ]
    steps += _only_if(machine.ioctl, argument=1, test=(_IF_EQUAL, _FIONBIO), wanted=True, otherwise=ENOTTY)
    return [*steps, (_RETURN, 0, 0, _ERRNO | ENOSYS)]


def _only_if(number: int, *, argument: int, test: tuple[int, int], wanted: bool, otherwise: int) -> list[_Step]:
    """Lets a call through if the lower half of an argument is as wanted."""
    code, value = test
    on_true, on_false = (0, 1) if wanted else (1, 0)
    return [
        (_IF_EQUAL, 0, 4, number),
        (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * argument),
        (code, on_true, on_false, value),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ERRNO | otherwise),
    ]
