"""Exams of a peer into the inbox: what it has of what is wanted, without what is here already, and what of it did not come.

Nothing is remembered beside the inbox and the ledger: a run that was killed is made up for by the next, which asks again and
finds what is here. Late images of an exam come the same way.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import TypeVar

from schemas.config.pacs import PacsConfig, Peer, PeerLimits, SourceConfig
from schemas.config.run import RunConfig
from schemas.errors import ConfigError, PeerRefused, PeerUnavailable
from tasks.adapters.inbox.ledger import Ledger
from tasks.adapters.lock import held_lock
from tasks.adapters.pacs.arrivals import FETCHED, Arrivals
from tasks.adapters.pacs.encoded_object import Incomplete
from tasks.adapters.pacs.peers import Pace, peer_of
from tasks.adapters.pacs.sources import (
    Cut,
    FoundExam,
    FoundImage,
    NotThere,
    QuestionRefused,
    Slice,
    Source,
    exams_between,
    open_source,
)
from tasks.adapters.pacs.worklist import read_worklist
from tasks.adapters.pseudonyms import open_key
from tasks.adapters.workspace import Workspace

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")
IsSettled = Callable[[FoundImage], bool]

_FIRST_WAIT_S = 0.5
_IN_A_ROW = 3
"""After so many images, one after the other, that did not come, the peer is asked whether it is there. If it does not answer,
the rest is left to the next run; if it does, these images are."""
_MOST_LEFT, _MOST_LEFT_OF_NOTHING = 100, 20
"""So many may be left of a peer that answers, and where nothing has come yet: one that hands nothing out is not asked for
everything that it has."""
_LONG_AGO = Slice(date(1895, 1, 1), date(1895, 1, 1))  # before the first radiograph: the answer is short


@dataclass
class Fetched:
    """What one run did; counts only.

    Attributes:
        exams: Exams with mammograms that the peer has of what was asked for.
        exams_not_there: Lines of the worklist that no exam of the peer is of.
        exams_left: Exams whose images could not be listed; left for the next run.
        images: Mammograms of these exams.
        images_here: Of them, those that the inbox holds, ingest knows, or somebody has withdrawn.
        images_fetched: Of them, those that came now.
        images_not_there: Listed, and not there when they were asked for.
        images_left: Not come after all tries; left for the next run.
        size_bytes: What came over HTTP or C-GET.
        is_away: The run was ended, for the peer does not answer any more.
    """

    exams: int = 0
    exams_not_there: int = 0
    exams_left: int = 0
    images: int = 0
    images_here: int = 0
    images_fetched: int = 0
    images_not_there: int = 0
    images_left: int = 0
    size_bytes: int = 0
    is_away: bool = False

    @property
    def is_complete(self) -> bool:
        """True if everything that was asked for is here."""
        return not (self.exams_left or self.images_left)

    @property
    def left_text(self) -> str:
        """What is left for the next run, in words; empty if nothing is."""
        return "" if self.is_complete else f"{self.images_left} images and {self.exams_left} exams left"

    def counts(self) -> dict[str, int]:
        """By name."""
        return {name: count for name, count in asdict(self).items() if name != "is_away"}


def source_of(config: RunConfig) -> tuple[PacsConfig, Peer, SourceConfig]:
    """What the config says of the source of exams.

    Raises:
        ConfigError: It names none.
    """
    source = config.ingest.fetched_from
    if config.pacs is None or source is None:
        raise ConfigError("The config names no source of exams", expected="a section ingest.source, and pacs with its peer")
    return config.pacs, peer_of(config.pacs, source.peer), source


def find_exams(config: RunConfig, *, today: date) -> tuple[list[FoundExam], int]:
    """The exams that a run would fetch, and how many lines of a worklist name none of the peer's.

    Raises:
        PeerUnavailable: The peer cannot be asked now.
        PeerRefused: It does not accept us.
        ConfigError: The source or its worklist cannot be used.
    """
    pacs, peer, asked = source_of(config)
    with open_source(pacs, peer, Arrivals(config.ingest.source_dir, FETCHED)) as source:
        return _found(source, peer, asked, today)


def fetch(config: RunConfig, *, today: date) -> Fetched:
    """Brings what is missing into ``ingest.source_dir``.

    Raises:
        PeerUnavailable: The exams cannot be found now.
        PeerRefused: The peer does not accept us; nothing more was asked.
        ConfigError: The source, its worklist or the inbox cannot be used.
        StoreBusy: Another run fetches into this folder.
        OSError: The inbox's disk is full or cannot be written.
    """
    pacs, peer, asked = source_of(config)
    arrivals = Arrivals(config.ingest.source_dir, FETCHED)
    arrivals.prepare()
    with held_lock(arrivals.lock_dir, purpose="fetch"):
        arrivals.sweep()
        with settled_images(config) as is_settled, open_source(pacs, peer, arrivals) as source:
            exams, not_there = _found(source, peer, asked, today)
            run = _Run(source, peer, arrivals, is_settled, Fetched(exams=len(exams), exams_not_there=not_there))
            try:
                run.fetch_all(exams)
            finally:
                arrivals.settle()
    logger.info("fetched: %s", ", ".join(f"{count} {name}" for name, count in run.done.counts().items() if count))
    return run.done


# ---------------------------------------------------------------------------------------------------------------------


@contextmanager
def settled_images(config: RunConfig) -> Iterator[IsSettled]:
    """What is true for an image that ingest knows, or that was withdrawn: it is not fetched, though its file is gone."""
    workspace = Workspace(config.workspace_dir)
    if config.ingest.ledger and not workspace.store.ledger_path.exists():
        from tasks.adapters.inbox.shared_ledger import held_ledger  # late: as below

        with held_ledger(config, purpose="fetch"):  # this machine is new: others may have ingested what is asked for
            pass
    if not workspace.store.ledger_path.exists():
        yield lambda image: False
        return
    pseudonyms = open_key(workspace.key_path)
    with _KnownImages(workspace.store.ledger_path, may_make=False) as ledger:
        gone = ledger.withdrawn_names()

        def is_settled(image: FoundImage) -> bool:
            image_id = pseudonyms.image_id(image.sop_uid)
            is_gone = not gone.isdisjoint((image_id, pseudonyms.exam_id(image.study_uid)))
            return is_gone or ledger.knows(image_id)

        yield is_settled


class _KnownImages(Ledger):
    """A store's ledger as a fetch needs it. ``StoreLedger`` would bring what publishes, and three times the memory."""

    def withdrawn_names(self) -> frozenset[str]:
        """Everything that was withdrawn, by its names; a store of a former release knows none."""
        if not self._database.has("withdrawn_names"):
            return frozenset()
        return frozenset(str(name) for (name,) in self._query("SELECT name FROM withdrawn_names"))

    def knows(self, image_id: str) -> bool:
        """True if a file of the image was accepted, whatever has become of it since."""
        return bool(self._query("SELECT 1 FROM files WHERE image_id = ? LIMIT 1", (image_id,)))


