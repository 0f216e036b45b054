"""Hostile pixel streams under the mammography class: header rules let them through, so the decoders are really met.

Public collections of malformed DICOM files carry other classes, and a gate that asks for the class first never decodes them.
These are made up, small, and the same in every run.
"""

from __future__ import annotations

import random
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from mammo_tests import code_streams, hostile
from mammo_tests.code_streams import END, LOSSLESS, LOSSY
from schemas.config.ingest import GateLimits, PreprocessConfig
from schemas.errors import GateRejection
from tasks.adapters.gate.child import GateChild
from tasks.adapters.gate.gate_settings import GateSettings
from tasks.adapters.gate.messages import PrepareImage
from tasks.adapters.gate.source_file import file_fingerprint
from tasks.adapters.pseudonyms import open_key

WriteSound = Callable[..., Path]
Streams = Iterator[tuple[str, bytes]]

SETTINGS = PreprocessConfig(window_px=(320, 288), erosion_iterations=10, jitter_shift_px=0, jitter_size_px=0)
SHAPE_PX = (320, 288)
KINDS = {
    **{f"lossless {name}": kind for name, kind in LOSSLESS.items()},
    **{f"lossy {name}": kind for name, kind in LOSSY.items()},
    "rle": (code_streams.RLE, code_streams.rle),
}
BEHIND_THE_HEADER = {"X13", "X18", "X20", "X21", "X22", "X23", "X24", "X25", "X26", "X28", "X32", "C01", "F11"}
"""Rules that are asked once a decoder had the stream, or was about to get it. F10, a hang, is not among them."""


def segment(marker: int, parameters: bytes) -> bytes:
    """A marker segment of any of these standards."""
    return struct.pack(">BBH", 0xFF, marker, len(parameters) + 2) + parameters


def damaged(stream: bytes, seed: int) -> Streams:
    """Bytes of the headers and of the data changed, lengths that lie, parts that come twice or are missing."""
    chance = random.Random(seed)  # noqa: S311
    for number in range(12):
        changed = bytearray(stream)
        reach = (80, 300, len(stream))[number % 3]
        for _ in range(1 + number % 4):
            changed[chance.randrange(2, min(reach, len(stream)))] = chance.choice(
                (0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256))
            )
        yield f"bytes {number}", bytes(changed)
    for number in range(4):
        start, width = chance.randrange(2, len(stream)), chance.choice((1, 7, 64, 700))
        yield f"missing {number}", stream[:start] + stream[start + width :]
        yield f"twice {number}", stream[: start + width] + stream[start:]


def jpegs(stream: bytes) -> Streams:
    """A JPEG or JPEG-LS whose segments are bombs or nonsense."""
    scan = stream.index(b"\xff\xda")
    frame = next(at for at in (stream.find(bytes((0xFF, sof))) for sof in (0xC3, 0xC1, 0xF7)) if at > 0)
    for name, content in (
        ("table of 255", segment(0xC4, b"\0" + b"\xff" * 16 + b"\x05" * 255)),
        ("tables without end", segment(0xC4, b"\x10" + bytes(16)) * 5000),
        ("table of 16-bit codes", segment(0xC4, b"\0" + bytes(15) + b"\xff" + bytes(range(255)))),
        ("restart every sample", segment(0xDD, b"\0\1")),
        ("presets", segment(0xF8, b"\1" + struct.pack(">5H", 1, 65535, 3, 1, 0))),
        ("mapping table", segment(0xF8, b"\2\1\2" + bytes(600))),
        ("comment too long", b"\xff\xfe\xff\xff"),
        ("segment of no length", b"\xff\xe0\0\0"),
        ("fill bytes", b"\xff" * 20000),
    ):
        yield name, stream[:scan] + content + stream[scan:]
    yield "three components", stream[: frame + 9] + b"\3" + stream[frame + 10 :]
    yield "no components", stream[: frame + 9] + b"\0" + stream[frame + 10 :]
    yield "precision 255", stream[: frame + 4] + b"\xff" + stream[frame + 5 :]
    yield "sampling of 15", stream[: frame + 11] + b"\xff" + stream[frame + 12 :]
    yield "progressive", stream[: frame + 1] + b"\xc2" + stream[frame + 2 :]
    yield "arithmetic", stream[: frame + 1] + b"\xc9" + stream[frame + 2 :]
    yield "scans without end", stream[:-2] + (segment(0xDA, b"\1\1\0\1\0\0") + b"\0") * 3000 + END
    yield "no scan", stream[:scan] + END
    yield "frame in frame", stream[:frame] + stream + stream[frame:]


