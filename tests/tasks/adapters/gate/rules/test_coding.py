"""Rules on how the pixels are coded: the stream is asked, not its label; a stopped copy is told from a small field of view."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mammo_tests import code_streams, hostile
from mammo_tests.code_streams import LOSSLESS, LOSSY
from mammo_tests.mammograms import accept, breast, rejection, setting, storing, write
from schemas.exam import Laterality
from tasks.adapters.dicom.stored_image import StoredImage
from tasks.adapters.gate.rules.coding import is_not_cut_straight, is_written_to_its_end
from tasks.adapters.gate.rules.look import decoded


def encoded(path: Path, syntax: str, stream: bytes) -> Path:
    """A sound file over another code stream."""
    write(path)
    path.write_bytes(hostile.recoded(path.read_bytes(), syntax, stream))
    return path


@pytest.mark.parametrize("kind", LOSSY)
def test_a_loss_under_a_lossless_label_is_told(tmp_path: Path, kind: str) -> None:
    """JPEG by its process, JPEG-LS by NEAR, JPEG 2000 and HTJ2K by the wavelet: P01."""
    syntax = {"htj2k-tiles": "", **{name: lossless for name, (lossless, _) in LOSSLESS.items()}}[kind]
    _, gated = accept(encoded(tmp_path / "a.dcm", syntax, LOSSY[kind][1](breast())))
    assert "P01" in gated.warnings


@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_lossless_stream_is_told_and_unchanged(tmp_path: Path, kind: str) -> None:
    """No P01, and the pixels that were encoded."""
    syntax, encode = LOSSLESS[kind]
    _, gated = accept(encoded(tmp_path / "a.dcm", syntax, encode(breast())))
    np.testing.assert_array_equal(gated.pixels_HW, breast())
    assert gated.warnings == (("X16",) if kind == "jp2" else ())


def test_a_lossless_stream_under_a_lossy_label_is_lossless_where_it_can_prove_it(tmp_path: Path) -> None:
    """NEAR 0 and process 14 prove it; a reversible JPEG 2000 stream may have been thinned out, and its label says so."""
    for syntax, stream, warnings in (
        (code_streams.NEAR_LOSSLESS, code_streams.jpeg_ls(breast()), ()),
        (code_streams.JPEG_EXTENDED, code_streams.jpeg_lossless(breast()), ()),
        (code_streams.J2K_LOSSY, code_streams.j2k(breast()), ("P01",)),
    ):
        assert accept(encoded(tmp_path / "a.dcm", syntax, stream))[1].warnings == warnings


@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_cut_stream_is_refused_by_the_gate(tmp_path: Path, kind: str) -> None:
    """X22, by each codec, with a message that says to copy the file again."""
    syntax, encode = LOSSLESS[kind]
    stream = encode(breast())
    for share in (0.9, 0.4):
        refused = rejection(encoded(tmp_path / "a.dcm", syntax, stream[: int(share * len(stream))] + code_streams.END))
        assert refused.reason_codes == ("X22",) and "again" in str(refused)


def stored(pixels_HW: NDArray[np.uint16], *, is_compressed: bool = False) -> StoredImage:
    """Values that came out of a file as they are."""
    return StoredImage(pixels_HW=pixels_HW, is_compressed=is_compressed, is_lossless=True)


def cut_at(share: float, pixels_HW: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """An image of which so much was copied, and the rest is zeros."""
    kept_N = pixels_HW.copy().ravel()
    kept_N[int(share * kept_N.size) :] = 0
    return kept_N.reshape(pixels_HW.shape)


@pytest.mark.parametrize("laterality", Laterality)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.50013, 0.5006, 0.65, 0.75])
@pytest.mark.parametrize("air", [0, 40])
def test_a_copy_that_stopped_is_refused(laterality: Laterality, share: float, air: int) -> None:
    """Zeros from within the breast on, at the start of a row or in its midst, over air that is 0 or is not."""
    pixels_HW = cut_at(share, breast(laterality) + np.uint16(air))
    assert is_written_to_its_end(stored(pixels_HW)) is not None
    assert is_written_to_its_end(stored(pixels_HW, is_compressed=True)) is None  # the code stream has proven its end


@pytest.mark.parametrize("value", [0, 7, 4095])
@pytest.mark.parametrize(("first", "last"), [(0, 0.4), (0, 0.5), (0.4, 0.45), (0.30013, 0.6), (0.5006, 1.0)])
def test_a_piece_that_was_lost_is_missed_wherever_it_lay(first: float, last: float, value: int) -> None:
    """The beginning, the midst or the end of the pixels, whatever stands in its place; the breast breaks off at it."""
    kept_N = breast().copy().ravel()
    kept_N[int(first * kept_N.size) : int(last * kept_N.size)] = value
    broken_HW = kept_N.reshape(breast().shape)
    assert is_written_to_its_end(stored(broken_HW)) is not None
    assert is_written_to_its_end(stored(broken_HW, is_compressed=True)) is None


def test_a_copy_that_stopped_is_refused_by_the_gate(tmp_path: Path) -> None:
    """X18 for an uncompressed file whose second half is zeros."""
    path = write(tmp_path / "a.dcm", cut_at(0.5, breast()))
    assert rejection(path).reason_codes == ("X18",)


def test_air_and_small_fields_of_view_are_not_refused() -> None:
    """A breast that tapers off, one that lies high, a field of view between bands of zeros, a straight lower edge."""
    banded_HW = np.zeros((1600, 800), np.uint16)
    banded_HW[400:1200] = breast()
    high_HW = np.zeros((1200, 800), np.uint16)
    high_HW[:800] = breast()
    chest_HW = np.tile(np.linspace(3000, 1000, 800).astype(np.uint16), (800, 1))  # tissue to the lower edge, as in an MLO
    chest_HW[:, 500:] = 0
    edged_HW = chest_HW.copy()
    edged_HW[640:] = 0  # the last fifth of the rows lies outside the field of view
    framed_HW = np.zeros((1600, 800), np.uint16)
    framed_HW[400:1200] = chest_HW
    lettered_HW = banded_HW.copy()
    lettered_HW[-8:] = 4095  # a line below the air
    sound = (
        breast(),
        breast(Laterality.RIGHT),
        banded_HW,
        framed_HW,
        lettered_HW,
        high_HW,
        chest_HW,
        np.zeros((800, 800), np.uint16),
    )
    for pixels_HW in (*sound, edged_HW):
        assert is_written_to_its_end(stored(pixels_HW)) is None
    assert [is_not_cut_straight(stored(pixels_HW)) for pixels_HW in sound] == [None] * len(sound)
    assert is_not_cut_straight(stored(edged_HW)) == "160 of 800 rows are zeros"  # it may be a copy that stopped: X19


@pytest.mark.parametrize("bits", [1 << 15, 1 << 12, 0xF000])
def test_bits_that_are_no_part_of_the_values_are_cleared(tmp_path: Path, bits: int) -> None:
    """An overlay's plane, a frame, noise: X17, the values as they were, the digest of those values."""
    _, sound = accept(write(tmp_path / "sound.dcm"))
    for name, is_set_HW in (
        ("plane", np.indices((800, 800))[0] % 100 < 20),
        ("noise", np.random.default_rng(0).random((800, 800)) < 0.3),
        ("all", np.ones((800, 800), bool)),
    ):
        odd_HW = np.where(is_set_HW, breast() | bits, breast()).astype(np.uint16)
        _, gated = accept(write(tmp_path / "a.dcm", edit=storing(odd_HW.tobytes())))
        np.testing.assert_array_equal(gated.pixels_HW, breast(), err_msg=name)
        assert gated.warnings == ("X17",) and gated.pixel_sha256 == sound.pixel_sha256


