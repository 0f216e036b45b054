"""Transfer syntaxes and their decoders: imagecodecs, called directly. The only module that imports imagecodecs.

``SYNTAXES`` is the list of what is read: another syntax is a row there. imagecodecs decodes faster than pydicom's plug-ins
(benchmarks/ingest/bench_decode.py) and releases the GIL; behind pydicom's own plug-in interface it would lose 4 ms an image
to copies.
What a code stream says of itself is read before a byte of it is decoded (``code_stream``): its size, its loss, its end.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from schemas.errors import GateRejection
from tasks.adapters.dicom.code_stream import CodeStream, Family, read_code_stream
from tasks.adapters.dicom.jpeg_end import is_whole

Decode = Callable[[bytes, tuple[int, int], int], NDArray[np.generic]]
"""From a frame's code stream, the header's (rows, columns) and its BitsAllocated to the values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """How one kind of compression is decoded. imagecodecs loads each codec when it is first asked: so do these functions.

    Attributes:
        title: As users read it.
        is_available: Whether this installation of imagecodecs has it.
        family: Of its code streams, which say their size themselves: it is compared with the header's before decoding. None =
            they do not (RLE).
    """

    title: str
    decode: Decode
    is_available: Callable[[], bool]
    family: Family | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Syntax:
    """A transfer syntax (0002,0010) that is read.

    Attributes:
        codec: What decodes it; None = the pixels are uncompressed.
        is_lossless: True if it promises that the decoded values are those that were encoded.
    """

    codec: Codec | None
    is_lossless: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecodedFrame:
    """One frame, and what its code stream was like.

    Attributes:
        pixels_HW: uint8 or uint16, whatever the code stream holds in that many bits.
        is_lossless: True if the values are those that were encoded, as far as the code stream tells.
        oddities: What is not as the code stream's standard says, and was mended.
    """

    pixels_HW: NDArray[np.generic]
    is_lossless: bool
    oddities: tuple[str, ...] = ()


def _decode_rle(frame: bytes, shape_px: tuple[int, int], bits_allocated: int) -> NDArray[np.generic]:
    dtype = np.dtype("<u2" if bits_allocated == 16 else "u1")
    # The output is allocated here: a run-length bomb cannot grow beyond the header's size.
    pixels_HW = np.empty(shape_px, dtype)
    decoded = imagecodecs.dicomrle_decode(frame, dtype, out=pixels_HW.data.cast("B"))
    if len(decoded) != pixels_HW.nbytes:
        raise ValueError(f"decoded to {len(decoded)} bytes")
    return pixels_HW


def _decode_jpeg_ls(stream: bytes, shape_px: tuple[int, int], bits_allocated: int) -> NDArray[np.generic]:
    try:
        return imagecodecs.jpegls_decode(stream)
    except RuntimeError:
        if stream[-3:-2] != b"\0":
            raise
        return imagecodecs.jpegls_decode(stream[:-3] + stream[-2:])  # a zero made the length of a frame without end marker even


def _decode_htj2k(stream: bytes, shape_px: tuple[int, int], bits_allocated: int) -> NDArray[np.generic]:
    with _raising_what_is_swallowed():
        return imagecodecs.htj2k_decode(stream)


@contextmanager
def _raising_what_is_swallowed() -> Iterator[None]:
    """Raises what a decoder could only report to ``sys.unraisablehook``, as HTJ2K's does: the rows that it misses stay 0."""
    swallowed: list[str] = []
    usual = sys.unraisablehook

    def keep(unraisable: Any) -> None:
        swallowed.append(unraisable.exc_type.__name__)

    sys.unraisablehook = keep
    try:
        yield
    finally:
        sys.unraisablehook = usual
    if swallowed:
        raise ValueError(f"the decoder failed inside: {swallowed[0]}")


