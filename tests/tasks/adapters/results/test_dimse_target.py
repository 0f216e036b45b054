"""Results go to a peer by DICOM's own protocol: to Orthanc, and to peers that refuse, break off or do not keep their word."""

from __future__ import annotations

import io
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from mammo_tests.certificates import Authority
from mammo_tests.other_systems import Orthanc, free_port, orthanc
from mammo_tests.results import VIEWS, objects_of
from schemas.config.pacs import CommitmentConfig, DicomWebPeer, DimsePeer, PacsConfig, ResultKind, TlsFiles
from schemas.errors import ConfigError, PeerRefused, PeerUnavailable
from tasks.adapters.pacs.peers import server_context
from tasks.adapters.pacs.web import web_client
from tasks.adapters.results.delivery import NotStored
from tasks.adapters.results.objects.result_objects import ResultObject
from tasks.adapters.results.web_target import WebTarget

pytest.importorskip("pynetdicom", reason="the extra pacs is not installed")

from pynetdicom import AE, evt

from tasks.adapters.results.dimse_target import DimseTarget

OURS = "MAMMO_OUT"


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[ResultObject]:
    """Every kind, of one view."""
    made, _ = objects_of(tmp_path_factory.mktemp("exam"), views=VIEWS[:1])
    return made


@pytest.fixture(scope="module")
def commitment() -> CommitmentConfig:
    """Where the archive calls back."""
    return CommitmentConfig(port=free_port(), wait_s=30.0)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, commitment: CommitmentConfig) -> Iterator[Orthanc]:
    """Knows our title at that port."""
    modalities = {"out": [OURS, "127.0.0.1", commitment.port]}
    home = tmp_path_factory.mktemp("orthanc")
    with orthanc(home, listener_port=free_port(), DicomModalities=modalities) as server:
        yield server


def to(
    port: int,
    *,
    called: str = "ORTHANC",
    commitment: CommitmentConfig | None = None,
    timeout_s: float = 60.0,
    tls: TlsFiles | None = None,
) -> DimseTarget:
    """A target at a port of this machine."""
    peer = DimsePeer(
        kind="dimse", ae_title=called, host="127.0.0.1", port=port, has_commitment=True, timeout_s=timeout_s,
        uses_tls=tls is not None,
    )  # fmt: skip
    return DimseTarget(PacsConfig(ae_title=OURS, peers={"archive": peer}, tls=tls), peer, commitment)


def names(objects: list[ResultObject]) -> list[tuple[str, str]]:
    """Class and UID of each."""
    return [(str(made.dataset.SOPClassUID), made.uid) for made in objects]


def test_every_kind_arrives_as_it_is_and_the_archive_gives_its_word(
    archive: Orthanc, objects: list[ResultObject], commitment: CommitmentConfig
) -> None:
    """In its own transfer syntax, sent twice and there once; one that was deleted meanwhile is not committed to."""
    target = to(archive.dicom_port, commitment=commitment)
    for made in [*objects, objects[0]]:
        target.store(made)
        assert target.prove(made) == "success"
    found = archive.ask("/tools/find", json.dumps({"Level": "Instance", "Query": {}, "Expand": True}).encode())
    assert sorted(one["MainDicomTags"]["SOPInstanceUID"] for one in found) == sorted(made.uid for made in objects)
    for one in found:
        meta = archive.ask(f"/instances/{one['ID']}/header?simplify")
        (made,) = [each for each in objects if each.uid == one["MainDicomTags"]["SOPInstanceUID"]]
        assert meta["TransferSyntaxUID"] == made.dataset.file_meta.TransferSyntaxUID
    assert target.lost(names(objects)) == set()
    archive.ask(f"/instances/{found[0]['ID']}", method="DELETE")
    assert target.lost(names(objects)) == {found[0]["MainDicomTags"]["SOPInstanceUID"]}
    assert to(archive.dicom_port).lost(names(objects)) == set()  # nobody asks


