"""Objects that we push to a peer (C-STORE), and its word that it keeps them (storage commitment, as the one who asks)."""

from __future__ import annotations

import threading
from collections.abc import Collection
from io import BytesIO
from typing import Any, Final

from pydicom import dcmread
from pydicom.uid import generate_uid
from pynetdicom import evt
from pynetdicom.events import Event
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]  # as in dimse

from schemas.config.pacs import CommitmentConfig, DimsePeer, PacsConfig
from schemas.errors import ConfigError, MammoError, PeerUnavailable, error_name
from tasks.adapters.pacs.dimse import PROMPTLY, SUCCESS, association, data_set, entity
from tasks.adapters.pacs.listening.commitment import WELL_KNOWN

_WARNINGS: Final = range(0xB000, 0xC000)
"""Stored, with something of the header changed (PS3.4 B.2.3)."""


class NotTaken(MammoError):
    """The peer answered, and did not take an object."""

    exit_code = 3


def push(pacs: PacsConfig, peer: DimsePeer, content: bytes) -> None:
    """Stores one object at a peer, in its own transfer syntax: the only one that is proposed, so nothing is converted.

    On an association of its own: making the next object takes seconds, and peers end what is idle.

    Args:
        pacs: Who we are.
        peer: Whom we call.
        content: A DICOM file.

    Raises:
        NotTaken: It refuses the object, or its kind.
        PeerUnavailable: It cannot be reached, or breaks off.
        PeerRefused: It does not accept us.
    """
    dataset = dcmread(BytesIO(content))  # as a file has it: compressed pixels are sent as they are written there
    kind = build_context(str(dataset.SOPClassUID), str(dataset.file_meta.TransferSyntaxUID))
    # With something besides that every peer knows, a peer that does not know the kind accepts us and refuses the kind.
    with association(pacs, peer, [kind, build_context(Verification)]) as made:
        if not any(context.abstract_syntax == dataset.SOPClassUID for context in made.accepted_contexts):
            raise NotTaken("The peer does not take objects of this kind", remedy="leave it out of pacs.results.kinds")
        answer = made.send_c_store(dataset)
    if not answer or "Status" not in answer:
        raise PeerUnavailable("The peer broke off while an object was sent")
    if answer.Status != SUCCESS and answer.Status not in _WARNINGS:
        raise NotTaken("The peer refuses an object", got=f"status {answer.Status:#06x}")


def committed(pacs: PacsConfig, peer: DimsePeer, settings: CommitmentConfig, objects: Collection[tuple[str, str]]) -> set[str]:
    """Which of some objects (SOP class, SOP instance) a peer commits to keep; it calls back with the answer.

    Raises:
        PeerUnavailable: It did not take the request, or its answer did not come in time.
        PeerRefused: It does not accept us.
        ConfigError: Nobody can listen for the answer at the configured port.
    """
    answers: list[Any] = []
    has_come = threading.Event()
    transaction = generate_uid()

    def take(event: Event) -> tuple[int, None]:
        report: Any = event.event_information
        if report.get("TransactionUID") == transaction:
            answers.append(report)
            has_come.set()
        return SUCCESS, None

    handlers = [(evt.EVT_N_EVENT_REPORT, take)]
    ours = entity(pacs.ae_title, silence_s=peer.timeout_s)
    ours.require_called_aet = True
    ours.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)  # the peer comes as the provider
    try:
        server: Any = ours.start_server((settings.host, settings.port), block=False, evt_handlers=[*PROMPTLY, *handlers])
    except OSError as taken:
        raise ConfigError(
            "Nobody can listen for the answers about storage commitment",
            expected=f"a free port {settings.port} at {settings.host}",
            got=error_name(taken),
            remedy="correct pacs.results.commitment, or stop who uses the port",
        ) from taken
    try:
        items = [data_set(ReferencedSOPClassUID=kind, ReferencedSOPInstanceUID=uid) for kind, uid in objects]
        asked = data_set(TransactionUID=transaction, ReferencedSOPSequence=items)
        # A peer may answer on this very association too.
        with association(pacs, peer, [build_context(StorageCommitmentPushModel)], handlers=handlers) as made:
            status, _ = made.send_n_action(asked, 1, StorageCommitmentPushModel, WELL_KNOWN)
        if not status or status.Status != SUCCESS:
            raise PeerUnavailable("The peer does not take a request for storage commitment")
        if not has_come.wait(settings.wait_s):
            raise PeerUnavailable(
                "The peer's answer about storage commitment did not come",
                expected=f"a call to {pacs.ae_title} at port {settings.port} within {settings.wait_s:g} s",
                remedy="have that title and port registered there",
            )
    finally:
        server.shutdown()
    return {str(item.ReferencedSOPInstanceUID) for item in answers[0].get("ReferencedSOPSequence", [])}
