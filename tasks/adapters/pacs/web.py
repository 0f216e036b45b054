"""DICOMweb as we speak it: questions (QIDO-RS), and objects streamed to the disk as they are stored (WADO-RS).

No URL leaves this module in an error or a log, for it holds identifiers. Redirects are not followed, for they would be given
our credentials; nor are addresses that a server's answers name, nor proxies that the environment names.

Python's own HTTP it is: a client with layers hands an object on in pieces of 64 kB, each copied three times while no other
connection's thread can run, and that was half of the time of a fetch.
"""

from __future__ import annotations

import json
import re
import select
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTP_PORT, HTTPS_PORT, HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from io import BufferedIOBase
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from schemas.config.pacs import DicomWebPeer, PacsConfig
from schemas.errors import PeerRefused, PeerUnavailable
from tasks.adapters.pacs.encoded_object import Incomplete
from tasks.adapters.pacs.peers import authorization, client_context, is_about_ours, not_believed, ours_not_believed
from tasks.adapters.pacs.sources import Cut, NotThere, QuestionRefused

Write = Callable[[bytes | bytearray | memoryview], object]

_SECONDS_TO_CONNECT: Final = 5.0
_AS_STORED: Final = 'multipart/related; type="application/dicom"; transfer-syntax=*'
"""Without its last part a server decompresses what it stores, or fails at what it cannot decompress."""

_BOUNDARY: Final = "mammo-7f3c19d2a4"
_BOUNDARY_GIVEN: Final = re.compile(r'[;\s]boundary\s*=\s*(?:"([^"]+)"|([^";,\s]+))', re.IGNORECASE)
_OF_THE_OBJECT: Final = (202, 400, 406, 409, 413, 415, 422)
"""Not against us: some of it or nothing was stored or sent, a proxy finds it too large, or its kind is not kept there."""
_LONGEST_PART_HEAD, _MOST_PIECES_BEHIND = 1 << 14, 4
_LONGEST_WAIT_S: Final = 300.0
_RECEIVED_BYTES, _SENT_BYTES = 1 << 19, 1 << 16
"""At a time. The time limit of a connection is one for each piece: a slow line is not a dead one."""


class Answer(HTTPResponse):
    """An answer that knows its kind, its Content-Type, which is not among its ``headers``.

    Python reads a head as a mail program does, which makes a search of its own for the boundary of each answer of several
    parts: half a millisecond for each object.
    """

    kind = ""

    def begin(self) -> None:
        """Reads the head."""
        lines = self.fp
        head = _Head(lines)
        self.fp = head  # type: ignore[assignment]  # a head is read line by line
        try:
            super().begin()
        finally:
            self.fp, self.kind = lines, head.kind or self.kind


class _Head:
    """The lines of a head, without those of its Content-Type."""

    def __init__(self, lines: BufferedIOBase) -> None:
        self._lines, self._is_kind, self.kind = lines, False, ""

    def readline(self, most_bytes: int) -> bytes:
        """The next one."""
        while line := self._lines.readline(most_bytes):
            is_more = self._is_kind and line[:1] in (b" ", b"\t")
            self._is_kind = is_more or line[:13].lower() == b"content-type:"
            if not self._is_kind:
                break
            self.kind += line[0 if is_more else 13 :].decode("latin-1").strip()
        return line


