"""The gate's child process: whatever a file does to it costs that file and nothing else."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import resource
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from gmic_model.preprocess import fit_canvas, prepare_view
from mammo_tests import hostile
from mammo_tests.faulty_codec import FAULTY_CODEC, faulty
from schemas.config.ingest import GateLimits, LocalDask, PreprocessConfig
from schemas.errors import FileDeferred, GateRejection
from tasks.adapters.cluster import Failed, open_cluster, run_all
from tasks.adapters.datasets.catalogue import profile_named
from tasks.adapters.dicom.bounded_reader import BoundedReader
from tasks.adapters.gate.admission import accept_image
from tasks.adapters.gate.child import GateChild, child_of_this_thread
from tasks.adapters.gate.gate_settings import GateSettings
from tasks.adapters.gate.messages import DrawThumbnail, InspectHeader, PreparedImage, PrepareImage
from tasks.adapters.gate.rules.table import RULES
from tasks.adapters.gate.source_file import SourceFile, file_fingerprint
from tasks.adapters.inbox.shard_writer import PlannedImage, ShardJob, ShardResult, write_exam_shard
from tasks.adapters.pseudonyms import open_key
from tasks.adapters.store.exam_store import create_store, read_row, reserve_rows

WriteSound = Callable[..., Path]

SETTINGS = PreprocessConfig(window_px=(320, 288), erosion_iterations=10, jitter_shift_px=0, jitter_size_px=0)
GIB = 1 << 30


@pytest.fixture(scope="module")
def child() -> Iterator[GateChild]:
    """One child for the tests that leave it alive."""
    with GateChild(GateLimits(timeout_s=30)) as started:
        yield started


@pytest.fixture(scope="module")
def codec_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A codec for JPEG-LS that can be told to fail."""
    folder = tmp_path_factory.mktemp("codec")
    (folder / "imagecodecs.py").write_text(FAULTY_CODEC)
    return folder


