"""The entries of a lookup table (PS3.3 C.11.1.1, C.11.2.1.1) as they lie in a file: in words, or in bytes two to a word."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gmic_model.pixels.voi import VoiLut


def read_lut(descriptor: Sequence[int], data: bytes | Sequence[int], *, is_big_endian: bool, is_in_words: bool) -> VoiLut:
    """One table of a sequence.

    How wide an entry is, the length of the data tells: the descriptor's bits say which values it takes, and files keep 8-bit
    entries packed as well as in words of 16 bits (DICOM CP-522).

    Args:
        descriptor: LUTDescriptor (0028,3002): entries (0 stands for 65536), first value, bits.
        data: LUTData (0028,3006): bytes as they are in the file, or the words.
        is_big_endian: The file's byte order.
        is_in_words: True unless the bytes are a string of bytes (OB): words change with the byte order.

    Raises:
        ValueError: The data have neither of the two lengths.
    """
    entries, first_value, bits = descriptor
    entries = entries & 0xFFFF or 2**16  # as a signed value, as it is in some files, it is negative from 32768 on
    words_N = _words(data, is_big_endian and is_in_words)
    if words_N.size >= entries:
        values_L = words_N[:entries]
    elif words_N.size == (entries + 1) // 2:
        values_L = words_N.astype("<u2").view(np.uint8)[:entries].astype(np.uint16)  # the first entry is in the lower byte
    else:
        raise ValueError("the table has another length than its descriptor says")
    return VoiLut(first_value=first_value, bits=bits, entries_L=values_L)


def _words(data: bytes | Sequence[int], is_big_endian: bool) -> NDArray[np.uint16]:
    if not isinstance(data, bytes):
        return (np.asarray(data, np.int64) & 0xFFFF).astype(np.uint16)
    even = data + b"\0" * (len(data) % 2)
    return np.frombuffer(even, ">u2" if is_big_endian else "<u2").astype(np.uint16)
