"""Every transfer syntax seen in mammography goes through the whole gate: lossless ones unchanged, lossy ones with a warning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from mammo_tests import hostile
from schemas.exam import ImageRecord
from tasks.adapters.datasets.catalogue import profile_named
from tasks.adapters.dicom.frame_codecs import SYNTAXES, missing_codecs
from tasks.adapters.gate.admission import GatedPixels, accept_image
from tasks.adapters.pseudonyms import Pseudonyms

WriteSound = Callable[..., Path]
Encode = Callable[[NDArray[np.uint16]], bytes]

LOSSY: dict[str, tuple[Encode, int]] = {
    # Syntax: its encoder, and by how much a value may be off at most.
    "1.2.840.10008.1.2.4.51": (lambda pixels_HW: imagecodecs.jpeg8_encode(pixels_HW, level=98, bitspersample=12), 200),
    "1.2.840.10008.1.2.4.81": (lambda pixels_HW: imagecodecs.jpegls_encode(pixels_HW, level=2), 2),
    "1.2.840.10008.1.2.4.91": (
        lambda pixels_HW: imagecodecs.jpeg2k_encode(pixels_HW, level=90, codecformat="J2K", reversible=False), 100,
    ),
}  # fmt: skip


def accepted(path: Path) -> tuple[ImageRecord, GatedPixels]:
    """Through the whole gate."""
    return accept_image(path, source_dir=path.parent, profile=profile_named("phantom"), pseudonyms=Pseudonyms(b"k" * 32))


def darker(path: Path, bits: int) -> NDArray[np.uint16]:
    """Rewrites the file's pixels with values of that many bits, a little room left at the top; returns them."""
    dataset = pydicom.dcmread(path)
    pixels_HW = (dataset.pixel_array.astype(np.float64) / 4096 * (2**bits * 0.9)).astype(np.uint16)
    dataset.PixelData = pixels_HW.astype("<u2").tobytes()
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.save_as(path)
    return pixels_HW


@pytest.mark.parametrize("syntax", LOSSY)
def test_lossy_images_are_accepted_with_a_warning(tmp_path: Path, write_sound: WriteSound, syntax: str) -> None:
    """12 bits, near the source, P01 and nothing else; the raw digest is of the decoded values."""
    encode, tolerance = LOSSY[syntax]
    path = write_sound(tmp_path / "a.dcm")
    pixels_HW = darker(path, 12)
    path.write_bytes(hostile.recoded(path.read_bytes(), syntax, bytes(encode(pixels_HW))))
    record, gated = accepted(path)
    assert (record.gate_warnings, gated.warnings) == ((), ("P01",)) and record.transfer_syntax_uid == syntax
    off_HW = np.abs(gated.pixels_HW.astype(int) - pixels_HW)
    assert 0 < off_HW.max() <= tolerance


def test_baseline_jpeg_of_8_bits_is_accepted_with_warnings(tmp_path: Path, write_sound: WriteSound) -> None:
    """P01 for the loss, X12 for 8 bits allocated."""
    path = write_sound(tmp_path / "a.dcm")
    pixels_HW = (darker(path, 8)).astype(np.uint8)
    stream = bytes(imagecodecs.jpeg8_encode(pixels_HW, level=98))
    content = hostile.recoded(path.read_bytes(), "1.2.840.10008.1.2.4.50", stream)
    path.write_bytes(hostile.edited(content, {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}))
    record, gated = accepted(path)
    assert (record.gate_warnings, gated.warnings) == (("X12",), ("P01",))
    assert np.abs(gated.pixels_HW.astype(int) - pixels_HW).max() <= 12


@pytest.mark.parametrize("bits", range(8, 17))
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80"])
def test_every_depth_from_8_to_16_bits_is_stored_as_it_is(
    tmp_path: Path, write_sound: WriteSound, syntax: str, bits: int
) -> None:
    """Raw values, no rescale, no mask, whatever BitsStored says."""
    path = write_sound(tmp_path / "a.dcm")
    pixels_HW = darker(path, bits)
    encoders: dict[str, Encode] = {
        "1.2.840.10008.1.2.4.70": lambda image_HW: imagecodecs.jpeg8_encode(
            image_HW, lossless=True, predictor=1, bitspersample=16
        ),
        "1.2.840.10008.1.2.4.80": lambda image_HW: imagecodecs.jpegls_encode(image_HW),
    }
    if syntax in encoders:
        path.write_bytes(hostile.recoded(path.read_bytes(), syntax, bytes(encoders[syntax](pixels_HW))))
    record, gated = accepted(path)
    assert record.bits_stored == bits and record.gate_warnings == ()
    np.testing.assert_array_equal(gated.pixels_HW, pixels_HW)


def test_the_list_of_syntaxes_is_the_promised_one() -> None:
    """Little endian implicit and explicit, big endian, RLE, JPEG (50, 51, 57, 70), JPEG-LS, JPEG 2000, HTJ2K; no deflate."""
    native = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"}
    jpeg = {f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70, 80, 81, 90, 91, 201, 202, 203)}
    assert set(SYNTAXES) == {*native, "1.2.840.10008.1.2.5", *jpeg}
    assert {uid for uid, syntax in SYNTAXES.items() if syntax.codec is None} == native
    lossy = {f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 81, 91, 203)}
    assert {uid for uid, syntax in SYNTAXES.items() if not syntax.is_lossless} == lossy


def test_every_codec_is_installed() -> None:
    """The pinned imagecodecs decodes every syntax of the list."""
    assert missing_codecs() == ()
