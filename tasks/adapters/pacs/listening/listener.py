"""The listener: takes the exams that peers push into the inbox, undecoded, and tells Success when they are on the disk."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # as in dimse
    DigitalMammographyXRayImageStorageForProcessing,
    StorageCommitmentPushModel,
    Verification,
)

from schemas.config.pacs import ListenConfig, PacsConfig
from schemas.errors import ConfigError, error_name
from tasks.adapters.dicom.header import MAMMOGRAPHY_FOR_PRESENTATION
from tasks.adapters.pacs.arrivals import PUSHED, Arrivals
from tasks.adapters.pacs.dimse import LARGEST_PDU_BYTES, PROMPTLY, READ_SYNTAXES, SUCCESS, caller_of, entity, received
from tasks.adapters.pacs.encoded_object import Incomplete, name_of
from tasks.adapters.pacs.listening.commitment import answer_commitment
from tasks.adapters.pacs.peers import Caller, callers, server_context

logger = logging.getLogger(__name__)

OUT_OF_RESOURCES: Final = 0xA700
OTHER_OBJECT: Final = 0xA900
CANNOT_UNDERSTAND: Final = 0xC000
CLASS_NOT_SUPPORTED: Final = 0x0122
INVALID_UID: Final = 0x0117
_REJECTED_FOR_GOOD, _BY_USER, _CALLER_UNKNOWN = 0x01, 0x01, 0x03
_SECONDS_BETWEEN_SIZES: Final = 30.0
_GIB: Final = 1 << 30
_NOTHING_STORED: Final = "nothing of it was kept, its sender was told"


@dataclass
class Counts:
    """What became of the objects that were sent; a line of them is logged when an association ends."""

    stored: int = 0
    repeated: int = 0
    refused: int = 0


@dataclass
class Listener:
    """Answers what peers send.

    Attributes:
        pacs: Who we are, who may call, what is too much.
        inbox_dir: Where exams go: ``ingest.source_dir``.
    """

    pacs: PacsConfig
    inbox_dir: Path
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        self.limits: ListenConfig = self.pacs.listen or ListenConfig()
        self.arrivals = Arrivals(self.inbox_dir, PUSHED)
        self.known: Mapping[str, Caller] = {
            title: caller for title, caller in callers(self.pacs).items() if caller.peer.may_push
        }
        self._received_bytes: dict[int, int] = {}
        self._lock = threading.Lock()
        self._size_bytes, self._sized_s = 0, -_SECONDS_BETWEEN_SIZES

    def start(self) -> Any:
        """Listens, in threads of its own; ``shutdown()`` of what it returns ends it.

        Raises:
            ConfigError: Nobody may push, the port is taken, or TLS files cannot be used.
        """
        if not self.known:
            raise ConfigError(
                "Nobody may push exams to the listener",
                expected="a peer of kind dimse with may_push in pacs.peers",
                remedy="add the router or PACS that sends, with its AE title and address",
            )
        self.arrivals.sweep()
        tls = server_context(self.pacs.tls) if self.limits.uses_tls and self.pacs.tls is not None else None
        handlers: list[evt.EventHandlerType] = [
            *PROMPTLY,
            (evt.EVT_REQUESTED, self.look_at_caller),
            (evt.EVT_DATA_RECV, self.count_bytes),
            (evt.EVT_C_STORE, self.store),
            (evt.EVT_N_ACTION, self.commit),
            (evt.EVT_CONN_CLOSE, self.forget),
        ]
        try:
            address = (self.limits.host, self.limits.port)
            return self._entity().start_server(address, block=False, evt_handlers=handlers, ssl_context=tls)
        except OSError as taken:
            raise ConfigError(
                f"The listener cannot listen at {self.limits.host}:{self.limits.port}",
                got=error_name(taken),
                remedy="end what listens there, or correct pacs.listen",
            ) from taken

    def _entity(self) -> AE:
        ours = entity(self.pacs.ae_title, silence_s=self.limits.silence_s)
        ours.require_called_aet = True
        ours.require_calling_aet = list(self.known)
        ours.maximum_associations = self.limits.associations
        for sop_class in (MAMMOGRAPHY_FOR_PRESENTATION, DigitalMammographyXRayImageStorageForProcessing):
            # The second is refused object by object: without its context a sender may give up on the whole exam.
            ours.add_supported_context(sop_class, list(READ_SYNTAXES))
        ours.add_supported_context(Verification)
        ours.add_supported_context(StorageCommitmentPushModel)
        return ours

    def look_at_caller(self, event: Event) -> None:
        """Rejects whoever calls from another address than its title's peer; unknown titles are rejected after this."""
        title, address = caller_of(event)
        caller = self.known.get(title)
        if caller is None or caller.calls_from(address):
            return
        logger.warning("an association was rejected: a known title called from an address that is not its peer's")
        event.assoc.acse.send_reject(_REJECTED_FOR_GOOD, _BY_USER, _CALLER_UNKNOWN)
        event.assoc.kill()

    def count_bytes(self, event: Event) -> None:
        """Ends an association that sends one object of more than twice what is accepted: it would fill the memory."""
        key = id(event.assoc)
        self._received_bytes[key] = self._received_bytes.get(key, 0) + len(event.data)
        if self._received_bytes[key] > 2 * (self.limits.largest_object_mib << 20) + LARGEST_PDU_BYTES:
            logger.warning("an association was aborted: it sent an object of more than twice pacs.listen.largest_object_mib")
            event.assoc.abort()

    def forget(self, event: Event) -> None:
        """An association has ended."""
        if self._received_bytes.pop(id(event.assoc), None) is not None:
            logger.info("since the start: %s", ", ".join(f"{count} {what}" for what, count in asdict(self.counts).items()))

    def store(self, event: Event) -> int:
        """The answer to a C-STORE: Success only for what is on the disk."""
        self._received_bytes[id(event.assoc)] = 0
        try:
            status = self._stored(event)
        except OSError as trouble:
            logger.warning("an object was refused: the inbox cannot be written (%s); %s", error_name(trouble), _NOTHING_STORED)
            status = OUT_OF_RESOURCES
        except Incomplete as unreadable:
            logger.warning("an object was refused: %s; %s", unreadable, _NOTHING_STORED)
            status = CANNOT_UNDERSTAND
        except Exception as fault:  # pynetdicom would log its text, which may quote a value
            logger.error("an object was refused after an error of ours (%s); %s", type(fault).__name__, _NOTHING_STORED)
            status = CANNOT_UNDERSTAND
        if status != SUCCESS:
            self.counts.refused += 1
        return status

    def commit(self, event: Event) -> tuple[int, None]:
        """The answer to a request for storage commitment."""
        return answer_commitment(event, self.pacs, self.known, self.arrivals.held)

    def _stored(self, event: Event) -> int:
        sent = received(event)
        if sent.sop_class != MAMMOGRAPHY_FOR_PRESENTATION:
            return CLASS_NOT_SUPPORTED
        if not sent.has_valid_uid:
            return INVALID_UID
        if self._is_too_much(len(sent.content)):
            return OUT_OF_RESOURCES
        named = name_of(sent.content, sent.syntax_uid)
        if (named.sop_uid, named.sop_class) != (sent.sop_uid, sent.sop_class):
            return OTHER_OBJECT
        if self.arrivals.take(named, sent.head, sent.content):
            self.counts.stored += 1
            self._size_bytes += len(sent.content)
        else:
            self.counts.repeated += 1
        return SUCCESS

    def _is_too_much(self, size_bytes: int) -> bool:
        if size_bytes > self.limits.largest_object_mib << 20:
            return True
        if self.arrivals.free_bytes() - size_bytes < self.limits.least_free_gib * _GIB:
            return True
        if self.limits.largest_inbox_gib is None:
            return False
        with self._lock:  # the inbox is measured now and then: somebody may have moved files on
            most_bytes = self.limits.largest_inbox_gib * _GIB
            is_old = time.monotonic() - self._sized_s > _SECONDS_BETWEEN_SIZES
            if self._sized_s < 0 or (is_old and self._size_bytes + size_bytes > most_bytes):
                self._size_bytes, self._sized_s = self.arrivals.size_bytes(), time.monotonic()
        return self._size_bytes + size_bytes > most_bytes
