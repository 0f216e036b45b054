"""Malformed and hostile files, made from one sound mammogram. Loaded by the tests through a fixture; nothing here is shipped.

Each maker gets the sound file's bytes and gives cases. ``is_refusal_certain`` is False where a reader may rightly accept the
file; its pixels must be the sound file's then, unless the case damages them.
"""

from __future__ import annotations

import io
import os
import socket
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import encapsulate

JPEG_LL, JPEG_LS, J2K, HTJ2K = (f"1.2.840.10008.1.2.4.{number}" for number in ("70", "80", "90", "201"))
RLE, DEFLATE, BIG_ENDIAN = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"

UNDEFINED = 0xFFFFFFFF
HOSTILE_TEXTS = {
    "html": "<script>alert(1)</script>",
    "formula": '=HYPERLINK("http://x")',
    "terminal": "a\x1b[2Jb",
    "newline": "a\nroot: logged in",
    "traversal": "../../../../etc/passwd",
    "at": "@SUM(1)",
    "nul": "a\0b",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A file on disk.

    Attributes:
        expected: One of these codes must be among the reasons; empty = any.
    """

    path: Path
    expected: frozenset[str]
    is_refusal_certain: bool


Bytes = Iterator[tuple[str, bytes, str, bool]]
"""Name, content, codes (space separated, "" = any), whether refusal is certain."""


def write_hostile_set(folder: Path, sound_path: Path) -> list[Case]:
    """Writes every case below ``folder``."""
    sound = sound_path.read_bytes()
    makers: list[Callable[[bytes], Bytes]] = [
        truncated, wrong_lengths, nested, bombs, sizes, bad_values, hostile_identifiers, duplicated, meta, encapsulated,
        not_dicom,
    ]  # fmt: skip
    cases = []
    for maker in makers:
        for name, content, codes, is_certain in maker(sound):
            path = folder / f"{maker.__name__}-{name}.dcm"
            path.write_bytes(content)
            cases.append(Case(path=path, expected=frozenset(codes.split()), is_refusal_certain=is_certain))
    return cases + list(special_files(folder, sound_path))


# ----------------------------------------------------------------------------------------------------------- makers


def truncated(sound: bytes) -> Bytes:
    """Cut off: in the preamble, the meta information, the header and the pixels."""
    header = pixel_data_at(sound)
    for at in (1, 131, 132, 140, 180, 400, header // 2, header - 40, header + 4, header + 12, header + 13):
        yield f"at-{at}", sound[:at], "", True
    for percent in (10, 50, 90, 99):
        yield f"pixels-{percent}", sound[: header + 12 + (len(sound) - header - 12) * percent // 100], "X21 F03", True
    yield "last-byte", sound[:-1], "X21", True


def wrong_lengths(sound: bytes) -> Bytes:
    """Lengths that lie."""
    at = pixel_data_at(sound) + 8
    for name, length in (("longer", len(sound)), ("shorter", 1000), ("none", 0), ("huge", 0xFFFFFFF0)):
        # Longer than the file goes: every pixel is there all the same.
        content = sound[:at] + struct.pack("<L", length) + sound[at + 4 :]
        yield f"pixel-data-{name}", content, "X20 X21 F14 X22 F11", name not in ("longer", "huge")
    yield "pixel-data-undefined", sound[:at] + struct.pack("<L", UNDEFINED) + sound[at + 4 :], "", True
    yield "meta-group-length", sound[:140] + struct.pack("<L", 0x7FFFFFFF) + sound[144:], "", False
    name_at = sound.index(b"\x10\x00\x10\x00PN")
    yield "name-length", sound[: name_at + 6] + b"\xff\xff" + sound[name_at + 8 :], "", True
    yield "unknown-huge", inserted(sound, b"\x09\x00\x10\x10OB\0\0" + struct.pack("<L", 0xFFFFFFFE)), "", True
    yield "sequence-huge", inserted(sound, b"\x18\x00\x12\x00SQ\0\0" + struct.pack("<L", 0x7FFFFFFF)), "", True
    item = b"\xfe\xff\x00\xe0" + struct.pack("<L", 0x7FFFFFF0)
    yield "item-huge", inserted(sound, b"\x18\x00\x12\x00SQ\0\0" + struct.pack("<L", UNDEFINED) + item), "", True


def nested(sound: bytes) -> Bytes:
    """Sequences in sequences, which crash readers that recurse."""
    opening = b"\x18\x00\x12\x00SQ\0\0" + struct.pack("<L", UNDEFINED) + b"\xfe\xff\x00\xe0" + struct.pack("<L", UNDEFINED)
    closing = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    yield "1000-closed", inserted(sound, opening * 1000 + closing * 1000), "F14", False
    yield "20000-open", inserted(sound, opening * 20000), "F14", True
    views_at = sound.index(b"\x54\x00\x20\x02SQ")
    view = b"\x54\x00\x20\x02SQ\0\0" + struct.pack("<L", UNDEFINED) + b"\xfe\xff\x00\xe0" + struct.pack("<L", UNDEFINED)
    yield "view-codes", sound[:views_at] + view * 5000 + sound[views_at:], "F14", True


def bombs(sound: bytes) -> Bytes:
    """Little that wants to become much."""
    rows, columns = shape_of(sound)
    run = b"\x81\x00" * 4_000_000  # each pair stands for 128 bytes: 512 MB a segment
    segments = struct.pack("<16L", 2, 64, 64 + len(run) // 2, *[0] * 13) + run
    yield "rle", recoded(sound, RLE, segments), "", False
    yield "rle-offsets", recoded(sound, RLE, struct.pack("<16L", 15, *[0xFFFFFFF0] * 15) + b"\0" * 100), "X22 F11", True
    yield "rle-segments", recoded(sound, RLE, struct.pack("<16L", 0xFFFFFFFF, *[64] * 15) + b"\0" * 100), "X22 F11", True
    body_at = sound.index(b"\x08\x00\x05\x00CS")
    deflated = zlib.compressobj(9, wbits=-15)
    bomb = deflated.compress(sound[body_at:] + b"\0" * 100_000_000) + deflated.flush()
    yield "deflate", with_syntax(sound, DEFLATE)[: meta_end(sound)] + bomb, "F13", True
    noise_HW = np.random.default_rng(0).integers(0, 4096, (rows, columns)).astype(np.uint16)
    lossless = bytes(imagecodecs.jpeg8_encode(noise_HW, lossless=True, predictor=1, bitspersample=16))
    frame = lossless.index(b"\xff\xc3")
    yield "jpeg-size", recoded(sound, JPEG_LL, lossless[: frame + 5] + b"\xff\xdc\xff\xdc" + lossless[frame + 9 :]), "X23", True
    ls = bytes(imagecodecs.jpegls_encode(noise_HW))
    frame = ls.index(b"\xff\xf7")
    yield "jpeg-ls-size", recoded(sound, JPEG_LS, ls[: frame + 5] + b"\xff\xdc\xff\xdc" + ls[frame + 9 :]), "X23", True
    j2k = bytes(imagecodecs.jpeg2k_encode(noise_HW, level=0, codecformat="J2K", reversible=True))
    yield "j2k-size", recoded(sound, J2K, j2k[:8] + struct.pack(">2L", 2**31, 2**31) + j2k[16:]), "X23", True
    offset = struct.pack(">4L", 2**31 + columns, 2**31 + rows, 2**31, 2**31)
    yield "j2k-offset", recoded(sound, J2K, j2k[:8] + offset + j2k[24:]), "", True
    yield "j2k-tiles", recoded(sound, J2K, j2k[:24] + struct.pack(">2L", 1, 1) + j2k[32:]), "", True
    yield "j2k-components", recoded(sound, J2K, j2k[:40] + struct.pack(">H", 16384) + j2k[42:]), "", True
    ht = bytes(imagecodecs.htj2k_encode(noise_HW, reversible=True))
    yield "htj2k-size", recoded(sound, HTJ2K, ht[:8] + struct.pack(">2L", 2**31, 2**31) + ht[16:]), "X23", True
    for name, syntax, stream in (("jpeg", JPEG_LL, lossless), ("ls", JPEG_LS, ls), ("j2k", J2K, j2k), ("ht", HTJ2K, ht)):
        yield f"{name}-cut", recoded(sound, syntax, stream[: len(stream) // 3]), "", False
        middle = len(stream) // 2
        yield f"{name}-noise", recoded(sound, syntax, stream[:middle] + os.urandom(500) + stream[middle + 500 :]), "", False


def sizes(sound: bytes) -> Bytes:
    """Dimension and frame bombs, and sizes that are none."""
    for name, values, codes in (
        ("65535", {"Rows": 65535, "Columns": 65535}, "X01"),
        ("no-rows", {"Rows": 0}, "X01"),
        ("one-column", {"Columns": 1}, "X01"),
        ("frames", {"NumberOfFrames": str(2**31 - 1)}, "X02"),
        ("frames-negative", {"NumberOfFrames": "-1"}, "X02"),
        ("frames-long", {"NumberOfFrames": "9" * 12}, "F14 X02"),
        ("samples", {"SamplesPerPixel": 3}, "X03"),
        ("bits-64", {"BitsAllocated": 64}, "X04"),
        ("bits-1", {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}, "X04"),
        ("bits-0", {"BitsStored": 0}, "X04"),
        ("bits-17", {"BitsStored": 17, "HighBit": 16}, "X04"),
    ):
        yield name, edited(sound, values), codes, True
    yield "frames-0", edited(sound, {"NumberOfFrames": "0"}), "", False  # counts as 1


def bad_values(sound: bytes) -> Bytes:
    """Values and value representations that are not what they say."""
    rows_at = sound.index(b"\x28\x00\x10\x00US")
    for name, vr in (("zz", b"ZZ"), ("nul", b"\0\0"), ("ob", b"OB"), ("sq", b"SQ"), ("fd", b"FD")):
        yield f"rows-{name}", sound[: rows_at + 4] + vr + sound[rows_at + 6 :], "", True
    text = b"\x28\x00\x10\x00LO\x08\0" + b"sixhundr"
    yield "rows-text", sound[:rows_at] + text + sound[rows_at + 10 :], "", True
    id_at = sound.index(b"\x10\x00\x20\x00LO")
    yield "patient-id-sq", sound[: id_at + 4] + b"SQ" + sound[id_at + 6 :], "", True
    for name, keyword, value in (
        ("window", "WindowCenter", b"abc "),
        ("window-infinite", "WindowWidth", b"-1e999"),
        ("spacing", "ImagerPixelSpacing", b"nan\\inf "),
        ("spacing-html", "ImagerPixelSpacing", b"<b>0.07</b> "),
        ("charset", "SpecificCharacterSet", b"../../x "),
        ("date", "StudyDate", b"99999999"),
        ("age", "PatientAge", b"-10Y"),
    ):
        yield name, with_value(sound, keyword, value), "", False
    yield "padding", edited(sound, {"PixelPaddingValue": 65535, "PixelPaddingRangeLimit": 1}), "", False


def hostile_identifiers(sound: bytes) -> Bytes:
    """Identifiers that would be a path, a page, a formula or a command somewhere else."""
    for name, text in HOSTILE_TEXTS.items():
        yield f"patient-{name}", edited(sound, {"PatientID": text}), "I04", True
        yield f"sop-{name}", edited(sound, {"SOPInstanceUID": text}), "I01", True
    yield "study-traversal", edited(sound, {"StudyInstanceUID": "../../../tmp/x"}), "I01", True
    yield "sop-long", edited(sound, {"SOPInstanceUID": "1." * 300 + "1"}), "I01", True
    yield "sop-two", edited(sound, {"SOPInstanceUID": ["1.2", "1.3"]}), "", True
    yield "patient-long", edited(sound, {"PatientID": "A" * 60_000}), "", False


def duplicated(sound: bytes) -> Bytes:
    """Elements that come twice, or out of order."""
    pixels_at = pixel_data_at(sound)
    rows = b"\x28\x00\x10\x00US\x02\x00" + struct.pack("<H", 60000)
    yield "rows", sound[:pixels_at] + rows + sound[pixels_at:], "", True
    patient = b"\x10\x00\x20\x00LO\x06\x00" + b"OTHER "
    yield "patient", sound[:pixels_at] + patient + sound[pixels_at:], "", False
    yield "pixel-data", sound + sound[pixels_at:], "", False
    yield "pixel-data-first", sound[: meta_end(sound)] + sound[pixels_at:] + sound[meta_end(sound) : pixels_at], "", False
    overlay = b"".join(
        struct.pack("<HH2sHH", 0x6000 + 2 * group, element, b"US", 2, 65535) for group in range(16) for element in (0x10, 0x11)
    )
    yield "overlays", sound[:pixels_at] + overlay + sound[pixels_at:], "", False


def meta(sound: bytes) -> Bytes:
    """Missing or false file meta information."""
    body = sound[meta_end(sound) :]
    yield "no-preamble", sound[132:], "F05", True
    yield "no-meta", sound[:132] + body, "F12 F14", True
    yield "bare-data-set", body, "F05", True
    for name, syntax in (
        ("unknown", "1.2.3.4"),
        ("empty", ""),
        ("media", "1.2.840.10008.1.2.4.100"),
        ("jpip", DEFLATE[:-3] + ".94"),
    ):
        yield f"syntax-{name}", with_syntax(sound, syntax), "F12 F13", True
    yield "implicit-label", with_syntax(sound, "1.2.840.10008.1.2"), "", False
    yield "big-endian-label", with_syntax(sound, BIG_ENDIAN), "", True
    yield "jpeg-label", with_syntax(sound, JPEG_LL), "", True
    yield "rle-label", with_syntax(sound, RLE), "", True
    yield "dicomdir", edited(sound, {"SOPClassUID": "1.2.840.10008.1.3.10", "Modality": "OT"}), "K04", True
    yield "program", b"MZ\x90\0" + sound[4:], "F06", True


def encapsulated(sound: bytes) -> Bytes:
    """Fragments that are not there, or somewhere else."""
    rows, columns = shape_of(sound)
    stream = bytes(imagecodecs.jpegls_encode(np.zeros((rows, columns), np.uint16)))
    good = recoded(sound, JPEG_LS, stream)
    pixels = good[pixel_data_at(good) + 12 :]
    head = good[: pixel_data_at(good) + 12]
    yield "empty", head, "", True
    yield "no-fragment", head + b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0", "", True
    yield "fragment-beyond-end", head + pixels[:8] + b"\xfe\xff\x00\xe0" + struct.pack("<L", 0x7FFFFFFE) + stream[:50], "", True
    table = struct.pack("<L", 400_000) + os.urandom(400_000)
    yield "offset-table", head + b"\xfe\xff\x00\xe0" + table + pixels[8:], "", True
    yield "native-in-fragments", with_syntax(good, "1.2.840.10008.1.2.1"), "", True
    yield "constant", good, "X25", True
    many = b"".join(b"\xfe\xff\x00\xe0" + struct.pack("<L", 2) + stream[at : at + 2] for at in range(0, len(stream) - 1, 2))
    yield "many-fragments", head + pixels[:8] + many * 20 + b"\xfe\xff\xdd\xe0\0\0\0\0", "", True


def not_dicom(sound: bytes) -> Bytes:
    """Other things that lie in folders."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("../../x", b"\0" * 10_000_000)
    yield "empty", b"", "F05 F03", True
    yield "text", b"Patient CANARY\n" * 500, "F05", True
    yield "page", b"<html><script>alert(1)</script></html>" * 100, "F05", True
    yield "archive", archive.getvalue(), "F05", True
    yield "zeros", b"\0" * 100_000, "F05", True
    yield "dicm-only", b"\0" * 128 + b"DICM", "", True
    yield "dicm-zeros", b"\0" * 128 + b"DICM" + b"\0" * 50_000, "", True
    yield "dicm-ones", b"\0" * 128 + b"DICM" + b"\xff" * 50_000, "", True
    yield "dicm-noise", b"\0" * 128 + b"DICM" + np.random.default_rng(1).bytes(50_000), "", True


def special_files(folder: Path, sound_path: Path) -> Iterator[Case]:
    """What is no plain file, and names that hurt."""

    def case(path: Path, codes: str, *, is_certain: bool = True) -> Case:
        return Case(path=path, expected=frozenset(codes.split()), is_refusal_certain=is_certain)

    sound = sound_path.read_bytes()
    (folder / "link.dcm").symlink_to(sound_path)
    yield case(folder / "link.dcm", "F01")
    (folder / "loop.dcm").symlink_to("loop.dcm")
    yield case(folder / "loop.dcm", "F01")
    os.mkfifo(folder / "pipe.dcm")
    yield case(folder / "pipe.dcm", "F01")
    (folder / "folder.dcm").mkdir()
    yield case(folder / "folder.dcm", "F01")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(folder)  # a socket's path is at most 108 bytes
        server.bind("s.dcm")
        os.chdir(here)
    yield case(folder / "s.dcm", "F01")
    (folder / "twin-a.dcm").write_bytes(sound)
    (folder / "twin-b.dcm").hardlink_to(folder / "twin-a.dcm")
    yield case(folder / "twin-a.dcm", "F02")
    for name in ("._mac.dcm", "half.dcm.part", "half.tmp"):
        (folder / name).write_bytes(sound)
        yield case(folder / name, "F07")
    for name in ("new\nline.dcm", "\x1b[2J.dcm", "<img src=x>.dcm", "=1+1.dcm", os.fsdecode(b"latin-\xe9.dcm")):
        (folder / name).write_bytes(sound)
        yield case(folder / name, "", is_certain=False)
    if os.geteuid() == 0:
        try:
            os.mknod(folder / "device.dcm", 0o020600, os.makedev(1, 5))  # /dev/zero: it never ends
        except PermissionError:
            return  # a container without the right to make devices
        yield case(folder / "device.dcm", "F01")


# ---------------------------------------------------------------------------------------------------------- surgery


def pixel_data_at(content: bytes) -> int:
    """Where the element PixelData (7FE0,0010) begins."""
    return content.rindex(b"\xe0\x7f\x10\x00O")


def meta_end(content: bytes) -> int:
    """Where the data set begins: FileMetaInformationGroupLength (0002,0000) tells it."""
    return int(144 + struct.unpack("<L", content[140:144])[0])


def shape_of(content: bytes) -> tuple[int, int]:
    """(rows, columns) of the header."""
    found = [content.index(b"\x28\x00" + element + b"\x00US\x02\x00") + 8 for element in (b"\x10", b"\x11")]
    rows, columns = (struct.unpack("<H", content[at : at + 2])[0] for at in found)
    return int(rows), int(columns)


def inserted(content: bytes, element: bytes) -> bytes:
    """Puts bytes before StudyInstanceUID (0020,000D)."""
    at = content.index(b"\x20\x00\x0d\x00UI")
    return content[:at] + element + content[at:]


def with_value(content: bytes, keyword: str, value: bytes) -> bytes:
    """Puts any bytes of even length in place of a short element's value (explicit VR, 2-byte length)."""
    tag = pydicom.datadict.tag_for_keyword(keyword)
    assert tag is not None
    at = content.index(struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, pydicom.datadict.dictionary_VR(tag).encode()))
    (old_length,) = struct.unpack("<H", content[at + 6 : at + 8])
    return content[: at + 6] + struct.pack("<H", len(value)) + value + content[at + 8 + old_length :]