@pytest.fixture
def faulty_path(codec_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children started from now on decode with it."""
    monkeypatch.setattr(sys, "path", [str(codec_dir), *sys.path])


@pytest.fixture(scope="module")
def one_for_faults() -> Iterator[GateChild]:
    """A child that is not started yet."""
    with GateChild(GateLimits(timeout_s=30)) as child:
        yield child


@pytest.fixture
def faulty_child(one_for_faults: GateChild, faulty_path: None) -> GateChild:
    """One child with that codec for the tests after which the next file finds a sound one, as after any file."""
    return one_for_faults


def request(path: Path, source_dir: Path | None = None) -> PrepareImage:
    """The whole gate for a file in its own folder; the key lies one above."""
    source_dir = source_dir or path.parent
    key_path = source_dir.parent / "key"
    open_key(key_path, creates=True)
    try:
        fingerprint = file_fingerprint(path.lstat())
    except OSError:
        fingerprint = ""
    return PrepareImage(
        path=path, gate=GateSettings(source_dir=source_dir, profile="phantom", key_path=key_path), fingerprint=fingerprint,
        preprocess=SETTINGS, canvas_px=SETTINGS.canvas_px, mask_path=None,
    )  # fmt: skip


def in_process(path: Path) -> PreparedImage:
    """What the child should say, without one."""
    asked = request(path)
    record, gated = accept_image(
        path, source_dir=path.parent, profile=profile_named("phantom"), pseudonyms=open_key(asked.gate.key_path)
    )
    prepared = prepare_view(gated.pixels_HW, record.laterality, record.view_position, settings=SETTINGS)
    return PreparedImage(
        record=record, prepared=fit_canvas(prepared, asked.canvas_px), mask_HW=None, is_mask_unusable=False,
        pixel_sha256=gated.pixel_sha256, warnings=gated.warnings, background_median=gated.background_median,
    )  # fmt: skip


def codes(child: GateChild, path: Path) -> tuple[str, ...]:
    """Why the child refuses a file; no canary is in the message."""
    with pytest.raises(GateRejection) as caught:
        child.prepare(request(path))
    assert "CANARY" not in str(caught.value)
    assert caught.value.__cause__ is None
    return caught.value.reason_codes


def test_the_child_says_what_the_gate_says(tmp_path: Path, child: GateChild, write_sound: WriteSound) -> None:
    """Record, crop, geometry and digests are those of the same work in this process, bit for bit."""
    path = write_sound(tmp_path / "a.dcm")
    got, wanted = child.prepare(request(path)), in_process(path)
    np.testing.assert_array_equal(got.prepared.pixels_HW, wanted.prepared.pixels_HW)
    assert got.prepared.pixels_HW.dtype == np.uint16
    assert (got.prepared.geometry, got.prepared.tissue_fraction) == (wanted.prepared.geometry, wanted.prepared.tissue_fraction)
    assert (got.record, got.pixel_sha256, got.warnings) == (wanted.record, wanted.pixel_sha256, wanted.warnings)
    inspected = child.inspect(InspectHeader(path=path, gate=request(path).gate))
    assert inspected == wanted.record


def test_an_answer_is_not_overwritten_by_the_next(tmp_path: Path, child: GateChild, write_sound: WriteSound) -> None:
    """The crop is the caller's own copy, not a view of the shared memory."""
    first = child.prepare(request(write_sound(tmp_path / "a.dcm", 1))).prepared.pixels_HW
    before = first.copy()
    child.prepare(request(write_sound(tmp_path / "b.dcm", 2)))
    np.testing.assert_array_equal(first, before)


def test_a_mask_comes_back_in_the_crop_s_frame(tmp_path: Path, child: GateChild, write_sound: WriteSound) -> None:
    """A mask of the source's shape is cropped alike; one of another shape, or no picture at all, is unusable."""
    import cv2

    asked = request(write_sound(tmp_path / "in" / "a.dcm") if (tmp_path / "in").mkdir() is None else tmp_path)
    mask_HW = np.zeros((320, 288), np.uint8)
    mask_HW[150:170, 20:40] = 2
    cv2.imwrite(str(tmp_path / "m.png"), mask_HW)
    cv2.imwrite(str(tmp_path / "small.png"), mask_HW[:100])
    (tmp_path / "text.png").write_text("no picture")
    ready = child.prepare(_with_mask(asked, tmp_path / "m.png"))
    top, bottom, left, right = ready.prepared.geometry.crop_box_px
    assert ready.mask_HW is not None
    np.testing.assert_array_equal(ready.mask_HW, mask_HW[top:bottom, left:right])
    for name in ("small.png", "text.png"):
        ready = child.prepare(_with_mask(asked, tmp_path / name))
        assert (ready.mask_HW, ready.is_mask_unusable) == (None, True)


def _with_mask(asked: PrepareImage, mask_path: Path) -> PrepareImage:
    return replace(asked, mask_path=mask_path)


@pytest.fixture(scope="module")
def hostile_set(tmp_path_factory: pytest.TempPathFactory, write_sound: WriteSound) -> tuple[Path, list[hostile.Case]]:
    """A folder with all malformed files in ``set`` and a sound one in ``sound``, under the same key."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "set").mkdir()
    (folder / "sound").mkdir()
    return folder, hostile.write_hostile_set(folder / "set", write_sound(folder / "sound" / "sound.dcm"))


def test_every_hostile_file_is_gated(hostile_set: tuple[Path, list[hostile.Case]]) -> None:
    """Over 140 malformed files: refused with known codes or rightly accepted, by few children in a minute of CPU and 1 GiB."""
    folder, cases = hostile_set
    sound_sha256 = in_process(folder / "sound" / "sound.dcm").pixel_sha256
    assert len(cases) >= 60
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    peak_bytes, pids = 0, set()
    spent_s: dict[int | None, float] = {}
    ended_before_bytes = _ended_children_peak_bytes()
    with GateChild(GateLimits(timeout_s=10)) as child:
        for case in cases:
            try:
                ready = child.prepare(request(case.path, folder / "set"))
            except GateRejection as refused:
                outcomes["refused"] += 1
                found = set(refused.reason_codes)
                unknown = found - set(RULES)
                if unknown or not found or (case.expected and not found & case.expected):
                    wrong.append(f"{case.path.name!r}: {sorted(found)} instead of {sorted(case.expected)}")
                if any(text in str(refused) for text in ("CANARY", str(folder), "\n", "\x1b")):
                    wrong.append(f"{case.path.name!r}: tells too much")
            else:
                outcomes["accepted"] += 1
                if case.is_refusal_certain:
                    wrong.append(f"{case.path.name!r}: accepted")
                elif "cut" not in case.path.name and "noise" not in case.path.name and ready.pixel_sha256 != sound_sha256:
                    wrong.append(f"{case.path.name!r}: other pixels")
            pids.add(child.pid)
            peak_bytes = max(peak_bytes, _peak_bytes(child.pid))
            spent_s[child.pid] = _cpu_s(child.pid)
    # Children that ended inside a case. The system keeps one peak for all that ever ended: other tests' larger ones hide ours,
    # and a child counts from its fork on, as large as this process; ours then is bounded by its address space limit alone.
    if (ended_bytes := _ended_children_peak_bytes()) > max(ended_before_bytes, _peak_bytes(os.getpid())):
        peak_bytes = max(peak_bytes, ended_bytes)
    assert wrong == []
    assert {path.name for path in folder.iterdir()} == {"key", "set", "sound"}  # nothing is where a UID pointed
    assert outcomes["refused"] > 100 and outcomes["accepted"] > 5
    assert sum(spent_s.values()) < 60
    assert peak_bytes < GIB
    assert len(pids - {None}) <= 6


def test_bombs_are_refused_before_they_go_off(hostile_set: tuple[Path, list[hostile.Case]]) -> None:
    """Dimensions, frames, run lengths, deflate, code streams, nesting (faults 6-8): a second of CPU at most, below 200 MB."""
    folder, written = hostile_set
    cases = {case.path.stem: case for case in written}
    bombs = (
        "sizes-65535",
        "sizes-frames",
        "bombs-rle",
        "bombs-deflate",
        "bombs-jpeg-size",
        "bombs-j2k-size",
        "nested-20000-open",
    )
    with GateChild() as child:
        sound = DrawThumbnail(path=folder / "sound" / "sound.dcm", source_dir=folder, side_px=8)
        child.thumbnail(sound)  # started and warm
        for name in bombs:
            before_s = _cpu_s(child.pid)
            with pytest.raises(GateRejection):
                child.prepare(request(cases[name].path, folder / "set"))
            assert _cpu_s(child.pid) - before_s < 1, name
        assert _peak_bytes(child.pid) < 200_000_000


def _cpu_s(pid: int | None) -> float:
    """What a child has spent; 0 if it has ended. Not the time by the clock: other programs may have the cores."""
    try:
        return sum(psutil.Process(pid).cpu_times()[:2]) if pid is not None else 0.0
    except psutil.Error:
        return 0.0


def _ended_children_peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def _peak_bytes(pid: int | None) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def test_a_broken_decoder_costs_one_file(tmp_path: Path, faulty_child: GateChild, write_sound: WriteSound) -> None:
    """Exit, nonsense, any exception: that file is F11 or X22, the sound one after it accepted.

    So it is with a crash and with too much memory: see the poisoned shard.
    """
    (tmp_path / "in").mkdir()
    sound = write_sound(tmp_path / "in" / "sound.dcm")
    wanted = in_process(sound).pixel_sha256
    expected = {"exit": "F11", "nonsense": "F11", "systemexit": "X22", "interrupt": "X22"}
    for fault, code in expected.items():
        assert codes(faulty_child, faulty(sound, tmp_path / "in" / f"{fault}.dcm", fault)) == (code,), fault
        assert faulty_child.prepare(request(sound)).pixel_sha256 == wanted, fault
    for fault in ("print", "raise"):  # prints go nowhere; where a codec raises, the second decoder reads the file
        path = faulty(sound, tmp_path / "in" / f"{fault}.dcm", fault)
        assert faulty_child.prepare(request(path)).pixel_sha256 == wanted, fault


@pytest.mark.usefixtures("faulty_path")
def test_a_hang_ends_at_the_time_limit(tmp_path: Path, write_sound: WriteSound) -> None:
    """A decoder that never returns, asleep or holding the interpreter, is F10 after the limit; the next file is accepted."""
    (tmp_path / "in").mkdir()
    sound = write_sound(tmp_path / "in" / "sound.dcm")
    with GateChild(GateLimits(timeout_s=2)) as child:
        child.prepare(request(sound))
        for fault in ("hang", "hold"):
            start_s = time.monotonic()
            assert codes(child, faulty(sound, tmp_path / "in" / "a.dcm", fault)) == ("F10",), fault
            assert 1.9 < time.monotonic() - start_s < 60, fault  # else it would be 600
            child.prepare(request(sound))


def test_an_earlier_file_s_damage_is_not_the_next_file_s_fault(
    tmp_path: Path, faulty_child: GateChild, write_sound: WriteSound
) -> None:
    """A child that dies late, under a sound file, is replaced and the sound file is read again and accepted."""
    (tmp_path / "in").mkdir()
    sound = write_sound(tmp_path / "in" / "sound.dcm")
    faulty_child.prepare(request(faulty(sound, tmp_path / "in" / "later.dcm", "later")))
    first_pid = faulty_child.pid
    assert first_pid is not None
    os.kill(first_pid, signal.SIGALRM)  # what the earlier file left behind goes off
    _await(lambda: psutil.Process(first_pid).status() == psutil.STATUS_ZOMBIE)
    faulty_child.prepare(request(sound))
    assert faulty_child.pid != first_pid


def test_leaked_memory_is_not_the_next_file_s_fault(tmp_path: Path, faulty_child: GateChild, write_sound: WriteSound) -> None:
    """A decoder that keeps 400 of its 640 MiB has its child replaced; one that keeps less and the next file have enough."""
    (tmp_path / "in").mkdir()
    sound = write_sound(tmp_path / "in" / "sound.dcm")
    faulty_child.prepare(request(faulty(sound, tmp_path / "in" / "leak.dcm", "leak")))
    first_pid = faulty_child.pid
    faulty_child.prepare(request(sound))
    assert faulty_child.pid != first_pid


def test_a_crashing_file_is_tried_at_most_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_sound: WriteSound
) -> None:
    """A poison file is not retried for ever (fault 32): once in a used child, once in a fresh one, then it is refused."""
    (tmp_path / "in").mkdir()
    (tmp_path / "codec").mkdir()
    counting = FAULTY_CODEC.replace("os._exit(0)", "os._exit(os.write(int(os.environ['COUNT']), b'x'))")
    (tmp_path / "codec" / "imagecodecs.py").write_text(counting)
    sound = write_sound(tmp_path / "in" / "sound.dcm")
    poison = faulty(sound, tmp_path / "in" / "poison.dcm", "exit")
    reading, writing = os.pipe()  # the children inherit it: they may not write files
    start = subprocess.Popen

    def start_with_pipe(*args: Any, pass_fds: tuple[int, ...], **kwargs: Any) -> subprocess.Popen[bytes]:
        return start(*args, pass_fds=(*pass_fds, writing), **kwargs)

    monkeypatch.setattr(subprocess, "Popen", start_with_pipe)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "codec"), *sys.path])
    monkeypatch.setenv("COUNT", str(writing))
    try:
        with GateChild() as child:
            child.prepare(request(sound))
            assert codes(child, poison) == ("F11",)
    finally:
        os.close(writing)
    with os.fdopen(reading, "rb") as decoded:
        assert decoded.read() == b"xx"


# ------------------------------------------------------------------------------------------- the environment's failures


def deferral(child: GateChild, asked: PrepareImage | InspectHeader) -> str:
    """Why a file cannot be read at the moment; the message names no path."""
    with pytest.raises(FileDeferred) as caught:
        child.prepare(asked) if isinstance(asked, PrepareImage) else child.inspect(asked)
    assert str(asked.path) not in str(caught.value) and caught.value.__cause__ is None
    return caught.value.reason


def test_a_disk_s_error_is_not_the_file_s_fault(tmp_path: Path, child: GateChild, write_sound: WriteSound) -> None:
    """EIO from a real read, a file that is gone, a key that is gone or another: deferred; the child goes on with the next."""
    key_path = tmp_path / "key"
    open_key(key_path, creates=True)
    gate = GateSettings(source_dir=Path("/proc/self"), profile="phantom", key_path=key_path)
    memory = Path("/proc/self/mem")  # a regular file whose first byte cannot be read
    assert deferral(child, InspectHeader(path=memory, gate=gate)) == "EIO"
    (tmp_path / "in").mkdir()
    sound = write_sound(tmp_path / "in" / "a.dcm")
    assert deferral(child, replace(request(sound), path=sound.with_name("gone.dcm"))) == "ENOENT"
    keyless = GateSettings(source_dir=sound.parent, profile="phantom", key_path=tmp_path / "locked")
    (tmp_path / "locked").write_bytes(b"too short")
    assert deferral(child, InspectHeader(path=sound, gate=keyless)) == "ConfigError"
    exchanged = GateSettings(source_dir=sound.parent, profile="phantom", key_path=key_path, key_id="another")
    assert deferral(child, InspectHeader(path=sound, gate=exchanged)) == "ConfigError", "no pseudonym of two keys in one store"
    masked = replace(request(sound), mask_path=tmp_path / "gone.png")
    assert deferral(child, masked) == "ENOENT", "an image must not be stored without the mask that the disk does not give"
    assert child.prepare(request(sound)).record


SHORT = Path("/sys/devices/system/cpu/online")
"""A real file that says it has a page, and gives a few characters."""


@pytest.mark.skipif(not SHORT.exists() or SHORT.stat().st_size < 2048, reason="this system has no such file")
def test_a_file_that_ends_before_its_length_is_not_called_cut_off(tmp_path: Path, child: GateChild) -> None:
    """So does a share that is going away: deferred, however it is read. One that was made shorter meanwhile has changed."""
    open_key(tmp_path / "key", creates=True)
    gate = GateSettings(source_dir=SHORT.parent, profile="phantom", key_path=tmp_path / "key")
    assert deferral(child, InspectHeader(path=SHORT, gate=gate)) == "EIO"
    for read in (BoundedReader.read, lambda file: file.read(4000), lambda file: hashlib.file_digest(file, "sha256")):
        with BoundedReader(os.open(SHORT, os.O_RDONLY)) as file, pytest.raises(OSError, match="Errno 5"):
            read(file)
    path = tmp_path / "shorter"
    path.write_bytes(bytes(200_000))
    with BoundedReader(os.open(path, os.O_RDONLY)) as file:
        assert len(file.read(100_000)) == 100_000
        os.truncate(path, 150_000)
        assert (len(file.read(100_000)), file.read()) == (50_000, b"")


def test_a_file_that_nobody_may_read_is_deferred(write_sound: WriteSound) -> None:
    """Mode 000 says nothing of the content. Asked as another user where this one is root, whom no mode keeps out."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        path = write_sound(folder / "a.dcm")
        key = open_key(folder / "key", creates=True)
        path.chmod(0)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)
            with pytest.raises(FileDeferred) as caught:
                accept_image(path, source_dir=folder, profile=profile_named("phantom"), pseudonyms=key)
        finally:
            os.seteuid(user)
    assert caught.value.reason == "EACCES" and name not in str(caught.value)


