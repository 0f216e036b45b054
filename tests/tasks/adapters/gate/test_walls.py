"""The walls around the gate's child: what a decoder that is taken over still can do, tried in real processes."""

from __future__ import annotations

import ctypes
import io
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest

from mammo_tests import code_streams, hostile
from mammo_tests.code_streams import LOSSLESS, LOSSY
from mammo_tests.faulty_codec import ATTEMPTS, FAULTY_CODEC, faulty
from schemas.config.ingest import GateLimits, PreprocessConfig
from schemas.errors import GateRejection
from tasks.adapters.datasets.catalogue import profile_named
from tasks.adapters.dicom.frame_codecs import SYNTAXES
from tasks.adapters.gate.admission import accept_image
from tasks.adapters.gate.child import GateChild
from tasks.adapters.gate.gate_settings import GateSettings
from tasks.adapters.gate.messages import PrepareImage
from tasks.adapters.gate.source_file import file_fingerprint
from tasks.adapters.pseudonyms import open_key
from tasks.adapters.walls import ALL_WALLS, LANDLOCK, SECCOMP

WriteSound = Callable[..., Path]

SETTINGS = PreprocessConfig(window_px=(320, 288), erosion_iterations=10, jitter_shift_px=0, jitter_size_px=0)
BY_LANDLOCK = {
    "read a file": "PermissionError 13", "write a file": "PermissionError 13", "list a folder": "PermissionError 13",
    "make a folder": "PermissionError 13", "execute": "PermissionError 13",
    **({"connect": "PermissionError 13"} if ctypes.CDLL(None).syscall(444, None, 0, 1) >= 4 else {}),
    **({"signal": "PermissionError 1"} if ctypes.CDLL(None).syscall(444, None, 0, 1) >= 6 else {}),
}  # fmt: skip
BY_SECCOMP = {
    "read a file": "OSError 38", "write a file": "OSError 38", "list a folder": "OSError 38", "make a folder": "OSError 38",
    "execute": "OSError 38", "connect": "OSError 38", "signal": "PermissionError 1",
    "signal by a descriptor": "PermissionError 1", "make a socket": "OSError 38",
    "make a pair": "OSError 38", "fork": "OSError 38", "make a thread": "RuntimeError", "make code": "PermissionError 1",
}  # fmt: skip
BY_EACH = {"import": "ModuleNotFoundError", "signal oneself": "done", "copy a descriptor": "done", "make memory": "done"}


@pytest.mark.parametrize(("wall", "expected"), [(LANDLOCK, BY_LANDLOCK), (SECCOMP, BY_SECCOMP)])
def test_each_wall_keeps_in_by_itself(tmp_path: Path, wall: str, expected: dict[str, str]) -> None:
    """Behind that wall alone a process opens no file; and what is the process's own goes on."""
    script = f"""
        import json, os, sys
        from tasks.adapters.walls import raise_walls
        standing = raise_walls({{{wall!r}}})
        names = json.loads(sys.argv[1])
        print(json.dumps([standing, {{name: tried(name) for name in names}}]), flush=True)
        os._exit(0)
    """
    done = subprocess.run(
        [sys.executable, "-c", ATTEMPTS + textwrap.dedent(script), json.dumps([*expected, *BY_EACH])],
        capture_output=True, text=True, check=False, env={"MARK": str(tmp_path / "mark"), "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    standing, outcomes = json.loads(done.stdout or f'["{done.stderr[-300:]}", {{}}]')
    if standing == []:
        pytest.skip(f"this kernel has no {wall}")
    assert standing == [wall]
    assert outcomes == expected | BY_EACH
    assert not (tmp_path / "mark").exists()


def test_a_decoder_behind_the_walls_reaches_nothing(
    tmp_path: Path, write_sound: WriteSound, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the gate's child, over a file that has it try: no attempt succeeds, each costs that file, and the next one is read."""
    (tmp_path / "codec").mkdir()
    (tmp_path / "codec" / "imagecodecs.py").write_text(FAULTY_CODEC)
    (tmp_path / "in").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path / "codec"), *sys.path])
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    sound = write_sound(tmp_path / "in" / "sound.dcm")
    with GateChild(GateLimits(timeout_s=30)) as child:
        walls = child.walls()
        if not walls:
            pytest.skip("this kernel has no walls")
        expected = {**(BY_LANDLOCK if LANDLOCK in walls else {}), **(BY_SECCOMP if SECCOMP in walls else {}), **BY_EACH}
        pid = child.pid
        for attempt, outcome in expected.items():
            with pytest.raises(GateRejection) as caught:
                child.prepare(asked(faulty(sound, tmp_path / "in" / "a.dcm", f"try {attempt}")))
            assert (caught.value.reason_codes, caught.value.refusal.got) == (("X22",), outcome), attempt
        assert child.prepare(asked(sound)).warnings == ()
        assert child.pid == pid
    assert not (tmp_path / "mark").exists()


