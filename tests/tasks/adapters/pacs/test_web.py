"""DICOMweb: an object is whole and the only one, or nothing; an answer is complete, or an error that names nobody."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Event, Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo_tests.certificates import Authority
from schemas.config.pacs import DicomWebPeer, PacsConfig
from schemas.errors import MammoError, PeerRefused, PeerUnavailable
from tasks.adapters.pacs.encoded_object import Incomplete
from tasks.adapters.pacs.peers import server_context
from tasks.adapters.pacs.sources import Cut, NotThere, QuestionRefused
from tasks.adapters.pacs.web import ask, copy_object, copy_part, send_object, web_client

OBJECT = b"\0" * 128 + b"DICM" + bytes(range(256)) * 40
FOLDED = ("Content-Type", 'multipart/related;\r\n type="application/dicom";\r\n\tboundary=cut')
PART = b"--cut\r\nContent-Type: application/dicom\r\n\r\n" + OBJECT
MULTIPART = ("Content-Type", 'multipart/related; type="application/dicom"; boundary=cut')

Answer = Callable[[BaseHTTPRequestHandler], None]


def _answer(status: int, *headers: tuple[str, str], body: bytes = b"", has_length: bool = True, short_by: int = 0) -> Answer:
    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers:
            handler.send_header(name, value)
        if has_length:
            handler.send_header("Content-Length", str(len(body) + short_by))
        handler.end_headers()
        handler.wfile.write(body)

    return send


def _reset(handler: BaseHTTPRequestHandler) -> None:
    _answer(200, MULTIPART, body=PART[:3000], short_by=9000)(handler)
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    handler.connection.close()


def _trickle(handler: BaseHTTPRequestHandler) -> None:
    _answer(200, MULTIPART, has_length=False, body=PART[:60])(handler)
    for _ in range(100):
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.05)


WHOLE = PART + b"\r\n--cut--"


def _as(boundary: bytes) -> bytes:
    return WHOLE.replace(b"--cut", b"--" + boundary)


FAULTS: dict[str, tuple[Answer, type[MammoError], str]] = {
    "no-end": (_answer(200, MULTIPART, body=PART), Incomplete, "cut off"),
    "no-end-no-length": (_answer(200, MULTIPART, body=PART[:-500], has_length=False), Incomplete, "cut off"),
    "short": (_answer(200, MULTIPART, body=PART[:3000], short_by=9000), PeerUnavailable, "broke off"),
    "reset": (_reset, PeerUnavailable, "broke off"),
    "trickle": (_trickle, Incomplete, "too long"),
    "two-parts": (_answer(200, MULTIPART, body=PART + b"\r\n" + WHOLE), Incomplete, "more than one"),
    "single-part": (_answer(200, ("Content-Type", "application/dicom"), body=OBJECT), Incomplete, "multipart/related"),
    "page": (_answer(200, ("Content-Type", "text/html"), body=b"<p>CANARY"), Incomplete, "text/html"),
    "gzip": (_answer(200, MULTIPART, ("Content-Encoding", "gzip"), body=WHOLE), Incomplete, "compressed"),
    "no-parts": (_answer(200, MULTIPART, body=b"CANARY" * 9000), Incomplete, "begin with a part"),
    "redirect": (_answer(302, ("Location", "http://127.0.0.1:1/elsewhere")), PeerRefused, "sends us elsewhere"),
    "401": (_answer(401), PeerRefused, "does not accept us"),
    "403": (_answer(403), PeerRefused, "does not accept us"),
    "404": (_answer(404), NotThere, "does not have it"),
    "406": (_answer(406), Incomplete, "does not hand the object out"),
    "405": (_answer(405), QuestionRefused, "refuses the question"),
    "429": (_answer(429, ("Retry-After", "7")), PeerUnavailable, "cannot answer now"),
    "503": (_answer(503, ("Retry-After", "Wed, 21 Oct 2026 07:28:00 GMT")), PeerUnavailable, "cannot answer now"),
}
BOUNDARIES: dict[str, Answer] = {
    "quoted": _answer(
        200, ("Content-Type", 'Multipart/Related; TYPE="application/dicom"; Boundary="c u,t;"'), body=_as(b"c u,t;")
    ),
    "spaced": _answer(200, ("Content-Type", "multipart/related;boundary = a=b/c ; type=x"), body=_as(b"a=b/c")),
    "between": _answer(200, MULTIPART, body=b"a word before\r\n" + WHOLE + b"\r\nand one after"),
    "headless": _answer(200, MULTIPART, body=b"--cut \r\n\r\n" + OBJECT + b"\r\n--cut--  "),
}
ANSWERS: dict[str, tuple[Answer, object, str]] = {
    "none": (_answer(204), [], ""),
    "empty": (_answer(200, body=b""), [], ""),
    "some": (_answer(200, ("Content-Type", "application/dicom+json"), body=b'[{"00080018": {}}]'), [{"00080018": {}}], ""),
    "chunked": (_answer(200, ("Transfer-Encoding", "chunked"), body=b"0\r\n\r\n", has_length=False), [], ""),
    "nothing": (_answer(200, has_length=False), PeerRefused, "no DICOM JSON"),
    "warned": (_answer(200, ("Warning", "299 more"), body=b"[]"), Cut, "not complete"),
    "too-broad": (_answer(413), Cut, "not complete"),
    "html": (_answer(200, ("Content-Type", "text/html"), body=b"<p>CANARY"), PeerRefused, "text/html"),
    "object": (_answer(200, body=b'{"CANARY": 1}'), PeerRefused, "no DICOM JSON"),
    "unreachable": (_reset, PeerUnavailable, "broke off"),
}


class _Stub(BaseHTTPRequestHandler):
    asked: list[dict[str, str]]

    def do_GET(self) -> None:  # the name http.server calls
        asked = {name.lower(): value for name, value in self.headers.items()}
        self.asked.append(asked | {"path": self.path, "port": str(self.client_address[1])})
        name = self.path.split("?")[0].split("/")[-1]
        known = {
            "whole": _answer(200, MULTIPART, body=WHOLE),
            "folded": _answer(200, FOLDED, body=WHOLE),
            **BOUNDARIES,
            **{key: fault[0] for key, fault in FAULTS.items()},
        }
        try:
            (known | {key: answer[0] for key, answer in ANSWERS.items()})[name](self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        if name not in ("none", "some", "whole", "folded", *BOUNDARIES):
            self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        """Says nothing."""


@contextmanager
def _served(authority: Authority | None = None, *, is_expired: bool = False) -> Iterator[tuple[str, list[dict[str, str]]]]:
    asked: list[dict[str, str]] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Stub,), {"asked": asked, "protocol_version": "HTTP/1.1"}))
    if authority is not None:
        context = server_context(authority.issue("server", is_expired=is_expired))
        server.socket = context.wrap_socket(server.socket, server_side=True)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http{'' if authority is None else 's'}://127.0.0.1:{server.server_port}/dicom-web", asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server of faults, and what it was asked."""
    with _served() as stub:
        yield stub


