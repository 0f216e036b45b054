"""A file of a folder and the same object of a bucket: one verdict, whatever is in it; and what becomes of a bad wire."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from mammo_tests import hostile
from mammo_tests.object_store import BUCKET, Fault, answers, breaks_off, wire_to
from schemas.config.ingest import GateLimits, PreprocessConfig
from schemas.errors import FileDeferred, GateRejection
from tasks.adapters.buckets import bucket as bucket_module
from tasks.adapters.buckets.bucket import Bucket, bucket_at
from tasks.adapters.buckets.exam_object import AWAY, CHANGED, FIRST_BYTES, ExamObject, fetched
from tasks.adapters.gate.child import GateChild
from tasks.adapters.gate.gate_settings import GateSettings
from tasks.adapters.gate.messages import InspectHeader, PrepareImage
from tasks.adapters.pseudonyms import open_key

WriteSound = Callable[..., Path]
SETTINGS = PreprocessConfig(window_px=(320, 288), erosion_iterations=10, jitter_shift_px=0, jitter_size_px=0)
NO_FAULTS: list[Fault] = []


@pytest.fixture
def bucket(s3: str) -> Bucket:
    """An empty prefix."""
    return bucket_at(f"s3://{BUCKET}/{uuid4().hex}")


@pytest.fixture(scope="module")
def child() -> Iterator[GateChild]:
    """One for all tests."""
    with GateChild(GateLimits(timeout_s=30)) as started:
        yield started


def placed(bucket: Bucket, key: str, content: bytes) -> ExamObject:
    """An object, as a listing says of it."""
    return ExamObject(bucket.url, key, len(content), bucket.put(key, content))


def verdict(child: GateChild, request: InspectHeader) -> object:
    """What the gate says of a header, in what the ledger and a report would keep of it."""
    try:
        return child.inspect(request)
    except GateRejection as refused:
        return refused.refusal
    except FileDeferred as deferred:
        return deferred.reason


def awkward(sound: bytes) -> dict[str, bytes]:
    """Files whose header ends near the end of what is fetched first, or behind it, or whose first part looks like a whole."""
    header = hostile.pixel_data_at(sound)

    def with_private(length: int, *, at: int | None = None) -> bytes:
        element = b"\x09\x00\x10\x10OB\0\0" + length.to_bytes(4, "little") + b"x" * length
        return hostile.inserted(sound, element) if at is None else sound[:at] + element + sound[at:]

    near = {f"ends-at-{offset}": with_private(FIRST_BYTES - header - 12 + offset) for offset in range(-8200, 40, 1024)}
    cut = {f"cut-at-{at}": with_private(100_000)[:at] for at in (FIRST_BYTES, FIRST_BYTES + 1, 90_000)}
    return {
        **near,
        **cut,
        "private-table": with_private(200_000),
        "only-zeros-follow": sound[:FIRST_BYTES] + bytes(len(sound) - FIRST_BYTES),
        "pixels-cut": sound[: FIRST_BYTES + 100],
        "sparse-text": b"no mammogram " * 20_000,
        "longer": sound + b"\0" * 50_000,
    }


def test_a_header_read_by_range_says_what_the_whole_file_says(
    bucket: Bucket, tmp_path: Path, child: GateChild, write_sound: WriteSound
) -> None:
    """Hostile and awkward files: the same record, or rules, words and numbers of a refusal, as from a folder."""
    folder = tmp_path / "in"
    folder.mkdir()
    sound_path = write_sound(tmp_path / "sound.dcm")
    sound = sound_path.read_bytes()
    assert len(sound) > 2 * FIRST_BYTES
    makers = (hostile.truncated, hostile.wrong_lengths, hostile.nested, hostile.meta, hostile.duplicated, hostile.not_dicom)
    contents = {f"{maker.__name__}-{name}.dcm": content for maker in makers for name, content, *_ in maker(sound)}
    contents |= {"sound.dcm": sound} | {f"{name}.dcm": content for name, content in awkward(sound).items()}
    contents["._mac.dcm"] = sound
    with ThreadPoolExecutor(4) as pool:
        objects = dict(zip(contents, pool.map(lambda name: placed(bucket, name, contents[name]), contents), strict=True))
    open_key(tmp_path / "key", creates=True)
    gate = GateSettings(source_dir=folder, profile="phantom", key_path=tmp_path / "key")
    other = []
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        request = InspectHeader(path=folder / name, gate=gate, with_digest=False)
        from_folder, from_bucket = verdict(child, request), verdict(child, replace(request, stored=objects[name]))
        if from_folder != from_bucket:
            other.append(f"{name}: {from_folder} and {from_bucket}")
    assert other == []


def test_an_image_is_the_same_from_a_bucket(bucket: Bucket, tmp_path: Path, child: GateChild, write_sound: WriteSound) -> None:
    """Record, digest of the bytes, pixels and crop are those of the file; nothing is left in the folder for temporary files."""
    (tmp_path / "in").mkdir()
    path = write_sound(tmp_path / "in" / "a.dcm")
    open_key(tmp_path / "key", creates=True)
    gate = GateSettings(source_dir=tmp_path / "in", profile="phantom", key_path=tmp_path / "key")
    request = PrepareImage(
        path=path, gate=gate, fingerprint="", preprocess=SETTINGS, canvas_px=SETTINGS.canvas_px, mask_path=None
    )
    here = child.prepare(request)
    there = child.prepare(replace(request, stored=placed(bucket, "a.dcm", path.read_bytes())))
    assert here.record == there.record and here.record.source_sha256 and here.pixel_sha256 == there.pixel_sha256
    np.testing.assert_array_equal(here.prepared.pixels_HW, there.prepared.pixels_HW)


def test_a_header_costs_its_first_part_and_an_image_itself_once(
    s3: str, bucket: Bucket, tmp_path: Path, child: GateChild, write_sound: WriteSound, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One request for each; what is larger than any image is refused by its first part, even where all was asked for."""
    content = write_sound(tmp_path / "a.dcm").read_bytes()
    found = placed(bucket, "a.dcm", content)
    open_key(tmp_path / "key", creates=True)
    gate = GateSettings(source_dir=tmp_path, profile="phantom", key_path=tmp_path / "key")
    with wire_to(s3) as wire:
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.endpoint)
        bucket_module.opened.cache_clear()
        request = InspectHeader(path=tmp_path / "a.dcm", gate=gate, with_digest=False, stored=found)
        child.inspect(request)
        assert len(wire.seen) == 1 and FIRST_BYTES <= wire.sent_bytes < FIRST_BYTES + 2000
        wire.sent_bytes = 0
        child.inspect(replace(request, with_digest=True))
        assert len(wire.seen) == 2 and len(content) <= wire.sent_bytes < len(content) + 2000
        wire.sent_bytes = 0
        with pytest.raises(GateRejection) as told:
            child.inspect(replace(request, with_digest=True, stored=replace(found, size_bytes=700_000_000)))
        assert told.value.reason_codes == ("F04",) and wire.sent_bytes < FIRST_BYTES + 2000


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        ([answers("503 Slow Down", times=2), breaks_off(times=1)], ""),
        ([answers("503 Slow Down", times=999)], AWAY),
        ([answers("403 Forbidden", times=999)], "EACCES"),
        ([answers("404 Not Found", times=999)], "ENOENT"),
        ([answers("412 Precondition Failed", times=999)], CHANGED),
    ],
)
def test_trouble_of_the_server_defers_an_object_and_settles_nothing(
    s3: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, faults: list[Fault], reason: str
) -> None:
    """An overloaded, broken or closed door is tried again or told by name, never as a fault of the file; no key is said."""
    monkeypatch.setattr(bucket_module, "PATIENCE", timedelta(seconds=60 if not reason else 0.2))
    found = placed(bucket, "CANARYKEY", b"x" * 5000)
    with wire_to(s3) as wire:
        wire.faults = faults
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.endpoint)
        bucket_module.opened.cache_clear()
        if not reason:
            assert os.pread(fetched(found), 6000, 0) == b"x" * 5000
            return
        for length in (None, 100):
            with pytest.raises(FileDeferred) as told:
                fetched(found, length=length)
            assert told.value.reason == reason and "CANARY" not in str(told.value)
            assert told.value.__context__ is None
    assert "CANARY" not in repr(found)


