"""A run that returns results: what is queued, to whom it goes, and what a failure means for an exam and for the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from schemas.config.pacs import DicomWebPeer, PacsConfig, Peer, ResultsConfig
from schemas.errors import DicomError, PeerUnavailable, StoreError
from schemas.reports.clinic import OperatingPointsFile
from schemas.reports.pages import ReturnedExam, ReturnReport
from tasks.adapters.pacs.peers import Pace, peer_of, require_extra
from tasks.adapters.pacs.sources import open_source
from tasks.adapters.pacs.web import web_client
from tasks.adapters.pseudonyms import Pseudonyms
from tasks.adapters.results.border import Border, NotReturnable
from tasks.adapters.results.delivery import Courier, NotStored, Sent, Target
from tasks.adapters.results.exam_result import Maker
from tasks.adapters.results.kept_prediction import KeptPrediction
from tasks.adapters.results.outbox import Delivery, DeliveryState, Outbox
from tasks.adapters.results.web_target import WebTarget

_FIRST_WAIT_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Returning:
    """What a run needs to know.

    Attributes:
        network: As its objects call it.
        points: What is kept beside the weights that predicted; None = nothing, or they are not at hand.
        now: Local time without a zone, as DICOM's dates and times are.
    """

    pacs: PacsConfig
    settings: ResultsConfig
    pseudonyms: Pseudonyms
    network: str
    code_version: str
    points: OperatingPointsFile | None
    now: datetime

    def maker_of(self, delivery: Delivery) -> Maker:
        """Whose results a delivery's are, and when they were made."""
        return Maker(
            network=self.network,
            weights_sha256=delivery.weights_sha256,
            code_version=self.code_version,
            made=delivery.queued,
            pseudonyms=self.pseudonyms,
            operating_points=_sentences(self.points, delivery.weights_sha256),
        )


def return_due(run: Returning, outbox_path: Path, prediction: KeptPrediction, advance: Callable[[int], None]) -> ReturnReport:
    """Queues what was predicted, delivers what is due, and says what became of it.

    Args:
        run: What it needs to know.
        outbox_path: Where the outbox is.
        prediction: What was predicted.
        advance: Told after each exam how many are done.

    Raises:
        PeerRefused: The peer does not accept us: nothing is given up for it, and nobody is locked out by trying on.
        ConfigError: The extra pacs is not installed, or nobody can listen for the peer's word.
    """
    name = run.settings.peer
    with Outbox(outbox_path) as outbox:
        queued_new = outbox.queue(
            [
                Delivery(
                    exam_id=exam.exam_id,
                    weights_sha256=exam.weights_sha256,
                    image_ids=exam.image_ids,
                    peer=name,
                    queued=run.now.replace(microsecond=0),
                )
                for exam in prediction.exams.values()
            ]
        )
        due = outbox.due(name, time.time())
        exams: list[ReturnedExam] = []
        stopped = ""
        if due:
            with _courier(run, outbox, prediction) as courier:
                for delivery in due:
                    exam, stopped = _delivered(run, courier, delivery)
                    exams.append(exam)
                    advance(len(exams))
                    if stopped:
                        break
        counts = outbox.counts()
    return ReturnReport(
        peer=name,
        queued_new=queued_new,
        exams=tuple(exams),
        waiting=counts[DeliveryState.QUEUED],
        dead=counts[DeliveryState.DEAD],
        stopped=stopped,
    )


# ---------------------------------------------------------------------------------------------------------------------


def _delivered(run: Returning, courier: Courier, delivery: Delivery) -> tuple[ReturnedExam, str]:
    """What became of it, and why the run stops; "" = it goes on."""
    now_s, stopped = time.time(), ""
    try:
        sent = _tried(courier, delivery, attempts=peer_of(run.pacs, delivery.peer).attempts)
    except PeerUnavailable as silent:  # it is not the exam that fails: it is never given up for this
        reason = stopped = str(silent)
        state = courier.outbox.failed(delivery, reason, now_s=now_s, most_attempts=None)
    except NotReturnable as failure:
        reason = str(failure)
        most = 0 if failure.is_final else run.settings.attempts
        state = courier.outbox.failed(delivery, reason, now_s=now_s, most_attempts=most)
    except (NotStored, DicomError, StoreError) as failure:
        reason = str(failure)
        state = courier.outbox.failed(delivery, reason, now_s=now_s, most_attempts=run.settings.attempts)
    else:
        there = {"objects_sent": sent.sent, "objects_there": sent.there}
        return ReturnedExam(exam_id=delivery.exam_id, state=DeliveryState.DELIVERED.value, **there), ""
    return ReturnedExam(exam_id=delivery.exam_id, state=state.value, reason=reason), stopped


def _tried(courier: Courier, delivery: Delivery, *, attempts: int) -> Sent:
    """With some patience: what one try has brought there, the next does not send again."""
    for attempt in range(attempts - 1):
        try:
            return courier.deliver(delivery)
        except PeerUnavailable as silent:
            time.sleep(silent.wait_s or _FIRST_WAIT_S * 2.0**attempt)
    return courier.deliver(delivery)


@contextmanager
def _courier(run: Returning, outbox: Outbox, prediction: KeptPrediction) -> Iterator[Courier]:
    peer, source = peer_of(run.pacs, run.settings.peer), peer_of(run.pacs, run.pacs.source_peer)
    with open_source(run.pacs, source) as archive, _target(run, peer) as target:
        border = Border(
            archive=archive,
            pseudonyms=run.pseudonyms,
            today=run.now.date(),
            search_days=run.settings.search_days,
        )
        yield Courier(outbox, target, border, prediction, run.maker_of, run.settings, Pace(peer.per_second))


@contextmanager
def _target(run: Returning, peer: Peer) -> Iterator[Target]:
    if isinstance(peer, DicomWebPeer):
        with web_client(run.pacs, peer) as client:
            yield WebTarget(client)
        return
    require_extra()
    from tasks.adapters.results.dimse_target import DimseTarget  # late: pynetdicom takes a second

    ours = run.pacs.model_copy(update={"ae_title": run.settings.ae_title})
    yield DimseTarget(ours, peer, run.settings.commitment if peer.has_commitment else None)


def _sentences(points: OperatingPointsFile | None, weights_sha256: str) -> tuple[str, ...]:
    if points is None or points.checkpoint_sha256 != weights_sha256:
        return ()
    return tuple(
        f"{finding}: threshold {kept.threshold:.4f} of a breast's score keeps specificity {kept.specificity:.2f} "
        f"on the tuning split"
        for finding, thresholds in points.by_finding.items()
        for kept in thresholds
        if kept.threshold is not None
    )
