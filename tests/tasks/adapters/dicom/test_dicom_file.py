"""DICOM files: what is written is valid and read back equal, in every transfer syntax; damage is named, not guessed around."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import time
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import date
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

from schemas.errors import DicomError, FileDeferred, GateRejection
from schemas.exam import Laterality, ViewPosition
from tasks.adapters.dicom.dicom_file import read_header, read_image_from, read_pixels
from tasks.adapters.dicom.mammogram import MammogramHeader
from tasks.adapters.dicom.mammogram_file import write_mammogram

SHAPE_PX = (96, 80)
REFERENCE_DATA = Path(os.environ.get("MAMMO_REFERENCE_DATA", Path(__file__).parents[5] / "shared" / "data"))


def mammogram_header(laterality: Laterality = Laterality.LEFT, view: ViewPosition = ViewPosition.CC) -> MammogramHeader:
    """A header whose identifying texts are canaries."""
    return MammogramHeader(
        patient_id="CANARY-ID", patient_name="CANARY^NAME", patient_age_years=57, study_instance_uid="2.25.1",
        series_instance_uid="2.25.2", sop_instance_uid="2.25.3", accession_number="CANARY-ACC", study_date=date(2021, 5, 4),
        laterality=laterality, view_position=view, pixel_spacing_mm=0.07,
    )  # fmt: skip


def noise(bits: int = 12, shape_px: tuple[int, int] = SHAPE_PX) -> NDArray[np.uint16]:
    """Values over the whole range, the hardest for a codec."""
    return np.random.default_rng(7).integers(0, 2**bits, shape_px).astype(np.uint16)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A left CC view of noise on disk."""
    path = tmp_path / "a.dcm"
    write_mammogram(path, noise(), mammogram_header())
    return path


def change(path: Path, edit: Callable[[pydicom.Dataset], None]) -> Path:
    """Edits a file in place."""
    dataset = pydicom.dcmread(path)
    edit(dataset)
    dataset.save_as(path, enforce_file_format=False)
    return path


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian package dicom3tools) is not installed")
@pytest.mark.parametrize("laterality", list(Laterality))
@pytest.mark.parametrize("view", list(ViewPosition))
def test_a_written_mammogram_is_valid(tmp_path: Path, laterality: Laterality, view: ViewPosition) -> None:
    """The validator dciodvfy finds no error in the object; its one warning is that it does not know the view's defined term."""
    path = tmp_path / "a.dcm"
    write_mammogram(path, noise(), mammogram_header(laterality, view))
    checked = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
    messages = [line for line in checked.stderr.splitlines() if line.startswith(("Error", "Warning"))]
    assert checked.returncode == 0
    assert messages == [f"Warning - </ViewPosition(0018,5101)[1]> - Unrecognized defined term = <{view}>"]


def test_what_is_written_is_read_back(written: Path) -> None:
    """Pixels, identifiers, side, view and spacing come back as given; no aside file is left."""
    header = read_header(written)
    np.testing.assert_array_equal(read_pixels(written), noise())
    assert (header.patient_id, header.study_instance_uid, header.sop_instance_uid) == ("CANARY-ID", "2.25.1", "2.25.3")
    assert (header.image_laterality, header.view_position, header.patient_orientation) == ("L", "CC", ("A", "R"))
    assert [code.value for code in header.view_codes] == ["399162004"]
    assert (header.rows, header.columns, header.bits_stored) == (*SHAPE_PX, 12)
    assert header.imager_pixel_spacing_mm == (0.07, 0.07)
    assert (header.study_date, header.patient_age) == ("20210504", "057Y")
    assert header.unreadable == ()
    assert [path.name for path in written.parent.iterdir()] == ["a.dcm"]


def test_a_header_shows_no_value(written: Path) -> None:
    """repr, which logs and tracebacks use, is empty for both header records."""
    assert "CANARY" not in repr(read_header(written)) + repr(mammogram_header())


def test_writing_a_full_size_image_is_quick(tmp_path: Path) -> None:
    """A 3328 x 2560 phantom view costs below 0.1 s of processor time to write (best of three)."""
    pixels_HW = noise(shape_px=(3328, 2560))
    spent_s = []
    for _ in range(3):
        start = time.process_time()
        write_mammogram(tmp_path / "a.dcm", pixels_HW, mammogram_header())
        spent_s.append(time.process_time() - start)
    assert min(spent_s) < 0.1


