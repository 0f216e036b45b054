"""A real S3 server on loopback (moto's, which keeps conditional puts), and a wire to it that fails as wires do."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from mammo_tests.other_systems import free_port

ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "us-east-1"}
BUCKET = "exams"


@contextmanager
def s3_server() -> Iterator[str]:
    """The endpoint of a server that holds the empty bucket ``exams``; it ends with the block."""
    port = free_port()
    with s3_process(port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def s3_process(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The server's process. It keeps everything in memory: killed and started again, it has an empty bucket."""
    server = subprocess.Popen(
        [sys.executable, "-P", "-m", "moto.server", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **ENVIRONMENT},
    )  # fmt: skip
    try:
        endpoint, end_s = f"http://127.0.0.1:{port}", time.monotonic() + 300
        while True:
            try:
                with urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")):
                    break
            except (urllib.error.URLError, OSError):
                assert server.poll() is None, "the S3 server ended before it answered"
                assert time.monotonic() < end_s, "the S3 server does not answer"
                time.sleep(0.05)
        yield server
    finally:
        server.terminate()
        server.wait()


Fault = Callable[[bytes, socket.socket], bool]
"""Gets the head of a request and the client's connection; true if it has answered, or closed, instead of the server."""


def answers(status: str, *, times: int, to: bytes = b"") -> Fault:
    """The next so many requests whose first line holds ``to`` are answered with a status, as "503 Slow Down"."""
    left = [times]

    def fault(head: bytes, client: socket.socket) -> bool:
        if left[0] <= 0 or to not in head.split(b"\r\n", 1)[0]:
            return False
        left[0] -= 1
        client.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        return True

    return fault


def says(content: bytes, *, to: bytes) -> Fault:
    """Requests whose first line holds ``to`` are answered with this, as by a server that knows nothing newer."""

    def fault(head: bytes, client: socket.socket) -> bool:
        if to not in head.split(b"\r\n", 1)[0]:
            return False
        kind = (
            f"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        )
        client.sendall(kind.encode() + content)
        return True

    return fault


def breaks_off(*, times: int, to: bytes = b"") -> Fault:
    """The next so many requests whose first line holds ``to`` get no answer but a closed connection."""
    left = [times]

    def fault(head: bytes, client: socket.socket) -> bool:
        if left[0] <= 0 or to not in head.split(b"\r\n", 1)[0]:
            return False
        left[0] -= 1
        client.close()
        return True

    return fault


@dataclass
class Wire:
    """Between a client and the server: one request a connection, so that each can be answered otherwise.

    Attributes:
        server_port: Where the server listens.
        port: Where the client asks.
        is_cut: True = nobody can connect to the server.
        faults: Asked in order, at each request.
        seen: First lines of all requests.
        heads: All requests' heads.
        sent_bytes: Bodies' bytes that went to the client.
    """

    server_port: int
    port: int = 0
    is_cut: bool = False
    faults: list[Fault] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    sent_bytes: int = 0

    @property
    def endpoint(self) -> str:
        """What AWS_ENDPOINT_URL says."""
        return f"http://127.0.0.1:{self.port}"

    def serve(self, client: socket.socket) -> None:
        """One connection, one request."""
        with client, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                part = client.recv(65536)
                if not part:
                    return
                head += part
            first = head.split(b"\r\n", 1)[0].decode(errors="replace")
            self.seen.append(first)
            self.heads.append(head)
            if self.is_cut or any(fault(head, client) for fault in self.faults):
                return
            lines, rest = head.split(b"\r\n\r\n", 1)
            kept = [line for line in lines.split(b"\r\n") if not line.lower().startswith((b"connection:", b"expect:"))]
            with socket.create_connection(("127.0.0.1", self.server_port)) as server:
                server.sendall(b"\r\n".join([*kept, b"Connection: close"]) + b"\r\n\r\n" + rest)
                up = threading.Thread(target=_copy, args=(client, server), daemon=True)
                up.start()
                while part := server.recv(65536):
                    self.sent_bytes += len(part)
                    client.sendall(part)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65536):
            target.sendall(part)


@contextmanager
def wire_to(endpoint: str) -> Iterator[Wire]:
    """A wire to a server; it is there until the block ends."""
    wire = Wire(int(endpoint.rsplit(":", 1)[1]))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        wire.port = listener.getsockname()[1]

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=wire.serve, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield wire
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
