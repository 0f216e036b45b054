"""What a DICOMweb server answers to an object, and what each answer means for it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator

import pydicom
import pytest

from mammo_tests.between import Between, Fault, between
from mammo_tests.results import VIEWS, objects_of
from schemas.config.pacs import DicomWebPeer, PacsConfig, ResultKind
from schemas.errors import PeerUnavailable
from tasks.adapters.pacs.web import web_client
from tasks.adapters.results.delivery import NotStored
from tasks.adapters.results.objects.result_objects import ResultObject
from tasks.adapters.results.web_target import WebTarget


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ResultObject:
    """A small object."""
    (one,), _ = objects_of(tmp_path_factory.mktemp("exam"), views=VIEWS[:1], kinds=(ResultKind.CAD,))
    return one


@pytest.fixture(scope="module")
def saliency(tmp_path_factory: pytest.TempPathFactory) -> ResultObject:
    """One with compressed pixels."""
    (one,), _ = objects_of(tmp_path_factory.mktemp("exam"), views=VIEWS[:1], kinds=(ResultKind.SALIENCY,))
    return one


@pytest.fixture(scope="module")
def server() -> Iterator[Between]:
    """A server that answers what a test says."""
    with between("http://127.0.0.1:9/dicom-web") as proxy:
        yield proxy


@pytest.fixture
def target(server: Between) -> Iterator[WebTarget]:
    """Sends to it."""
    peer = DicomWebPeer(kind="dicomweb", url=server.url, timeout_s=60.0)
    with web_client(PacsConfig(peers={"archive": peer}), peer) as client:
        yield WebTarget(client)


def answering(status: int, tag: str = "", uid: str = "", reason: int | None = None) -> Callable[[str, str, bytes], Fault]:
    """A STOW-RS answer that names an object in a sequence."""
    item = {"00081155": {"vr": "UI", "Value": [uid]}} | ({"00081197": {"vr": "US", "Value": [reason]}} if reason else {})
    content = json.dumps({tag: {"vr": "SQ", "Value": [item]}}).encode() if tag else b""
    return lambda method, path, body: Fault(status=status, content=content)


STORED, FAILED = "00081199", "00081198"


def test_only_an_object_that_is_named_as_stored_is_stored(made: ResultObject, target: WebTarget, server: Between) -> None:
    """It was sent whole, to its own study; the same answer in a list is understood too."""
    sent: list[tuple[str, bytes]] = []
    plain = answering(200, STORED, made.uid)

    def answer(method: str, path: str, body: bytes) -> Fault:
        sent.append((path, body))
        return plain(method, path, body)

    server.fault_of = answer
    target.store(made)
    ((path, body),) = sent
    assert path.endswith(f"/studies/{made.study_uid}") and made.content in body
    server.fault_of = lambda *request: Fault(status=200, content=b"[" + plain(*request).content + b"]")
    target.store(made)
    server.fault_of = answering(409, FAILED, made.uid, 0x0111)  # an earlier try has brought it there; it is read back
    target.store(made)
    for odd in (
        b'{"00081198": null, "00081199": [1]}',
        b'{"00081198": {"Value": [null, 7]}, "00081199": {"Value": "1"}}',
        b"[7]",
    ):
        server.fault_of = lambda *request, said=odd: Fault(status=200, content=said)  # type: ignore[misc]
        with pytest.raises(NotStored, match="does not say"):
            target.store(made)


@pytest.mark.parametrize(
    ("status", "tag", "uid", "reason", "said"),
    [
        (200, "", "", None, "does not say"),
        (200, STORED, "2.25.1", None, "does not say"),
        (202, FAILED, "", 0xA700, "failure 0xa700"),
        (409, FAILED, "", 0x0122, "failure 0x0122"),
        (409, FAILED, "", None, "without a reason"),
        (413, "", "", None, "HTTP status 413"),
        (400, "", "", None, "HTTP status 400"),
    ],
)
def test_any_other_answer_is_a_failure_that_says_why(
    made: ResultObject, target: WebTarget, server: Between, status: int, tag: str, uid: str, reason: int | None, said: str
) -> None:
    """Not named, another one named, named among what failed, or refused before it was looked at."""
    server.fault_of = answering(status, tag, uid or made.uid, reason)
    with pytest.raises(NotStored, match=said) as failure:
        target.store(made)
    assert made.uid not in str(failure.value) and made.study_uid not in str(failure.value)


@pytest.mark.parametrize(("status", "tag", "reason"), [(409, FAILED, 0xC122), (409, FAILED, 0xC000), (415, "", None)])
def test_a_server_that_refuses_the_transfer_syntax_is_sent_it_uncompressed(
    saliency: ResultObject,
    made: ResultObject,
    target: WebTarget,
    server: Between,
    status: int,
    tag: str,
    reason: int | None,
) -> None:
    """The same object, once; and if that is refused too, the last reason is told. What has no such syntax is sent once."""
    sent: list[bytes] = []

    def answer(method: str, path: str, body: bytes) -> Fault:
        sent.append(body)
        how = answering(200, STORED, saliency.uid) if len(sent) == 2 else answering(status, tag, saliency.uid, reason)
        return how(method, path, body)

    server.fault_of = answer
    target.store(saliency)
    plain = saliency.uncompressed()
    assert len(sent) == 2 and saliency.content in sent[0]
    assert plain is not None and plain in sent[1] and saliency.is_in(plain)
    assert pydicom.dcmread(io.BytesIO(plain)).file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    with pytest.raises(NotStored, match=r"as it is and uncompressed.*(failure 0xc|HTTP status 415).*Little Endian taken there"):
        target.store(saliency)
    assert len(sent) == 4
    server.fault_of = lambda method, path, body: (
        sent.append(body) or answering(status, tag, made.uid, reason)(method, path, body)
    )
    with pytest.raises(NotStored, match=r"failure 0xc|HTTP status 415"):
        target.store(made)
    assert len(sent) == 5


def test_a_server_that_breaks_off_is_another_matter(made: ResultObject, target: WebTarget, server: Between) -> None:
    """It is asked again later; a web page instead of an answer is no success."""
    server.fault_of = lambda method, path, body: Fault(is_cut=True)
    with pytest.raises(PeerUnavailable):
        target.store(made)
    server.fault_of = lambda method, path, body: Fault(status=200, content=b"<html>")
    with pytest.raises(NotStored):
        target.store(made)


def test_what_is_given_back_must_be_what_was_sent(made: ResultObject, target: WebTarget, server: Between) -> None:
    """The object itself, also with a corrected name; not another content, another patient, half of it, nothing."""

    def given(content: bytes, status: int = 200) -> Callable[[str, str, bytes], Fault]:
        body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--b--"
        kind = 'multipart/related; type="application/dicom"; boundary=b'
        return lambda method, path, sent: Fault(status=status, headers={"Content-Type": kind}, content=body)

    def changed(**values: str) -> bytes:
        dataset, buffer = pydicom.dcmread(io.BytesIO(made.content)), io.BytesIO()
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
        dataset.save_as(buffer)
        return buffer.getvalue()

    server.fault_of = given(made.content)
    assert target.prove(made) == "read back"
    server.fault_of = given(changed(PatientName="CORRECTED"))
    assert target.prove(made) == "read back"
    for content in (changed(PatientID="OTHER"), changed(SeriesDescription="else"), made.content[: len(made.content) // 2], b""):
        server.fault_of = given(content)
        with pytest.raises(NotStored):
            target.prove(made)
    server.fault_of = given(b"", 404)
    with pytest.raises(NotStored, match="does not give an object back"):
        target.prove(made)


def test_what_a_study_holds_is_asked(target: WebTarget, server: Between) -> None:
    """By UID; of a study that the server does not know, or of too many objects, nothing is known."""
    matches = [{"00080018": {"vr": "UI", "Value": ["2.25.5"]}}, {"00080018": None}, {"00080018": {"vr": "UI"}}]
    server.fault_of = lambda method, path, body: Fault(status=200, content=json.dumps(matches).encode())
    assert "2.25.5" in target.held("2.25.1")
    server.fault_of = lambda method, path, body: Fault(status=413)
    assert target.held("2.25.1") == set()
    server.fault_of = lambda method, path, body: Fault(status=404)
    assert target.held("2.25.1") == set()