_RLE: Final = Codec(title="RLE", decode=_decode_rle, is_available=lambda: bool(imagecodecs.DICOMRLE.available), family=None)
_JPEG: Final = Codec(
    title="JPEG",
    decode=lambda stream, shape_px, bits: imagecodecs.jpeg8_decode(stream),
    is_available=lambda: bool(imagecodecs.JPEG8.available),
    family=Family.JPEG,
)
_JPEG_LS: Final = Codec(
    title="JPEG-LS",
    decode=_decode_jpeg_ls,
    is_available=lambda: bool(imagecodecs.JPEGLS.available),
    family=Family.JPEG_LS,
)
_JPEG_2000: Final = Codec(
    title="JPEG 2000",
    decode=lambda stream, shape_px, bits: imagecodecs.jpeg2k_decode(stream),
    is_available=lambda: bool(imagecodecs.JPEG2K.available),
    family=Family.JPEG_2000,
)
_HTJ2K: Final = Codec(
    title="HTJ2K",
    decode=_decode_htj2k,
    is_available=lambda: bool(imagecodecs.HTJ2K.available),
    family=Family.JPEG_2000,
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


def decode_frame(frame: bytes, codec: Codec, *, shape_px: tuple[int, int], bits_allocated: int) -> NDArray[np.generic]:
    """Decodes one greyscale frame as it is; what its code stream is like, ``read_frame`` asks.

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


def read_frame(frame: bytes, syntax_uid: str, *, shape_px: tuple[int, int], bits_allocated: int) -> DecodedFrame:
    """Decodes one greyscale frame of a compressed syntax, and sees to it that the code stream holds all of it.

    Raises:
        GateRejection: The code stream is of another kind than the syntax says or ends before the image does (X22), or declares
            another size than the header (X23): it may say 60000 x 60000, and its decoder would believe it.
        Exception: As ``decode_frame``; KeyError if the syntax is not compressed.
    """
    syntax = SYNTAXES[syntax_uid]
    codec = syntax.codec
    if codec is None:
        raise KeyError(syntax_uid)
    if codec.family is None:
        return _read_rle(frame, codec, shape_px, bits_allocated)
    stream = _sound_stream(frame, codec, shape_px)
    pixels_HW = decode_frame(stream.content, codec, shape_px=shape_px, bits_allocated=bits_allocated)
    if not is_whole(stream, pixels_HW, imagecodecs.jpeg8_decode):
        raise _cut_off("rows that are not in it")
    # A reversible JPEG 2000 stream may have been thinned out, which only its label tells.
    can_be_thinned = stream.family is Family.JPEG_2000 and not syntax.is_lossless
    return DecodedFrame(pixels_HW=pixels_HW, is_lossless=stream.is_lossless and not can_be_thinned, oddities=stream.oddities)


def _sound_stream(frame: bytes, codec: Codec, shape_px: tuple[int, int]) -> CodeStream:
    stream = read_code_stream(frame)
    if stream is None or stream.family is not codec.family:
        raise GateRejection(
            "The compressed image is of another kind than the transfer syntax says",
            reason_codes=("X22",),
            expected=f"a {codec.family} code stream",
            got="none that is known here" if stream is None else f"a {stream.family} code stream",
            remedy="export the exam as Explicit VR Little Endian",
        )
    if stream.shape_px != shape_px:
        raise GateRejection(
            "The compressed image has another size than the header says",
            reason_codes=("X23",),
            expected=f"{shape_px[0]} x {shape_px[1]}",
            got=f"{stream.shape_px[0]} x {stream.shape_px[1]}",
        )
    if stream.cut_off:
        raise _cut_off(stream.cut_off)
    return stream


def _cut_off(got: str) -> GateRejection:
    return GateRejection(
        "The code stream ends before the image does",
        reason_codes=("X22",),
        expected="a stream that holds every row",
        got=got,
        remedy="the file is cut off or damaged: copy it again",
    )


def _read_rle(frame: bytes, codec: Codec, shape_px: tuple[int, int], bits_allocated: int) -> DecodedFrame:
    oddities: tuple[str, ...] = ()
    try:
        pixels_HW = decode_frame(frame, codec, shape_px=shape_px, bits_allocated=bits_allocated)
    except RuntimeError:  # the class of imagecodecs' own errors
        shorter = _shorter_rle(frame, segments=bits_allocated // 8, segment_bytes=shape_px[0] * shape_px[1])
        pixels_HW = decode_frame(shorter, codec, shape_px=shape_px, bits_allocated=bits_allocated)
        oddities = ("RLE segments longer than the image",)
    return DecodedFrame(pixels_HW=pixels_HW, is_lossless=True, oddities=oddities)


def _shorter_rle(frame: bytes, *, segments: int, segment_bytes: int) -> bytes:
    """The frame with each segment ending where the image does (PS3.5 G.3): some encoders pad the image before they code it.

    Raises:
        ValueError: There are other segments, or one is shorter, or holds more than as much again as the image.
    """
    count, *offsets = struct.unpack("<16L", frame[:64])
    if count != segments or any(not 64 <= offset <= len(frame) for offset in offsets[:segments]):
        raise ValueError(f"{count} segments")
    ends = [*offsets[1:segments], len(frame)]
    kept = [_shorter_segment(frame[start:end], segment_bytes) for start, end in zip(offsets, ends, strict=False)]
    starts = np.cumsum([64, *map(len, kept)])[:segments].tolist()
    return struct.pack("<16L", segments, *starts, *[0] * (15 - segments)) + b"".join(kept)


def _shorter_segment(segment: bytes, wanted_bytes: int) -> bytes:
    position = unfolded = 0
    kept: bytes | None = None
    while position + 1 < len(segment):
        control = segment[position]
        width, size = (control + 2, control + 1) if control < 128 else (2, 257 - control) if control > 128 else (1, 0)
        if kept is None and unfolded + size >= wanted_bytes:
            missing = wanted_bytes - unfolded
            last = segment[position : position + 1 + missing] if control < 128 else segment[position : position + 2]
            first_byte = missing - 1 if control < 128 else 257 - missing
            kept = segment[:position] + bytes((first_byte % 256,)) + last[1:]
        position += width
        unfolded += size
        if unfolded > 2 * wanted_bytes:
            break
    if kept is None or unfolded > 2 * wanted_bytes:
        raise ValueError("a segment of another length than the image")
    return kept


def missing_codecs() -> tuple[str, ...]:
    """Kinds of compression that this installation of imagecodecs cannot decode."""
    return tuple(codec.title for codec in CODECS if not codec.is_available())
