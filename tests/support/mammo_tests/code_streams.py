"""Code streams of every kind that is read, whole and damaged: what tests put under a transfer syntax."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray

END: Final = b"\xff\xd9"
JPEG_BASELINE, JPEG_EXTENDED, JPEG_57, JPEG_LOSSLESS, JPEG_LS, NEAR_LOSSLESS, J2K, J2K_LOSSY, HTJ2K, HTJ2K_RPCL, HTJ2K_LOSSY = (
    f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70, 80, 81, 90, 91, 201, 202, 203)
)
RLE: Final = "1.2.840.10008.1.2.5"

Encode = Callable[[NDArray[np.uint16]], bytes]


def jpeg_lossless(pixels_HW: NDArray[np.uint16], predictor: int = 1, bits: int = 16) -> bytes:
    """Process 14."""
    return bytes(imagecodecs.jpeg8_encode(pixels_HW, lossless=True, predictor=predictor, bitspersample=bits))


def jpeg_ls(pixels_HW: NDArray[np.uint16], near: int = 0) -> bytes:
    """JPEG-LS, each value off by at most ``near``."""
    return bytes(imagecodecs.jpegls_encode(pixels_HW, level=near))


def j2k(pixels_HW: NDArray[np.uint16], boxes: bool = False, reversible: bool = True) -> bytes:
    """JPEG 2000, bare or in JP2 boxes."""
    kind = "JP2" if boxes else "J2K"
    level = 0 if reversible else 80
    return bytes(imagecodecs.jpeg2k_encode(pixels_HW, level=level, codecformat=kind, reversible=reversible))


def htj2k(pixels_HW: NDArray[np.uint16], reversible: bool = True, tile_px: int = 0) -> bytes:
    """HTJ2K, in one tile or many."""
    tile = (tile_px, tile_px) if tile_px else None
    return bytes(imagecodecs.htj2k_encode(pixels_HW, level=None if reversible else 0.001, reversible=reversible, tile=tile))


def jpeg_lossy(pixels_HW: NDArray[np.uint16]) -> bytes:
    """Extended sequential, 12 bits."""
    return bytes(imagecodecs.jpeg8_encode(pixels_HW, level=90, bitspersample=12))


LOSSLESS: Final[dict[str, tuple[str, Encode]]] = {
    "jpeg": (JPEG_LOSSLESS, jpeg_lossless),
    "jpeg-57": (JPEG_57, lambda pixels_HW: jpeg_lossless(pixels_HW, predictor=7, bits=12)),
    "jpeg-ls": (JPEG_LS, jpeg_ls),
    "j2k": (J2K, j2k),
    "jp2": (J2K, lambda pixels_HW: j2k(pixels_HW, boxes=True)),
    "htj2k": (HTJ2K, htj2k),
    "htj2k-tiles": (HTJ2K_RPCL, lambda pixels_HW: htj2k(pixels_HW, tile_px=256)),
}
LOSSY: Final[dict[str, tuple[str, Encode]]] = {
    "jpeg": (JPEG_EXTENDED, jpeg_lossy),
    "jpeg-ls": (NEAR_LOSSLESS, lambda pixels_HW: jpeg_ls(pixels_HW, near=2)),
    "j2k": (J2K_LOSSY, lambda pixels_HW: j2k(pixels_HW, reversible=False)),
    "htj2k": (HTJ2K_LOSSY, lambda pixels_HW: htj2k(pixels_HW, reversible=False)),
}


def rle(pixels_HW: NDArray[np.uint16], surplus: bytes = b"") -> bytes:
    """DICOM's run lengths, all of them literal; ``surplus`` follows the image in each segment."""
    segments = []
    for half_HW in (pixels_HW >> 8, pixels_HW & 0xFF):
        plain = half_HW.astype(np.uint8).tobytes() + surplus
        parts = (plain[at : at + 128] for at in range(0, len(plain), 128))
        coded = b"".join(bytes((len(part) - 1,)) + part for part in parts)
        segments.append(coded + b"\0" * (len(coded) % 2))
    return struct.pack("<16L", 2, 64, 64 + len(segments[0]), *[0] * 13) + b"".join(segments)


def beside_empty_tile(stream: bytes, *, side_px: int, precinct_bits: int, layers: int = 1) -> tuple[bytes, int]:
    """A JPEG 2000 of one square tile as the right one of two, and the number of packets of the left one, which are all empty.

    An empty packet is one bit 0 (15444-1, B.10.3), so a byte 0. OpenJPEG reads it and never writes it; other coders do.
    """
    style, part = stream.index(b"\xff\x52"), stream.index(b"\xff\x90")
    levels = stream[style + 9]
    header = stream[:8] + struct.pack(">L", 2 * side_px) + stream[12:24] + struct.pack(">L", side_px) + stream[28:part]
    precincts = bytes([precinct_bits << 4 | precinct_bits]) * (levels + 1)
    own = (
        bytes([stream[style + 4] | 1, stream[style + 5]])
        + struct.pack(">H", layers)
        + stream[style + 8 : style + 14]
        + precincts
    )
    sides = [-(-(side_px >> level) // (1 << precinct_bits)) for level in (levels, *range(levels - 1, -1, -1))]
    packets = layers * sum(side**2 for side in sides)
    own_style = b"\xff\x52" + struct.pack(">H", len(own) + 2) + own
    left = struct.pack(">HHHLBB", 0xFF90, 10, 0, 14 + len(own_style) + packets, 0, 1) + own_style + b"\xff\x93" + bytes(packets)
    return header + left + stream[part : part + 4] + b"\0\1" + stream[part + 6 :], packets


def only_without_end(stream: bytes) -> Iterator[tuple[str, bytes]]:
    """Whole streams that lack their end marker alone, or have something behind it."""
    yield "no end marker", stream[:-2]
    yield "no end marker, made even", stream[:-2] + b"\0" * (len(stream) % 2)
    yield "zeros behind", stream + b"\0" * 100


def cut(stream: bytes) -> Iterator[tuple[str, bytes]]:
    """Streams whose data end before the image: cut, cut and closed, cut and made as long as they were."""
    body = stream[:-2]
    for share in (0.99, 0.9, 0.5):
        kept = body[: int(len(body) * share)]
        yield f"{share}", kept
        yield f"{share}, closed", kept + END
        yield f"{share}, zeros", kept + b"\0" * (len(stream) - len(kept))
        if len(body) - len(kept) >= 1024:
            yield f"{share}, zeros, closed", kept + b"\0" * (len(body) - len(kept)) + END