@dataclass
class Client:
    """Connections to one server, kept and used again: at most ``in_flight`` at the same time, of any threads.

    Attributes:
        make: Makes a connection that is not open yet.
        path: That of the server's services, before each question's own.
        headers: Of every request.
        timeout_s: Without a byte for so long the server counts as gone.
    """

    make: partial[HTTPConnection]
    path: str
    headers: Mapping[str, str]
    timeout_s: float
    in_flight: int
    _idle: list[HTTPConnection] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._free = threading.BoundedSemaphore(self.in_flight)

    @contextmanager
    def request(
        self, method: str, path: str, headers: Mapping[str, str], pieces: Iterable[bytes | memoryview] | None = None
    ) -> Iterator[Answer]:
        """An answer whose head has come; what is not read of its body goes with the connection.

        Raises:
            PeerUnavailable: The server cannot be reached, or breaks off before it answers.
            PeerRefused: We do not believe its certificate, or it does not believe ours.
        """
        with self._free:
            with translated():
                connection = self._connection()
            try:
                with translated():
                    # A server may refuse an object before it has all of it, and close: its answer says why.
                    with suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
                        connection.request(method, self.path + path, pieces, {**self.headers, **headers})
                    answer: Answer = connection.getresponse()  # type: ignore[assignment]  # the class that we have given it
                yield answer
            except BaseException:
                connection.close()
                raise
            if answer.isclosed():  # read to its end
                self._idle.append(connection)
            else:
                connection.close()

    def _connection(self) -> HTTPConnection:
        while self._idle:
            with suppress(IndexError):  # another thread may have taken the last one
                connection = self._idle.pop()
                if not _was_closed(connection):
                    return connection
                connection.close()
        connection = self.make(timeout=_SECONDS_TO_CONNECT)
        connection.response_class = Answer
        try:
            connection.connect()
            connection.sock.settimeout(self.timeout_s)
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Every connection that is not in use."""
        for connection in self._idle:
            connection.close()


def _was_closed(connection: HTTPConnection) -> bool:
    """True if the server has ended an idle connection: there is something to read although nothing was asked."""
    if connection.sock is None:
        return True
    idle = select.poll()
    idle.register(connection.sock, select.POLLIN)
    return bool(idle.poll(0))


@contextmanager
def web_client(pacs: PacsConfig, peer: DicomWebPeer) -> Iterator[Client]:
    """Connections to a peer, as many as ``in_flight``.

    Raises:
        ConfigError: Credentials or certificates cannot be read.
    """
    said = authorization(peer)
    parts = urlsplit(peer.url)
    host = parts.hostname or ""
    make: partial[HTTPConnection] = partial(HTTPConnection, host, parts.port or HTTP_PORT)
    if parts.scheme == "https":
        context = client_context(pacs.tls, authorities=peer.authorities, shows_certificate=peer.uses_certificate)
        make = partial(HTTPSConnection, host, parts.port or HTTPS_PORT, context=context)
    client = Client(
        make=make,
        path=parts.path.rstrip("/"),
        headers={"Accept-Encoding": "identity", **({"Authorization": said} if said else {})},
        timeout_s=peer.timeout_s,
        in_flight=peer.in_flight,
    )
    try:
        yield client
    finally:
        client.close()


def ask(client: Client, path: str, keys: Mapping[str, str]) -> list[dict[str, Any]]:
    """One QIDO-RS question, without limit and offset: servers cut answers by the one and miscount by the other.

    Raises:
        Cut: It says that its answer is not all of it, or that the question is too broad.
        PeerUnavailable: It cannot be asked now.
        PeerRefused: It does not accept us or the question.
        NotThere: It has no such service.
    """
    # Servers do not read an encoded asterisk as "any".
    question = urlencode(keys, safe="*", quote_via=quote)
    with client.request("GET", f"{path}?{question}" if question else path, {"Accept": "application/dicom+json"}) as answer:
        if answer.status == 413:  # the question is too broad (PS3.18 10.6.3.1)
            raise Cut
        _require_success(answer)
        with translated():
            content = answer.read()
        has_end = "content-length" in answer.headers or "transfer-encoding" in answer.headers
        if answer.status == 204 or (has_end and not content):
            content = b"[]"  # an empty body that nobody announced may be one that was cut off
    found = _json(content)
    if "warning" in answer.headers:
        raise Cut(found if _are_matches(found) else ())
    if not _are_matches(found):
        kind = answer.kind.split(";")[0][:40]
        raise PeerRefused("The server's answer is no DICOM JSON", expected="application/dicom+json", got=kind or "no type")
    return list(found)


def _are_matches(found: Any) -> bool:
    return isinstance(found, list) and all(isinstance(match, dict) for match in found)


def copy_object(client: Client, path: str, write: Write, *, longest_s: float) -> None:
    """One object (WADO-RS), in the transfer syntax that it is stored in, written as it comes.

    Raises:
        Incomplete: The answer is not one whole part, or takes too long.
        PeerUnavailable: It cannot be asked now.
        PeerRefused: It does not accept us, or has no such object (``NotThere``).
    """
    with client.request("GET", path, {"Accept": _AS_STORED}) as answer:
        if answer.status in _OF_THE_OBJECT:
            raise Incomplete("The server does not hand the object out", got=f"HTTP status {answer.status}")
        _require_success(answer)
        kind = answer.kind
        boundary = _BOUNDARY_GIVEN.search(kind)
        if not kind.lower().startswith("multipart/related") or boundary is None:
            raise Incomplete("The answer is no object", expected="multipart/related", got=kind.split(";")[0][:40] or "no type")
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise Incomplete("The answer is compressed although it was asked not to be")
        copy_part(_pieces(answer), (boundary[1] or boundary[2]).encode("latin-1"), write, until_s=time.monotonic() + longest_s)
        _end(answer)


def _pieces(answer: HTTPResponse) -> Iterator[bytes]:
    """A body as it comes, in large pieces: a trickle is seen, for no piece waits until it is full."""
    with translated():
        while piece := answer.read1(_RECEIVED_BYTES):
            yield piece
        if answer.length:
            raise IncompleteRead(b"", answer.length)


def _end(answer: HTTPResponse) -> None:
    """Reads what stands behind an object, if it is little: then its connection can be used again."""
    if answer.will_close:
        return
    with suppress(HTTPException, OSError):  # the object is there
        for _ in range(_MOST_PIECES_BEHIND):
            if not answer.read1(_LONGEST_PART_HEAD):
                break
        answer.read(0)  # where nothing is left, this tells the connection so


def send_object(client: Client, path: str, content: bytes) -> tuple[int, Any]:
    """One object (STOW-RS): status and what the server says of it in DICOM JSON; statuses that speak of the object are answers.

    Raises:
        PeerUnavailable: It cannot take anything now.
        PeerRefused: It does not accept us.
    """
    head = f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    end = f"\r\n--{_BOUNDARY}--\r\n".encode()
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}',
        "Content-Length": str(len(head) + len(content) + len(end)),
        "Accept": "application/dicom+json",
    }
    with client.request("POST", path, headers, _cut(head, content, end)) as answer:
        if answer.status not in _OF_THE_OBJECT:
            _require_success(answer)
        with translated():
            said = answer.read()
    return answer.status, _json(said)


def _cut(*parts: bytes) -> Iterator[memoryview]:
    for part in parts:
        for start in range(0, len(part), _SENT_BYTES):
            yield memoryview(part)[start : start + _SENT_BYTES]


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def copy_part(chunks: Iterable[bytes], boundary: bytes, write: Write, *, until_s: float) -> None:
    """The body of the only part of a multipart answer; the closing mark is its end, and nothing else is.

    Args:
        chunks: The answer's bytes as they come.
        boundary: Of its Content-Type.
        write: Takes the body, piece by piece.
        until_s: On the clock ``time.monotonic``: a read time-out alone never ends a trickle.

    Raises:
        Incomplete: There is no closing mark, there is more than one part, or it takes too long.
    """
    mark = b"\r\n--" + boundary
    kept_bytes = len(mark) + 2
    held, is_body = bytearray(b"\r\n"), False
    for chunk in chunks:
        if time.monotonic() > until_s:
            raise Incomplete("The answer takes too long")
        if is_body and len(chunk) > kept_bytes and mark not in chunk and mark not in held + chunk[:kept_bytes]:
            # Most of an object: nothing of the mark is in it, but for what may be its beginning at the end.
            write(held)
            with memoryview(chunk) as view:
                write(view[:-kept_bytes])
            held = bytearray(chunk[-kept_bytes:])
            continue
        held += chunk
        if not is_body:
            is_body = _passes_head(held, mark)
            if not is_body:
                continue
        end = held.find(mark)
        if end >= 0 and len(held) >= end + kept_bytes:
            with memoryview(held) as view:
                write(view[:end])
            if held[end + len(mark) : end + kept_bytes] != b"--":
                raise Incomplete("The answer holds more than one object")
            return
    raise Incomplete("The answer was cut off")


def _passes_head(held: bytearray, mark: bytes) -> bool:
    """Drops what stands before the first part's body, once all of that is there."""
    begin = held.find(mark)
    blank = held.find(b"\r\n\r\n", begin + len(mark)) if begin >= 0 else -1
    if blank < 0:
        if len(held) > _LONGEST_PART_HEAD:
            raise Incomplete("The answer does not begin with a part")
        return False
    # The blank line's first end of line stays: a body of no bytes is followed by the mark at once.
    del held[: blank + 4]
    return True


