"""Rules on the file itself (F): what it is, how large, how it begins, and whether it can be read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from tasks.adapters.gate.rules.rule import BLOCK, WARN, Seen, row, rule
from tasks.adapters.gate.source_file import UNFINISHED_NAMES

_SMALLEST_FILE_BYTES: Final = 2_000
LARGEST_FILE_BYTES: Final = 600_000_000
_TIFF_HEADERS: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_OTHER_KINDS: Final = (
    b"MZ", b"\x7fELF", b"\xfe\xed\xfa", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"dex\n", b"\0asm",
    b"#!", b"PK", b"Rar!", b"7z\xbc\xaf", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\xd0\xcf\x11\xe0", b"{\\rtf",
    b"L\0\0\0\x01\x14\x02",
)  # fmt: skip
"""How programs, scripts, archives and documents begin that something may run or open."""
_OTHER_WORDS: Final = (b"%pdf", b"%!ps", b"<?", b"<!", b"<html", b"<script", b"<svg", b"javascript:")
"""What makes such a kind wherever in the preamble it stands, in lower case."""
_PICTURES_AND_DATA: Final = (
    b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF", b"\0\0\x01\0", b"\0\0\x02\0", *_TIFF_HEADERS, b"%PDF", b"%!PS",
    b"icns", b"OggS", b"ID3", b"\0\0\0\x18ftyp", b"\0\0\0\x1cftyp", b"\0\0\0\x20ftyp", b"\0\0\x01\xba", b"\x1aE\xdf\xa3",
    b"SQLite format 3\0", b"MSCF", b"ISc(", b"ITSF", b"?_\x03\0", b"\0\x01\0\0", b"OTTO", b"wOF", b"bplist",
    b"\xde\x12\x04\x95", b"\x95\x04\x12\xde",
)  # fmt: skip
"""How pictures, films, sounds, installers, fonts and databases begin, as viewers on a CD and exports have them."""
_NAMED_DICOM: Final = re.compile(r"\.(dcm|dicom|dic|dc3|ima)(\.|$)", re.IGNORECASE)
_NAMED_NOTHING: Final = re.compile(r"^[^.]*\d[^.]*$|\.\d*$")
"""``IM000001``, ``1.2.840.1``: a text under such a name is an image that was lost, as under ``a.dcm``."""
_NAMED_DATA_OF_A_PROGRAM: Final = re.compile(r"\.(bin|car|dat|db|idx|lib|lng|mo|nib|pak|res|tlb)$", re.IGNORECASE)
_CONTROL_CHARACTERS: Final = bytes({*range(32), 127} - {*b"\t\n\r\f\x1b"})
_DICOM_ROOT: Final = b"1.2.840.10008."
_FIRST_BYTES: Final = 132

START_BYTES: Final = 4096
"""What of a file tells its kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What rules see of an open file before it is parsed: what is checked is what is open, so nobody can swap it in between.

    Attributes:
        links: Names that the file has on its disk.
        start: Its first ``START_BYTES``, which begin with preamble and prefix (PS3.10 7.1).
        name: Without its folder. It may spell a patient's name: no rule says it.
    """

    links: int
    size_bytes: int
    start: bytes
    name: str = field(default="", repr=False)

    @property
    def has_prefix(self) -> bool:
        """True if it says that it is a DICOM file."""
        return self.start[128:_FIRST_BYTES] == b"DICM"


row("F01", BLOCK, "A regular file inside the source folder, no symbolic link, pipe or device", by="gate.opening")
row("F07", BLOCK, f"Complete: without {UNFINISHED_NAMES}, and unchanged while it is read", by="gate.opening")
row("F10", BLOCK, "Read within the time limit", by="gate.child")
row("F11", BLOCK, "Read within the memory limit, without crashing the reader", by="gate.child")
row("F12", BLOCK, "The file meta information names a transfer syntax", by="dicom.dicom_file")
row("F13", BLOCK, "The transfer syntax is on the list of those read; deflate is not", by="dicom.dicom_file")


@rule("F02", BLOCK, "Not hard-linked: nobody else can change it while it is read")
def has_one_name(opened: Opened) -> str | None:
    """A second name is a way to the same bytes that the source folder's owner does not see."""
    return f"{opened.links} links" if opened.links > 1 else None


