"""Transfer syntaxes and their decoders: imagecodecs, called directly. The only module that imports imagecodecs.

``SYNTAXES`` is the list of what is read: another syntax is a row there. imagecodecs decodes faster than pydicom's plug-ins
(benchmarks/bench_decode.py) and releases the GIL; behind pydicom's own plug-in interface it would lose 4 ms an image to copies.
``codestream_shape`` reads the size that a code stream claims, before a byte of it is decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray

Decode = Callable[[bytes, tuple[int, int], int], NDArray[np.generic]]
"""From a frame's code stream, the header's (rows, columns) and its BitsAllocated to the values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """How one kind of compression is decoded. imagecodecs loads each codec when it is first asked: so do these functions.

    Attributes:
        title: As users read it.
        is_available: Whether this installation of imagecodecs has it.
        declares_size: True if the code stream says its size itself, which is then compared with the header's before decoding.
    """

    title: str
    decode: Decode
    is_available: Callable[[], bool]
    declares_size: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Syntax:
    """A transfer syntax (0002,0010) that is read.

    Attributes:
        codec: What decodes it; None = the pixels are uncompressed.
        is_lossless: True if the decoded values are those that were encoded.
    """

    codec: Codec | None
    is_lossless: bool


def _decode_rle(frame: bytes, shape_px: tuple[int, int], bits_allocated: int) -> NDArray[np.generic]:
    dtype = np.dtype("<u2" if bits_allocated == 16 else "u1")
    # The output is allocated here: a run-length bomb cannot grow beyond the header's size.
    pixels_HW = np.empty(shape_px, dtype)
    decoded = imagecodecs.dicomrle_decode(frame, dtype, out=pixels_HW.data.cast("B"))
    if len(decoded) != pixels_HW.nbytes:
        raise ValueError(f"decoded to {len(decoded)} bytes")
    return pixels_HW


_RLE: Final = Codec(
    title="RLE", decode=_decode_rle, is_available=lambda: bool(imagecodecs.DICOMRLE.available), declares_size=False
)
_JPEG: Final = Codec(
    title="JPEG",
    decode=lambda frame, shape_px, bits: imagecodecs.jpeg8_decode(frame),
    is_available=lambda: bool(imagecodecs.JPEG8.available),
)
_JPEG_LS: Final = Codec(
    title="JPEG-LS",
    decode=lambda frame, shape_px, bits: imagecodecs.jpegls_decode(frame),
    is_available=lambda: bool(imagecodecs.JPEGLS.available),
)
_JPEG_2000: Final = Codec(
    title="JPEG 2000",
    decode=lambda frame, shape_px, bits: imagecodecs.jpeg2k_decode(frame),
    is_available=lambda: bool(imagecodecs.JPEG2K.available),
)
_HTJ2K: Final = Codec(
    title="HTJ2K",
    decode=lambda frame, shape_px, bits: imagecodecs.htj2k_decode(frame),
    is_available=lambda: bool(imagecodecs.HTJ2K.available),
)

SYNTAXES: Final[Mapping[str, Syntax]] = MappingProxyType(
    {
        "1.2.840.10008.1.2": Syntax(codec=None, is_lossless=True),  # Implicit VR Little Endian
        "1.2.840.10008.1.2.1": Syntax(codec=None, is_lossless=True),  # Explicit VR Little Endian
        "1.2.840.10008.1.2.2": Syntax(codec=None, is_lossless=True),  # Explicit VR Big Endian
        "1.2.840.10008.1.2.5": Syntax(codec=_RLE, is_lossless=True),
        "1.2.840.10008.1.2.4.50": Syntax(codec=_JPEG, is_lossless=False),  # baseline, 8 bits
        "1.2.840.10008.1.2.4.51": Syntax(codec=_JPEG, is_lossless=False),  # extended, 12 bits
        "1.2.840.10008.1.2.4.57": Syntax(codec=_JPEG, is_lossless=True),
        "1.2.840.10008.1.2.4.70": Syntax(codec=_JPEG, is_lossless=True),  # first-order prediction
        "1.2.840.10008.1.2.4.80": Syntax(codec=_JPEG_LS, is_lossless=True),
        "1.2.840.10008.1.2.4.81": Syntax(codec=_JPEG_LS, is_lossless=False),  # near-lossless
        "1.2.840.10008.1.2.4.90": Syntax(codec=_JPEG_2000, is_lossless=True),
        "1.2.840.10008.1.2.4.91": Syntax(codec=_JPEG_2000, is_lossless=False),
        "1.2.840.10008.1.2.4.201": Syntax(codec=_HTJ2K, is_lossless=True),
        "1.2.840.10008.1.2.4.202": Syntax(codec=_HTJ2K, is_lossless=True),  # with resolutions in order (RPCL)
        "1.2.840.10008.1.2.4.203": Syntax(codec=_HTJ2K, is_lossless=False),
    }
)
"""Every transfer syntax that is read, and how. Deflate is not: it inflates before anything can be checked."""

CODECS: Final = tuple(dict.fromkeys(syntax.codec for syntax in SYNTAXES.values() if syntax.codec is not None))

_SOF_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})  # frame headers of JPEG, and SOF55 of JPEG-LS


def decode_frame(frame: bytes, codec: Codec, *, shape_px: tuple[int, int], bits_allocated: int) -> NDArray[np.generic]:
    """Decodes one greyscale frame.

    Args:
        frame: The frame's code stream, all fragments joined.
        codec: Of the file's transfer syntax.
        shape_px: (rows, columns) of the header.
        bits_allocated: BitsAllocated (0028,0100), which RLE does not tell itself.

    Returns:
        uint8 or uint16 of shape ``shape_px``, whatever the code stream holds in that many bits.

    Raises:
        Exception: Whatever imagecodecs raises; ValueError if the stream is not one unsigned image of that shape.
    """
    pixels_HW = codec.decode(frame, shape_px, bits_allocated)
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
    return tuple(codec.title for codec in CODECS if not codec.is_available())
