"""What a fuzzer's bytes become before the gate gets them, and what it starts from. All of it is drawn here."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from mammo_tests import code_streams, hostile
from mammo_tests.code_streams import LOSSLESS, LOSSY
from schemas.exam import Laterality, ViewPosition
from tasks.adapters.dicom.code_stream import read_code_stream
from tasks.adapters.dicom.mammogram import MammogramHeader
from tasks.adapters.dicom.mammogram_file import write_mammogram

_SHAPE_PX: Final = (320, 288)
_LARGEST_SIDE_PX: Final = 512
"""Of what a fuzzed stream may declare and still be believed: a fuzzer wants many small images, not one large."""

STREAM_KINDS: Final = (
    *LOSSLESS.values(), *LOSSY.values(), (code_streams.JPEG_BASELINE, code_streams.jpeg_lossy),
    (code_streams.RLE, code_streams.rle),
)  # fmt: skip


def small_mammogram(folder: Path) -> bytes:
    """A sound left CC view whose header passes every rule of the profile ``phantom``, in a few kilobytes."""
    header = MammogramHeader(
        patient_id="FUZZ", patient_name="FUZZ", patient_age_years=55, study_instance_uid="2.25.91",
        series_instance_uid="2.25.92", sop_instance_uid="2.25.93", accession_number="FUZZ", study_date=date(2021, 5, 4),
        laterality=Laterality.LEFT, view_position=ViewPosition.CC, pixel_spacing_mm=0.07,
    )  # fmt: skip
    path = folder / "seed"
    rows, columns = np.ogrid[: _SHAPE_PX[0], : _SHAPE_PX[1]]
    is_breast_HW = (rows - 160) ** 2 / 120**2 + columns**2 / 180**2 < 1
    pixels_HW = np.where(is_breast_HW, 900 + 30 * (columns // 24), 0).astype(np.uint16)
    write_mammogram(path, pixels_HW, header)
    sound = hostile.edited(path.read_bytes(), {"ImageComments": "x" * 800})
    path.unlink()
    return hostile.recoded(sound, code_streams.JPEG_LS, code_streams.jpeg_ls(pixels_HW))


def wrapped(content: bytes, sound: bytes) -> bytes:
    """A mammogram with a fuzzed code stream: its first byte says under which transfer syntax, the others are the stream.

    Rows and Columns are what the stream declares, where that is small: the decoder is to be met, not the rule that compares.
    """
    syntax = STREAM_KINDS[content[0] % len(STREAM_KINDS)][0] if content else code_streams.RLE
    stream = content[1:]
    declared = read_code_stream(stream)
    rows, columns = declared.shape_px if declared is not None and syntax != code_streams.RLE else (64, 48)
    if not (0 < rows <= _LARGEST_SIDE_PX and 0 < columns <= _LARGEST_SIDE_PX):
        rows, columns = 64, 48
    file = _with_item(sound, syntax)
    for element, value in ((b"\x28\x00\x10\x00US\x02\x00", rows), (b"\x28\x00\x11\x00US\x02\x00", columns)):
        at = file.index(element) + len(element)
        file = file[:at] + struct.pack("<H", value) + file[at + 2 :]
    padded = stream + b"\0" * (len(stream) % 2)
    return file + b"\xfe\xff\x00\xe0" + struct.pack("<L", len(padded)) + padded + b"\xfe\xff\xdd\xe0\0\0\0\0"


@lru_cache(maxsize=32)
def _with_item(sound: bytes, syntax: str) -> bytes:
    """The file under that syntax up to where the item with the code stream begins."""
    file = hostile.recoded(sound, syntax, b"STREAM")
    return file[: file.index(b"STREAM") - 8]


def stream_seeds() -> Iterator[bytes]:
    """A sound stream of every kind in two sizes, as ``wrapped`` wants them."""
    for number, (_, encode) in enumerate(STREAM_KINDS):
        for shape_px in ((64, 48), (33, 17)):
            ramp_HW = np.add.outer(np.arange(shape_px[0]) * 7, np.arange(shape_px[1]) * 13)
            pixels_HW = np.where(np.arange(shape_px[1]) < shape_px[1] // 2, ramp_HW % 1021, 0).astype(np.uint16)
            yield bytes([number]) + encode(pixels_HW)


def header_seeds(folder: Path) -> Iterator[bytes]:
    """Whole files: a sound one, and the small ones among the hostile set."""
    yield small_mammogram(folder)
    sound_path = folder / "sound.dcm"
    sound_path.write_bytes(small_mammogram(folder))
    sound = sound_path.read_bytes()
    for maker in (hostile.bad_values, hostile.hostile_identifiers, hostile.duplicated, hostile.encapsulated, hostile.meta):
        for _, content, _, _ in maker(sound):
            if len(content) < 2 * len(sound):
                yield content
    sound_path.unlink()
