"""DICOM's own protocol as we speak it: associations, and questions asked on them. The home of pynetdicom, and of its data sets.

Imported late, or in a process of its own: it brings pydicom. Nothing that a peer says is logged or repeated in an error.
"""

from __future__ import annotations

import errno
import logging
import os
import queue
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any, Final

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filewriter import write_file_meta_info
from pynetdicom import AE, _config, build_role, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made by the module when it is asked
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from schemas.config.pacs import DimsePeer, PacsConfig
from schemas.errors import ConfigError, PeerRefused, PeerUnavailable
from tasks.adapters.dicom.frame_codecs import SYNTAXES
from tasks.adapters.dicom.header import is_uid
from tasks.adapters.pacs.peers import certificate_fault, client_context
from tasks.adapters.pacs.sources import Cut

# It logs what others send at INFO and DEBUG, and the text of every exception at ERROR.
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
_config.LOG_HANDLER_LEVEL = "none"
_config.LOG_REQUEST_IDENTIFIERS = False
_config.LOG_RESPONSE_IDENTIFIERS = False

LARGEST_PDU_BYTES: Final = 1 << 20
MOST_CONTEXTS: Final = 128
SUCCESS: Final = 0x0000
_DESTINATION_UNKNOWN: Final = 0xA801
_PENDING = frozenset({0xFF00, 0xFF01})
_CUT: Final = frozenset({0xFE00, 0xA700})
"""The first is said for a limit by some who send up to it, the second by some who then have no room for the rest."""
FIND, GET, MOVE = (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)
_SECONDS_TO_CONNECT: Final = 5.0
_SECONDS_TO_AGREE: Final = 10.0

READ_SYNTAXES: Final = tuple(
    sorted(SYNTAXES, key=lambda uid: (SYNTAXES[uid].codec is None, not SYNTAXES[uid].is_lossless, uid))
)
"""What the gate reads, in the order of our liking: as it was stored before as it would be decompressed."""


def data_set(**values: object) -> Dataset:
    """A data set of these attributes, by keyword."""
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """An object as a C-STORE request carries it.

    Attributes:
        head: Preamble and file meta information, with who sent it: what makes a file of ``content``.
        content: The data set's bytes as they came: neither decoded nor copied.
    """

    sop_class: str
    sop_uid: str
    syntax_uid: str
    head: bytes
    content: memoryview

    @property
    def has_valid_uid(self) -> bool:
        """True if its SOPInstanceUID is a UID."""
        return is_uid(self.sop_uid)


def received(event: Event) -> Received:
    """What a C-STORE request brought."""
    request: Any = event.request
    meta = event.file_meta
    meta.SourceApplicationEntityTitle = event.assoc.requestor.ae_title
    head = BytesIO()
    head.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(head, meta)  # type: ignore[arg-type]  # any writable file does
    return Received(
        sop_class=str(request.AffectedSOPClassUID),
        sop_uid=str(request.AffectedSOPInstanceUID).strip("\0 "),
        syntax_uid=str(event.context.transfer_syntax),
        head=head.getvalue(),
        content=request.DataSet.getbuffer(),
    )


def header_json(sent: Received) -> dict[str, Any]:
    """An object's header in DICOM JSON, without its pixels; what its own type forbids is left out."""
    read = dcmread(BytesIO(b"".join((sent.head, sent.content))), stop_before_pixels=True)
    return dict(read.to_json_dict(suppress_invalid_tags=True))


def caller_of(event: Event) -> tuple[str, str]:
    """Title and address of whoever asks for an association."""
    requestor: Any = event.assoc.requestor
    return str(requestor.primitive.calling_ae_title).strip(), str(requestor.address_info.address)


def acknowledge_at_once(event: Event) -> None:
    """For EVT_CONN_OPEN and EVT_DATA_SENT: nobody waits 40 ms for an acknowledgement before it sends the rest of a message.

    Senders write a message's first bytes by themselves, and hold back what follows until these are acknowledged (Nagle), which
    a kernel puts off when it has just sent something: with objects of 9 kB that is nine tenths of the time.
    """
    dul: Any = event.assoc.dul.socket
    connection: socket.socket | None = None if dul is None else dul.socket
    if connection is None:
        return
    with suppress(OSError):  # it was closed just now: whoever reads from it is told
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def end_what_takes_nothing(event: Event) -> None:
    """For EVT_CONN_OPEN: sending to a peer that reads nothing any more fails after our time limit, as reading from it does.

    Without a limit of the socket's own, a process that was stopped holds us for ever once its buffers are full.
    """
    dul: Any = event.assoc.dul.socket
    connection: socket.socket | None = None if dul is None else dul.socket
    if connection is not None and connection.gettimeout() is None:
        connection.settimeout(event.assoc.network_timeout)


def read_in_large_pieces(event: Event) -> None:
    """For EVT_CONN_OPEN: what has come is read at once, and a message that is longer than we said we take ends the connection.

    The library reads 4 kB at a time, each with a wait of its own while no other association's thread can run; and it reads as
    much as a message's head announces, up to 4 GiB, from whoever has connected.
    """
    dul: Any = event.assoc.dul.socket
    if dul is not None:
        dul.recv = partial(_read, dul)


