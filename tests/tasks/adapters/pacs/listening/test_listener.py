"""The listener takes what may come as it was sent, refuses the rest with its status, and tells Success for nothing it loses."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForProcessing,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from mammo_tests.certificates import Authority
from mammo_tests.other_systems import (
    COMPRESSED,
    ROUTER,
    TITLE,
    ListenerProcess,
    arrived,
    data_set_bytes,
    free_port,
    is_root,
    needs_dcmtk,
    pacs_config,
    push_as_stored,
    rewritten,
    start_listener,
    storescu,
    unfinished,
    until,
    write_exam,
)
from schemas.config.pacs import DimsePeer
from schemas.errors import ConfigError, PeerRefused
from tasks.adapters.pacs.listening.listener import (
    CANNOT_UNDERSTAND,
    CLASS_NOT_SUPPORTED,
    INVALID_UID,
    OTHER_OBJECT,
    OUT_OF_RESOURCES,
    Listener,
)
from tasks.adapters.pacs.sources import reach

pytest.importorskip("pynetdicom", reason="the extra pacs is not installed")


@contextmanager
def listening_here(inbox_dir: Path, **listen: Any) -> Iterator[tuple[Listener, int]]:
    """A listener in this process's threads, for what needs no process of its own."""
    port = free_port()
    listener = Listener(pacs_config(port, listen=listen), inbox_dir)
    server = listener.start()
    try:
        yield listener, port
    finally:
        server.shutdown()


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, JPEGLSLossless, RLELossless], ids=str)
def test_what_is_pushed_lies_in_the_inbox_as_it_was_sent(listener: ListenerProcess, tmp_path: Path, syntax: str) -> None:
    """Byte for byte, in its transfer syntax, mode 0600, with its sender in the file's meta information; no name tells whose."""
    (exam,) = write_exam(tmp_path, 1, digits=str(abs(hash(syntax)) % 10**6))
    sent = rewritten(exam, tmp_path / "sent.dcm", syntax)
    before = set(arrived(listener.inbox_dir))
    assert push_as_stored(listener.port, sent) == [0]
    (came,) = set(arrived(listener.inbox_dir)) - before
    assert data_set_bytes(came) == data_set_bytes(sent)
    meta = pydicom.filereader.read_file_meta_info(came)
    assert (meta.TransferSyntaxUID, meta.SourceApplicationEntityTitle) == (syntax, ROUTER)
    assert came.stat().st_mode & 0o777 == 0o600 and came.parent.stat().st_mode & 0o777 == 0o700
    assert "2.25" not in str(came) and "CANARY" not in str(came)
    assert pydicom.dcmread(came).pixel_array.shape == (64, 64)


def test_a_device_that_offers_compressed_syntaxes_only_is_taken_from(inbox_dir: Path, tmp_path: Path) -> None:
    """One association with a context for each, none of them uncompressed: every image lies there as it was compressed."""
    sent = []
    for number, syntax in enumerate(COMPRESSED):
        (plain,) = write_exam(tmp_path / "plain", number)
        sent.append(rewritten(plain, tmp_path / f"{number}.dcm", syntax))
    with listening_here(inbox_dir) as (_, port):
        assert push_as_stored(port, *sent) == [0] * len(COMPRESSED)
    came = arrived(inbox_dir)
    assert {data_set_bytes(path) for path in came} == {data_set_bytes(path) for path in sent}
    assert {pydicom.filereader.read_file_meta_info(path).TransferSyntaxUID for path in came} == set(COMPRESSED)


@needs_dcmtk
def test_only_peers_are_listened_to(listener: ListenerProcess, inbox_dir: Path, tmp_path: Path) -> None:
    """Another title of theirs or ours is rejected, and a peer's title from another address."""
    files = write_exam(tmp_path, 2)
    assert storescu(listener.port, *files, calling="STRANGER") != 0
    assert storescu(listener.port, *files, called="OTHER") != 0
    port = free_port()
    elsewhere = {"kind": "dimse", "ae_title": ROUTER, "host": "10.1.2.3", "calls_from": ["10.1.2.0/24"]}
    there = Listener(pacs_config(port, peers={"router": elsewhere}), inbox_dir)
    server = there.start()
    try:
        assert storescu(port, *files) != 0
    finally:
        server.shutdown()
    assert arrived(inbox_dir) == []
    with pytest.raises(ConfigError, match="Nobody may push"):
        Listener(pacs_config(port, peers={}), inbox_dir).start()