@contextmanager
def peer(
    answer: Callable[[Any], int],
    *,
    kinds: tuple[str, ...] = (),
    syntaxes: tuple[str, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
    callers: tuple[str, ...] = (),
    reads: Callable[[Any], object] = lambda event: None,
    tls: TlsFiles | None = None,
) -> Iterator[int]:
    """Another system that answers C-STORE so, and does ``reads`` whenever it has read something; its port."""
    entity = AE("PEER")
    entity.add_supported_context("1.2.840.10008.1.1")
    for kind in kinds:
        entity.add_supported_context(kind, list(syntaxes))
    entity.require_calling_aet = list(callers)
    port = free_port()
    handlers: list[evt.EventHandlerType] = [(evt.EVT_C_STORE, answer), (evt.EVT_DATA_RECV, reads)]
    context = None if tls is None else server_context(tls)
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers, ssl_context=context)
    try:
        yield port
    finally:
        server.shutdown()


def broken_off(event: Any) -> int:
    """The peer aborts the association in the middle."""
    event.assoc.abort()
    return 0


def test_a_peer_that_refuses_an_object_or_its_kind_is_told_from_one_that_breaks_off(objects: list[ResultObject]) -> None:
    """No room and an unknown kind are the exam's matter, with the status; an abort is tried again.

    With a warning it is stored; and where it is a duplicate, for an earlier try has brought it there.
    """
    (cad,) = [made for made in objects if made.kind is ResultKind.CAD]
    kind = (str(cad.dataset.SOPClassUID),)
    with peer(lambda event: 0xA700, kinds=kind) as port, pytest.raises(NotStored, match=r"cad.*0xa700"):
        to(port, called="PEER").store(cad)
    with peer(lambda event: 0, kinds=()) as port, pytest.raises(NotStored, match=r"cad.*kinds"):
        to(port, called="PEER").store(cad)
    with peer(broken_off, kinds=kind) as port, pytest.raises(PeerUnavailable):
        to(port, called="PEER").store(cad)
    for stored in (0xB000, 0x0111):
        with peer(lambda event, status=stored: status, kinds=kind) as port:  # type: ignore[misc]
            to(port, called="PEER").store(cad)
    with peer(lambda event: 0, kinds=kind, callers=("SOMEBODY",)) as port, pytest.raises(PeerRefused, match="our title"):
        to(port, called="PEER").store(cad)
    with pytest.raises(PeerUnavailable):
        to(free_port(), called="PEER").store(cad)


@pytest.mark.parametrize(
    "syntaxes", [(ImplicitVRLittleEndian,), (ExplicitVRLittleEndian,), (RLELossless,), (JPEG2000Lossless,)]
)
def test_a_peer_of_few_transfer_syntaxes_gets_the_same_object_or_it_is_told_why(
    objects: list[ResultObject], syntaxes: tuple[str, ...]
) -> None:
    """Uncompressed only: every kind comes, pixels and content the same. Compressed only: what is made so; the rest says why."""
    came: dict[str, bytes] = {}

    def keeps(event: Any) -> int:
        whole = io.BytesIO()
        event.dataset.file_meta = event.file_meta
        event.dataset.save_as(whole, enforce_file_format=True)
        came[str(event.request.AffectedSOPInstanceUID)] = whole.getvalue()
        return 0

    refused = []
    with peer(keeps, kinds=tuple({kind for kind, _ in names(objects)}), syntaxes=syntaxes) as port:
        for made in objects:
            try:
                to(port, called="PEER").store(made)
            except NotStored as why:
                assert str(why).startswith(f"{made.kind.value}: ") and "none of the transfer syntaxes" in str(why)
                refused.append(made.uid)
    is_sent = {made.uid: made.is_in(came[made.uid]) for made in objects if made.uid not in refused}
    assert set(is_sent) == set(came) and all(is_sent.values())
    can_be_sent = {made.uid for made in objects if made.dataset.file_meta.TransferSyntaxUID in syntaxes}
    assert set(came) == (can_be_sent if syntaxes[0].is_compressed else {made.uid for made in objects})


def larger(made: ResultObject, more_bytes: int) -> ResultObject:
    """The object with so many bytes more."""
    dataset = pydicom.dcmread(io.BytesIO(made.content))
    dataset.add_new(0x00420011, "OB", bytes(more_bytes))
    return ResultObject(kind=made.kind, uid=made.uid, dataset=dataset)


