"""Decoders of compressed pixels: imagecodecs, called directly. The only module that imports imagecodecs.

imagecodecs decodes faster than pydicom's plug-ins (benchmarks/bench_decode.py) and releases the GIL; behind pydicom's own
plug-in interface it would lose 4 ms an image to copies. ``codestream_shape`` reads the size that a code stream claims, before a
byte of it is decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

_JPEG = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
_HTJ2K = ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203")
RLE_LOSSLESS = "1.2.840.10008.1.2.5"

COMPRESSED_SYNTAXES = (*_JPEG, *_JPEG_LS, *_JPEG_2000, *_HTJ2K, RLE_LOSSLESS)
LOSSLESS_SYNTAXES = (*_JPEG[2:], _JPEG_LS[0], _JPEG_2000[0], *_HTJ2K[:2], RLE_LOSSLESS)

_SOF_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})  # frame headers of JPEG, and SOF55 of JPEG-LS


def decode_frame(frame: bytes, syntax: str, *, shape_px: tuple[int, int], bits_allocated: int) -> NDArray[np.generic]:
    """Decodes one greyscale frame.

    Args:
        frame: The frame's code stream, all fragments joined.
        syntax: One of ``COMPRESSED_SYNTAXES``.
        shape_px: (rows, columns) of the header.
        bits_allocated: BitsAllocated (0028,0100), which RLE does not tell itself.

    Returns:
        uint8 or uint16 of shape ``shape_px``, whatever the code stream holds in that many bits.

    Raises:
        Exception: Whatever imagecodecs raises; ValueError if the stream is not one unsigned image of that shape.
    """
    pixels_HW = _decode_rle(frame, shape_px, bits_allocated) if syntax == RLE_LOSSLESS else _decoder(syntax)(frame)
    if pixels_HW.shape != shape_px or pixels_HW.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"decoded to {pixels_HW.shape} {pixels_HW.dtype}")
    return pixels_HW


def codestream_shape(src: bytes) -> tuple[int, int] | None:
    """(rows, columns) that a JPEG, JPEG-LS, JPEG 2000 or HTJ2K code stream declares; None if it declares none.

    A stream may declare 60000 x 60000 under a header of 3000 x 2000, and its decoder would believe it.
    """
    if src[:4] == b"\xff\x4f\xff\x51" and len(src) >= 24:  # SOC, SIZ: Xsiz, Ysiz, XOsiz, YOsiz (ISO/IEC 15444-1, A.5.1)
        x_size, y_size, x_offset, y_offset = struct.unpack(">4I", src[8:24])
        return y_size - y_offset, x_size - x_offset
    if src[:2] != b"\xff\xd8":
        return None
    position = 2
    while position + 9 <= len(src):
        if src[position] != 0xFF:
            return None
        marker = src[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker in _SOF_MARKERS:  # length, precision, rows, columns (ISO/IEC 10918-1, B.2.2)
            rows, columns = struct.unpack(">2H", src[position + 5 : position + 9])
            return rows, columns
        else:
            position += 2 + int.from_bytes(src[position + 2 : position + 4], "big")
    return None


def missing_codecs() -> tuple[str, ...]:
    """Kinds of compression that this installation of imagecodecs cannot decode."""
    codecs: dict[str, Any] = {
        "JPEG": imagecodecs.JPEG8,
        "JPEG-LS": imagecodecs.JPEGLS,
        "JPEG 2000": imagecodecs.JPEG2K,
        "HTJ2K": imagecodecs.HTJ2K,
        "RLE": imagecodecs.DICOMRLE,
    }
    return tuple(name for name, codec in codecs.items() if not codec.available)


def _decoder(syntax: str) -> Callable[[bytes], NDArray[np.generic]]:
    if syntax in _JPEG:
        return imagecodecs.jpeg8_decode
    if syntax in _JPEG_LS:
        return imagecodecs.jpegls_decode
    if syntax in _JPEG_2000:
        return imagecodecs.jpeg2k_decode
    return imagecodecs.htj2k_decode


def _decode_rle(frame: bytes, shape_px: tuple[int, int], bits_allocated: int) -> NDArray[np.generic]:
    dtype = np.dtype("<u2" if bits_allocated == 16 else "u1")
    # The output is allocated here: a run-length bomb cannot grow beyond the header's size.
    pixels_HW = np.empty(shape_px, dtype)
    decoded = imagecodecs.dicomrle_decode(frame, dtype, out=pixels_HW.data.cast("B"))
    if len(decoded) != pixels_HW.nbytes:
        raise ValueError(f"decoded to {len(decoded)} bytes")
    return pixels_HW
