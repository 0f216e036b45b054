"""What a code stream says of itself: its size, its loss and its end, whatever the label on it says."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from mammo_tests import code_streams
from mammo_tests.code_streams import END, LOSSLESS, LOSSY
from schemas.errors import GateRejection
from tasks.adapters.dicom.code_stream import Family, read_code_stream
from tasks.adapters.dicom.frame_codecs import read_frame

SHAPE_PX = (300, 260)


def image(*, has_air: bool = True) -> np.ndarray:
    """Twelve bits of tissue; its lower right half is air, or nearly black noise."""
    rng = np.random.default_rng(3)
    rows, columns = np.indices(SHAPE_PX)
    tissue_HW = 1500 + rng.integers(0, 800, SHAPE_PX)
    floor_HW = np.zeros(SHAPE_PX, np.int64) if has_air else rng.integers(0, 60, SHAPE_PX)
    return np.where(rows + columns < 320, tissue_HW, floor_HW).astype(np.uint16)


@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_stream_tells_its_size(kind: str) -> None:
    """Every encoder's stream, in boxes or bare, declares the size it was given and that it loses nothing."""
    stream = read_code_stream(LOSSLESS[kind][1](image()))
    assert stream is not None
    assert (stream.shape_px, stream.is_lossless, stream.has_end, stream.cut_off) == (SHAPE_PX, True, True, "")


@pytest.mark.parametrize("kind", LOSSY)
def test_a_stream_tells_its_loss(kind: str) -> None:
    """Process, NEAR and wavelet say that values were changed."""
    stream = read_code_stream(LOSSY[kind][1](image()))
    assert stream is not None and not stream.is_lossless


def test_a_point_transform_is_a_loss() -> None:
    """A lossless JPEG whose scan drops the lowest bit (Al 1) is none."""
    stream = bytearray(code_streams.jpeg_lossless(image()))
    scan = stream.index(b"\xff\xda")
    stream[scan + 2 + int.from_bytes(stream[scan + 2 : scan + 4], "big") - 1] = 1
    found = read_code_stream(bytes(stream))
    assert found is not None and not found.is_lossless


def test_other_bytes_are_no_stream() -> None:
    """Text, half a marker, and a frame header without a frame."""
    for content in (b"CANARY" * 20, b"\xff\xd8\xff", b"", b"\xff\x4f\xff\x51" + b"\0" * 10):
        assert read_code_stream(content) is None
    stream = code_streams.jpeg_ls(image())
    found = read_code_stream(stream[: stream.index(b"\xff\xda")])
    assert found is not None and found.family is Family.JPEG_LS and not found.is_lossless


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("has_air", [True, False])
def test_a_stream_that_lacks_its_end_marker_alone_is_fine(kind: str, has_air: bool) -> None:
    """The pixels are right, and the stream is called odd where it is."""
    syntax, encode = LOSSLESS[kind]
    pixels_HW = image(has_air=has_air)
    for name, stream in code_streams.only_without_end(encode(pixels_HW)):
        read = read_frame(stream, syntax, shape_px=SHAPE_PX, bits_allocated=16)
        np.testing.assert_array_equal(read.pixels_HW, pixels_HW, err_msg=name)
        assert read.is_lossless and ("no end marker" in read.oddities) == name.startswith("no end"), name


@pytest.mark.parametrize(("precinct_bits", "layers"), [(3, 1), (4, 8)])
def test_empty_packets_are_no_hole(precinct_bits: int, layers: int) -> None:
    """Thousands of zeros on end are what small precincts and many layers of air come to; a longer hole is refused still."""
    right_HW = np.random.default_rng(0).integers(0, 4096, (256, 256)).astype(np.uint16)
    stream, packets = code_streams.beside_empty_tile(
        code_streams.j2k(right_HW), side_px=256, precinct_bits=precinct_bits, layers=layers
    )
    assert packets > 1300 and bytes(packets) in stream
    read = read_frame(stream, code_streams.J2K, shape_px=(256, 512), bits_allocated=16)
    np.testing.assert_array_equal(read.pixels_HW[:, 256:], right_HW)
    assert set(read.pixels_HW[:, :256].flat) == {1 << 15}, "no coefficients: the middle of sixteen bits"
    hole = len(stream) - 40_000
    with pytest.raises(GateRejection, match="a hole of zeros"):
        read_frame(
            stream[:hole] + bytes(30_000) + stream[hole + 30_000 :], code_streams.J2K, shape_px=(256, 512), bits_allocated=16
        )


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("has_air", [True, False])
def test_a_stream_that_ends_before_its_image_is_refused(kind: str, has_air: bool) -> None:
    """Cut, cut and closed with an end marker, or followed by zeros: no row is invented. What is right all the same may pass."""
    syntax, encode = LOSSLESS[kind]
    pixels_HW = image(has_air=has_air)
    for name, stream in code_streams.cut(encode(pixels_HW)):
        try:
            read = read_frame(stream, syntax, shape_px=SHAPE_PX, bits_allocated=16)
        except (GateRejection, RuntimeError, ValueError):
            continue
        np.testing.assert_array_equal(read.pixels_HW, pixels_HW, err_msg=name)


