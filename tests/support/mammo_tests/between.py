"""A proxy between us and a real server, which does to chosen requests what networks and servers do."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Fault:
    """What happens to a request instead of its being passed on.

    Attributes:
        status: Answered at once; 0 = none is.
        content: The answer's body.
        delay_s: Waited before; with no status the request is passed on afterwards.
        is_cut: The connection is closed without an answer.
    """

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""
    delay_s: float = 0.0
    is_cut: bool = False


@dataclass
class Between:
    """Who asked what, and what is done to whom.

    Attributes:
        fault_of: From method, path and body to a fault; None = it is passed on.
        seen: (method, path, length of the body, Authorization) of every request.
    """

    url: str
    fault_of: Callable[[str, str, bytes], Fault | None] = lambda method, path, body: None
    seen: list[tuple[str, str, int, str]] = field(default_factory=list)

    def posts(self) -> list[int]:
        """Lengths of the bodies that were sent."""
        return [length for method, _, length, _ in self.seen if method == "POST"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self._pass_on()

    def do_POST(self) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        server: Any = self.server
        made: Between = server.made
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        made.seen.append((self.command, self.path, len(body), self.headers.get("Authorization", "")))
        fault = made.fault_of(self.command, self.path, body)
        if fault is not None:
            time.sleep(fault.delay_s)
            if fault.is_cut:
                self.close_connection = True
                self.connection.close()
                return
            if fault.status:
                self._answer(fault.status, fault.headers, fault.content)
                return
        asked = urllib.request.Request(f"{server.root}{self.path}", body or None, method=self.command)
        for name in ("Accept", "Content-Type"):
            if name in self.headers:
                asked.add_header(name, self.headers[name])
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                self._answer(answer.status, dict(answer.headers), answer.read())
        except urllib.error.HTTPError as refused:
            self._answer(refused.code, dict(refused.headers), refused.read())
        except OSError:
            self.close_connection = True
            self.connection.close()

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def between(server_url: str) -> Iterator[Between]:
    """A proxy before ``server_url``, whose path it keeps."""
    root, _, path = server_url.removeprefix("http://").partition("/")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    made = Between(url=f"http://127.0.0.1:{server.server_address[1]}/{path}")
    server.root, server.made = f"http://{root}", made  # type: ignore[attr-defined]  # for its handlers
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
