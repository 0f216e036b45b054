"""A peer as a source of exams, whichever protocol it speaks: is it there, what has it, give it to us.

What is found carries identifiers, which live in memory only: no ``repr`` shows them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Final, Protocol

from schemas.config.pacs import DicomWebPeer, PacsConfig, Peer
from schemas.errors import PeerRefused, PeerUnavailable
from tasks.adapters.pacs.arrivals import Arrivals
from tasks.adapters.pacs.peers import require_extra

_LONGEST_SLICE_DAYS: Final = 28
_MANY: Final = 100
_USUAL_LIMITS: Final = frozenset(limit + more for limit in (10, 20, 25, 50) for more in (0, 1))
"""An answer of so many matches may be one that the server cut: it is asked again in smaller pieces. Orthanc gives one more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundExam:
    """An exam of a peer that has mammograms.

    Attributes:
        study_uid: Its StudyInstanceUID.
        objects: How many objects of any kind the peer counts in it; None where it was not told.
    """

    study_uid: str = field(repr=False)
    objects: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundImage:
    """A mammogram of a peer."""

    study_uid: str = field(repr=False)
    series_uid: str = field(repr=False)
    sop_uid: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Slice:
    """A piece of time: some days, or with ``minutes`` as many minutes of one day from ``minute`` on."""

    first: date
    last: date
    minute: int = 0
    minutes: int = 0

    @property
    def study_date(self) -> str:
        """As a range of DICOM dates."""
        return f"{self.first:%Y%m%d}-{self.last:%Y%m%d}"

    @property
    def study_time(self) -> str:
        """As a range of DICOM times; empty = the whole day, exams without a time too."""
        if not self.minutes:
            return ""
        begin, end = self.minute, self.minute + self.minutes - 1
        return f"{begin // 60:02}{begin % 60:02}00-{end // 60:02}{end % 60:02}59.999999"

    def parts(self) -> tuple[Slice, ...]:
        """Two halves of some days, the hours of a day, the minutes of an hour; of a minute none."""
        if self.first != self.last:
            middle = self.first + (self.last - self.first) // 2
            return Slice(self.first, middle), Slice(middle + timedelta(days=1), self.last)
        if self.minutes == 1:
            return ()
        length, begin, end = (1, self.minute, self.minute + 60) if self.minutes else (60, 0, 24 * 60)
        return tuple(Slice(self.first, self.last, minute, length) for minute in range(begin, end, length))


class NotThere(PeerRefused):
    """One object, or one path, that the peer does not have, or not any more."""


class Cut(Exception):
    """The server says that its answer is not all of it."""


class Source(Protocol):
    """What a peer is asked. Every method raises PeerUnavailable, PeerRefused, or Incomplete for an object that came in part."""

    def exams_of(self, piece: Slice) -> list[FoundExam]:
        """Exams with mammograms of a piece of time; raises ``Cut`` where the server says so."""

    def parts_of(self, piece: Slice) -> Iterator[list[FoundExam]]:
        """Exams of a minute in parts, for a source whose answers may be cut without a word; none where they are not."""

    def exam_named(self, *, accession_number: str = "", study_uid: str = "") -> list[FoundExam]:
        """Exams with mammograms by one of their identifiers; none if there are none."""

    def images_of(self, exam: FoundExam) -> list[FoundImage]:
        """An exam's mammograms, for presentation; whatever else is in it, as our own results, is not asked for."""

    def fetch(self, image: FoundImage, arrivals: Arrivals) -> int:
        """Brings one image into the inbox, as it is stored there; the bytes that came."""

    def header_of(self, image: FoundImage) -> Mapping[str, Any]:
        """An image's header as it is there now, in DICOM JSON; it is in memory only. Raises ``NotThere``."""


def open_source(pacs: PacsConfig, peer: Peer, inbox: Arrivals | None = None) -> AbstractContextManager[Source]:
    """A peer as a source; connections end with the block.

    Args:
        pacs: Who we are.
        peer: It.
        inbox: Where its images go; None = only headers are asked for.

    Raises:
        ConfigError: Files that the config names for it cannot be used, or the extra is not installed.
    """
    if isinstance(peer, DicomWebPeer):
        from tasks.adapters.pacs.web_source import open_web_source  # late, as are the others: most runs need none of them

        return open_web_source(pacs, peer)
    require_extra()
    from tasks.adapters.pacs.dimse_source import open_dimse_source

    return open_dimse_source(pacs, peer, inbox)


def reach(pacs: PacsConfig, peer: Peer) -> None:
    """Asks whether a peer answers and accepts us: C-ECHO, or a question to which the answer is "none".

    Raises:
        PeerUnavailable: It does not answer.
        PeerRefused: It does not accept us.
        ConfigError: Files that the config names for it cannot be used, or the extra is not installed.
    """
    if isinstance(peer, DicomWebPeer):
        from tasks.adapters.pacs.web import ask, web_client

        with web_client(pacs, peer) as client:
            ask(client, "/studies", {"StudyDate": "18950101"})
    else:
        require_extra()
        from tasks.adapters.pacs.dimse import echo

        echo(pacs, peer)


def exams_between(source: Source, first: date, last: date) -> list[FoundExam]:
    """Every exam of these days, asked piece by piece: servers cut long answers, most of them without a word.

    Raises:
        PeerUnavailable: The server cuts even the answer for one minute, or cannot be asked.
        PeerRefused: It does not accept us.
    """
    finder = _Finder(source)
    for piece in _pieces(first, last):
        finder.find(piece)
    return list(finder.found.values())


def _pieces(first: date, last: date) -> Iterator[Slice]:
    while first <= last:
        end = min(last, first + timedelta(days=_LONGEST_SLICE_DAYS - 1))
        yield Slice(first, end)
        first = end + timedelta(days=1)


class _Finder:
    """Asks for a piece, and where the answer may have been cut for its parts: what these add was cut."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.found: dict[str, FoundExam] = {}
        self._largest = 0

    def find(self, piece: Slice) -> None:
        """Enters every exam of a piece."""
        try:
            if self._is_whole(self.source.exams_of(piece)):
                return
            if piece.minutes == 1 and all(self._is_whole(part) for part in self.source.parts_of(piece)):
                return
        except Cut:
            pass
        parts = piece.parts()
        if not parts:
            raise PeerUnavailable(
                "The server cuts its answers, and there is no smaller question",
                expected="fewer exams with mammograms in a minute than it answers with at most",
                remedy="raise the server's limit of answers, or name the exams in ingest.source.worklist",
            )
        for part in parts:
            self.find(part)

    def _is_whole(self, answer: list[FoundExam]) -> bool:
        """Enters an answer; False if it may have been cut: it is as long as some limit, and no longer one was ever given."""
        self.found |= {exam.study_uid: exam for exam in answer}
        count = len(answer)
        self._largest = max(self._largest, count)
        return (count < _MANY and count not in _USUAL_LIMITS) or count < self._largest - 1