def test_a_reader_that_waits_for_its_file_is_deferred(tmp_path: Path, write_sound: WriteSound) -> None:
    """A time-out before the file's bytes came, without computing: the share hangs. A hang after that is F10, as ever."""
    path = write_sound(tmp_path / "a.dcm")
    with GateChild(GateLimits(timeout_s=3)) as child:
        while child.pid is None:
            with contextlib.suppress(GateRejection, FileDeferred):  # a busy machine: not even the start was quick enough
                child.inspect(InspectHeader(path=path, gate=request(path).gate))
        os.kill(child.pid, signal.SIGSTOP)
        assert deferral(child, request(path)) == "time-out"


def test_a_child_that_others_end_is_no_file_s_fault(tmp_path: Path, faulty_child: GateChild, write_sound: WriteSound) -> None:
    """SIGKILL, as from a kernel out of memory, over one file: deferred. A crash by a decoder's own signal stays F11."""
    (tmp_path / "in").mkdir()
    sound = write_sound(tmp_path / "in" / "sound.dcm")
    faulty_child.prepare(request(sound))
    assert deferral(faulty_child, request(faulty(sound, tmp_path / "in" / "a.dcm", "killed"))) == "SIGKILL"
    assert codes(faulty_child, faulty(sound, tmp_path / "in" / "b.dcm", "segfault")) == ("F11",)


