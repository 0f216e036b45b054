"""What a code stream says of itself before it is decoded: its size, whether it loses anything, whether it goes to its end.

A label (the transfer syntax) can be wrong, a decoder can be generous: the stream itself is asked. JPEG and JPEG-LS by ISO/IEC
10918-1 annex B and 14495-1 annex C, JPEG 2000 and HTJ2K by ISO/IEC 15444-1 annexes A and I. Nothing is decoded here, and
lengths are believed as far as the stream reaches.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

_SOC_SIZ: Final = b"\xff\x4f\xff\x51"
_SOI: Final = b"\xff\xd8"
_END: Final = b"\xff\xd9"  # EOI of JPEG and JPEG-LS, EOC of JPEG 2000
_JP2_SIGNATURE: Final = b"\0\0\0\x0cjP  \r\n\x87\n"
_SOF_MARKERS: Final = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})  # frame headers; SOF55 is JPEG-LS
_SOF3, _SOF55, _DHT, _SOS, _DRI = 0xC3, 0xF7, 0xC4, 0xDA, 0xDD
_COD, _COC, _SOT, _SOD = 0x52, 0x53, 0x90, 0x93
_REVERSIBLE: Final = 1  # the 5-3 wavelet; 0 is the 9-7
_MOST_ZEROS: Final = 1023
"""No coder writes more zeros on end, but for empty packets, each of which is one: else a part of the file was never written."""


class Family(StrEnum):
    """Code streams of one make."""

    JPEG = "JPEG"
    JPEG_LS = "JPEG-LS"
    JPEG_2000 = "JPEG 2000"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class JpegScan:
    """What a JPEG's headers say of its first scan, as far as its end can be proven by it.

    Attributes:
        precision: Bits of a sample.
        predictor: Ss: 1 to 7 in a lossless scan.
        point_transform: Al: bits that were dropped.
        restart_interval: DRI; 0 = none.
        table: The Huffman table of the scan: its 16 counts and its symbols; empty if there is none.
        start: Where the scan's data begin.
    """

    precision: int
    predictor: int
    point_transform: int
    restart_interval: int
    table: bytes
    start: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CodeStream:
    """A code stream as it goes to its decoder.

    Attributes:
        content: Without boxes around it, with what its standard does not give a meaning set to 0, with an end marker, which
            zeros may follow.
        shape_px: (rows, columns) that it declares.
        is_lossless: True if its decoded values are those that were encoded, as far as the stream tells.
        has_end: False if its end marker was missing.
        data_end: Of a JPEG or JPEG-LS scan: where the end marker is.
        oddities: What was mended, in words.
        cut_off: Why it cannot hold the whole image, in words; "" if nothing says so.
        scan: Of a JPEG; else None.
    """

    content: bytes
    family: Family
    shape_px: tuple[int, int]
    is_lossless: bool
    has_end: bool = True
    data_end: int = 0
    oddities: tuple[str, ...] = ()
    cut_off: str = ""
    scan: JpegScan | None = None


def read_code_stream(frame: bytes) -> CodeStream | None:
    """What a frame's bytes say of themselves; None if they are no code stream of a family that is known here."""
    content = _unboxed(frame)
    boxes = () if content is frame else ("JP2 boxes",)
    if content[:4] == _SOC_SIZ and len(content) >= 42:
        stream: CodeStream | None = _jpeg_2000(content)
    else:
        stream = _jpeg(content) if content[:2] == _SOI else None
    return None if stream is None else replace(stream, oddities=(*boxes, *stream.oddities))


def _unboxed(frame: bytes) -> bytes:
    """The code stream inside JP2 or JPH boxes (15444-1, I.4): the content of the first ``jp2c``."""
    if frame[:12] != _JP2_SIGNATURE:
        return frame
    position = 0
    while position + 8 <= len(frame):
        length, kind = struct.unpack(">L4s", frame[position : position + 8])
        header = 8
        if length == 1 and position + 16 <= len(frame):
            (length,), header = struct.unpack(">Q", frame[position + 8 : position + 16]), 16
        end = len(frame) if length == 0 else position + length
        if kind == b"jp2c":
            return frame[position + header : end]
        if length != 0 and length < header:
            break
        position = end
    return frame


# ---------------------------------------------------------------------------------------------------- JPEG and JPEG-LS


def _segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start and end of its parameters) up to the first scan's header, which is the last."""
    position = 2
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        end = position + 2 + int.from_bytes(content[position + 2 : position + 4], "big")
        if end > len(content) or end < position + 4:
            return
        yield marker, position + 4, end
        if marker == _SOS:
            return
        position = end


