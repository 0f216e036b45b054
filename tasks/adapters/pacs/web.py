"""DICOMweb as we speak it: questions (QIDO-RS), and objects streamed to the disk as they are stored (WADO-RS).

The home of httpx. No URL leaves this module in an error, for it holds identifiers: httpx puts it into its own and logs it at
INFO. Redirects are not followed, for they would be given our credentials; nor are addresses that a server's answers name.
"""

from __future__ import annotations

import logging
import re
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, Final
from urllib.parse import quote, urlencode

import httpx

from schemas.config.pacs import DicomWebPeer, PacsConfig
from schemas.errors import PeerRefused, PeerUnavailable
from tasks.adapters.pacs.encoded_object import Incomplete
from tasks.adapters.pacs.peers import authorization, client_context
from tasks.adapters.pacs.sources import NotThere

logging.getLogger("httpx").setLevel(logging.WARNING)
logging.getLogger("httpcore").setLevel(logging.WARNING)

Client = httpx.Client
_SECONDS_TO_CONNECT: Final = 5.0
_AS_STORED: Final = 'multipart/related; type="application/dicom"; transfer-syntax=*'
"""Without its last part a server decompresses what it stores, or fails at what it cannot decompress."""

_BOUNDARY: Final = "mammo-7f3c19d2a4"
_OF_THE_OBJECT: Final = (202, 400, 406, 409, 413, 415, 422)
"""Not against us: some of it or nothing was stored, a proxy finds it too large, or its kind is not stored there."""
_LONGEST_PART_HEAD: Final = 1 << 14
_LONGEST_WAIT_S: Final = 300.0


@contextmanager
def web_client(pacs: PacsConfig, peer: DicomWebPeer) -> Iterator[httpx.Client]:
    """Connections to a peer, as many as ``in_flight``.

    Raises:
        ConfigError: Credentials or certificates cannot be read.
    """
    said = authorization(peer)
    verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # believes nobody: without https nobody is asked
    if peer.url.startswith("https"):
        verify = client_context(pacs.tls, authorities=peer.authorities, shows_certificate=peer.uses_certificate)
    with httpx.Client(
        base_url=peer.url.rstrip("/"),
        headers={"Accept-Encoding": "identity", **({"Authorization": said} if said else {})},
        timeout=httpx.Timeout(peer.timeout_s, connect=_SECONDS_TO_CONNECT),
        limits=httpx.Limits(max_connections=peer.in_flight, max_keepalive_connections=peer.in_flight),
        follow_redirects=False,
        trust_env=False,
        verify=verify,
    ) as client:
        yield client


def ask(client: httpx.Client, path: str, keys: Mapping[str, str]) -> list[dict[str, Any]]:
    """One QIDO-RS question, without limit and offset: servers cut answers by the one and miscount by the other.

    Raises:
        PeerUnavailable: It cannot be asked now, or says that its answer is not all of it.
        PeerRefused: It does not accept us or the question.
        NotThere: It has no such service.
    """
    with translated():
        # Servers do not read an encoded asterisk as "any".
        question = urlencode(keys, safe="*", quote_via=quote)
        answer = client.get(f"{path}?{question}" if question else path, headers={"Accept": "application/dicom+json"})
        require_success(answer)
        if "warning" in answer.headers:
            raise PeerUnavailable("The server says that its answer is not complete", remedy="ask for fewer days at a time")
        if answer.status_code == httpx.codes.NO_CONTENT or answer.headers.get("content-length") == "0":
            return []  # an empty body that nobody announced may be one that was cut off
        try:
            found = answer.json()
        except ValueError:
            found = None
    if not isinstance(found, list) or not all(isinstance(match, dict) for match in found):
        kind = answer.headers.get("content-type", "").split(";")[0][:40]
        raise PeerRefused("The server's answer is no DICOM JSON", expected="application/dicom+json", got=kind or "no type")
    return found


def copy_object(client: httpx.Client, path: str, file: BinaryIO, *, longest_s: float) -> None:
    """One object (WADO-RS), in the transfer syntax that it is stored in, written to a file.

    Raises:
        Incomplete: The answer is not one whole part, or takes too long.
        PeerUnavailable: It cannot be asked now.
        PeerRefused: It does not accept us, or has no such object (``NotThere``).
    """
    with translated(), client.stream("GET", path, headers={"Accept": _AS_STORED}) as answer:
        require_success(answer)
        kind = answer.headers.get("content-type", "")
        boundary = re.search(r'boundary="?([^";,\s]+)', kind)
        if not kind.lower().startswith("multipart/related") or boundary is None:
            raise Incomplete("The answer is no object", expected="multipart/related", got=kind.split(";")[0][:40] or "no type")
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise Incomplete("The answer is compressed although it was asked not to be")
        # Without a size of chunks: a trickle would stay hidden until a chunk is full.
        copy_part(answer.iter_raw(), boundary[1].encode("latin-1"), file, until_s=time.monotonic() + longest_s)


def send_object(client: httpx.Client, path: str, content: bytes) -> tuple[int, Any]:
    """One object (STOW-RS): status and what the server says of it in DICOM JSON; statuses that speak of the object are answers.

    Raises:
        PeerUnavailable: It cannot take anything now.
        PeerRefused: It does not accept us.
    """
    head = f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    with translated():
        answer = client.post(
            path,
            content=b"".join((head, content, f"\r\n--{_BOUNDARY}--\r\n".encode())),
            headers={
                "Content-Type": f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}',
                "Accept": "application/dicom+json",
            },
        )
        if answer.status_code not in _OF_THE_OBJECT:
            require_success(answer)
        try:
            said = answer.json() if answer.content else None
        except ValueError:
            said = None
    return answer.status_code, said


def copy_part(chunks: Iterable[bytes], boundary: bytes, file: BinaryIO, *, until_s: float) -> None:
    """The body of the only part of a multipart answer; the closing mark is its end, and nothing else is.

    Args:
        chunks: The answer's bytes as they come.
        boundary: Of its Content-Type.
        file: Where the body goes.
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
            file.write(held)
            with memoryview(chunk) as view:
                file.write(view[:-kept_bytes])
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
                file.write(view[:end])
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


def require_success(answer: httpx.Response) -> None:
    """Raises what a status means: to be asked again later, not there, or not to be asked again like this."""
    status = answer.status_code
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
    raise PeerRefused("The server refuses the question", got=f"HTTP status {status}")


def _wait_s(text: str) -> float:
    return min(float(text), _LONGEST_WAIT_S) if text.isdigit() else 0.0


@contextmanager
def translated() -> Iterator[None]:
    """Errors of httpx quote URLs: only their class leaves here."""
    kind, is_certificate = "", False
    try:
        yield
    except httpx.HTTPError as error:
        kind, is_certificate = type(error).__name__, "CERTIFICATE_VERIFY_FAILED" in str(error)
    if is_certificate:
        raise PeerRefused(
            "The server's certificate is not believed",
            expected="one that has not expired, is of the url's host, and of a known authority",
            remedy="have it renewed, or name its authority in authorities",
        )
    if kind:
        raise PeerUnavailable("The server cannot be reached or broke off", got=kind)