def wait_while_bytes_come(event: Event) -> None:
    """For EVT_CONN_OPEN of an association that we ask for: the time limit is one without a byte, not for a whole message.

    And an answer is for whoever has asked. Between our questions the library's own thread looks for requests of the peer; where
    it was put off in the middle of that look, it took the first answer to our next question for one, and dropped it.
    """
    event.assoc.dimse.get_msg = partial(_message, event.assoc)  # type: ignore[method-assign]  # what it was knows no bytes


def _message(made: Association, block: bool = False) -> Any:
    """The next message with its context; two Nones if there is none, as the library has it."""
    if not block and not made._reactor_checkpoint.is_set():
        return None, None  # the library's thread, while somebody else waits for an answer
    limit_s, began_s = made.dimse_timeout, time.monotonic()
    wait_s = limit_s
    while True:
        try:
            return made.dimse.msg_queue.get(block=block, timeout=wait_s)
        except queue.Empty:
            silent_s = time.monotonic() - max(began_s, getattr(made.dul.socket, "came_s", 0.0))
            if not block or limit_s is None or silent_s >= limit_s:
                return None, None
            wait_s = limit_s - silent_s


def _read(dul: Any, count: int) -> bytearray:
    """So many bytes; fewer where the connection was closed before."""
    if count > 2 * LARGEST_PDU_BYTES:
        raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
    content, done = bytearray(count), 0
    with memoryview(content) as view:
        while done < count and (came := dul.socket.recv_into(view[done:])):
            done += came
            dul.came_s = time.monotonic()
    del content[done:]
    return content


PROMPTLY: Final[list[evt.EventHandlerType]] = [
    (evt.EVT_CONN_OPEN, end_what_takes_nothing),
    (evt.EVT_CONN_OPEN, read_in_large_pieces),
    (evt.EVT_CONN_OPEN, acknowledge_at_once),
    (evt.EVT_DATA_SENT, acknowledge_at_once),
]


def entity(title: str, *, silence_s: float) -> AE:
    """Us, by our title, with time limits for everything that another side may leave unsaid."""
    ours = AE(title)
    ours.acse_timeout = min(_SECONDS_TO_AGREE, silence_s)
    ours.dimse_timeout = ours.network_timeout = silence_s
    ours.connection_timeout = _SECONDS_TO_CONNECT
    ours.maximum_pdu_size = LARGEST_PDU_BYTES
    return ours


@contextmanager
def association(
    pacs: PacsConfig,
    peer: DimsePeer,
    contexts: Sequence[PresentationContext],
    *,
    scp_roles: Sequence[str] = (),
    handlers: Sequence[Any] = (),
) -> Iterator[Association]:
    """An association with a peer, released when the block ends well and aborted when it does not.

    Args:
        pacs: Who we are.
        peer: Whom we call.
        contexts: What is proposed, at most 128.
        scp_roles: Classes of which the peer sends to us on this association.
        handlers: pynetdicom's pairs of event and function.

    Raises:
        PeerUnavailable: It cannot be reached or has no room for us.
        PeerRefused: It rejects us, for good, or accepts none of the contexts.
    """
    made = associate(pacs, peer, contexts, scp_roles=scp_roles, handlers=handlers)
    try:
        yield made
    except BaseException:
        made.abort()
        raise
    made.release()


def associate(
    pacs: PacsConfig,
    peer: DimsePeer,
    contexts: Sequence[PresentationContext],
    *,
    scp_roles: Sequence[str] = (),
    handlers: Sequence[Any] = (),
) -> Association:
    """As ``association``, for one that its caller ends."""
    if len(contexts) > MOST_CONTEXTS:
        raise ConfigError("Too many presentation contexts", expected=f"at most {MOST_CONTEXTS}", got=len(contexts))
    tls = (client_context(pacs.tls), peer.host) if peer.uses_tls else None
    try:
        socket.getaddrinfo(peer.host, peer.port)
    except (OSError, UnicodeError):  # asked before pynetdicom does, which does not say so
        raise PeerUnavailable("The peer's host has no address", remedy="correct host, or ask who runs the network") from None
    made = entity(pacs.ae_title, silence_s=peer.timeout_s).associate(
        peer.host,
        peer.port,
        list(contexts),
        peer.ae_title,
        ext_neg=[build_role(uid, scp_role=True) for uid in scp_roles],
        evt_handlers=[*PROMPTLY, (evt.EVT_CONN_OPEN, wait_while_bytes_come), *handlers],
        tls_args=tls,
    )
    if not made.is_established:
        raise (certificate_fault(peer, tls[0]) if tls is not None else None) or _no_association(made, peer)
    return made