def _jpeg(content: bytes) -> CodeStream | None:
    frame_marker = precision = restart_interval = 0
    shape_px: tuple[int, int] | None = None
    tables: dict[int, bytes] = {}
    for marker, start, end in _segments(content):
        if marker in _SOF_MARKERS and end >= start + 6:  # precision, rows, columns (10918-1, B.2.2)
            frame_marker = marker
            precision, *shape = struct.unpack(">B2H", content[start : start + 5])
            shape_px = (shape[0], shape[1])
        elif marker == _DHT:
            tables |= _huffman_tables(content[start:end])
        elif marker == _DRI and end >= start + 2:
            restart_interval = int.from_bytes(content[start : start + 2], "big")
        elif marker == _SOS and shape_px is not None and end >= start + 6:
            return _scanned(content, frame_marker, precision, shape_px, restart_interval, tables, start, end)
    # A frame header without a scan: its size is all that can be told, and the decoder will say the rest.
    is_ls = frame_marker == _SOF55
    family = Family.JPEG_LS if is_ls else Family.JPEG
    return None if shape_px is None else CodeStream(content=content, family=family, shape_px=shape_px, is_lossless=False)


def _scanned(
    content: bytes,
    frame_marker: int,
    precision: int,
    shape_px: tuple[int, int],
    restart_interval: int,
    tables: dict[int, bytes],
    start: int,
    end: int,
) -> CodeStream:
    table_id = content[start + 2] >> 4
    spectral_start, spectral_end, approximation = content[end - 3 : end]  # JPEG-LS: NEAR, ILV, point transform
    content, data_end, has_end = _ended(content, end)
    if frame_marker == _SOF55:
        return CodeStream(
            content=content, family=Family.JPEG_LS, shape_px=shape_px, has_end=has_end, data_end=data_end,
            is_lossless=spectral_start == 0 and approximation & 0xF == 0, oddities=() if has_end else ("no end marker",),
        )  # fmt: skip
    is_predicted = frame_marker == _SOF3
    oddities = () if has_end else ("no end marker",)
    if is_predicted and (spectral_end or approximation >> 4):
        # Se and Ah mean nothing in a lossless scan (10918-1, B.2.3), and some encoders leave 63 there.
        content = content[: end - 2] + bytes((0, approximation & 0xF)) + content[end:]
        oddities = ("Se or Ah in a lossless scan", *oddities)
    scan = JpegScan(
        precision=precision, predictor=spectral_start if is_predicted else 0, point_transform=approximation & 0xF,
        restart_interval=restart_interval, table=tables.get(table_id, b""), start=end,
    )  # fmt: skip
    is_lossless = is_predicted and scan.point_transform == 0
    return CodeStream(
        content=content, family=Family.JPEG, shape_px=shape_px, is_lossless=is_lossless, has_end=has_end,
        data_end=data_end, oddities=oddities, scan=scan,
    )  # fmt: skip


def _ended(content: bytes, data_start: int) -> tuple[bytes, int, bool]:
    """The stream with an end marker, where that is, and whether it had one. What follows the marker pads the frame."""
    for padding in (0, 1):
        if content.endswith(_END + b"\0" * padding):
            return content, len(content) - 2 - padding, True
    end = content.find(_END, data_start)  # coded data never look like it: what follows 0xFF in them is below 0x80
    return (content, end, True) if end >= 0 else (content + _END, len(content), False)


def _huffman_tables(parameters: bytes) -> dict[int, bytes]:
    """DC and lossless tables of a DHT segment by their id; each as its 16 counts and its symbols."""
    tables: dict[int, bytes] = {}
    position = 0
    while position + 17 <= len(parameters):
        kind, counts = parameters[position], parameters[position + 1 : position + 17]
        end = position + 17 + sum(counts)
        if kind >> 4 == 0:
            tables[kind & 0xF] = parameters[position + 1 : end]
        position = end
    return tables


# ------------------------------------------------------------------------------------------------ JPEG 2000 and HTJ2K


