"""A peer that breaks off, falls silent, cuts its answers or sends something else: an error each, and never a short list."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from threading import Barrier
from typing import Any

import pydicom
import pytest

pytest.importorskip("pynetdicom", reason="the extra pacs is not installed")

from pynetdicom import AE, build_context, evt  # after the skip
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import C_GET
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made when they are asked for
    DigitalMammographyXRayImageStorageForPresentation,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from mammo_tests.other_systems import COMPRESSED, arrived, data_set_bytes, free_port, rewritten, unfinished, write_exam
from schemas.config.pacs import DimsePeer, PacsConfig
from schemas.errors import MammoError, PeerRefused, PeerUnavailable
from tasks.adapters.pacs.arrivals import FETCHED, Arrivals
from tasks.adapters.pacs.dimse import FIND, associate, data_set
from tasks.adapters.pacs.dimse_source import DimseSource, open_dimse_source
from tasks.adapters.pacs.encoded_object import Incomplete
from tasks.adapters.pacs.sources import Cut, FoundExam, FoundImage, NotThere, Slice

PIECE = Slice(date(2021, 5, 4), date(2021, 5, 4))
Answers = Iterator[tuple[int, Any]]


@contextmanager
def _source(
    tmp_path: Path,
    *handlers: tuple[Any, Callable[[Any], Answers]],
    syntaxes: tuple[str, ...] = ("1.2.840.10008.1.2.1",),
    moves: bool = False,
    sends: bool = True,
    **changes: Any,
) -> Iterator[DimseSource]:
    """A peer that answers as the handlers do, and sends images in these transfer syntaxes."""
    theirs, port = AE("PEER"), free_port()
    theirs.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    theirs.add_supported_context(StudyRootQueryRetrieveInformationModelGet)
    if moves:
        theirs.add_supported_context(StudyRootQueryRetrieveInformationModelMove)
    mammograms = DigitalMammographyXRayImageStorageForPresentation
    theirs.add_supported_context(mammograms, list(syntaxes), scu_role=sends or None, scp_role=sends or None)
    server = theirs.start_server(("127.0.0.1", port), block=False, evt_handlers=list(handlers))
    content = {"kind": "dimse", "ae_title": "PEER", "host": "127.0.0.1", "port": port, **changes}
    inbox = Arrivals(tmp_path / "inbox", FETCHED)
    inbox.sweep()
    try:
        with open_dimse_source(PacsConfig(), DimsePeer.model_validate(content), inbox) as source:
            yield source
    finally:
        server.shutdown()


def _aborts(event: Any) -> Answers:
    event.assoc.abort()
    yield 0xFF00, None


def _cuts(event: Any) -> Answers:
    yield 0xFF00, data_set(QueryRetrieveLevel="STUDY", StudyInstanceUID="2.25.1")
    yield 0xFE00, None


def _is_out_of_resources(event: Any) -> Answers:
    yield 0xFF00, data_set(QueryRetrieveLevel="STUDY", StudyInstanceUID="2.25.01")
    yield 0xA700, None


def _fails(event: Any) -> Answers:
    yield 0xC001, None


def _names_nothing(event: Any) -> Answers:
    yield 0xFF00, data_set(QueryRetrieveLevel="STUDY", StudyInstanceUID="CANARY")


@pytest.mark.parametrize(
    ("answer", "kind", "why"),
    [
        (_aborts, PeerUnavailable, "fell silent, or the link was lost"),
        (_cuts, Cut, "not complete"),
        (_is_out_of_resources, Cut, "not complete"),
        (_fails, PeerUnavailable, "could not answer a question"),
        (_names_nothing, PeerUnavailable, "no UID"),
    ],
)
def test_an_answer_that_is_not_all_of_it_is_an_error(
    tmp_path: Path, answer: Callable[[Any], Answers], kind: type[Exception], why: str | None
) -> None:
    """Pynetdicom raises nothing of itself where a link is lost; and the next question is asked on a new association."""
    with _source(tmp_path, (evt.EVT_C_FIND, answer)) as source:
        for _ in range(2):
            with pytest.raises(kind, match=why) as failed:
                source.exams_of(PIECE)
            assert "CANARY" not in str(failed.value)
            if isinstance(failed.value, Cut):
                assert [exam.study_uid[:5] for exam in failed.value.answered] == ["2.25."]


def test_associations_that_a_peer_has_ended_cost_one_try(tmp_path: Path) -> None:
    """However many were idle when it restarted: after the first failure the next question goes over a new one."""
    asked: list[Any] = []
    together = Barrier(3)

    def answers(event: Any) -> Answers:
        asked.append(event.assoc)
        if len(asked) <= 3:
            together.wait(60)  # three are in use at the same time, and idle afterwards
        yield 0x0000, None

    with _source(tmp_path, (evt.EVT_C_FIND, answers)) as source:
        with ThreadPoolExecutor(3) as pool:
            assert list(pool.map(source.exams_of, [PIECE] * 3)) == [[]] * 3
        for each in asked:
            each.dul.socket.close()  # without a word: as a process that was killed
        failed = 0
        while failed < 3:
            try:
                assert source.exams_of(PIECE) == []
                break
            except PeerUnavailable:
                failed += 1
        assert failed <= 1 and len(asked) == 4


def test_a_listing_that_is_shorter_than_the_peer_counts_is_an_error(tmp_path: Path) -> None:
    """As over HTTP, and a match that is repeated makes up for none."""

    def lists(event: Any) -> Answers:
        if event.identifier.QueryRetrieveLevel == "SERIES":
            yield 0xFF00, data_set(SeriesInstanceUID="2.25.2", NumberOfSeriesRelatedInstances=2)
        else:
            yield from [(0xFF00, data_set(SOPInstanceUID="2.25.3"))] * 2

    with (
        _source(tmp_path, (evt.EVT_C_FIND, lists)) as source,
        pytest.raises(PeerUnavailable, match="lists fewer images than it counts"),
    ):
        source.images_of(FoundExam(study_uid="2.25.1"))


def test_an_image_comes_whole_and_as_asked_or_not_at_all(tmp_path: Path) -> None:
    """Another object, none, a failure, an association that ends: nothing is kept, and what follows is not disturbed."""
    good, other = write_exam(tmp_path, 1, images=2)
    sent: dict[str, Any] = {"how": "good"}

    def gives(event: Any) -> Iterator[Any]:
        how = sent["how"]
        if how == "abort":
            event.assoc.abort()
            return
        yield 0 if how == "none" else 1
        if how == "none":
            return
        yield (0xFF00, pydicom.dcmread(other if how == "other" else good)) if how != "fail" else (0xA702, data_set())

    image = FoundImage(study_uid="2.25.8100001", series_uid="2.25.8200001", sop_uid="2.25.830000100")
    inbox = tmp_path / "inbox"
    faults: list[tuple[str, type[MammoError]]] = [
        ("none", NotThere), ("fail", PeerUnavailable), ("abort", PeerUnavailable), ("other", Incomplete),
    ]  # fmt: skip
    with _source(tmp_path, (evt.EVT_C_GET, gives)) as source:
        for how, kind in faults:
            sent["how"] = how
            with pytest.raises(kind):
                source.fetch(image, source.inbox)
            assert unfinished(inbox) == [] and not source.inbox.has(image.study_uid, image.sop_uid)
        sent["how"] = "good"
        assert source.fetch(image, source.inbox) > 0
        assert source.inbox.has(image.study_uid, image.sop_uid)
    assert len(arrived(inbox)) == 2  # the other object is a whole mammogram: it is kept for what it is


@pytest.mark.parametrize("code", [0x0000, 0xB000])
@pytest.mark.parametrize("count", [None, 0, 7])
def test_what_came_is_there_whatever_the_peer_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, count: int | None
) -> None:
    """Its last answer need not hold a count; and it warns where it has changed something of the header."""
    (path,) = write_exam(tmp_path, 1)
    send = DIMSEServiceProvider.send_msg

    def gives(event: Any) -> Iterator[Any]:
        yield 1
        yield 0xFF00, pydicom.dcmread(path)

    def counting(service: Any, message: Any, context: int) -> None:
        if isinstance(message, C_GET) and message.Status == 0:
            message.Status, message.NumberOfCompletedSuboperations = code, count
        send(service, message, context)

    monkeypatch.setattr(DIMSEServiceProvider, "send_msg", counting)
    image = FoundImage(study_uid="2.25.8100001", series_uid="2.25.8200001", sop_uid="2.25.830000100")
    with _source(tmp_path, (evt.EVT_C_GET, gives)) as source:
        assert source.inbox is not None and source.fetch(image, source.inbox) > 0
        source.inbox = None
        assert source.header_of(image)["00080018"]["Value"] == [image.sop_uid]


def test_a_peer_that_takes_images_and_sends_none_is_a_sentence(tmp_path: Path) -> None:
    """It does not agree to the role that C-GET needs: what to do is to have them moved."""
    image = FoundImage(study_uid="2.25.1", series_uid="2.25.2", sop_uid="2.25.3")
    with _source(tmp_path, sends=False) as source, pytest.raises(PeerRefused, match="retrieve: move"):
        source.fetch(image, source.inbox)


def test_a_peer_that_has_compressed_images_only_sends_them_as_they_are(tmp_path: Path) -> None:
    """Each in its own transfer syntax, over one association; and their headers are read, whose results go back there."""
    plain = write_exam(tmp_path / "plain", 1, images=4) + write_exam(tmp_path / "plain", 2)
    kept = [rewritten(path, tmp_path / path.name, syntax) for path, syntax in zip(plain, COMPRESSED, strict=True)]
    by_uid = {pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID: path for path in kept}

    def gives(event: Any) -> Iterator[Any]:
        yield 1
        yield 0xFF00, pydicom.dcmread(by_uid[event.identifier.SOPInstanceUID])

    with _source(tmp_path, (evt.EVT_C_GET, gives), syntaxes=COMPRESSED) as source:
        images = [FoundImage(study_uid="2.25.1", series_uid="2.25.2", sop_uid=uid) for uid in by_uid]
        for image in images:
            assert source.fetch(image, source.inbox) > 0
        source.inbox = None
        assert source.header_of(images[0])["00080018"]["Value"] == [images[0].sop_uid]
    came = arrived(tmp_path / "inbox")
    assert {data_set_bytes(path) for path in came} == {data_set_bytes(path) for path in kept}
    assert {pydicom.filereader.read_file_meta_info(path).TransferSyntaxUID for path in came} == set(COMPRESSED)


def test_a_peer_without_the_service_is_a_sentence(tmp_path: Path) -> None:
    """It accepts storage alone."""
    with _source(tmp_path) as source:
        object.__setattr__(source, "peer", source.peer.model_copy(update={"retrieve": "move"}))
        image = FoundImage(study_uid="2.25.1", series_uid="2.25.2", sop_uid="2.25.3")
        with pytest.raises(PeerRefused, match="does not offer this service"):
            source.fetch(image, source.inbox)


def test_a_peer_that_does_not_know_where_we_are_is_a_sentence(tmp_path: Path) -> None:
    """It cannot move images to a title that is not registered: what it said, what was sent, and what to do about it."""

    def knows_nobody(event: Any) -> Iterator[Any]:
        yield None, None

    def cannot_reach(event: Any) -> Iterator[Any]:
        yield "127.0.0.1", free_port(), {"contexts": []}
        yield 1

    image = FoundImage(study_uid="2.25.1", series_uid="2.25.2", sop_uid="2.25.3")
    for moves, kind, said in (
        (knows_nobody, PeerRefused, "does not know our title as a place"),
        (cannot_reach, PeerUnavailable, "could not send an image to our listener"),
    ):
        with _source(tmp_path, (evt.EVT_C_MOVE, moves), moves=True, retrieve="move") as source:
            with pytest.raises(kind, match=said) as told:
                source.fetch(image, source.inbox)
            assert "0 completed" in str(told.value) and "have MAMMO registered" in str(told.value)


def test_an_answer_is_taken_by_whoever_has_asked(tmp_path: Path) -> None:
    """Pynetdicom's own thread, which a busy machine put off, took one of 70 answers and dropped it: 69 exams, and no error."""
    with _source(tmp_path) as source:
        made = associate(source.pacs, source.peer, [build_context(FIND)])
        made._reactor_checkpoint.clear()  # as each question does
        made.dimse.msg_queue.put((1, "an answer"))
        assert made.dimse.get_msg(block=False) == (None, None)
        assert made.dimse.get_msg(block=True) == (1, "an answer")
        made._reactor_checkpoint.set()
        made.release()


