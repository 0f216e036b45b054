"""A Dask worker on another machine, as far as a kernel makes one: folders of ours are empty there, and it has another network.

    with worker_elsewhere(address, hidden=[workspace, exams], kept=[key], ports=[s3_port], folder=tmp_path): ...

It has a mount and a network namespace of its own. Folders are hidden under empty ones. Its network has no way out, but that the
ports that are named go through sockets in a folder to the same ports here, and its own port comes back so.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from mammo_tests.other_systems import free_port

UNSHARE = ["unshare", "--mount", "--net", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
"""Who is not root is root of a namespace of users, where the kernel allows that."""


def why_not() -> str:
    """Why this machine cannot do it; "" = it can."""
    if shutil.which("unshare") is None:
        return "there is no unshare (util-linux)"
    tried = subprocess.run([*UNSHARE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True, check=False)
    return f"the kernel makes no namespaces for us: {tried.stderr.strip()}" if tried.returncode else ""


@contextmanager
def worker_elsewhere(
    scheduler: str, *, hidden: Sequence[Path], kept: Sequence[Path], ports: Sequence[int], folder: Path
) -> Iterator[None]:
    """A worker of a scheduler here; it ends with the block.

    Args:
        scheduler: Address, on loopback.
        hidden: Folders that are empty there.
        kept: Files in them that are not.
        ports: Of this machine, that it reaches besides the scheduler's.
        folder: For the sockets; a short path, which is not hidden.
    """
    own_port, outward = free_port(), [int(scheduler.rsplit(":", 1)[1]), *ports]
    listeners = [_relay(_at_path(folder / str(port)), lambda port=port: _to_port(port)) for port in outward]
    listeners.append(_relay(_at_port(own_port), lambda: _to_path(folder / str(own_port))))
    command = [*UNSHARE, sys.executable, "-P", "-m", "mammo_tests.elsewhere", scheduler, str(folder), str(own_port)]
    lists = [",".join(map(str, one)) for one in (outward, hidden, kept)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *lists], stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()
        for listener in listeners:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()


def main(scheduler: str, folder: str, own_port: str, outward: str, hidden: str, kept: str) -> None:
    """What runs in the namespaces."""
    contents = {path: Path(path).read_bytes() for path in kept.split(",") if path}
    for path in hidden.split(","):
        _mount_empty(path)
    for path, content in contents.items():
        Path(path).touch(0o600)
        Path(path).write_bytes(content)
    _bring_loopback_up()
    for port in outward.split(","):
        _relay(_at_port(int(port)), lambda port=port: _to_path(Path(folder) / port))
    _relay(_at_path(Path(folder) / own_port), lambda: _to_port(int(own_port)))
    from distributed.cli.dask_worker import main as work

    work([scheduler, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1", "--worker-port", own_port])


def _mount_empty(path: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", os.fsencode(path), b"tmpfs", 0, b"mode=0700"):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _bring_loopback_up() -> None:
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH22x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: up, running


def _at_port(port: int) -> socket.socket:
    return socket.create_server(("127.0.0.1", port))


def _to_port(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port))


def _at_path(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


def _to_path(path: Path) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(str(path))
    return peer


def _relay(listener: socket.socket, connect: Callable[[], socket.socket]) -> socket.socket:
    """Carries bytes between whoever connects and what is connected to for it, until the listener is closed."""

    def accept() -> None:
        with suppress(OSError):
            while True:
                one, _ = listener.accept()
                try:
                    other = connect()
                except OSError:
                    one.close()
                    continue
                for source, target in ((one, other), (other, one)):
                    threading.Thread(target=_carry, args=(source, target), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener


def _carry(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65536):
            target.sendall(part)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    main(*sys.argv[1:])