def test_a_machine_with_less_memory_than_a_file_may_take_defers(
    tmp_path: Path, codec_dir: Path, write_sound: WriteSound
) -> None:
    """A batch system's limit below ours: what does not fit says nothing of the file, which is F11 where ours is the limit."""
    (tmp_path / "in").mkdir()
    path = faulty(write_sound(tmp_path / "sound.dcm"), tmp_path / "in" / "a.dcm", "memory")
    (tmp_path / "asked").write_bytes(pickle.dumps(request(path)))
    script = f"""
        import pickle, resource, sys
        from pathlib import Path
        from schemas.config.ingest import GateLimits
        from schemas.errors import FileDeferred, GateRejection
        from tasks.adapters.gate.child import GateChild
        sys.path.insert(0, {str(codec_dir)!r})
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
        asked = pickle.loads(Path({str(tmp_path / "asked")!r}).read_bytes())
        for memory_bytes in (64 << 30, 640 << 20):
            try:
                GateChild(GateLimits(memory_bytes=memory_bytes)).prepare(asked)
            except FileDeferred as deferred:
                print(deferred.reason)
            except GateRejection as refused:
                print(refused.reason_codes[0])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["memory", "F11"], done.stderr


def test_a_killed_child_is_replaced(tmp_path: Path, child: GateChild, write_sound: WriteSound) -> None:
    """The kernel's out-of-memory killer may take an idle child: the next file does not notice."""
    path = write_sound(tmp_path / "a.dcm")
    child.prepare(request(path))
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.prepare(request(path))