def test_values_beyond_bits_stored_are_not_written(tmp_path: Path) -> None:
    """4096 does not fit 12 bits: refused before a file exists."""
    with pytest.raises(DicomError, match=r"below 2\^12"):
        write_mammogram(tmp_path / "a.dcm", np.full(SHAPE_PX, 4096, np.uint16), mammogram_header())
    assert not list(tmp_path.iterdir())


def _htj2k(pixels_HW: NDArray[np.uint16]) -> bytes:
    return bytes(imagecodecs.htj2k_encode(pixels_HW, reversible=True))


def _j2k(pixels_HW: NDArray[np.uint16]) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(pixels_HW, level=0, codecformat="J2K", reversible=True))


def _jpeg_lossless(pixels_HW: NDArray[np.uint16]) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(pixels_HW, lossless=True, predictor=1, bitspersample=16))


ENCODERS: dict[str, Callable[[NDArray[np.uint16]], bytes]] = {
    "1.2.840.10008.1.2.4.57": _jpeg_lossless,
    "1.2.840.10008.1.2.4.70": _jpeg_lossless,
    "1.2.840.10008.1.2.4.80": lambda pixels_HW: bytes(imagecodecs.jpegls_encode(pixels_HW)),
    "1.2.840.10008.1.2.4.90": _j2k,
    "1.2.840.10008.1.2.4.201": _htj2k,
    "1.2.840.10008.1.2.4.202": _htj2k,
    "1.2.840.10008.1.2.4.203": _htj2k,
}


def compress(path: Path, syntax: str, frame: bytes) -> Path:
    """Puts a code stream in place of the pixels."""

    def edit(dataset: pydicom.Dataset) -> None:
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([frame])
        dataset["PixelData"].is_undefined_length = True

    return change(path, edit)


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("syntax", list(ENCODERS))
def test_lossless_compression_gives_equal_pixels(tmp_path: Path, syntax: str, bits: int) -> None:
    """Each lossless transfer syntax decodes to what was encoded, whatever part of the 16 bits the values use."""
    path, pixels_HW = tmp_path / "a.dcm", noise(bits)
    write_mammogram(path, pixels_HW, replace(mammogram_header(), bits_stored=16))
    np.testing.assert_array_equal(read_pixels(compress(path, syntax, ENCODERS[syntax](pixels_HW))), pixels_HW)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"])
def test_uncompressed_syntaxes_give_equal_pixels(written: Path, syntax: str) -> None:
    """Implicit and explicit little endian and the retired big endian."""
    dataset = pydicom.dcmread(written)
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax.endswith(".2.2"):
        dataset.PixelData = noise().astype(">u2").tobytes()
    pydicom.dcmwrite(
        written, dataset, implicit_vr=syntax == "1.2.840.10008.1.2", little_endian=not syntax.endswith(".2.2"),
        enforce_file_format=False, force_encoding=True,
    )  # fmt: skip
    np.testing.assert_array_equal(read_pixels(written), noise())


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"])
@pytest.mark.parametrize("vr", ["OB", "OW"])
@pytest.mark.parametrize("shape_px", [(96, 80), (95, 81)])
def test_eight_bits_are_ordered_by_their_vr(tmp_path: Path, syntax: str, vr: str, shape_px: tuple[int, int]) -> None:
    """Two pixels to a word (OW) change places with the byte order; a string of bytes (OB) does not; odd numbers are padded."""
    path = tmp_path / "a.dcm"
    write_mammogram(path, noise(12), mammogram_header())
    pixels_HW = noise(8, shape_px).astype(np.uint8)
    plain = pixels_HW.tobytes() + b"\0" * (pixels_HW.size % 2)
    is_swapped = vr == "OW" and syntax.endswith(".2.2")
    dataset = pydicom.dcmread(path)
    dataset.Rows, dataset.Columns = shape_px
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = np.frombuffer(plain, np.uint16).byteswap().tobytes() if is_swapped else plain
    dataset["PixelData"].VR = vr
    pydicom.dcmwrite(
        path, dataset, implicit_vr=syntax == "1.2.840.10008.1.2", little_endian=not syntax.endswith(".2.2"),
        enforce_file_format=False, force_encoding=True,
    )  # fmt: skip
    np.testing.assert_array_equal(read_pixels(path), pixels_HW)