def _found(source: Source, peer: Peer, asked: SourceConfig, today: date) -> tuple[list[FoundExam], int]:
    if asked.worklist is not None:
        exams: dict[str, FoundExam] = {}
        not_there = 0
        for wanted in read_worklist(asked.worklist):
            ask = _Asking(source, wanted.accession_number, wanted.study_uid)
            found = tried(ask, peer)
            exams |= {exam.study_uid: exam for exam in found}
            not_there += not found
        return list(exams.values()), not_there
    first = today - timedelta(days=asked.last_days) if asked.last_days is not None else asked.since
    last = asked.until or today + timedelta(days=1)  # a device's clock, or its time zone, may be ahead of ours
    return tried(lambda: exams_between(source, first or last, last), peer), 0


@dataclass(frozen=True, slots=True)
class _Asking:
    source: Source
    accession_number: str
    study_uid: str

    def __call__(self) -> list[FoundExam]:
        return self.source.exam_named(accession_number=self.accession_number, study_uid=self.study_uid)


def tried(ask: Callable[[], Answer], peer: PeerLimits, stopped: threading.Event | None = None) -> Answer:
    """An answer, after some tries if need be: what passes by itself is tried again, as late as the peer asks for.

    Raises:
        PeerUnavailable: There was none.
        Incomplete: There was none that was whole.
        PeerRefused: Another try would change nothing.
    """
    for attempt in range(peer.attempts):
        try:
            return ask()
        except (PeerUnavailable, Incomplete) as passing:
            if attempt + 1 == peer.attempts or (stopped is not None and stopped.is_set()):
                raise
            asked_s = passing.wait_s if isinstance(passing, PeerUnavailable) else 0.0
            wait_s = max(asked_s, _FIRST_WAIT_S * 2**attempt * (0.5 + random.random()))  # noqa: S311  # no secret
            (stopped or threading.Event()).wait(wait_s)
    raise PeerUnavailable("The peer was not asked", expected="at least one attempt")