def _jpeg_2000(content: bytes) -> CodeStream:
    columns, rows, left, top, tile_columns, tile_rows, tile_left, tile_top = struct.unpack(">8I", content[8:40])
    shape_px = (rows - top, columns - left)
    stream = CodeStream(content=content, family=Family.JPEG_2000, shape_px=shape_px, is_lossless=False)
    covers = tile_left <= left < tile_left + tile_columns and tile_top <= top < tile_top + tile_rows
    if not covers:  # A.5.1; there is a decoder that never ends over such a stream
        return replace(stream, cut_off="a first tile that does not cover the image's corner")
    tiles = -(-(columns - tile_left) // tile_columns) * -(-(rows - tile_top) // tile_rows)
    styles = _Styles(side_px=(min(tile_columns, columns), min(tile_rows, rows)))
    position = _header_end(content, 2, styles)
    parts: Counter[int] = Counter()
    parts_wanted: dict[int, int] = {}
    data: list[tuple[int, int]] = []
    while content[position : position + 2] == b"\xff\x90" and position + 12 <= len(content):
        tile, length, _, wanted = struct.unpack(">HLBB", content[position + 4 : position + 12])
        start = _header_end(content, position + 12, styles)
        parts[tile] += 1
        parts_wanted[tile] = max(wanted, parts_wanted.get(tile, 0))
        if length == 0:  # up to the end
            end = content.rfind(_END, position)
            position = end if end >= 0 and not any(content[end + 2 :]) else len(content)
            data.append((start, position))
            break
        if length < 14 or position + length > len(content):
            return replace(stream, cut_off=f"a tile-part of {length} bytes in {len(content) - position}")
        position += length
        data.append((start, position))
    rest = content[position:]
    has_end = rest[:2] == _END
    # In coded data 0xFF is followed by less than 0x90: an end marker inside the last tile-part closes what was cut.
    if not has_end and (rest not in (b"", b"\0") or content[position - 2 : position] == _END):
        return replace(stream, cut_off="neither a tile-part nor an end marker where one should be")
    if len(parts) < tiles or any(parts[tile] < wanted for tile, wanted in parts_wanted.items()):
        return replace(stream, cut_off=f"{len(parts)} of {tiles} tiles, {sum(parts.values())} tile-parts")
    most_zeros = _MOST_ZEROS + styles.most_packets(components=int.from_bytes(content[40:42], "big"))
    hole = bytes(min(most_zeros, len(content)) + 1)
    if any(content.find(hole, start, end) >= 0 for start, end in data):
        return replace(stream, cut_off="a hole of zeros in the coded data")
    return replace(
        stream,
        content=content if has_end else content[:position] + _END,
        is_lossless=styles.transforms == {_REVERSIBLE},
        has_end=has_end,
        oddities=() if has_end else ("no end marker",),
    )


class _Styles:
    """What coding styles (COD and COC, in main and tile-part headers) say, as far as it is needed here.

    Attributes:
        side_px: (columns, rows) of the largest tile.
        transforms: The wavelets.
    """

    def __init__(self, *, side_px: tuple[int, int]) -> None:
        self.side_px = side_px
        self.transforms: set[int] = set()
        self._layers = 1
        self._precincts = 1

    def add(self, parameters: bytes, *, has_precincts: bool, layers: int = 1) -> None:
        """Enters the parameters SPcod or SPcoc (A.6.1): levels, code blocks, their style, wavelet, precincts."""
        self.transforms.add(parameters[4] if len(parameters) > 4 else 0)
        self._layers = max(self._layers, layers)
        levels, exponents = min([*parameters[:1], _MOST_LEVELS]), parameters[5:] if has_precincts else b""
        precincts = 0
        for resolution in range(levels + 1):
            exponent = exponents[resolution] if resolution < len(exponents) else 0xFF
            across, down = (side >> (levels - resolution) for side in self.side_px)
            precincts += ((across >> (exponent & 0xF)) + 2) * ((down >> (exponent >> 4)) + 2)  # 2: what is begun on both sides
        self._precincts = max(self._precincts, precincts)

    def most_packets(self, components: int) -> int:
        """A tile has no more packets: one for each layer, component, resolution and precinct (B.6, B.9)."""
        return self._layers * components * self._precincts


_MOST_LEVELS: Final = 32  # A.6.1


def _header_end(content: bytes, position: int, styles: _Styles) -> int:
    """Where a main or tile-part header ends; enters the coding styles that it holds."""
    while position + 4 <= len(content) and content[position] == 0xFF and content[position + 1] not in (_SOT, _SOD):
        marker, length = content[position + 1], int.from_bytes(content[position + 2 : position + 4], "big")
        segment = content[position + 4 : position + 2 + length]
        if marker == _COD:
            styles.add(
                segment[5:], has_precincts=bool(segment[:1] and segment[0] & 1), layers=int.from_bytes(segment[2:4], "big")
            )
        elif marker == _COC:
            at = 1 if int.from_bytes(content[40:42], "big") < 257 else 2
            styles.add(segment[at + 1 :], has_precincts=bool(segment[at : at + 1] and segment[at] & 1))
        position += 2 + length
    return position