def test_padding_behind_pixels_is_dropped(written: Path) -> None:
    """As PS3.5 8.1.1 allows it; so many bytes that they could be a row, a column or another image are not taken for padding."""
    pixels_HW, row_bytes, column_bytes = noise(), 2 * SHAPE_PX[1], 2 * SHAPE_PX[0]
    for surplus in (2, 128, 512, 4096):
        change(written, lambda dataset, surplus=surplus: setattr(dataset, "PixelData", pixels_HW.tobytes() + b"\7" * surplus))
        np.testing.assert_array_equal(read_pixels(written), pixels_HW)
        with written.open("rb") as file:
            assert read_image_from(file).padding_bytes == surplus
    for surplus in (row_bytes, 3 * row_bytes, column_bytes, pixels_HW.nbytes, pixels_HW.nbytes + 2):
        change(written, lambda dataset, surplus=surplus: setattr(dataset, "PixelData", pixels_HW.tobytes() + bytes(surplus)))
        assert codes(lambda: read_pixels(written)) == ("X21",)


def test_rle_gives_equal_pixels(written: Path) -> None:
    """RLE Lossless as pydicom's own encoder writes it."""
    change(written, lambda dataset: dataset.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False))
    np.testing.assert_array_equal(read_pixels(written), noise())


def test_another_decoder_takes_over(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What imagecodecs cannot decode, pyjpegls is asked for."""
    compress(written, "1.2.840.10008.1.2.4.80", ENCODERS["1.2.840.10008.1.2.4.80"](noise()))

    def fail(*_: object, **__: object) -> None:
        raise ValueError("no")

    monkeypatch.setattr(imagecodecs, "jpegls_decode", fail)
    np.testing.assert_array_equal(read_pixels(written), noise())


def test_bits_above_bits_stored_are_not_masked(written: Path) -> None:
    """The raw value 0xF001 is read as such: the gate must see it (rule X24), although pydicom would give 1."""
    pixels_HW = noise()
    pixels_HW[0, 0] = 0xF001
    change(written, lambda dataset: setattr(dataset, "PixelData", pixels_HW.tobytes()))
    assert read_pixels(written)[0, 0] == 0xF001
    compress(written, "1.2.840.10008.1.2.4.80", ENCODERS["1.2.840.10008.1.2.4.80"](pixels_HW))
    assert read_pixels(written)[0, 0] == 0xF001


def codes(call: Callable[[], object]) -> tuple[str, ...]:
    """The reason codes of a rejection that carries no foreign exception."""
    with pytest.raises(GateRejection) as caught:
        call()
    assert caught.value.__cause__ is None and caught.value.__context__ is None  # no foreign message rides along
    return caught.value.reason_codes


def test_text_is_not_dicom(tmp_path: Path) -> None:
    """A text file is refused as F05; an absent one is deferred: whoever listed it saw it a moment ago."""
    path = tmp_path / "a.dcm"
    path.write_text("CANARY " * 100)
    assert codes(lambda: read_header(path)) == ("F05",)
    with pytest.raises(FileDeferred, match="ENOENT") as deferred:
        read_pixels(tmp_path / "CANARY.dcm")
    assert "CANARY" not in str(deferred.value)


def test_deflate_is_refused_before_it_is_inflated(written: Path) -> None:
    """A deflated file is F13 although its body is garbage: nothing looked at it."""
    content = written.read_bytes()
    start = content.index(b"1.2.840.10008.1.2.1\0")
    meta_end = 144 + struct.unpack("<I", content[140:144])[0]
    # The deflate UID is two characters longer: its element and the group length are rewritten.
    meta = content[132:start] + b"1.2.840.10008.1.2.1.99" + content[start + 20 : meta_end]
    length_at = start - 132 - 2
    meta = meta[:length_at] + struct.pack("<H", 22) + meta[length_at + 2 :]
    meta = meta[:8] + struct.pack("<I", len(meta) - 12) + meta[12:]
    written.write_bytes(content[:132] + meta + os.urandom(4000))
    assert codes(lambda: read_header(written)) == ("F13",)
    assert codes(lambda: read_pixels(written)) == ("F13",)


def test_a_truncated_image_is_named(written: Path) -> None:
    """A file cut off in its pixels, which pydicom reads without complaint, is X21."""
    content = written.read_bytes()
    written.write_bytes(content[:-1000])
    assert codes(lambda: read_pixels(written)) == ("X21",)
    written.write_bytes(content[:400])
    assert set(codes(lambda: read_pixels(written))) <= {"X01", "X03", "X04", "X20", "X22"}


def test_a_dimension_bomb_is_refused_before_decoding(written: Path) -> None:
    """65535 x 65535 in the header, and 2^31 - 1 frames: refused in milliseconds, without the memory."""
    change(written, lambda dataset: setattr(dataset, "Rows", 65535) or setattr(dataset, "NumberOfFrames", 2**31 - 1))
    start = time.process_time()
    assert codes(lambda: read_pixels(written)) == ("X01", "X02")
    assert time.process_time() - start < 0.5


def test_a_code_stream_bomb_is_refused_before_decoding(written: Path) -> None:
    """The header says 96 x 80, the JPEG 2000 stream 60000 x 60000: X23, and no decoder was asked."""
    stream = bytearray(_j2k(noise()))
    stream[8:16] = struct.pack(">2I", 60000, 60000)
    assert codes(lambda: read_pixels(compress(written, "1.2.840.10008.1.2.4.90", bytes(stream)))) == ("X23",)


def test_a_run_length_bomb_is_refused(written: Path) -> None:
    """Runs that would unfold to 256 MB under a header of 96 x 80 are X22."""
    segment = b"\x81\x00" * 1_000_000
    frame = struct.pack("<16L", 2, 64, 64 + len(segment), *[0] * 13) + segment + segment
    assert codes(lambda: read_pixels(compress(written, "1.2.840.10008.1.2.5", frame))) == ("X22",)


@pytest.mark.parametrize("syntax", list(ENCODERS))
def test_a_damaged_code_stream_is_named(written: Path, syntax: str) -> None:
    """A stream cut to a third, or of noise, is refused: X22 or X23, never another exception."""
    stream = ENCODERS[syntax](noise())
    assert codes(lambda: read_pixels(compress(written, syntax, os.urandom(500)))) in (("X22",), ("X23",))
    path = compress(written, syntax, stream[:40])
    assert codes(lambda: read_pixels(path)) in (("X22",), ("X23",))


def test_no_pixels_are_named(written: Path) -> None:
    """A file without PixelData is X20."""
    change(written, lambda dataset: dataset.__delattr__("PixelData"))
    assert codes(lambda: read_pixels(written)) == ("X20",)


def test_values_of_another_type_are_absent_and_listed(written: Path) -> None:
    """Spacing "CANARY" is no decimal: None in the record, its keyword in ``unreadable``, no exception."""
    content = written.read_bytes().replace(b"0.07\\0.07 ", b"CANARY\\abc")
    written.write_bytes(content)
    header = read_header(written)
    assert header.imager_pixel_spacing_mm == ()
    assert header.unreadable == ("ImagerPixelSpacing",)


def test_every_header_field_is_a_known_attribute() -> None:
    """The keywords of the header record are in DICOM's dictionary."""
    from pydicom.datadict import tag_for_keyword

    from tasks.adapters.dicom.header import DicomHeader

    keywords = [field.metadata["keyword"] for field in fields(DicomHeader) if field.metadata]
    assert keywords and all(tag_for_keyword(keyword) for keyword in keywords)


def test_a_real_jpeg_lossless_image_decodes_as_another_decoder_says() -> None:
    """GE Senographe, JPEG Lossless: equal to imagecodecs' independent jpegsof3 decoder."""
    path = REFERENCE_DATA / "ge_ffdm" / "GH133.dcm"
    if not path.exists():
        pytest.skip("reference data are absent (MAMMO_REFERENCE_DATA)")
    frame = next(pydicom.encaps.generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1))
    np.testing.assert_array_equal(read_pixels(path), imagecodecs.jpegsof3_decode(frame))