def test_a_child_is_replaced_after_its_share_of_files(tmp_path: Path, write_sound: WriteSound) -> None:
    """Three files by children of two files each are three results by two processes."""
    path = write_sound(tmp_path / "a.dcm")
    pids = []
    with GateChild(GateLimits(files_per_child=2)) as child:
        for _ in range(3):
            assert child.prepare(request(path)).prepared.pixels_HW.any()
            pids.append(child.pid)
    assert pids[0] == pids[1] != pids[2]


def test_a_file_that_changes_is_refused_and_accepted_when_it_is_complete(
    tmp_path: Path, child: GateChild, write_sound: WriteSound
) -> None:
    """Another fingerprint than at the scan is F07 (fault 5): it was still being copied; scanned again it is accepted."""
    (tmp_path / "in").mkdir()
    path = write_sound(tmp_path / "in" / "a.dcm")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    asked = request(path)
    assert codes(child, path) == ("X21",)  # fault 4: cut off
    path.write_bytes(content)
    with pytest.raises(GateRejection) as caught:
        child.prepare(asked)
    assert caught.value.reason_codes == ("F07",)
    child.prepare(request(path))


def test_thumbnails_are_small_and_grey(tmp_path: Path, child: GateChild, write_sound: WriteSound) -> None:
    """At most the given side, at least eight times smaller, values 0 to 255; a file without pixels is refused."""
    path = write_sound(tmp_path / "a.dcm")
    thumbnail_HW = child.thumbnail(DrawThumbnail(path=path, source_dir=tmp_path, side_px=160))
    assert thumbnail_HW.shape == (40, 36)  # 320 x 288 by 1/8, to keep burned-in text illegible
    assert child.thumbnail(DrawThumbnail(path=path, source_dir=tmp_path, side_px=20)).shape == (20, 18)
    assert (thumbnail_HW.min(), thumbnail_HW.max()) == (0, 255)
    (tmp_path / "b.dcm").write_text("no mammogram")
    with pytest.raises(GateRejection):
        child.thumbnail(DrawThumbnail(path=tmp_path / "b.dcm", source_dir=tmp_path, side_px=64))