def edited(content: bytes, values: dict[str, object]) -> bytes:
    """Sets attributes without checking them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(io.BytesIO(content))
        for keyword, value in values.items():
            tag = pydicom.datadict.tag_for_keyword(keyword)
            assert tag is not None
            vr = pydicom.datadict.dictionary_VR(tag)
            dataset[tag] = pydicom.DataElement(tag, vr if len(vr) == 2 else "US", value, validation_mode=pydicom.config.IGNORE)
        return _saved(dataset)


def recoded(content: bytes, syntax: str, frame: bytes) -> bytes:
    """Another code stream and transfer syntax in place of the pixels."""
    dataset = pydicom.dcmread(io.BytesIO(content))
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].is_undefined_length = True
    return _saved(dataset)


def with_syntax(content: bytes, syntax: str) -> bytes:
    """The same bytes under another transfer syntax's name."""
    dataset = pydicom.dcmread(io.BytesIO(content))
    old = str(dataset.file_meta.TransferSyntaxUID)
    at = content.index(b"\x02\x00\x10\x00UI")
    old_length = struct.unpack("<H", content[at + 6 : at + 8])[0]
    value = syntax.encode() + b"\0" * (len(syntax) % 2)
    assert old
    changed = content[: at + 6] + struct.pack("<H", len(value)) + value + content[at + 8 + old_length :]
    group_length = struct.unpack("<L", content[140:144])[0] + len(value) - old_length
    return changed[:140] + struct.pack("<L", group_length) + changed[144:]


def _saved(dataset: pydicom.Dataset) -> bytes:
    target = io.BytesIO()
    dataset.save_as(target, enforce_file_format=False)
    return target.getvalue()


def sound_pixels(shape_px: tuple[int, int]) -> NDArray[np.uint16]:
    """Half an ellipse of tissue on a left chest wall."""
    rows, columns = np.indices(shape_px)
    radius = np.hypot((rows - shape_px[0] / 2) / (0.4 * shape_px[0]), columns / (0.6 * shape_px[1]))
    return np.where(radius < 1, 3000 - 2000 * radius, 0).astype(np.uint16)