def matches(made: Association, level: str, **keys: str) -> list[Dataset]:
    """All answers to a question (C-FIND).

    Raises:
        Cut: The peer says that there are more.
        PeerUnavailable: It fell silent, or could not answer.
        PeerRefused: It offers no such service.
    """
    found: list[Dataset] = []
    question = data_set(QueryRetrieveLevel=level, **keys)
    for status, match in _asked(partial(made.send_c_find, question, FIND)):
        code = _code(status)
        if code in _PENDING and match is not None:
            found.append(match)
        elif code in _CUT:
            raise Cut(found)
        elif code != SUCCESS:
            raise PeerUnavailable("The peer could not answer a question", got=f"C-FIND status {code:#06x}")
    return found


def retrieve(made: Association, *, move_to: str | None = None, **keys: str) -> int | None:
    """Has an object sent, on this association (C-GET) or to a title (C-MOVE); how many the peer says it sent.

    None where it does not say: the last answer need not hold a count (PS3.7 tables 9.1-3 and 9.1-4).

    Raises:
        PeerUnavailable: It fell silent, or could not send.
        PeerRefused: It offers no such service.
    """
    query = data_set(QueryRetrieveLevel="IMAGE", **keys)
    send = partial(made.send_c_get, query, GET) if move_to is None else partial(made.send_c_move, query, move_to, MOVE)
    last = data_set()
    for status, _ in _asked(send):
        _code(status)
        last = status
    code = int(last.get("Status", 0))
    if code != SUCCESS:
        counts = (f"{last.get(f'NumberOf{how}Suboperations') or 0} {how.lower()}" for how in ("Completed", "Warning", "Failed"))
        raise _not_sent(code, f"status {code:#06x}, {', '.join(counts)}", move_to)
    count = last.get("NumberOfCompletedSuboperations")
    return None if count is None else int(count)


def _not_sent(status: int, got: str, move_to: str | None) -> Exception:
    """What a failed retrieval means: PS3.4 C.4.2.1.5 names few reasons, and many peers answer each of them with 0xC000."""
    if move_to is None:
        return PeerUnavailable("The peer could not send an image", got=got)
    remedy = f"have {move_to} registered there with the address and port of our listener, and start it (mammo pacs listen)"
    if status == _DESTINATION_UNKNOWN:
        return PeerRefused("The peer does not know our title as a place to send images to", got=got, remedy=remedy)
    return PeerUnavailable("The peer could not send an image to our listener", got=got, remedy=remedy)


def _asked(send: Callable[[], Iterable[tuple[Dataset, Dataset | None]]]) -> Iterator[tuple[Dataset, Dataset | None]]:
    try:
        yield from send()
    except ValueError as refused:
        raise PeerRefused("The peer does not offer this service to us") from refused
    except RuntimeError as ended:
        raise PeerUnavailable("The peer ended the association") from ended


def _code(status: Dataset) -> int:
    """The status of an answer; pynetdicom gives an empty one where the link was lost or the peer fell silent."""
    if "Status" not in status:
        raise PeerUnavailable("The peer fell silent, or the link was lost", remedy="the next run asks again")
    return int(status.Status)


def echo(pacs: PacsConfig, peer: DimsePeer) -> None:
    """Asks whether the peer is there and speaks with us (C-ECHO).

    Raises:
        PeerUnavailable: It cannot be reached, or falls silent.
        PeerRefused: It does not accept us.
    """
    with association(pacs, peer, [build_context(Verification)]) as made:
        status = made.send_c_echo()
    if not status:
        raise PeerUnavailable("The peer fell silent before it answered a C-ECHO")
    if status.Status != SUCCESS:
        raise PeerRefused("The peer refuses a C-ECHO", got=f"status {status.Status:#06x}")


def one_context_each(sop_classes: Sequence[str]) -> list[PresentationContext]:
    """Contexts of one transfer syntax: with several in one, a peer picks one of them and converts everything else to it."""
    return [build_context(sop_class, syntax) for sop_class in sop_classes for syntax in READ_SYNTAXES]


# ---------------------------------------------------------------------------------------------------------------------


def _no_association(made: Association, peer: DimsePeer) -> Exception:
    """Why there is none, as far as pynetdicom tells: only the rejection's own numbers do."""
    unavailable = partial(PeerUnavailable, remedy="ask whether it runs, and check host, port and TLS on both sides")
    answer = made.acceptor.primitive
    if made.is_rejected and answer is not None:
        reason = f"result {answer.result}, source {answer.result_source}, reason {answer.diagnostic}"
        if answer.result == 2:  # rejected-transient (PS3.8 table 9-21)
            return unavailable("The peer has no room for an association", got=reason)
        known = {3: "it does not know our title", 7: "it is not called by that title"}.get(answer.diagnostic or 0, "")
        return PeerRefused(
            "The peer rejects an association" + (f": {known}" if known else ""),
            expected=f"calling pacs.ae_title, called {peer.ae_title}",
            got=reason,
            remedy="have our title and address registered there, or correct ae_title",
        )
    if answer is not None and not made.accepted_contexts:
        return PeerRefused("The peer accepts nothing of what is proposed to it", remedy="it does not offer this service to us")
    return unavailable("The peer cannot be reached", got="no answer to a request for an association")