def test_an_object_that_is_replaced_or_deleted_after_it_was_listed_is_deferred(bucket: Bucket) -> None:
    """What is read is the version that was listed, or nothing, also where the new one is as long."""
    found = placed(bucket, "a", b"1" * 100)
    bucket.put("a", b"2" * 100)
    for length in (None, 50):
        with pytest.raises(FileDeferred, match=CHANGED):
            fetched(found, length=length)
    bucket.delete("a")
    with pytest.raises(FileDeferred, match="ENOENT"):
        fetched(found)


def test_a_connection_that_breaks_off_in_an_object_gives_no_part_of_it(
    s3: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of an object and then nothing: the rest comes by another request, or the object is deferred; never half of it."""
    content = bytes(range(256)) * 4000
    found = placed(bucket, "a", content)

    def breaks_in_the_middle(times: int) -> Fault:
        left = [times]

        def fault(head: bytes, client: object) -> bool:
            if left[0] <= 0 or not head.startswith(b"GET"):
                return False
            left[0] -= 1
            start = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\nETag: {found.etag}\r\n"
            start += "Last-Modified: Fri, 27 Nov 2020 12:00:00 GMT\r\n\r\n"
            client.sendall(start.encode() + content[: len(content) // 2])  # type: ignore[attr-defined]
            return True

        return fault

    monkeypatch.setattr(bucket_module, "PATIENCE", timedelta(seconds=0.5))
    with wire_to(s3) as wire:
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.endpoint)
        bucket_module.opened.cache_clear()
        for times in (1, 99):
            wire.faults = [breaks_in_the_middle(times)]
            try:
                assert os.pread(fetched(found), 2 * len(content), 0) == content
            except FileDeferred as deferred:
                assert deferred.reason in (AWAY, "EIO")