def _peer(url: str, **changes: object) -> DicomWebPeer:
    return DicomWebPeer.model_validate({"kind": "dicomweb", "url": url, **changes})


def test_an_object_is_copied_as_it_is_stored(served: tuple[str, list[dict[str, str]]], tmp_path: Path) -> None:
    """Asked for without conversion and without compression, with the credentials; its bytes are the part's body.

    However the boundary is written, and whatever stands before, behind and between.
    """
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text("me:word")
    with web_client(PacsConfig(), _peer(served[0], credentials_file=secret)) as client:
        for how in (*BOUNDARIES, "folded", "whole"):
            file = BytesIO()
            copy_object(client, f"/studies/1/{how}", file.write, longest_s=5)
            assert file.getvalue() == OBJECT
    asked = served[1][-1]
    assert asked["accept"] == 'multipart/related; type="application/dicom"; transfer-syntax=*'
    assert (asked["accept-encoding"], asked["authorization"]) == ("identity", "Basic bWU6d29yZA==")


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_not_one_whole_object_is_an_error(
    served: tuple[str, list[dict[str, str]]], fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Cut off with and without a length, in two, in none, as a page, compressed, elsewhere, refused: never a short file.

    Neither the error nor any log says what was asked for, at any level.
    """
    caplog.set_level(logging.DEBUG)
    _, kind, why = FAULTS[fault]
    with web_client(PacsConfig(), _peer(served[0])) as client, pytest.raises(kind, match=why) as failed:
        copy_object(client, f"/studies/2.25.CANARY/{fault}", BytesIO().write, longest_s=0.5)
    assert type(failed.value) is kind
    assert "CANARY" not in str(failed.value) and "CANARY" not in repr(failed.value.__cause__)
    assert failed.value.__suppress_context__ or "CANARY" not in repr(failed.value.__context__)
    assert not [record for record in caplog.records if "CANARY" in record.getMessage()]
    if isinstance(failed.value, PeerUnavailable):
        assert failed.value.wait_s == (7 if fault == "429" else 0)


@pytest.mark.parametrize("question", ANSWERS)
def test_an_answer_is_a_list_or_an_error(served: tuple[str, list[dict[str, str]]], question: str) -> None:
    """Nothing is 204, or an empty body whose end is told; a warning, a page or another thing is an error."""
    _, expected, why = ANSWERS[question]
    with web_client(PacsConfig(), _peer(served[0])) as client:
        if not isinstance(expected, type):
            assert ask(client, f"/{question}", {"StudyDate": "20260101-20260107"}) == expected
            assert served[1][-1]["path"].endswith("StudyDate=20260101-20260107")
            return
        with pytest.raises(expected, match=why) as failed:
            ask(client, f"/{question}", {"PatientID": "CANARY"})
    assert "CANARY" not in str(failed.value)


def test_only_a_believed_server_is_told_anything(tmp_path: Path) -> None:
    """Of an unknown authority, or expired: refused, and not tried again; with a certificate of ours it answers."""
    ours, theirs = Authority(tmp_path / "ours", "ours"), Authority(tmp_path / "theirs", "theirs")
    tls = ours.issue("client")
    for is_expired, authorities in ((False, theirs.path), (True, ours.path), (False, None)):
        with _served(ours, is_expired=is_expired) as (url, asked):
            peer = _peer(url, authorities=authorities)
            pacs = PacsConfig() if authorities is None else PacsConfig(tls=tls)
            with web_client(pacs, peer) as client, pytest.raises(PeerRefused, match="certificate is not believed"):
                ask(client, "/some", {})
            assert asked == []
    with _served(ours) as (url, asked):
        peer = _peer(url, uses_certificate=True)
        late = PacsConfig(tls=ours.issue("late", is_expired=True))
        with web_client(late, peer) as client, pytest.raises(PeerRefused, match="does not believe our certificate"):
            ask(client, "/some", {})
        assert asked == []
        with web_client(PacsConfig(tls=tls), peer) as client:
            assert ask(client, "/some", {}) == [{"00080018": {}}]


def test_a_server_that_reads_no_more_does_not_hold_us() -> None:
    """It stops in the middle of an object that is larger than what the kernel keeps for it."""
    with socket.create_server(("127.0.0.1", 0)) as stopped:
        peer = _peer(f"http://127.0.0.1:{stopped.getsockname()[1]}/dicom-web", timeout_s=0.5)
        with web_client(PacsConfig(), peer) as client, pytest.raises(PeerUnavailable, match="broke off"):
            send_object(client, "/studies/2.25.1", bytes(32 << 20))


def test_a_refusal_that_comes_before_the_whole_object_is_heard() -> None:
    """As a proxy does with an object that is too large for it: it answers 413 at once, and closes."""

    def refuse(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 20):  # else the kernel would reset the connection, answer and all
                pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        Thread(target=refuse, args=(server,), daemon=True).start()
        peer = _peer(f"http://127.0.0.1:{server.getsockname()[1]}/dicom-web")
        with web_client(PacsConfig(), peer) as client:
            assert send_object(client, "/studies/2.25.1", bytes(4 << 20)) == (413, None)


def test_a_connection_is_used_again(served: tuple[str, list[dict[str, str]]]) -> None:
    """Objects and questions one after the other go over one."""
    with web_client(PacsConfig(), _peer(served[0])) as client:
        for _ in range(3):
            copy_object(client, "/studies/1/whole", BytesIO().write, longest_s=5)
            ask(client, "/some", {})
    assert len({asked["port"] for asked in served[1][-6:]}) == 1


def test_a_connection_that_the_server_closed_is_not() -> None:
    """As servers close what is idle: the next question goes over a new one."""
    closed = Event()

    def answer_and_close(server: socket.socket) -> None:
        for _ in range(2):
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
            closed.set()

    with socket.create_server(("127.0.0.1", 0)) as server:
        Thread(target=answer_and_close, args=(server,), daemon=True).start()
        peer = _peer(f"http://127.0.0.1:{server.getsockname()[1]}/dicom-web")
        with web_client(PacsConfig(), peer) as client:
            assert ask(client, "/studies", {}) == []
            assert closed.wait(60)
            assert ask(client, "/studies", {}) == []


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.lists(st.integers(1, 60), min_size=1), st.sampled_from([b"", b"preamble\r\n", b"\r\n"]))
def test_a_part_is_found_however_it_is_cut_into_chunks(body: bytes, sizes: list[int], before: bytes) -> None:
    """Also where the mark lies across two chunks, or the body holds what looks like the beginning of one."""
    body = body.replace(b"--cut", b"")
    content = before + b"--cut\r\nContent-Type: application/dicom\r\n\r\n" + body + b"\r\n--cut-\r\n--cut--\r\n"
    content = content.replace(b"\r\n--cut-\r\n--cut--", b"\r\n--cu\r\n--cut--")
    chunks, position = [], 0
    while position < len(content):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(content[position : position + size])
        position += size
    file = BytesIO()
    copy_part(chunks, b"cut", file.write, until_s=time.monotonic() + 60)
    assert file.getvalue() == body + b"\r\n--cu"
