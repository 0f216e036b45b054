"""Results go to a peer by DICOM's own protocol: to Orthanc, and to peers that refuse, break off or do not keep their word."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mammo_tests.other_systems import Orthanc, free_port, orthanc
from mammo_tests.results import VIEWS, objects_of
from schemas.config.pacs import CommitmentConfig, DimsePeer, PacsConfig, ResultKind
from schemas.errors import ConfigError, PeerRefused, PeerUnavailable
from tasks.adapters.results.delivery import NotStored
from tasks.adapters.results.objects.result_objects import ResultObject

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


def to(port: int, *, called: str = "ORTHANC", commitment: CommitmentConfig | None = None) -> DimseTarget:
    """A target at a port of this machine."""
    peer = DimsePeer(kind="dimse", ae_title=called, host="127.0.0.1", port=port, has_commitment=True, timeout_s=60.0)
    return DimseTarget(PacsConfig(ae_title=OURS, peers={"archive": peer}), peer, commitment)


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
def peer(answer: Callable[[Any], int], *, kinds: tuple[str, ...] = (), callers: tuple[str, ...] = ()) -> Iterator[int]:
    """Another system that answers C-STORE so; its port."""
    entity = AE("PEER")
    for kind in (*kinds, "1.2.840.10008.1.1"):
        entity.add_supported_context(kind, ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"])
    entity.require_calling_aet = list(callers)
    port = free_port()
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, answer)])
    try:
        yield port
    finally:
        server.shutdown()


def broken_off(event: Any) -> int:
    """The peer aborts the association in the middle."""
    event.assoc.abort()
    return 0


def test_a_peer_that_refuses_an_object_or_its_kind_is_told_from_one_that_breaks_off(objects: list[ResultObject]) -> None:
    """No room and an unknown kind are the exam's matter, with the status; an abort is tried again; a warning is stored."""
    (cad,) = [made for made in objects if made.kind is ResultKind.CAD]
    kind = (str(cad.dataset.SOPClassUID),)
    with peer(lambda event: 0xA700, kinds=kind) as port, pytest.raises(NotStored, match=r"cad.*0xa700"):
        to(port, called="PEER").store(cad)
    with peer(lambda event: 0, kinds=()) as port, pytest.raises(NotStored, match=r"cad.*kinds"):
        to(port, called="PEER").store(cad)
    with peer(broken_off, kinds=kind) as port, pytest.raises(PeerUnavailable):
        to(port, called="PEER").store(cad)
    with peer(lambda event: 0xB000, kinds=kind) as port:
        to(port, called="PEER").store(cad)
    with peer(lambda event: 0, kinds=kind, callers=("SOMEBODY",)) as port, pytest.raises(PeerRefused, match="our title"):
        to(port, called="PEER").store(cad)
    with pytest.raises(PeerUnavailable):
        to(free_port(), called="PEER").store(cad)


def test_a_word_that_does_not_come_is_waited_for_and_no_longer(archive: Orthanc, objects: list[ResultObject]) -> None:
    """The archive knows another port: nothing is taken for lost. A port that is in use is told."""
    elsewhere = CommitmentConfig(port=free_port(), wait_s=0.5)
    with pytest.raises(PeerUnavailable, match="did not come"):
        to(archive.dicom_port, commitment=elsewhere).lost(names(objects))
    in_use = CommitmentConfig(port=archive.dicom_port, wait_s=0.5)
    with pytest.raises(ConfigError, match=r"pacs\.results\.commitment"):
        to(archive.dicom_port, commitment=in_use).lost(names(objects))
