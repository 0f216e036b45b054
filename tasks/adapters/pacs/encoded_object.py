"""An encoded DICOM object as bytes: whose it is and whether it is whole. Nothing is decoded, and pydicom is not needed.

Elements are walked by their lengths (PS3.5 section 7), so a sequence that names other exams, or pixels that hold any bytes, are
passed over and never searched. What an object says here is believed for a file's name only: the gate reads the file later.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import Final, NamedTuple

from schemas.errors import DicomError

IMPLICIT: Final = "1.2.840.10008.1.2"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"

_PREAMBLE_BYTES: Final = 132
_MARK: Final = slice(128, 132)
_META_GROUP: Final = b"\x02\x00"
_UNDEFINED: Final = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG_VR: Final = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_TAG_LENGTH, _TAG_VR_LENGTH, _LENGTH = ({order: Struct(order + form) for order in "<>"} for form in ("HHL", "HH2sH", "L"))
_DEEPEST: Final = 32
_TRANSFER_SYNTAX, _MEDIA_SOP_UID = 0x00020010, 0x00020003
_SOP_CLASS, _SOP_UID, _STUDY_UID = 0x00080016, 0x00080018, 0x0020000D
_NAMES: Final = frozenset({_SOP_CLASS, _SOP_UID, _STUDY_UID})
_PIXELS: Final = 0x7FE00010


class Incomplete(DicomError):
    """What arrived is not what was announced, or ends too early: nothing of it is kept. Says no value of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What an object says that it is; empty texts for what it does not say."""

    sop_class: str = ""
    sop_uid: str = field(default="", repr=False)
    study_uid: str = field(default="", repr=False)


class _Element(NamedTuple):
    tag: int
    start: int
    """Of the value."""
    end: int
    """Of the value, the end mark of one of undefined length included."""


def name_of(content: memoryview, syntax_uid: str) -> Named:
    """What a data set says that it is; reading stops behind StudyInstanceUID.

    Raises:
        Incomplete: It cannot be walked so far, or is deflated.
    """
    if syntax_uid == DEFLATED:
        raise Incomplete("The object is deflated", expected="a transfer syntax that can be walked")
    return _named(content, _elements(content, syntax_uid))


def whole_file(content: memoryview) -> tuple[Named, int]:
    """What a file (PS3.10) says that it is, and where its data set begins, if it is whole to the end of its pixels.

    A deflated file is not walked: its name is its file meta information's, and the gate refuses it.

    Raises:
        Incomplete: It is no DICOM file, or ends before its pixels do.
    """
    if bytes(content[_MARK]) != b"DICM":
        raise Incomplete("What arrived is no DICOM file")
    syntax_uid, media_uid, start = "", "", _PREAMBLE_BYTES
    for element in _meta_elements(content):
        start = element.end
        syntax_uid = _text(content, element) if element.tag == _TRANSFER_SYNTAX else syntax_uid
        media_uid = _text(content, element) if element.tag == _MEDIA_SOP_UID else media_uid
    if syntax_uid == DEFLATED:
        return Named(sop_uid=media_uid), start
    elements = _elements(content, syntax_uid, start)
    named = _named(content, elements)  # walks as far as it must, and what follows goes on from there
    if not any(element.tag == _PIXELS for element in elements):
        raise Incomplete("What arrived holds no pixels")
    return named, start


def data_set_start(head: memoryview) -> int | None:
    """Where a file's data set begins, if its first bytes tell; a guess where they end at an element's end."""
    try:
        return max((element.end for element in _meta_elements(head)), default=None)
    except Incomplete:
        return None


# ---------------------------------------------------------------------------------------------------------------------


def _meta_elements(content: memoryview) -> Iterator[_Element]:
    """Those of the file meta information."""
    start = _PREAMBLE_BYTES
    while bytes(content[start : start + 2]) == _META_GROUP:  # asked first: what comes behind may be encoded otherwise
        element = _element(content, start, "<", is_implicit=False, depth=0)
        yield element
        start = element.end


def _named(content: memoryview, elements: Iterator[_Element]) -> Named:
    found: dict[int, str] = {}
    for element in elements:
        if element.tag in _NAMES:
            found[element.tag] = _text(content, element)
        if element.tag >= _STUDY_UID:
            break
    return Named(
        sop_class=found.get(_SOP_CLASS, ""),
        sop_uid=found.get(_SOP_UID, ""),
        study_uid=found.get(_STUDY_UID, ""),
    )


def _text(content: memoryview, element: _Element) -> str:
    return bytes(content[element.start : min(element.end, element.start + 256)]).decode("latin-1").strip("\0 ")


def _elements(content: memoryview, syntax_uid: str, start: int = 0) -> Iterator[_Element]:
    """The elements of the outermost level, in order."""
    order, is_implicit = ">" if syntax_uid == _BIG_ENDIAN else "<", syntax_uid == IMPLICIT
    position = start
    while position < len(content):
        element = _element(content, position, order, is_implicit, depth=0)
        yield element
        position = element.end


def _element(content: memoryview, position: int, order: str, is_implicit: bool, depth: int) -> _Element:
    tag, vr, length, start = _head(content, position, order, is_implicit)
    if length == _UNDEFINED:
        # PS3.5 6.2.2: what stands in an unknown element of undefined length is implicit, whatever the object is.
        inner_implicit = is_implicit or vr == b"UN"
        return _Element(tag, start, _end_of_items(content, start, "<" if vr == b"UN" else order, inner_implicit, depth))
    if start + length > len(content):
        raise Incomplete("What arrived ends in the middle of an element")
    return _Element(tag, start, start + length)


def _end_of_items(content: memoryview, position: int, order: str, is_implicit: bool, depth: int) -> int:
    """Behind the mark that ends a sequence, or the fragments of compressed pixels."""
    if depth > _DEEPEST:
        raise Incomplete("The object's sequences are nested too deep")
    while True:
        tag, length = _item_head(content, position, order)
        position += 8
        if tag == _SEQUENCE_END:
            return position
        if tag != _ITEM:
            raise Incomplete("A sequence of the object holds something that is no item")
        if length != _UNDEFINED:
            position += length
            continue
        while _item_head(content, position, order)[0] != _ITEM_END:
            position = _element(content, position, order, is_implicit, depth + 1).end
        position += 8


def _item_head(content: memoryview, position: int, order: str) -> tuple[int, int]:
    if position + 8 > len(content):
        raise Incomplete("What arrived ends in the middle of an element")
    group, element, length = _TAG_LENGTH[order].unpack_from(content, position)
    return group << 16 | element, length


def _head(content: memoryview, position: int, order: str, is_implicit: bool) -> tuple[int, bytes, int, int]:
    """Tag, value representation (empty if implicit), length, and where the value begins."""
    if is_implicit:
        tag, length = _item_head(content, position, order)
        return tag, b"", length, position + 8
    if position + 8 > len(content):
        raise Incomplete("What arrived ends in the middle of an element")
    group, element, vr, length = _TAG_VR_LENGTH[order].unpack_from(content, position)
    tag = group << 16 | element
    if vr not in _LONG_VR:
        return tag, vr, length, position + 8
    if position + 12 > len(content):
        raise Incomplete("What arrived ends in the middle of an element")
    return tag, vr, _LENGTH[order].unpack_from(content, position + 8)[0], position + 12
