"""A peer as a source of exams, whichever protocol it speaks: is it there, what has it, give it to us.

What is found carries identifiers, which live in memory only: no ``repr`` shows them.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Final, Protocol

from schemas.config.pacs import DicomWebPeer, PacsConfig, Peer
from schemas.errors import PeerRefused, PeerUnavailable
from tasks.adapters.dicom.header import is_uid
from tasks.adapters.pacs.arrivals import Arrivals
from tasks.adapters.pacs.peers import require_extra

_LONGEST_SLICE_DAYS: Final = 28
_MANY: Final = 100
_LAST_SIGNS: Final = string.digits + string.ascii_letters
_LONGEST_ENDING: Final = 3
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


def uid_of(text: object) -> str:
    """A UID of a peer's answer; it may stand in a path and leads nowhere else.

    Raises:
        PeerUnavailable: It is none; what it is instead is not told.
    """
    uid = text.strip("\0 ") if isinstance(text, str) else ""
    if not is_uid(uid):
        raise PeerUnavailable("The peer answered with something that is no UID")
    return uid


class NotThere(PeerRefused):
    """One object, or one path, that the peer does not have, or not any more."""


class QuestionRefused(PeerRefused):
    """One question that the peer does not answer as it is asked, as for an object that it cannot convert; others it may."""


class Cut(PeerUnavailable):
    """The server says that its answer is not all of it.

    Attributes:
        answered: What it did answer: matches, or the exams that they are.
    """

    def __init__(self, answered: Iterable[Any] = ()) -> None:
        super().__init__("The server says that its answer is not complete", remedy="raise its limit of answers")
        self.answered = tuple(answered)


class Source(Protocol):
    """What a peer is asked. Every method raises PeerUnavailable, PeerRefused, or Incomplete for an object that came in part."""

    def exams_of(self, piece: Slice, ending: str = "") -> list[FoundExam]:
        """Exams with mammograms of a piece of time, of patients whose PatientID ends so; raises ``Cut`` where it is said."""

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
    """Asks for a piece, and where the answer may have been cut for its parts: what these add was cut.

    Parts are believed only where they bring everything that the whole's answer held: an exam without a time is of no hour.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.found: dict[str, FoundExam] = {}
        self._largest = 0

    def find(self, piece: Slice) -> set[str]:
        """Enters every exam of a piece; whose UIDs."""
        found, is_whole = self._ask(piece)
        if is_whole:
            return found
        parts: set[str] = set().union(*(self.find(part) for part in piece.parts()))
        if piece.first != piece.last:
            return found | parts
        if not piece.minutes:  # what was cut off may be all that has no time
            found |= self._of_some_patients(piece)
        if parts and found <= parts:
            return parts
        return found | parts | self._by_patient(piece, found - parts)

    def _of_some_patients(self, piece: Slice) -> set[str]:
        """Exams of most patients of a day: most numbers end in a digit."""
        try:
            return set().union(*(self._ask(piece, digit)[0] for digit in string.digits))
        except PeerRefused:  # it knows no asterisk
            return set()

    def _by_patient(self, piece: Slice, wanted: set[str], ending: str = "") -> set[str]:
        """By the last signs of PatientID. Pages would be another way, and servers count them wrong."""
        parts: set[str] = set()
        for sign in _LAST_SIGNS:
            found, is_whole = self._ask(piece, sign + ending)
            if not is_whole:
                if len(ending) + 1 == _LONGEST_ENDING:
                    raise _cannot_be_asked()
                found |= self._by_patient(piece, found, sign + ending)
            parts |= found
        if not (parts and wanted <= parts):
            raise _cannot_be_asked()
        return parts

    def _ask(self, piece: Slice, ending: str = "") -> tuple[set[str], bool]:
        """Enters an answer: whose UIDs, and False if it may have been cut.

        It is as long as some limit, and no longer one was ever given; or the server says so.
        """
        try:
            answer, is_cut = list(self.source.exams_of(piece, ending)), False
        except Cut as cut:
            answer, is_cut = list(cut.answered), True
        self.found |= {exam.study_uid: exam for exam in answer}
        count = len(answer)
        self._largest = max(self._largest, count)
        is_whole = (count < _MANY and count not in _USUAL_LIMITS) or count < self._largest - 1
        return {exam.study_uid for exam in answer}, is_whole and not is_cut


def _cannot_be_asked() -> PeerUnavailable:
    return PeerUnavailable(
        "The server cuts its answers, and there is no smaller question",
        expected="fewer exams with mammograms in a minute, or without a time on a day, than it answers with at most",
        remedy="raise the server's limit of answers, or name the exams in ingest.source.worklist",
    )