@rule("F04", BLOCK, "At most 600 MB")
def is_not_too_large(opened: Opened) -> str | None:
    """The largest image that X01 allows has 134 MB uncompressed."""
    return f"{opened.size_bytes} bytes" if opened.size_bytes > LARGEST_FILE_BYTES else None


@rule("F05", BLOCK, "'DICM' stands at byte 128")
def has_prefix(opened: Opened) -> str | None:
    """PS3.10 7.1."""
    return None if opened.has_prefix else ""


@rule("F09", BLOCK, "Not a program, picture, text, archive or document, as viewers on a CD and exports bring them along")
def is_meant_as_image(opened: Opened) -> str | None:
    """What is told from a damaged image by its first bytes, and is not named as one: nobody has lost a mammogram.

    A text under an image's name is one that was lost: the answer of a server that refused it, or a pointer to it.
    """
    start = opened.start
    if opened.has_prefix or _NAMED_DICOM.search(opened.name):
        return None
    if _is_text(start):
        return None if _NAMED_NOTHING.search(opened.name) else "a text"
    is_known = start.startswith((*_OTHER_KINDS, *_PICTURES_AND_DATA)) or _NAMED_DATA_OF_A_PROGRAM.search(opened.name)
    return "a program, picture, archive or document" if is_known and _DICOM_ROOT not in start and any(start) else None


def _is_text(start: bytes) -> bool:
    """In any encoding: UTF-16 says so by its first bytes, the others have no control characters."""
    return start.startswith((b"\xff\xfe", b"\xfe\xff")) or start.translate(None, _CONTROL_CHARACTERS) == start


@rule("F06", BLOCK, "The preamble does not make the file a program, script, archive or document as well")
def has_harmless_preamble(opened: Opened) -> str | None:
    """The 128 bytes before the prefix can (CVE-2019-11687)."""
    preamble = opened.start[:128]
    is_harmful = preamble.startswith(_OTHER_KINDS) or any(word in preamble.lower() for word in _OTHER_WORDS)
    return "" if opened.has_prefix and is_harmful else None


@rule("F08", WARN, "The preamble is zero or a TIFF header")
def has_usual_preamble(opened: Opened) -> str | None:
    """PS3.10 7.1 leaves it to the writer; it is not read."""
    is_usual = opened.start[:4] in _TIFF_HEADERS or not any(opened.start[:128])
    return "" if opened.has_prefix and not is_usual else None


@rule("F03", BLOCK, "At least 2 kB")
def is_not_too_small(opened: Opened) -> str | None:
    """What is smaller holds no image."""
    return f"{opened.size_bytes} bytes" if opened.size_bytes < _SMALLEST_FILE_BYTES else None


@rule("F14", BLOCK, "The header can be read, every attribute the rules need included")
def is_header_readable(seen: Seen) -> str | None:
    """Values that cannot be read as their type count as absent; for these attributes that is no reason to refuse."""
    needed = [keyword for keyword in seen.header.unreadable if keyword not in _OPTIONAL]
    return f"unreadable {' '.join(needed)}" if needed else None


_OPTIONAL: Final = frozenset(
    {
        "SpecificCharacterSet", "StudyDate", "PatientAge", "EstimatedRadiographicMagnificationFactor", "ImagerPixelSpacing",
        "PixelSpacing", "WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence", "RescaleSlope", "RescaleIntercept",
        "PaddleDescription", "ContrastBolusAgent", "Manufacturer", "ManufacturerModelName", "SeriesDescription",
        "StudyDescription", "ProtocolName", "PerformedProcedureStepDescription",
    }
)  # fmt: skip