@pytest.mark.parametrize("kind", LOSSY)
def test_a_lossy_stream_that_ends_before_its_image_is_refused(kind: str) -> None:
    """The grey that a JPEG decoder puts in the place of missing blocks is not taken for tissue."""
    syntax, encode = LOSSY[kind]
    stream = encode(image(has_air=False))
    whole_HW = read_frame(stream, syntax, shape_px=SHAPE_PX, bits_allocated=16).pixels_HW
    without_end = read_frame(stream[:-2], syntax, shape_px=SHAPE_PX, bits_allocated=16)
    np.testing.assert_array_equal(without_end.pixels_HW, whole_HW)
    for name, damaged in code_streams.cut(stream):
        with pytest.raises((GateRejection, RuntimeError, ValueError)):
            pytest.fail(f"{name}: {read_frame(damaged, syntax, shape_px=SHAPE_PX, bits_allocated=16)}")


def test_what_an_htj2k_decoder_swallows_is_raised() -> None:
    """A hole in the coded data: the decoder reports it to nobody and leaves rows of zeros; here it is an error."""
    stream = code_streams.htj2k(image(has_air=False))
    middle = len(stream) // 2
    damaged = stream[:middle] + b"\xff" * 60 + stream[middle + 60 :]
    with pytest.raises((GateRejection, RuntimeError, ValueError)):
        read_frame(damaged, code_streams.HTJ2K, shape_px=SHAPE_PX, bits_allocated=16)


def test_a_missing_tile_is_told_from_a_whole_image() -> None:
    """A stream cut between two tiles and closed is well formed; its tiles are counted."""
    stream = code_streams.htj2k(image(), tile_px=128)
    last_tile = stream.rindex(b"\xff\x90\x00\x0a")
    found = read_code_stream(stream[:last_tile] + END)
    assert found is not None and "tiles" in found.cut_off


def test_marks_without_meaning_in_a_lossless_scan_are_read_over() -> None:
    """Se 63 and Ah 1, as some encoders leave them."""
    stream = bytearray(code_streams.jpeg_lossless(image()))
    scan = stream.index(b"\xff\xda")
    end = scan + 2 + int.from_bytes(stream[scan + 2 : scan + 4], "big")
    for se, ah in ((63, 0), (0, 0x10), (63, 0x10)):
        stream[end - 2], stream[end - 1] = se, ah
        read = read_frame(bytes(stream), code_streams.JPEG_LOSSLESS, shape_px=SHAPE_PX, bits_allocated=16)
        np.testing.assert_array_equal(read.pixels_HW, image())
        assert read.is_lossless and read.oddities == ("Se or Ah in a lossless scan",)


def test_a_label_of_another_family_is_refused_as_such() -> None:
    """A JPEG-LS stream under JPEG 2000's syntax: the message names both."""
    with pytest.raises(GateRejection, match=r"JPEG 2000 code stream.*JPEG-LS code stream") as caught:
        read_frame(code_streams.jpeg_ls(image()), code_streams.J2K, shape_px=SHAPE_PX, bits_allocated=16)
    assert caught.value.reason_codes == ("X22",)


@pytest.mark.parametrize("surplus", [b"\x07" * 2, b"\x07" * 260])
def test_rle_segments_longer_than_the_image_are_cut(surplus: bytes) -> None:
    """A row of padding at the end of each segment is dropped."""
    read = read_frame(code_streams.rle(image(), surplus), code_streams.RLE, shape_px=SHAPE_PX, bits_allocated=16)
    np.testing.assert_array_equal(read.pixels_HW, image())
    assert read.oddities == ("RLE segments longer than the image",)


def test_rle_runs_longer_than_the_image_are_cut_within() -> None:
    """The last run of a segment goes on beyond the image; a segment too short, or too long by far, is an error."""
    flat_HW = np.full((16, 8), 0x0102, np.uint16)
    long_run = b"\x81\x01" + b"\xf9\x01"  # 128 and 8 times 1
    low = b"\x81\x02" + b"\xf9\x02"
    frame = np.array([2, 64, 64 + len(long_run), *[0] * 13], "<u4").tobytes() + long_run + low
    read = read_frame(frame, code_streams.RLE, shape_px=(16, 8), bits_allocated=16)
    np.testing.assert_array_equal(read.pixels_HW, flat_HW)
    short = np.array([2, 64, 66, *[0] * 13], "<u4").tobytes() + b"\x81\x01" + b"\x82\x02"
    bomb = np.array([2, 64, 64 + 2000, *[0] * 13], "<u4").tobytes() + b"\x81\x01" * 2000
    for damaged in (short, bomb, frame[:40]):
        with pytest.raises((ValueError, RuntimeError, struct.error)):
            read_frame(damaged, code_streams.RLE, shape_px=(16, 8), bits_allocated=16)