def jpegs_2000(stream: bytes) -> Streams:
    """A JPEG 2000 or HTJ2K whose parameters are bombs or nonsense."""
    style, part = stream.index(b"\xff\x52"), stream.index(b"\xff\x90")
    for name, offset, value in (
        ("33 levels", 9, b"\x21"),
        ("255 levels", 9, b"\xff"),
        ("65535 layers", 6, b"\xff\xff"),
        ("no layers", 6, b"\0\0"),
        ("wide code blocks", 10, b"\xff"),
        ("precincts that are missing", 4, b"\x01"),
        ("packet markers", 4, b"\x06"),
        ("unknown progression", 5, b"\x09"),
        ("another wavelet", 13, b"\x07"),
        ("other code blocks", 12, b"\x7f"),
    ):
        yield name, stream[: style + offset] + value + stream[style + offset + len(value) :]
    for name, content in (
        ("packed headers", segment(0x60, b"\0" + b"\xff" * 5000)),
        ("order changes", segment(0x5F, struct.pack(">BBHBBB", 0, 0, 65535, 33, 1, 0) * 500)),
        ("region of interest", segment(0x5E, b"\0\0\xff")),
        ("lengths", segment(0x55, b"\0\x60" + b"\xff" * 600)),
        ("steps", segment(0x5C, b"\x42" + b"\xff" * 200)),
    ):
        yield name, stream[:part] + content + stream[part:]
    size = stream.index(b"\xff\x51")
    yield "tiles of one pixel", stream[: size + 22] + struct.pack(">2L", 1, 1) + stream[size + 30 :]
    yield "tiles beside the image", stream[: size + 30] + struct.pack(">2L", 0, 128) + stream[size + 38 :]
    yield "tiles before the image", stream[: size + 22] + struct.pack(">4L", 32, 32, 0, 0) + stream[size + 38 :]
    yield "no tiles", stream[: size + 22] + bytes(8) + stream[size + 30 :]
    yield "signed", stream[: size + 40] + b"\x8f" + stream[size + 41 :]
    yield "38 bits", stream[: size + 40] + b"\x25" + stream[size + 41 :]
    yield "subsampled", stream[: size + 41] + b"\xff\xff" + stream[size + 43 :]
    yield "tile of another number", stream[: part + 4] + b"\xff\xfe" + stream[part + 6 :]
    yield "tile-part of no length", stream[: part + 6] + struct.pack(">L", 0) + stream[part + 10 :]
    yield "tile-part of one byte", stream[: part + 6] + struct.pack(">L", 1) + stream[part + 10 :]
    yield "255 tile-parts", stream[: part + 11] + b"\xff" + stream[part + 12 :]


def run_lengths(stream: bytes) -> Streams:
    """Segments that overlap, come in another order, or are none."""
    first, second = struct.unpack("<2L", stream[4:12])
    for name, header in (
        ("the same twice", (2, first, first)),
        ("swapped", (2, second, first)),
        ("inside the header", (2, 0, 64)),
        ("beyond the end", (2, first, 2**32 - 1)),
        ("one", (1, first)),
        ("fifteen", (15, *range(first, first + 15))),
        ("none", (0,)),
    ):
        yield name, struct.pack(f"<{len(header)}L", *header).ljust(64, b"\0") + stream[64:]
    yield "nothing but no-ops", stream[:64] + b"\x80" * 100_000
    yield "header alone", stream[:64]


def boxes(stream: bytes) -> Streams:
    """JP2 boxes that lie about their lengths."""
    signature = b"\0\0\0\x0cjP  \r\n\x87\n"
    for name, content in (
        ("empty", b""),
        ("of no length", struct.pack(">L4s", 0, b"jp2c") + stream),
        ("of a length of 64 bits", struct.pack(">L4sQ", 1, b"jp2c", 2**64 - 1) + stream),
        ("within itself", struct.pack(">L4s", 4, b"jp2h") * 1000),
        ("without a stream", struct.pack(">L4s", 8, b"jp2h") * 1000),
    ):
        yield f"box {name}", signature + content


def streams_of(kind: str) -> Streams:
    """Every hostile stream of a kind."""
    _, encode = KINDS[kind]
    stream = encode(hostile.sound_pixels(SHAPE_PX))
    yield from damaged(stream, seed=len(kind))
    if kind == "rle":
        yield from run_lengths(stream)
    elif "jpeg" in kind:
        yield from jpegs(stream)
    elif kind != "lossless jp2":
        yield from jpegs_2000(stream)
    if kind in ("lossless jp2", "lossless j2k"):
        yield from boxes(stream)


@pytest.fixture(scope="module")
def child() -> Iterator[GateChild]:
    """One for all kinds; what a stream does to it, its successor mends."""
    with GateChild(GateLimits(timeout_s=30)) as started:
        yield started


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_streams_cost_their_file_and_nothing_else(
    tmp_path: Path, child: GateChild, write_sound: WriteSound, kind: str
) -> None:
    """Refused behind the header rules or rightly accepted, none a hang; the child or its successor reads the sound one next."""
    (tmp_path / "in").mkdir()
    sound_path, path = write_sound(tmp_path / "in" / "sound.dcm"), tmp_path / "in" / "a.dcm"
    sound, syntax = sound_path.read_bytes(), KINDS[kind][0]
    open_key(tmp_path / "key", creates=True)
    outcomes: Counter[str] = Counter()
    wrong = []
    for name, stream in streams_of(kind):
        path.write_bytes(hostile.recoded(sound, syntax, stream))
        try:
            ready = child.prepare(asked(path))
        except GateRejection as refused:
            outcomes["refused"] += 1
            if not set(refused.reason_codes) <= BEHIND_THE_HEADER or "CANARY" in str(refused):
                wrong.append(f"{name}: {refused.reason_codes}")
            continue
        outcomes["accepted"] += 1
        if ready.prepared.geometry.source_shape_px != SHAPE_PX or ready.prepared.pixels_HW.dtype != np.uint16:
            wrong.append(f"{name}: accepted as another image")
    assert child.prepare(asked(sound_path)).warnings == ()
    assert wrong == []
    assert outcomes["refused"] >= 15


def asked(path: Path) -> PrepareImage:
    """The whole gate for one file."""
    gate = GateSettings(source_dir=path.parent, profile="phantom", key_path=path.parent.parent / "key")
    return PrepareImage(
        path=path, gate=gate, fingerprint=file_fingerprint(path.lstat()), preprocess=SETTINGS, canvas_px=SETTINGS.canvas_px,
        mask_path=None,
    )  # fmt: skip
