"""A lookup table is read as it was meant, in each form in which files keep one; other lengths are no table."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.adapters.dicom.lookup_table import read_lut


def entries(count: int) -> np.ndarray:
    """Values of 8 bits that rise."""
    return (np.arange(count) * 255 // max(1, count - 1)).astype(np.uint8)


@pytest.mark.parametrize("count", [1, 2, 255, 256, 4095, 4096, 65536])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("is_big_endian", [False, True])
@pytest.mark.parametrize(("is_packed", "form"), [(False, "OW"), (False, "US"), (True, "OW"), (True, "OB"), (True, "US")])
def test_every_form_gives_the_entries(count: int, bits: int, is_big_endian: bool, is_packed: bool, form: str) -> None:
    """8-bit entries packed or in words, as bytes or as numbers, in both byte orders, whatever the descriptor's bits say."""
    values_L = entries(count)
    if is_packed:
        plain = values_L.tobytes() + b"\0" * (count % 2)
        words_N = np.frombuffer(plain, "<u2")
    else:
        words_N = values_L.astype("<u2")
    data: bytes | list[int]
    if form == "US":
        data = [int(word) for word in words_N]
    else:
        data = words_N.astype(">u2" if is_big_endian and form == "OW" else "<u2").tobytes()
    lut = read_lut([count % 65536, 7, bits], data, is_big_endian=is_big_endian, is_in_words=form != "OB")
    np.testing.assert_array_equal(lut.entries_L, values_L)
    assert (lut.first_value, lut.bits) == (7, bits)


def test_a_descriptor_of_signed_values_is_read() -> None:
    """40000 entries as SS are -25536."""
    lut = read_lut([-25536, -5, 16], list(range(40000)), is_big_endian=False, is_in_words=True)
    assert lut.entries_L.size == 40000 and lut.first_value == -5 and lut.entries_L[-1] == 39999


def test_entries_beyond_the_descriptor_are_left_out() -> None:
    """The descriptor counts them."""
    lut = read_lut([100, 0, 12], list(range(120)), is_big_endian=False, is_in_words=True)
    np.testing.assert_array_equal(lut.entries_L, np.arange(100))


@pytest.mark.parametrize("words", [0, 10, 49, 51, 99])
def test_a_table_of_another_length_is_none(words: int) -> None:
    """Neither 100 words nor 100 bytes."""
    with pytest.raises(ValueError, match="length"):
        read_lut([100, 0, 12], [1] * words, is_big_endian=False, is_in_words=True)