def test_a_slow_line_is_no_silence(tmp_path: Path) -> None:
    """An image that takes longer than ``timeout_s`` comes, for its bytes do; the limit is one without a byte."""
    (path,) = write_exam(tmp_path, 1)

    def gives(event: Any) -> Iterator[Any]:
        yield 1
        yield 0xFF00, pydicom.dcmread(path)

    def slowly(event: Any) -> None:
        connection = event.assoc.dul.socket
        whole = connection.send

        def send(content: bytes) -> None:
            pieces = 8 if len(content) > 5000 else 1
            for number in range(pieces):
                time.sleep(0.25 * (pieces > 1))
                whole(content[number * len(content) // pieces : (number + 1) * len(content) // pieces])

        connection.send = send

    image = FoundImage(study_uid="2.25.8100001", series_uid="2.25.8200001", sop_uid="2.25.830000100")
    with _source(tmp_path, (evt.EVT_C_GET, gives), (evt.EVT_CONN_OPEN, slowly), timeout_s=1.0) as source:
        # Again where this machine itself was silent for so long; who waits for a whole message never gets it.
        for _ in range(20):
            with suppress(PeerUnavailable):
                assert source.fetch(image, source.inbox) > 0
                break
    assert len(arrived(tmp_path / "inbox")) == 1
