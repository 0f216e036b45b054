"""Storage commitment, as the one who stored: a sender asks whether its objects are safe, and is told on a call back.

An object is safe if the inbox holds it now (PS3.4 annex J): the store keeps crops of images, not what was sent.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from pynetdicom.events import Event
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]  # as in dimse

from schemas.config.pacs import PacsConfig
from schemas.errors import MammoError
from tasks.adapters.pacs.dimse import SUCCESS, association, data_set
from tasks.adapters.pacs.peers import Caller

logger = logging.getLogger(__name__)

WELL_KNOWN: Final = "1.2.840.10008.1.20.1.1"
_NO_SUCH_OBJECT: Final = 0x0112
_ALL_SAFE, _SOME_FAILED = 1, 2
_SECONDS_BEFORE_CALLING: Final = (0.2, 5.0, 30.0, 120.0)

Held = Callable[[Collection[str]], Collection[str]]
"""Which of some SOPInstanceUIDs are safe here."""


def answer_commitment(event: Event, pacs: PacsConfig, known: Mapping[str, Caller], held: Held) -> tuple[int, None]:
    """Takes a request (N-ACTION), and calls back with the answer (N-EVENT-REPORT) in a thread of its own."""
    asked = event.action_information
    items = list(asked.get("ReferencedSOPSequence", []))
    safe = held({str(item.ReferencedSOPInstanceUID) for item in items})
    kept = [item for item in items if str(item.ReferencedSOPInstanceUID) in safe]
    failed = [item for item in items if str(item.ReferencedSOPInstanceUID) not in safe]
    for item in failed:
        item.FailureReason = _NO_SUCH_OBJECT
    report = data_set(TransactionUID=asked.TransactionUID)
    for keyword, some in (
        ("ReferencedSOPSequence", kept),
        ("FailedSOPSequence", failed),
    ):
        if some:
            setattr(report, keyword, some)
    caller = known[event.assoc.requestor.ae_title.strip()]
    kind = _SOME_FAILED if failed else _ALL_SAFE
    threading.Thread(target=_call_back, args=(pacs, caller, report, kind), daemon=True, name="commitment").start()
    return SUCCESS, None


def _call_back(pacs: PacsConfig, caller: Caller, report: Any, kind: int) -> None:
    """On an association of ours, in which we stay the service's provider: that role must be negotiated."""
    for delay_s in _SECONDS_BEFORE_CALLING:
        time.sleep(delay_s)
        try:
            contexts, roles = [build_context(StorageCommitmentPushModel)], [StorageCommitmentPushModel]
            with association(pacs, caller.peer, contexts, scp_roles=roles) as made:
                status, _ = made.send_n_event_report(report, kind, StorageCommitmentPushModel, WELL_KNOWN)
            if status and status.Status == SUCCESS:
                return
        except MammoError:
            continue
    logger.warning("an answer to a storage commitment request could not be delivered: its sender will ask again")