def test_a_child_ends_with_its_thread(tmp_path: Path, write_sound: WriteSound) -> None:
    """Each thread has its own child, which is gone, not a zombie, when the thread is."""
    path = write_sound(tmp_path / "a.dcm")
    pids: list[int | None] = []

    def work() -> None:
        own = child_of_this_thread(GateLimits())
        own.prepare(request(path))
        assert child_of_this_thread(GateLimits()) is own
        pids.append(own.pid)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(pids)) == 2 and None not in pids
    _await(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_nothing_outlives_a_killed_parent(tmp_path: Path, codec_dir: Path, write_sound: WriteSound) -> None:
    """A parent killed with -9 while its child hangs in a decoder takes the child along; no shared memory is left behind."""
    (tmp_path / "in").mkdir()
    sound = write_sound(tmp_path / "sound.dcm")
    (tmp_path / "asked").write_bytes(pickle.dumps(request(faulty(sound, tmp_path / "in" / "a.dcm", "hang"))))
    script = f"""
        import pickle, sys
        from pathlib import Path
        from tasks.adapters.gate.child import GateChild
        from tasks.adapters.gate.messages import DrawThumbnail
        sys.path.insert(0, {str(codec_dir)!r})
        child = GateChild()
        child.thumbnail(DrawThumbnail(path=Path({str(sound)!r}), source_dir=Path({str(tmp_path)!r}), side_px=8))
        print(child.pid, flush=True)
        child.prepare(pickle.loads(Path({str(tmp_path / "asked")!r}).read_bytes()))
    """
    shared_before = set(Path("/dev/shm").iterdir())  # noqa: S108  # where named shared memory would be left
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.7)  # the child is in the decoder now
        assert Path(f"/proc/{pid}").exists()
        parent.kill()
    _await(lambda: not Path(f"/proc/{pid}").exists())
    assert {path for path in set(Path("/dev/shm").iterdir()) - shared_before if "gate" in path.name} == set()  # noqa: S108