class _Run:
    """One run: exams one after the other are listed and fetched, ``in_flight`` at the same time."""

    def __init__(self, source: Source, peer: Peer, arrivals: Arrivals, is_settled: IsSettled, done: Fetched) -> None:
        self.source, self.peer, self.arrivals, self.is_settled, self.done = source, peer, arrivals, is_settled, done
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._pace = Pace(peer.per_second)
        self._limits: Peer = peer
        self._in_a_row = self._left = 0

    def fetch_all(self, exams: Iterable[FoundExam]) -> None:
        """All of them; what stops the run is raised when every thread has ended.

        In another order each time: what ends this run early does not keep the same exams from every run.
        """
        some_order = list(exams)
        random.shuffle(some_order)
        with ThreadPoolExecutor(self.peer.in_flight, thread_name_prefix="fetch") as pool:
            listed = pool.map(self._images, some_order)
            fetched = [pool.submit(self._fetch, image) for images in listed for image in self._missing(images)]
        for each in fetched:
            each.result()

    def _images(self, exam: FoundExam) -> list[FoundImage]:
        if self._stopped.is_set():
            self._count(exams_left=1)
            return []
        try:
            return self._listed(exam)
        except BaseException:
            self._stopped.set()
            raise

    def _listed(self, exam: FoundExam) -> list[FoundImage]:
        try:
            images = tried(lambda: self.source.images_of(exam), self._limits, self._stopped)
        except (PeerUnavailable, NotThere, QuestionRefused) as silent:
            logger.warning("an exam was left to the next run: %s", silent)
            self._leave(exams_left=1)
            return []
        self._came(images=len(images))
        return images

    def _missing(self, images: list[FoundImage]) -> list[FoundImage]:
        """Asked in the thread that began the run: the ledger answers no other."""
        missing = [
            image for image in images if not (self.arrivals.has(image.study_uid, image.sop_uid) or self.is_settled(image))
        ]
        self._count(images_here=len(images) - len(missing))
        return missing

    def _fetch(self, image: FoundImage) -> None:
        if self._stopped.is_set():
            self._count(images_left=1)
            return
        self._pace.wait()
        try:
            self._fetch_or_leave(image)
        except (PeerRefused, OSError):
            self._stopped.set()
            raise

    def _fetch_or_leave(self, image: FoundImage) -> None:
        try:
            size_bytes = tried(lambda: self.source.fetch(image, self.arrivals), self._limits, self._stopped)
        except NotThere:
            self._count(images_not_there=1)
        except Incomplete as incomplete:
            logger.warning("an image was left to the next run: %s", incomplete)
            self._count(images_left=1)
        except (PeerUnavailable, QuestionRefused) as away:
            logger.warning("an image was left to the next run: %s", away)
            self._leave(images_left=1)
        else:
            self._came(images_fetched=1, size_bytes=size_bytes)

    def _came(self, **counts: int) -> None:
        self._count(**counts)
        with self._lock:
            self._in_a_row, self._limits = 0, self.peer

    def _leave(self, **counts: int) -> None:
        """Counts what did not come, and ends the run where that is the peer's fault, and not that of a few of its objects."""
        self._count(**counts)
        with self._lock:
            self._in_a_row += 1
            self._left += 1
        with self._asking:  # one asks; whoever else has nothing waits for the answer
            if self._in_a_row < _IN_A_ROW or self._stopped.is_set():
                return
            if self._left >= (_MOST_LEFT if self.done.images_fetched else _MOST_LEFT_OF_NOTHING):
                logger.warning("the peer cannot send %d of what it lists: the rest is left to the next run", self._left)
                self._stopped.set()
            elif self._answers():
                with self._lock:
                    # Until something comes, one try each: a peer that answers may take its time for what it cannot send.
                    self._in_a_row, self._limits = 0, self.peer.model_copy(update={"attempts": 1})
            else:
                logger.warning("the peer counts as away: what is missing is left to the next run")
                self.done.is_away = True
                self._stopped.set()

    def _answers(self) -> bool:
        try:
            tried(lambda: self.source.exams_of(_LONG_AGO), self.peer, self._stopped)
        except (Cut, NotThere, QuestionRefused):
            return True
        except PeerUnavailable:
            return False
        return True

    def _count(self, **counts: int) -> None:
        with self._lock:
            for name, count in counts.items():
                setattr(self.done, name, getattr(self.done, name) + count)
