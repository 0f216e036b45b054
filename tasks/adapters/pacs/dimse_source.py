"""A PACS that speaks DICOM's own protocol as a source of exams: C-FIND, then C-GET, or C-MOVE to our listener."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.presentation import build_context

from schemas.config.pacs import DimsePeer, PacsConfig
from schemas.errors import MammoError, PeerRefused, PeerUnavailable
from tasks.adapters.dicom.header import MAMMOGRAPHY_FOR_PRESENTATION
from tasks.adapters.pacs.arrivals import Arrivals
from tasks.adapters.pacs.dimse import (
    FIND,
    GET,
    MOVE,
    SUCCESS,
    associate,
    header_json,
    matches,
    one_context_each,
    received,
    retrieve,
)
from tasks.adapters.pacs.encoded_object import Incomplete, name_of
from tasks.adapters.pacs.sources import Cut, FoundExam, FoundImage, NotThere, Slice, uid_of

Came = TypeVar("Came")

_OUT_OF_RESOURCES: Final = 0xA700
_SECONDS_TO_ARRIVE: Final = 30.0


@dataclass
class DimseSource:
    """See ``Source``. Associations are kept and used again: as many as there are threads that ask at the same time."""

    pacs: PacsConfig
    peer: DimsePeer
    inbox: Arrivals | None = None
    _idle: list[Association] = field(default_factory=list)
    _came: dict[str, int | OSError] = field(default_factory=dict)
    _headers: dict[str, dict[str, Any]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def exams_of(self, piece: Slice, ending: str = "") -> list[FoundExam]:
        """See ``Source``."""
        patients = {"PatientID": f"*{ending}"} if ending else {}
        return self._exams(StudyDate=piece.study_date, StudyTime=piece.study_time, **patients)

    def exam_named(self, *, accession_number: str = "", study_uid: str = "") -> list[FoundExam]:
        """See ``Source``."""
        return self._exams(StudyInstanceUID=study_uid) if study_uid else self._exams(AccessionNumber=accession_number)

    def _exams(self, **keys: str) -> list[FoundExam]:
        try:
            with self._association() as made:
                return _with_mammograms(matches(made, "STUDY", **{"StudyInstanceUID": "", "ModalitiesInStudy": "MG", **keys}))
        except Cut as cut:
            raise Cut(_with_mammograms(cut.answered)) from None

    def images_of(self, exam: FoundExam) -> list[FoundImage]:
        """See ``Source``. Series first: many peers list images only of a series that is named."""
        images = []
        with self._association() as made:
            keys = {"StudyInstanceUID": exam.study_uid, "SeriesInstanceUID": ""}
            counted = matches(made, "SERIES", Modality="MG", NumberOfSeriesRelatedInstances="", **keys)
            for series_uid, series in _mammograms(counted, "SeriesInstanceUID").items():
                keys["SeriesInstanceUID"] = series_uid
                listed = _mammograms(matches(made, "IMAGE", SOPInstanceUID="", SOPClassUID="", **keys), "SOPInstanceUID")
                said = _count(series)
                if len(listed) < said:
                    raise PeerUnavailable("The peer lists fewer images than it counts", expected=said, got=len(listed))
                images += [
                    FoundImage(study_uid=exam.study_uid, series_uid=series_uid, sop_uid=sop_uid)
                    for sop_uid, each in listed.items()
                    if str(each.get("SOPClassUID") or MAMMOGRAPHY_FOR_PRESENTATION) == MAMMOGRAPHY_FOR_PRESENTATION
                ]
        return images

    def fetch(self, image: FoundImage, arrivals: Arrivals) -> int:
        """See ``Source``; with C-MOVE the bytes are our listener's, and are not counted here."""
        if self.peer.retrieve == "move":
            try:
                self._have_sent(image, move_to=self.pacs.ae_title)
            except (PeerUnavailable, NotThere):
                if not arrivals.has(image.study_uid, image.sop_uid):
                    raise
            self._wait_for(image, arrivals)
            return 0
        came = self._got(image, self._came)
        if isinstance(came, OSError):
            raise came
        return came

    def header_of(self, image: FoundImage) -> dict[str, Any]:
        """See ``Source``: of the image, which is sent to us (C-GET) and not kept. Questions tell parts of a header only."""
        return self._got(image, self._headers)

    def _got(self, image: FoundImage, came: dict[str, Came]) -> Came:
        """What came of an image by C-GET, on which its word is taken: peers count wrong, or warn of what they changed."""
        came.pop(image.sop_uid, None)
        fault: MammoError | None = None
        try:
            self._have_sent(image)
        except (PeerUnavailable, NotThere) as said:
            fault = said
        if image.sop_uid in came:
            return came.pop(image.sop_uid)
        raise fault or Incomplete("Another object arrived than was asked for")

    def _have_sent(self, image: FoundImage, move_to: str | None = None) -> None:
        keys = {"StudyInstanceUID": image.study_uid, "SeriesInstanceUID": image.series_uid, "SOPInstanceUID": image.sop_uid}
        with self._association() as made:
            if move_to is None:
                _require_sender(made)
            count = retrieve(made, move_to=move_to, **keys)
        if count == 0:
            raise NotThere("The peer does not have an image that it listed")

    def _wait_for(self, image: FoundImage, arrivals: Arrivals) -> None:
        end_s = time.monotonic() + _SECONDS_TO_ARRIVE
        while not arrivals.has(image.study_uid, image.sop_uid):
            if time.monotonic() > end_s:
                raise PeerUnavailable(
                    "The peer says that it sent an image, and it did not arrive",
                    expected="our listener at the address that the peer knows, writing into ingest.source_dir",
                    remedy="start mammo pacs listen or mammo serve; check what the peer has registered for our title",
                )
            time.sleep(0.05)

    def _store(self, event: Event) -> int:
        """An object of C-GET: on the disk before the peer is told so, or its header in memory."""
        sent = received(event)
        try:
            named = name_of(sent.content, sent.syntax_uid)
            if named.sop_uid == sent.sop_uid and self.inbox is None:
                self._headers[sent.sop_uid] = header_json(sent)
            elif named.sop_uid == sent.sop_uid and self.inbox is not None:
                self.inbox.take(named, sent.head, sent.content)
                self._came[sent.sop_uid] = len(sent.content)
        except Incomplete:
            return SUCCESS  # it did not come: who asked for it tells
        except OSError as trouble:
            self._came[sent.sop_uid] = trouble
            return _OUT_OF_RESOURCES
        return SUCCESS

    @contextmanager
    def _association(self) -> Iterator[Association]:
        with self._lock:
            made = self._idle.pop() if self._idle else None
        if made is None or not made.is_established:
            made = self._associate()
        try:
            yield made
        except BaseException:
            # What failed may have been ended by the peer while it was idle, and so have its like: the next try needs a new one.
            for each in (made, *self._taken()):
                each.abort()
            raise
        with self._lock:
            self._idle.append(made)

    def _associate(self) -> Association:
        if self.peer.retrieve == "move":
            return associate(self.pacs, self.peer, [build_context(FIND), build_context(MOVE)])
        contexts = [build_context(FIND), build_context(GET), *one_context_each([MAMMOGRAPHY_FOR_PRESENTATION])]
        return associate(
            self.pacs,
            self.peer,
            contexts,
            scp_roles=[MAMMOGRAPHY_FOR_PRESENTATION],
            handlers=[(evt.EVT_C_STORE, self._store)],
        )

    def end(self) -> None:
        """Releases what is idle."""
        for made in self._taken():
            if made.is_established:
                made.release()

    def _taken(self) -> list[Association]:
        with self._lock:
            idle, self._idle = self._idle, []
        return idle