def test_what_may_not_come_is_refused_with_its_status(inbox_dir: Path, tmp_path: Path) -> None:
    """An image for processing beside an exam's others, an object that is another than its request says, one too large."""
    good, raw, named_otherwise, cut, bad_uid = write_exam(tmp_path, 3, images=4) + write_exam(tmp_path, 4)

    def for_processing(dataset: pydicom.Dataset) -> None:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = DigitalMammographyXRayImageStorageForProcessing

    def other_uid(dataset: pydicom.Dataset) -> None:
        dataset.SOPInstanceUID = "2.25.83999"

    def no_uid(dataset: pydicom.Dataset) -> None:
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.CANARY"

    edits = {raw: for_processing, named_otherwise: other_uid, bad_uid: no_uid}
    for path, edit in edits.items():
        rewritten(path, path, "1.2.840.10008.1.2.1", edit)
    cut.write_bytes(cut.read_bytes()[:700])
    with listening_here(inbox_dir) as (listener, port):
        assert push_as_stored(port, good, raw, named_otherwise, cut) == [
            0,
            CLASS_NOT_SUPPORTED,
            OTHER_OBJECT,
            CANNOT_UNDERSTAND,
        ]
        assert push_as_stored(port, bad_uid) in ([INVALID_UID], [])
        assert listener.counts.stored == 1
    big = write_exam(tmp_path / "big", 5, side_px=900)
    with listening_here(inbox_dir, largest_object_mib=1) as (_, port):
        assert push_as_stored(port, *big) == [OUT_OF_RESOURCES]
    huge = write_exam(tmp_path / "huge", 6, side_px=1500)
    with listening_here(inbox_dir, largest_object_mib=1) as (_, port):
        assert push_as_stored(port, *huge) in ([-1], [OUT_OF_RESOURCES])
    with listening_here(inbox_dir, largest_inbox_gib=1e-5) as (_, port):
        assert push_as_stored(port, *write_exam(tmp_path / "more", 7)) == [OUT_OF_RESOURCES]
    assert len(arrived(inbox_dir)) == 1 and unfinished(inbox_dir) == []


def test_a_full_disk_is_told_and_nothing_is_torn(inbox_dir: Path, tmp_path: Path) -> None:
    """A700 before the disk is full, and in the middle of writing too; with room again the same push is taken."""
    files = write_exam(tmp_path / "exam", 8, side_px=600)
    with listening_here(inbox_dir, least_free_gib=1e6) as (_, port):
        assert push_as_stored(port, *files) == [OUT_OF_RESOURCES]
    inbox_dir.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(inbox_dir)]
    if not is_root() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root can make a disk that is full")
    try:
        with listening_here(inbox_dir, least_free_gib=0) as (_, port):
            filler = inbox_dir / "filler.tmp"
            filler.write_bytes(b"0" * 200_000)
            assert push_as_stored(port, *files, *files) == [OUT_OF_RESOURCES] * 2
            assert unfinished(inbox_dir) == [filler] and arrived(inbox_dir) == []
            subprocess.run(["mount", "-o", "remount,size=4m", str(inbox_dir)], check=True)
            assert push_as_stored(port, *files) == [0] and len(arrived(inbox_dir)) == 1
    finally:
        subprocess.run(["umount", "-l", str(inbox_dir)], check=False)