@pytest.mark.parametrize("bits_stored", [8, 9, 10, 11])
def test_a_header_that_says_too_few_bits_is_refused(bits_stored: int) -> None:
    """The bits above are part of the values: nothing is cleared, and X24 refuses."""
    noisy_HW = breast() + np.random.default_rng(0).integers(0, 60, (800, 800)).astype(np.uint16)
    for pixels_HW in (breast(), noisy_HW):
        assert not decoded(pixels_HW, bits_stored).had_stray_bits


def test_no_frames_are_one(tmp_path: Path) -> None:
    """NumberOfFrames 0 in an uncompressed and in a compressed file."""
    path = write(tmp_path / "a.dcm", edit=setting(NumberOfFrames="0"))
    record, gated = accept(path)
    np.testing.assert_array_equal(gated.pixels_HW, breast())
    assert record.gate_warnings == ("X14",)
    path.write_bytes(hostile.recoded(path.read_bytes(), code_streams.JPEG_LS, code_streams.jpeg_ls(breast())))
    np.testing.assert_array_equal(accept(path)[1].pixels_HW, breast())


@pytest.mark.parametrize("surplus", [b"\x05" * 2, b"\x05" * 800])
def test_long_rle_segments_are_accepted_with_a_warning(tmp_path: Path, surplus: bytes) -> None:
    """X16, and the pixels of the image alone."""
    _, gated = accept(encoded(tmp_path / "a.dcm", code_streams.RLE, code_streams.rle(breast(), surplus)))
    np.testing.assert_array_equal(gated.pixels_HW, breast())
    assert gated.warnings == ("X16",)