def _require_sender(made: Association) -> None:
    """Raises PeerRefused for a peer that takes images and will not send them on an association that is ours (PS3.7 D.3.3.4)."""
    taken = [each for each in made.accepted_contexts if each.abstract_syntax == MAMMOGRAPHY_FOR_PRESENTATION]
    if taken and not any(each.as_scp for each in taken):
        raise PeerRefused(
            "The peer does not agree to send images on an association of ours (C-GET)",
            expected="the role of a sender",
            remedy="set retrieve: move for it, register our title there, and start our listener (mammo pacs listen)",
        )


def _mammograms(listed: Iterable[Any], keyword: str) -> dict[str, Any]:
    """By UID, what is of mammograms: not all peers know the key Modality.

    Some repeat a match, and one that is there twice would make up for another that is not.
    """
    return {uid_of(each.get(keyword)): each for each in listed if str(each.get("Modality") or "MG") == "MG"}


def _count(series: Any) -> int:
    """How many images a peer counts in a series; 0 where it does not say, or nothing that can be read."""
    try:
        return int(series.get("NumberOfSeriesRelatedInstances") or 0)
    except (TypeError, ValueError):
        return 0


def _with_mammograms(found: Iterable[Any]) -> list[FoundExam]:
    """A peer that does not know the key ModalitiesInStudy answers with exams of every kind."""
    return [
        FoundExam(study_uid=uid_of(each.get("StudyInstanceUID")))
        for each in found
        if "MG" in str(each.get("ModalitiesInStudy") or "MG")
    ]


@contextmanager
def open_dimse_source(pacs: PacsConfig, peer: DimsePeer, inbox: Arrivals | None) -> Iterator[DimseSource]:
    """A peer as a source; its associations end with the block."""
    source = DimseSource(pacs, peer, inbox)
    try:
        yield source
    finally:
        source.end()
