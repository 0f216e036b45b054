"""Whether a JPEG's data go to the end of its image. Decoders fill what is missing with zero bits and grey, and say nothing.

A lossless stream proves itself at little cost: its last rows are coded again, and must be the bits that it ends with. Where
that cannot be done, or fails, the stream is decoded again with other bits behind its own (the image must stay) and without its
last bytes (the image must change): what it holds is then enough, and needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tasks.adapters.dicom.code_stream import CodeStream, JpegScan

_END: Final = b"\xff\xd9"
_OTHER_BITS: Final = (
    b"\xa5\x3c\x96\x5a\xc3\x69" * 512
)  # neither zeros, with which decoders go on, nor all ones, which is no code
_NEEDED_BYTES: Final = 4  # without its last ones, no stream decodes to the same image
_NATURAL_ZEROS: Final = 16  # bytes at the end of a lossy stream that need no second look
_CHUNK_ROWS: Final = 64

Decode = Callable[[bytes], NDArray[np.generic]]


def is_whole(stream: CodeStream, pixels_HW: NDArray[np.generic], decode: Decode) -> bool:
    """True if no part of a decoded JPEG was invented.

    Args:
        stream: The stream, with an end marker.
        pixels_HW: What it was decoded to.
        decode: Decodes another stream.
    """
    scan = stream.scan
    if scan is None:
        return True
    if scan.predictor:
        if _ends_with_its_last_rows(stream, scan, pixels_HW):
            return True
    elif stream.has_end and not _looks_filled(stream, scan, pixels_HW):
        return True
    data = _before_half_a_marker(stream.content[: stream.data_end])
    shorter = _before_half_a_marker(data[:-_NEEDED_BYTES])
    is_enough = np.array_equal(decode(data + _OTHER_BITS + _END), pixels_HW)
    return is_enough and not np.array_equal(decode(shorter + _OTHER_BITS + _END), pixels_HW)


def _before_half_a_marker(data: bytes) -> bytes:
    return data[:-1] if data.endswith(b"\xff") else data


def _looks_filled(stream: CodeStream, scan: JpegScan, pixels_HW: NDArray[np.generic]) -> bool:
    """True if a lossy image ends with the grey that stands for no data, or its data end in zeros."""
    is_grey = int(pixels_HW[-1, -1]) == 1 << max(0, scan.precision - 1)
    return is_grey or not any(stream.content[stream.data_end - _NATURAL_ZEROS : stream.data_end])


# ----------------------------------------------------------------------------------------------------- lossless streams


def _ends_with_its_last_rows(stream: CodeStream, scan: JpegScan, pixels_HW: NDArray[np.generic]) -> bool:
    """True if the stream's last bits, up to what fills the last byte, are those of the image's last rows.

    So many rows that a bit of 1 is among them: a tail of zeros, which no one may have written, would pass for any number of
    rows whose code is zeros.
    """
    codes = _codes(scan.table)
    flat, height = _flat_rows(pixels_HW), pixels_HW.shape[0]
    if scan.restart_interval or codes is None:
        return False
    bits, rows = None, 1
    while (bits is None or not bits.any()) and flat + rows < height:
        bits = _coded(_differences(scan, pixels_HW, flat + rows, max(1, flat)).ravel(), codes)
        if bits is None:
            return False
        rows *= 2
    if bits is None or not bits.any():
        return False
    if flat > 1:  # these rows differ from nothing: their code is the same all over
        code_C, length_C = codes
        nothing = [int(code_C[0]) >> place & 1 for place in reversed(range(length_C[0]))]
        bits = np.concatenate((bits, np.tile(np.array(nothing, np.uint8), (flat - 1) * pixels_HW.shape[1])))
    ending = _last_bits(stream, scan.start, bits.size // 8 + 3)
    most = 8 if stream.has_end else 16  # a zero may make the frame's length even
    for filling in range(most):
        start = ending.size - filling - bits.size
        if start >= 0 and np.array_equal(ending[start : ending.size - filling], bits):
            return True
    return False


def _last_bits(stream: CodeStream, data_start: int, wanted_bytes: int) -> NDArray[np.uint8]:
    """The bits before the end marker, without the zeros that are stuffed behind 0xFF."""
    stuffed = stream.content[max(data_start, stream.data_end - 2 * wanted_bytes) : stream.data_end]
    stuffed = stuffed.rstrip(b"\xff")  # fill bytes of the marker
    if stuffed[:1] == b"\0":  # perhaps one whose 0xFF was left outside
        stuffed = stuffed[1:]
    return np.unpackbits(np.frombuffer(stuffed.replace(b"\xff\0", b"\xff")[-wanted_bytes:], np.uint8))


def _flat_rows(pixels_HW: NDArray[np.generic]) -> int:
    """Rows at the end of the image that hold one value alone, the same in all of them."""
    last = pixels_HW.shape[0]
    for stop in range(last, 0, -_CHUNK_ROWS):
        uneven = np.flatnonzero((pixels_HW[max(0, stop - _CHUNK_ROWS) : stop] != pixels_HW[-1, -1]).any(axis=1))
        if uneven.size:
            return int(last - 1 - max(0, stop - _CHUNK_ROWS) - uneven[-1])
    return int(last)


def _differences(scan: JpegScan, pixels_HW: NDArray[np.generic], first: int, last: int) -> NDArray[np.uint16]:
    """What is coded of the rows ``first`` to ``last``, counted from the end (10918-1, H.1.2); they have a row above them."""
    stop = pixels_HW.shape[0] - last + 1
    rows_HW = pixels_HW[pixels_HW.shape[0] - first - 1 : stop].astype(np.int32) >> scan.point_transform
    here_HW, above_HW = rows_HW[1:], rows_HW[:-1]
    left_HW, corner_HW = here_HW[:, :-1], above_HW[:, :-1]
    up_HW = above_HW[:, 1:]
    predicted_HW = above_HW.copy()  # the first column is predicted from above
    match scan.predictor:
        case 1:
            predicted_HW[:, 1:] = left_HW
        case 3:
            predicted_HW[:, 1:] = corner_HW
        case 4:
            predicted_HW[:, 1:] = left_HW + up_HW - corner_HW
        case 5:
            predicted_HW[:, 1:] = left_HW + ((up_HW - corner_HW) >> 1)
        case 6:
            predicted_HW[:, 1:] = up_HW + ((left_HW - corner_HW) >> 1)
        case 7:
            predicted_HW[:, 1:] = (left_HW + up_HW) >> 1
    return (here_HW - predicted_HW).astype(np.uint16)  # modulo 2^16


def _codes(table: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """(code, length) of each category 0 to 16 (10918-1, C.2); length 0 = not in the table. None if it is no table."""
    counts, symbols = table[:16], table[16:]
    if not symbols or max(symbols) > 16 or len(symbols) != sum(counts):
        return None
    code_C, length_C = np.zeros(17, np.int64), np.zeros(17, np.int64)
    code, position = 0, 0
    for length, count in enumerate(counts, 1):
        for symbol in symbols[position : position + count]:
            code_C[symbol], length_C[symbol] = code, length
            code += 1
        position += count
        code <<= 1
    return code_C, length_C


def _coded(difference_N: NDArray[np.uint16], codes: tuple[NDArray[np.int64], NDArray[np.int64]]) -> NDArray[np.uint8] | None:
    """The bits of these differences, one a byte; None if the table has no code for one of them."""
    code_C, length_C = codes
    value_N = difference_N.astype(np.int64)
    value_N[value_N > 32768] -= 65536
    category_N = np.ceil(np.log2(np.abs(value_N) + 1)).astype(np.int64)
    if not length_C[category_N].all():
        return None
    extra_N = np.where(category_N == 16, 0, category_N)  # 32768 has no further bits
    low_N = np.where(value_N < 0, value_N + (1 << category_N) - 1, value_N) & ((1 << extra_N) - 1)
    word_N = (code_C[category_N] << extra_N) | low_N
    bits_N = length_C[category_N] + extra_N
    end_N = np.cumsum(bits_N)
    place_B = np.repeat(end_N, bits_N) - np.arange(1, end_N[-1] + 1)  # of each bit within its word, the last one 0
    bit_B: NDArray[np.int64] = (np.repeat(word_N, bits_N) >> place_B) & 1
    return bit_B.astype(np.uint8)