def test_every_transfer_syntax_is_decoded_behind_the_walls(tmp_path: Path, write_sound: WriteSound) -> None:
    """What a decoder loads when it is first asked was loaded before: the pixels are those that are read without walls."""
    (tmp_path / "in").mkdir()
    path = write_sound(tmp_path / "in" / "a.dcm")
    files = dict(in_every_syntax(path.read_bytes()))
    assert set(files) == set(SYNTAXES)
    with GateChild(GateLimits(timeout_s=30)) as child:
        for syntax, content in files.items():
            path.write_bytes(content)
            request = asked(path)
            record, gated = accept_image(
                path, source_dir=path.parent, profile=profile_named("phantom"), pseudonyms=open_key(request.gate.key_path)
            )
            ready = child.prepare(request)
            assert record.transfer_syntax_uid == syntax
            assert (ready.record, ready.pixel_sha256, ready.warnings) == (record, gated.pixel_sha256, gated.warnings)
        assert set(child.walls()) <= set(ALL_WALLS)


def in_every_syntax(sound: bytes) -> Iterator[tuple[str, bytes]]:
    """The same image under each transfer syntax, as far as the syntax can hold it."""
    pixels_HW = pydicom.dcmread(io.BytesIO(sound)).pixel_array
    for syntax in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"):
        dataset = pydicom.dcmread(io.BytesIO(sound))
        dataset.file_meta.TransferSyntaxUID = syntax
        is_little = syntax != "1.2.840.10008.1.2.2"
        dataset.PixelData = pixels_HW.astype("<u2" if is_little else ">u2").tobytes()
        written = io.BytesIO()
        is_implicit = syntax == "1.2.840.10008.1.2"
        pydicom.dcmwrite(written, dataset, implicit_vr=is_implicit, little_endian=is_little, force_encoding=True)
        yield syntax, written.getvalue()
    kinds = {**dict(LOSSLESS.values()), **dict(LOSSY.values()), code_streams.RLE: code_streams.rle}
    for syntax in SYNTAXES:
        encode = kinds.get(syntax, code_streams.htj2k)
        if syntax == code_streams.JPEG_BASELINE:
            eight_HW = (pixels_HW >> 4).astype(np.uint8)
            frame = bytes(imagecodecs.jpeg8_encode(eight_HW, level=98))
            yield (
                syntax,
                hostile.edited(hostile.recoded(sound, syntax, frame), {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}),
            )
        elif SYNTAXES[syntax].codec is not None:
            yield syntax, hostile.recoded(sound, syntax, encode(pixels_HW))


def asked(path: Path) -> PrepareImage:
    """The whole gate for one file; the key lies one folder above."""
    key_path = path.parent.parent / "key"
    open_key(key_path, creates=True)
    return PrepareImage(
        path=path, gate=GateSettings(source_dir=path.parent, profile="phantom", key_path=key_path),
        fingerprint=file_fingerprint(path.lstat()), preprocess=SETTINGS, canvas_px=SETTINGS.canvas_px, mask_path=None,
    )  # fmt: skip