def _require_success(answer: HTTPResponse) -> None:
    """Raises what a status means: to be asked again later, not there, or not to be asked again like this."""
    status = answer.status
    if status in (200, 204):
        return
    if status in (404, 410):
        raise NotThere("The server does not have it", got=f"HTTP status {status}", remedy="check the peer's url")
    if status == 429 or status >= 500:
        unavailable = PeerUnavailable("The server cannot answer now", got=f"HTTP status {status}")
        unavailable.wait_s = _wait_s(answer.headers.get("retry-after", ""))
        raise unavailable
    if status in (401, 403):
        raise PeerRefused(
            "The server does not accept us",
            got=f"HTTP status {status}",
            remedy="check credentials_file and what our account may do; nothing was tried again",
        )
    if 300 <= status < 400:
        raise PeerRefused(
            "The server sends us elsewhere, which is not followed", got=f"HTTP status {status}", remedy="correct url"
        )
    raise QuestionRefused("The server refuses the question", got=f"HTTP status {status}")


def _wait_s(text: str) -> float:
    return min(float(text), _LONGEST_WAIT_S) if text.isdigit() else 0.0


@contextmanager
def translated() -> Iterator[None]:
    """Errors of connections, of which only the class leaves here."""
    kind, is_theirs, is_ours = "", False, False
    try:
        yield
    except (HTTPException, OSError, UnicodeError) as error:  # the last where a host's name can be none
        kind, is_theirs = type(error).__name__, isinstance(error, ssl.SSLCertVerificationError)
        is_ours = is_about_ours(error)
    if is_theirs:
        raise not_believed(remedy="have it renewed, or name its authority in authorities")
    if is_ours:
        raise ours_not_believed()
    if kind:
        remedy = "ask whether it runs, and check url: http or https, host and port"
        raise PeerUnavailable("The server cannot be reached or broke off", got=kind, remedy=remedy)