def _await(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


@pytest.mark.usefixtures("faulty_path")
def test_a_poisoned_shard_is_written_without_the_poison(tmp_path: Path, write_sound: WriteSound) -> None:
    """In a daemonic Dask worker: one file crashes its decoder, one eats memory; the two others are in the store (fault 30)."""
    (tmp_path / "in").mkdir()
    paths = [write_sound(tmp_path / "in" / f"{number}.dcm", number) for number in range(4)]
    wanted = [in_process(path).prepared.pixels_HW for path in paths]
    faulty(paths[1], paths[1], "segfault")
    faulty(paths[2], paths[2], "memory")
    store = create_store(
        tmp_path / "store", preprocess=SETTINGS, preprocess_version="1", rows_per_shard=4,
        key_id=open_key(tmp_path / "key", creates=True).key_id,
    )  # fmt: skip
    reserve_rows(store, 4)
    images = tuple(
        PlannedImage(
            file=SourceFile(file_id=f"F{row}", lies_at=path, fingerprint=file_fingerprint(path.stat())), row=row, mask_path=None
        )
        for row, path in enumerate(paths)
    )
    job = ShardJob(
        store=store, shard=0, images=images,
        gate=GateSettings(source_dir=tmp_path / "in", profile="phantom", key_path=tmp_path / "key"),
        preprocess=SETTINGS,
    )  # fmt: skip
    with open_cluster(LocalDask(n_workers=1)) as scheduler:
        (result,) = run_all(scheduler, write_exam_shard, [job])
    assert not isinstance(result, Failed), result.error
    assert isinstance(result, ShardResult)
    assert {file.file_id: file.reason_codes for file, _ in result.refused} == {"F1": ("F11",), "F2": ("F11",)}
    assert sorted(int(str(line.stored["row"])) for line in result.written) == [0, 3]
    for row in (0, 3):
        rows, columns = wanted[row].shape
        np.testing.assert_array_equal(read_row(store, row)[:rows, :columns], wanted[row])


def test_a_refusal_crosses_as_itself(tmp_path: Path, child: GateChild, write_sound: WriteSound) -> None:
    """Rules, what, expected, got and remedy are those of the gate in this process: nothing is flattened on the way."""
    path = write_sound(tmp_path / "a.dcm")
    path.write_bytes(hostile.edited(path.read_bytes(), {"Modality": "CR", "BurnedInAnnotation": "YES"}))
    with pytest.raises(GateRejection) as here:
        in_process(path)
    with pytest.raises(GateRejection) as there:
        child.prepare(request(path))
    assert there.value.refusal == here.value.refusal
    assert there.value.refusal.rules == ("K05", "D01") and there.value.refusal.expected and there.value.refusal.remedy