def test_a_pacs_that_was_stopped_is_found_out_and_goes_on_later(archive: Orthanc, objects: list[ResultObject]) -> None:
    """Its process is there and says nothing (SIGSTOP), to C-STORE and to STOW-RS; when it runs again it takes the object."""
    (cad,) = [made for made in objects if made.kind is ResultKind.CAD]
    assert archive.process is not None
    web = DicomWebPeer(kind="dicomweb", url=archive.url, timeout_s=1.0)
    with web_client(PacsConfig(peers={"web": web}), web) as client:
        archive.process.send_signal(signal.SIGSTOP)
        try:
            for target in (to(archive.dicom_port, timeout_s=1.0), WebTarget(client)):
                with pytest.raises(PeerUnavailable):
                    target.store(cad)
        finally:
            archive.process.send_signal(signal.SIGCONT)
    to(archive.dicom_port).store(cad)


def test_a_peer_that_reads_no_more_does_not_hold_us(objects: list[ResultObject]) -> None:
    """It stops in the middle of an object that is larger than what the kernel keeps for it; or takes it and answers nothing."""
    (cad,) = [made for made in objects if made.kind is ResultKind.CAD]
    kinds, goes_on = (str(cad.dataset.SOPClassUID),), threading.Event()
    is_object = 0x04  # P-DATA-TF (PS3.8 9.3.5): the association is there

    def stops(event: Any) -> object:
        return event.data[0] == is_object and goes_on.wait(60)

    stops_reading: dict[str, Any] = {"answer": lambda event: 0, "reads": stops}
    answers_nothing: dict[str, Any] = {"answer": lambda event: 0 * goes_on.wait(60)}
    for how, size in ((stops_reading, 32 << 20), (answers_nothing, 1)):
        goes_on.clear()
        with peer(**how, kinds=kinds) as port:
            with pytest.raises(PeerUnavailable):
                to(port, called="PEER", timeout_s=0.5).store(larger(cad, size))
            goes_on.set()


def test_a_slow_line_is_not_a_dead_peer(objects: list[ResultObject]) -> None:
    """An object that takes several times as long as the peer may be silent arrives, for the peer reads all the time."""
    (cad,) = [made for made in objects if made.kind is ResultKind.CAD]
    with peer(lambda event: 0, kinds=(str(cad.dataset.SOPClassUID),), reads=lambda event: time.sleep(0.1)) as port:
        to(port, called="PEER", timeout_s=0.5).store(larger(cad, 200_000))


def test_only_a_believed_peer_is_sent_anything(objects: list[ResultObject], tmp_path: Path) -> None:
    """Its certificate has expired or is a stranger's: an error that says so, and no other try. Ours has: it is told too."""
    (cad,) = [made for made in objects if made.kind is ResultKind.CAD]
    ours, theirs = Authority(tmp_path / "ours", "ours"), Authority(tmp_path / "theirs", "theirs")
    good, late = ours.issue("good"), ours.issue("late", is_expired=True)
    came: list[int] = []
    for shown, mine, error, why in (
        (late, good, PeerRefused, "certificate is not believed"),
        (theirs.issue("stranger"), good, PeerRefused, "certificate is not believed"),
        (good, late, PeerRefused, "does not believe our certificate"),
        (good, good, None, ""),
    ):
        with peer(lambda event: len(came.append(0) or ""), kinds=(str(cad.dataset.SOPClassUID),), tls=shown) as port:
            if error is None:
                to(port, called="PEER", tls=mine).store(cad)
                continue
            with pytest.raises(error, match=why):
                to(port, called="PEER", tls=mine).store(cad)
            assert came == []
    assert came == [0]


def test_a_word_that_does_not_come_is_waited_for_and_no_longer(archive: Orthanc, objects: list[ResultObject]) -> None:
    """The archive knows another port: nothing is taken for lost. A port that is in use is told."""
    elsewhere = CommitmentConfig(port=free_port(), wait_s=0.5)
    with pytest.raises(PeerUnavailable, match="did not come"):
        to(archive.dicom_port, commitment=elsewhere).lost(names(objects))
    in_use = CommitmentConfig(port=archive.dicom_port, wait_s=0.5)
    with pytest.raises(ConfigError, match=r"pacs\.results\.commitment"):
        to(archive.dicom_port, commitment=in_use).lost(names(objects))