def test_the_same_exam_twice_is_one_and_another_content_is_a_second_file(listener: ListenerProcess, tmp_path: Path) -> None:
    """Pushed by two senders at the same time, and again; with other pixels under its UIDs it is kept beside, for rule I06."""
    files = write_exam(tmp_path, 9, images=4)
    before = len(arrived(listener.inbox_dir))
    senders = [threading.Thread(target=push_as_stored, args=(listener.port, *files)) for _ in range(2)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert push_as_stored(listener.port, *files) == [0] * 4
    assert len(arrived(listener.inbox_dir)) == before + 4
    one = arrived(listener.inbox_dir)[0]
    rewritten(files[0], files[0], "1.2.840.10008.1.2.1", lambda dataset: setattr(dataset, "SeriesNumber", 7))
    assert push_as_stored(listener.port, files[0]) == [0]
    assert len(arrived(listener.inbox_dir)) == before + 5 and one.exists()
    moved = arrived(listener.inbox_dir)
    for path in moved:
        path.unlink()
    assert push_as_stored(listener.port, *files) == [0] * 4  # asked of the disk: what somebody moved on is written again
    assert len(arrived(listener.inbox_dir)) == 4


def test_a_sender_that_offers_128_contexts_is_understood(listener: ListenerProcess, tmp_path: Path) -> None:
    """As many as an association can have, mammography last: that one is accepted."""
    from pynetdicom import AE, AllStoragePresentationContexts

    (file,) = write_exam(tmp_path, 10)
    ae = AE(ROUTER)
    meta = pydicom.filereader.read_file_meta_info(file)
    others = [cx.abstract_syntax for cx in AllStoragePresentationContexts if "Mammography" not in str(cx.abstract_syntax.name)]
    for sop_class in others[:127]:
        ae.add_requested_context(sop_class)
    ae.add_requested_context(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)
    made = ae.associate("127.0.0.1", listener.port, ae_title=TITLE)
    assert made.is_established and len(made.accepted_contexts) == 1
    assert made.send_c_store(file).Status == 0
    made.release()


def test_silence_and_garbage_stop_nobody(inbox_dir: Path, tmp_path: Path) -> None:
    """Connections that say nothing, or rubbish, or that 4 GiB follow, leave room for a sender; one too many is rejected."""
    from pynetdicom import AE
    from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made by the module when it is asked

    files = write_exam(tmp_path, 11)
    with listening_here(inbox_dir, associations=5) as (_, port):
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
        noisy = socket.create_connection(("127.0.0.1", port))
        noisy.sendall(b"GET / HTTP/1.1\r\nHost: CANARY\r\n\r\n" * 100)
        with socket.create_connection(("127.0.0.1", port), timeout=30) as boasting:
            boasting.sendall(b"\1\0\xff\xff\xff\xff")  # 4 GiB to come: nobody waits for them, or makes room
            assert boasting.recv(100) == b""
        assert push_as_stored(port, *files) == [0]
        for each in (*silent, noisy):
            each.close()
    with listening_here(inbox_dir, associations=4) as (_, port):
        ae = AE(ROUTER)
        ae.add_requested_context(Verification)
        assert _accepted(ae, port, 5) == [True] * 4 + [False]
    assert unfinished(inbox_dir) == []


def _accepted(ae: Any, port: int, count: int) -> list[bool]:
    """Which of so many associations at the same time are; all have ended when this returns."""
    made = [ae.associate("127.0.0.1", port, ae_title=TITLE) for _ in range(count)]
    accepted = [each.is_established for each in made]
    for each in made:
        if each.is_established:
            each.release()
    return accepted


def test_only_a_believed_certificate_may_push(inbox_dir: Path, tmp_path: Path) -> None:
    """A stranger's, an expired one, none, and no TLS at all are refused, and told why; silent ones keep nobody waiting."""
    ours, theirs = Authority(tmp_path / "ours", "ours"), Authority(tmp_path / "theirs", "theirs")
    files, port = write_exam(tmp_path, 12), free_port()
    server_files = ours.issue("listener")
    listen = {"uses_tls": True, "associations": 20}  # one that was refused counts for some seconds
    listener = Listener(pacs_config(port, listen=listen, tls=server_files.model_dump(mode="json")), inbox_dir)
    server = listener.start()
    try:
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        for files_of_caller in (theirs.issue("stranger"), ours.issue("late", is_expired=True), None):
            context = ssl.create_default_context(cafile=ours.path)
            if files_of_caller is not None:
                context.load_cert_chain(files_of_caller.certificate, files_of_caller.key)
            assert push_as_stored(port, *files, tls_args=(context, "127.0.0.1")) == []
        assert push_as_stored(port, *files) == []
        late = pacs_config(port, ae_title=ROUTER, tls=ours.issue("late", is_expired=True).model_dump(mode="json"))
        asked = {"kind": "dimse", "ae_title": TITLE, "host": "127.0.0.1", "port": port, "uses_tls": True}
        with pytest.raises(PeerRefused, match="does not believe our certificate"):
            reach(late, DimsePeer.model_validate(asked))
        context = ssl.create_default_context(cafile=ours.path)
        good = ours.issue("router")
        context.load_cert_chain(good.certificate, good.key)
        assert push_as_stored(port, *files, tls_args=(context, "127.0.0.1")) == [0]
        for each in silent:
            each.close()
    finally:
        server.shutdown()
    assert len(arrived(inbox_dir)) == 1


@needs_dcmtk
def test_a_hundred_exams_across_a_restart_are_neither_lost_nor_doubled(inbox_dir: Path, tmp_path: Path) -> None:
    """Two senders push 50 exams each, and again what was not answered; the listener is killed in between."""
    pacs, home = pacs_config(free_port()), tmp_path / "home"
    assert pacs.listen is not None
    port = pacs.listen.port
    exams = [write_exam(tmp_path / "source", number)[0] for number in range(100)]

    def push_until_taken(files: list[Path]) -> None:
        while storescu(port, *files) != 0:
            time.sleep(1)

    listener = start_listener(pacs, inbox_dir, home)
    senders = [threading.Thread(target=push_until_taken, args=(exams[start::2],), daemon=True) for start in range(2)]
    for sender in senders:
        sender.start()
    assert until(lambda: len(arrived(inbox_dir)) > 8)
    listener.kill()
    (inbox_dir / ".0123456789abcdef.push.part").write_bytes(b"what a killed listener leaves")
    listener = start_listener(pacs, inbox_dir, home)
    for sender in senders:
        sender.join(timeout=300)
    listener.end()
    came = {data_set_bytes(path) for path in arrived(inbox_dir)}
    assert came == {data_set_bytes(path) for path in exams} and len(arrived(inbox_dir)) == 100
    assert unfinished(inbox_dir) == []
    assert "CANARY" not in listener.log_path.read_text() and "2.25." not in listener.log_path.read_text()


def test_a_second_listener_at_the_port_is_a_sentence(listener: ListenerProcess, inbox_dir: Path) -> None:
    """No traceback."""
    with pytest.raises(ConfigError, match=f"cannot listen at 127.0.0.1:{listener.port}"):
        Listener(pacs_config(listener.port), inbox_dir).start()
