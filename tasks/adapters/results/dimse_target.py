"""A peer that speaks DICOM's own protocol as the place where results go: C-STORE, and its word that it keeps them."""

from __future__ import annotations

import threading
from collections.abc import Collection
from io import BytesIO
from typing import Any, Final

from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]  # as in dimse

from schemas.config.pacs import CommitmentConfig, DimsePeer, PacsConfig
from schemas.errors import ConfigError, PeerUnavailable, error_name
from tasks.adapters.pacs.dimse import PROMPTLY, SUCCESS, association, data_set, entity
from tasks.adapters.pacs.listening.commitment import WELL_KNOWN
from tasks.adapters.results.delivery import DUPLICATE, NotStored
from tasks.adapters.results.objects.result_objects import ResultObject

_SLOWEST_BYTES_PER_S: Final = 1 << 15
"""A quarter of a megabit: a peer behind a line that is slower counts as gone."""

_UNCOMPRESSED: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
"""What is left where a peer does not take an object as it is; the last is what DICOM asks of everybody (PS3.5 10.1)."""

_SYNTAXES_NOT_SUPPORTED: Final = 0x04
"""What a peer answers to a context whose class it does take (PS3.8 table 9-18)."""

_STORED: Final = frozenset({SUCCESS, DUPLICATE, *range(0xB000, 0xC000)})
"""The last with something of the header changed (PS3.4 B.2.3)."""


class DimseTarget:
    """Sends to one peer.

    Args:
        pacs: Who we are: our title is the one that results are sent under.
        peer: It.
        commitment: Where the peer's word comes to; None = its Success is believed.
    """

    def __init__(self, pacs: PacsConfig, peer: DimsePeer, commitment: CommitmentConfig | None) -> None:
        self._pacs, self._peer, self._commitment = pacs, peer, commitment

    def held(self, study_uid: str) -> set[str]:
        """Nothing is asked: what is there already is sent again under its own UID, which changes nothing."""
        return set()

    def store(self, made: ResultObject) -> None:
        """Sends one object.

        Raises:
            NotStored: The peer refuses it, or its kind.
            PeerUnavailable: It cannot be reached, or breaks off.
            PeerRefused: It does not accept us.
        """
        try:
            push(self._pacs, self._peer, made.content)
        except NotStored as refused:
            raise NotStored(f"{made.kind.value}: {refused}") from refused

    def prove(self, made: ResultObject) -> str:
        """By its Success; its word is asked for all of a study's objects at once."""
        return "success"

    def lost(self, objects: Collection[tuple[str, str]]) -> set[str]:
        """Of objects (class, UID) those that the peer does not commit to keep; none if it is not asked.

        Raises:
            PeerUnavailable: Its word did not come.
        """
        if self._commitment is None or not objects:
            return set()
        return {uid for _, uid in objects} - committed(self._pacs, self._peer, self._commitment, objects)


def push(pacs: PacsConfig, peer: DimsePeer, content: bytes) -> None:
    """Stores one object at a peer: in its own transfer syntax where the peer takes that, else uncompressed.

    Each syntax is a context of its own: with several in one, a peer picks, and what it likes best is not what costs nothing.
    On an association of its own: making the next object takes seconds, and peers end what is idle.

    Args:
        pacs: Who we are.
        peer: Whom we call.
        content: A DICOM file.

    Raises:
        NotStored: It refuses the object, its kind, or every transfer syntax that it can be sent in.
        PeerUnavailable: It cannot be reached, or breaks off.
        PeerRefused: It does not accept us.
    """
    dataset = dcmread(BytesIO(content))  # as a file has it: compressed pixels are sent as they are written there
    kind, own = str(dataset.SOPClassUID), dataset.file_meta.TransferSyntaxUID
    offered = [build_context(kind, syntax) for syntax in dict.fromkeys((own, *_UNCOMPRESSED))]
    # With something besides that every peer knows, a peer that does not know the kind accepts us and refuses the kind.
    with association(pacs, peer, [*offered, build_context(Verification)]) as made:
        taken = _taken(made, kind)
        if own.is_compressed and own not in taken:
            dataset.decompress(generate_instance_uid=False)  # from Explicit to Implicit VR it is converted while it is sent
        size_bytes = max(len(content), len(dataset.get("PixelData", b"")))
        made.dimse_timeout = peer.timeout_s + size_bytes / _SLOWEST_BYTES_PER_S  # it begins before the first byte is sent
        answer = made.send_c_store(dataset)
    if not answer or "Status" not in answer:
        raise PeerUnavailable("The peer broke off while an object was sent")
    if answer.Status not in _STORED:
        raise NotStored("The peer refuses an object", got=f"status {answer.Status:#06x}")


def _taken(made: Association, kind: str) -> set[str]:
    """The transfer syntaxes in which a peer takes objects of a kind.

    Raises:
        NotStored: None of those that were offered.
    """
    taken = {str(context.transfer_syntax[0]) for context in made.accepted_contexts if context.abstract_syntax == kind}
    if taken:
        return taken
    answers = {context.result for context in made.rejected_contexts if context.abstract_syntax == kind}
    if _SYNTAXES_NOT_SUPPORTED in answers:
        raise NotStored(
            "The peer takes objects of this kind, but in none of the transfer syntaxes that we can send them in",
            expected="Explicit or Implicit VR Little Endian",
            remedy="have one of them accepted from our title, or leave the kind out of pacs.results.kinds",
        )
    raise NotStored("The peer does not take objects of this kind", remedy="leave it out of pacs.results.kinds")


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
