"""What lies beside images is told from images that were lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mammo_tests.mammograms import rejection, write
from tasks.adapters.gate.rules.file import START_BYTES, Opened, is_meant_as_image
from tasks.adapters.gate.rules.table import is_of_another_kind

NOISE = np.random.default_rng(16).bytes(START_BYTES)
BESIDE_IMAGES = {
    "autorun.inf": b"[autorun]\r\nopen=VIEWER\\START.EXE\r\n",
    "README": b"This disc holds images of one patient.\n",
    "LIESMICH.TXT": "Größe der Dateien: siehe Rückseite\n".encode("latin-1"),
    "lisez-moi.txt": "Les images sont à côté.\n".encode("utf-16"),
    "empty.cfg": b"",
    "index.html": b"<!DOCTYPE html><html><body>Viewer</body></html>",
    "START.EXE": b"MZ\x90\0" + NOISE,
    "viewer3": b"\x7fELF\x02\x01" + NOISE,
    "codec.dll": b"MZ\x90\0" + NOISE,
    "viewer.jar": b"PK\x03\x04" + NOISE,
    "L_CC.jpg": b"\xff\xd8\xff\xe0\0\x10JFIF" + NOISE,
    "key image.PNG": b"\x89PNG\r\n\x1a\n" + NOISE,
    "logo.bmp": b"BM" + NOISE,
    "viewer.ico": b"\0\0\x01\0\x01\0" + NOISE,
    "report.pdf": b"%PDF-1.7\n" + NOISE,
    "letter.doc": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + NOISE,
    "Thumbs.db": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + NOISE,
    "data1.cab": b"ISc(" + NOISE,
    "film.mp4": b"\0\0\0\x18ftypmp42" + NOISE,
    "icudtl.dat": NOISE,
    "study.xml": b"<?xml version='1.0'?><DicomAttribute tag='00080016'>1.2.840.10008.5.1.4.1.1.1.2</DicomAttribute>",
}


def opened(name: str, content: bytes) -> Opened:
    """A file as it is seen before it is parsed."""
    return Opened(links=1, size_bytes=len(content), start=content[:START_BYTES], name=name)


@pytest.mark.parametrize("name", BESIDE_IMAGES)
def test_what_a_disc_or_an_export_holds_beside_images_is_recognised(tmp_path: Path, name: str) -> None:
    """Viewers, their libraries, pictures, documents and texts are refused and no failure."""
    (tmp_path / name).write_bytes(BESIDE_IMAGES[name])
    codes = rejection(tmp_path / name).reason_codes
    assert set(codes) - {"F03"} == {"F05", "F09"} and is_of_another_kind(codes)


def lost_images(sound: bytes) -> dict[str, bytes]:
    """Mammograms that are damaged, or that something else was written in place of."""
    answer = b"<html><title>503 Service Unavailable</title></html>"
    return {
        "IM000001": sound[132:],
        "without-preamble.dat": sound[132:],
        "shifted.bin": b"\0" + sound,
        "PROGRAM.DAT": b"MZ" + sound[2:100] + sound[160:],
        "zeros.dat": bytes(5000),
        "noise": NOISE,
        "IM000002": answer,
        "1.2.840.113619.2": answer,
        "a.dcm": b"\xff\xd8\xff\xe0\0\x10JFIF" + NOISE,
        "b.DCM": answer,
        "c.dcm.gz": b"\x1f\x8b" + NOISE,
        "IM000003": b"",
    }


def test_an_image_that_was_lost_is_none_of_them(tmp_path: Path) -> None:
    """Damaged, cut, empty, exchanged or packed under an image's name: somebody must look."""
    for name, content in lost_images(write(tmp_path / "sound.dcm").read_bytes()).items():
        assert is_meant_as_image(opened(name, content)) is None, name
        (tmp_path / name).write_bytes(content)
        assert not is_of_another_kind(rejection(tmp_path / name).reason_codes), name
