"""DICOM files: read a header, decode pixels. No other module reads with pydicom; ``mammogram_file.py`` writes with it.

What the values mean for us is decided in the gate's rules; here bytes become plain values and arrays. Files are
hostile until proven otherwise: nothing is inflated, no private or overlay data is kept, sizes are checked before decoding.
pydicom's warnings and exceptions quote values, which can name a patient, so none of them leaves this module.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Any, BinaryIO, Final, ParamSpec, TypeVar

import numpy as np
import pydicom.config
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.charset import python_encoding
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.pixels.decoders.base import get_decoder
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRBigEndian

from gmic_model.pixels.voi import VoiLut
from schemas.errors import DicomError, GateRejection, MammoError, SourceUnavailable, deferred_by
from tasks.adapters.dicom.code_stream import Family, read_code_stream
from tasks.adapters.dicom.frame_codecs import CODECS, SYNTAXES, DecodedFrame, read_frame
from tasks.adapters.dicom.header import LARGEST_SIDE_PX, Code, DicomHeader, ValueKind
from tasks.adapters.dicom.lookup_table import read_lut
from tasks.adapters.dicom.stored_image import StoredImage

_UNREADABLE_VALUE = (ValueError, TypeError, AttributeError, KeyError, IndexError, NotImplementedError, OverflowError)

# Values that break the standard are the gate's business; pydicom's messages about them quote the values.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)

CHARACTER_ENCODINGS: Final = frozenset(python_encoding.values())
"""What SpecificCharacterSet (0008,0005) can ask for, as Python calls it: each a module, imported when asked for."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


def quoting_no_value(reason_code: str, what: str) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """Turns whatever pydicom and the decoders raise into a rejection that quotes no value, and silences their warnings.

    Every ``Exception`` is caught, because theirs are many (AttributeError to RecursionError, a class for each codec) and quote
    what they could not parse: only the class is named. An error of ours would be taken for the file's, so what is decorated is
    short, and the tests of its functions are what finds such an error. What is no ``Exception`` passes. An error of the disk or
    the share is none of the file's: it becomes a deferral.
    """

    def decorate(function: Callable[_P, _T]) -> Callable[_P, _T]:
        @wraps(function)
        def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            rejection: MammoError
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    return function(*args, **kwargs)
                except (DicomError, SourceUnavailable):
                    raise
                except OSError as error:
                    rejection = deferred_by(error) or GateRejection(
                        what, reason_codes=(reason_code,), got=type(error).__name__, remedy="copy or export the file again"
                    )
                except MemoryError:
                    rejection = GateRejection(what, reason_codes=("F11",), got="more than this machine's memory")
                except Exception as error:
                    rejection = GateRejection(
                        what, reason_codes=(reason_code,), got=type(error).__name__, remedy="copy or export the file again"
                    )
            raise rejection  # outside the except block: no chained exception carries the foreign message along

        return guarded

    return decorate


# -------------------------------------------------------------------------------------------------------------- header


@quoting_no_value("F14", "The file cannot be read")
def read_header(path: Path) -> DicomHeader:
    """Reads every attribute that the rules use; stops before the pixels.

    Raises:
        GateRejection: Not DICOM (F05), no transfer syntax (F12) or a refused one (F13), header not readable (F14).
    """
    with path.open("rb") as file:
        return read_header_from(file)


@quoting_no_value("F14", "The header cannot be read")
def read_header_from(file: BinaryIO, *, with_voi_lut: bool = False) -> DicomHeader:
    """As ``read_header``, from an open file at any position; reads the first VOI LUT's entries too if asked."""
    meta = _read_meta(file)
    file.seek(0)
    return _header(dcmread(file, stop_before_pixels=True, specific_tags=_HEADER_TAGS), meta, with_voi_lut=with_voi_lut)


@quoting_no_value("F14", "The file meta information cannot be read")
def read_class_uid(file: BinaryIO) -> str:
    """MediaStorageSOPClassUID (0002,0002): the kind of object, also where nothing else can be read; "" = none."""
    return str(_meta(file).get("MediaStorageSOPClassUID") or "").strip(" \0")


def _meta(file: BinaryIO) -> FileMetaDataset:
    file.seek(128)
    if file.read(4) != b"DICM":
        raise GateRejection("This is not a DICOM file", reason_codes=("F05",), remedy="move other files out of the folder")
    return FileMetaDataset(read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2))


def _read_meta(file: BinaryIO) -> FileMetaDataset:
    meta = _meta(file)
    if not (syntax := str(meta.get("TransferSyntaxUID") or "")):
        raise GateRejection("The file meta information names no transfer syntax", reason_codes=("F12",), remedy="export again")
    if syntax not in SYNTAXES:
        raise GateRejection(
            "The transfer syntax is not read here",
            reason_codes=("F13",),
            expected=f"{', '.join(('uncompressed', *(codec.title for codec in CODECS[:-1])))} or {CODECS[-1].title}",
            got="deflate" if syntax.startswith("1.2.840.10008.1.2.1.99") else "another one",
            remedy="export the exam as Explicit VR Little Endian",
        )
    return meta


def _header(dataset: Dataset, meta: FileMetaDataset, *, with_voi_lut: bool) -> DicomHeader:
    unreadable: list[str] = []
    values = {name: _value(dataset, keyword, kind, unreadable) for name, (keyword, kind) in _ATTRIBUTES.items()}
    # Some anonymised sets drop the attribute and keep the file meta information's.
    values["sop_class_uid"] = values["sop_class_uid"] or str(meta.get("MediaStorageSOPClassUID") or "")
    views, modifiers = _view_codes(dataset, unreadable)
    return DicomHeader(
        transfer_syntax_uid=str(meta.TransferSyntaxUID),
        is_compressed=SYNTAXES[str(meta.TransferSyntaxUID)].codec is not None,
        media_storage_sop_instance_uid=str(meta.get("MediaStorageSOPInstanceUID") or ""),
        view_codes=views,
        view_modifier_codes=modifiers,
        overlay_groups=sum(tag >> 16 >= 0x6000 for tag in dataset.keys()),  # noqa: SIM118  # tags, not elements
        has_voi_lut=_VOI_LUT in dataset,
        has_modality_lut=_MODALITY_LUT in dataset,
        voi_lut=_voi_lut(dataset, meta, unreadable) if with_voi_lut else None,
        institution_code=_institution_code(dataset),
        unreadable=tuple(unreadable),
        **values,
    )


def _value(dataset: Dataset, keyword: str, kind: ValueKind, unreadable: list[str]) -> Any:
    value: Any = None
    try:
        value = dataset.get(keyword)  # the access itself parses, and may raise
        parts = tuple(value) if isinstance(value, list | MultiValue) else () if value in (None, "") else (value,)
        match kind:
            case ValueKind.INTEGER:
                return int(value) if parts else None
            case ValueKind.DECIMALS | ValueKind.DECIMAL:
                decimals = tuple(float(part) for part in parts)
                return decimals if kind is ValueKind.DECIMALS else next(iter(decimals), None)
            case ValueKind.TEXTS:
                return tuple(str(part).strip(" \0") for part in parts)
            case _:
                text = "\\".join(str(part).strip(" \0") for part in parts)  # pydicom splits a text at its backslashes
                return text.upper() if kind is ValueKind.KEYWORD else text
    except _UNREADABLE_VALUE:
        unreadable.append(keyword)
        return _ABSENT[kind]


def _view_codes(dataset: Dataset, unreadable: list[str]) -> tuple[tuple[Code, ...], tuple[Code, ...]]:
    try:
        views = tuple(dataset.get("ViewCodeSequence") or ())
        # They belong into the view's item; some devices put them beside it.
        modifiers = [item for owner in (*views, dataset) for item in owner.get("ViewModifierCodeSequence") or ()]
        return tuple(map(_code, views)), tuple(map(_code, modifiers))
    except _UNREADABLE_VALUE:
        unreadable.append("ViewCodeSequence")
        return (), ()


def _institution_code(dataset: Dataset) -> str:
    """Scheme and value of the first item; "" also where it cannot be read, for no rule asks for it."""
    try:
        item = next(iter(dataset.get("InstitutionCodeSequence") or ()), None)
        return "" if item is None or not item.get("CodeValue") else f"{item.get('CodingSchemeDesignator')} {item.CodeValue}"
    except _UNREADABLE_VALUE:
        return ""


def _voi_lut(dataset: Dataset, meta: FileMetaDataset, unreadable: list[str]) -> VoiLut | None:
    """The first item of VOILUTSequence (0028,3010)."""
    try:
        for item in dataset.get("VOILUTSequence") or ():
            descriptor, element = [int(part) for part in item.LUTDescriptor], item["LUTData"]
            return read_lut(
                descriptor,
                [element.value] if isinstance(element.value, int) else element.value,  # a table of one word
                is_big_endian=meta.TransferSyntaxUID == ExplicitVRBigEndian,
                is_in_words=element.VR != "OB",
            )
    except _UNREADABLE_VALUE:
        unreadable.append("VOILUTSequence")
    return None


def _code(item: Dataset) -> Code:
    return Code(value=str(item.get("CodeValue") or ""))


_ATTRIBUTES: Final[dict[str, tuple[str, ValueKind]]] = {
    field.name: (field.metadata["keyword"], field.metadata["kind"]) for field in fields(DicomHeader) if field.metadata
}
_ABSENT: Final[dict[ValueKind, Any]] = {
    ValueKind.TEXT: "", ValueKind.KEYWORD: "", ValueKind.TEXTS: (),
    ValueKind.INTEGER: None, ValueKind.DECIMAL: None, ValueKind.DECIMALS: (),
}  # fmt: skip
_VOI_LUT: Final = Tag("VOILUTSequence")
_MODALITY_LUT: Final = Tag("ModalityLUTSequence")
# Elements not listed are skipped by their length, unread: a 2 GB private element costs nothing.
_HEADER_TAGS: Final = [
    *(Tag(keyword) for keyword, _ in _ATTRIBUTES.values()),
    *(Tag(0x6000 + 2 * group, 0x0010) for group in range(16)),  # OverlayRows: tells that there is an overlay
    Tag("ViewCodeSequence"),
    Tag("ViewModifierCodeSequence"),
    Tag("InstitutionCodeSequence"),
    _MODALITY_LUT,
    _VOI_LUT,
]


# -------------------------------------------------------------------------------------------------------------- pixels


@quoting_no_value("F14", "The file cannot be read")
def read_pixels(path: Path) -> NDArray[np.uint16]:
    """Decodes the image to raw stored values, shape (rows, columns): no rescale, no window, no inversion, no masked bits.

    Raises:
        GateRejection: As ``read_header``; not one greyscale frame of a sane size (X01-X06), no pixels (X20), too few or too
            many (X21), not decodable to the end of the image (X22), or decoded to another size than the header's (X23).
    """
    with path.open("rb") as file:
        return read_image_from(file).pixels_HW


@quoting_no_value("X22", "The pixels cannot be decoded")
def read_image_from(file: BinaryIO) -> StoredImage:
    """As ``read_pixels``, from an open file at any position, and how the values were coded."""
    syntax_uid = str(_read_meta(file).TransferSyntaxUID)
    file.seek(0)
    dataset = dcmread(file, specific_tags=_PIXEL_TAGS)
    _check_size(dataset)
    pixel_data = dataset.get("PixelData")
    if not pixel_data:
        raise GateRejection("The file holds no pixels", reason_codes=("X20",), remedy="export the image again")
    if SYNTAXES[syntax_uid].codec is None:
        return _native(dataset, pixel_data, syntax_uid)
    frame = _compressed(dataset, syntax_uid)
    return StoredImage(
        pixels_HW=np.ascontiguousarray(frame.pixels_HW, dtype=np.uint16),
        is_compressed=True,
        is_lossless=frame.is_lossless,
        oddities=frame.oddities,
    )


_PIXEL_TAGS: Final = [
    Tag(keyword)
    for keyword in ("SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "BitsAllocated",
                    "BitsStored", "HighBit", "PixelRepresentation", "PixelData", "ExtendedOffsetTable",
                    "ExtendedOffsetTableLengths")
]  # fmt: skip


def _check_size(dataset: Dataset) -> None:
    values = {name: int(dataset.get(name) or 0) for name in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")}
    broken = [f"X01 {name}" for name in ("Rows", "Columns") if not 0 < values[name] <= LARGEST_SIDE_PX]
    broken += ["X02 NumberOfFrames"] * (int(dataset.get("NumberOfFrames") or 1) != 1)
    broken += ["X03 SamplesPerPixel"] * (values["SamplesPerPixel"] != 1)
    broken += ["X04 BitsAllocated"] * (values["BitsAllocated"] not in (8, 16))
    broken += ["X06 PixelRepresentation"] * (int(dataset.get("PixelRepresentation") or 0) != 0)
    if broken:
        raise GateRejection(
            "The image is not decoded",
            reason_codes=tuple(dict.fromkeys(text.split()[0] for text in broken)),
            expected=f"one greyscale frame, 8 or 16 bits unsigned, at most {LARGEST_SIDE_PX} x {LARGEST_SIDE_PX}",
            got=", ".join(broken),
        )


def _native(dataset: Dataset, pixel_data: bytes, syntax_uid: str) -> StoredImage:
    rows, columns, bytes_per_pixel = int(dataset.Rows), int(dataset.Columns), int(dataset.BitsAllocated) // 8
    expected = rows * columns * bytes_per_pixel
    padding = len(pixel_data) - expected
    # Padding is allowed (PS3.5 8.1.1). As many whole rows or columns more are another image than the header describes.
    is_other_size = padding > 1 and 0 in (padding % (rows * bytes_per_pixel), padding % (columns * bytes_per_pixel))
    if padding < 0 or padding >= expected or is_other_size:
        raise GateRejection(
            "The pixel data have another length than the header says",
            reason_codes=("X21",),
            expected=f"{expected} bytes",
            got=f"{len(pixel_data)} bytes",
            remedy="the file is cut off or damaged: copy it again",
        )
    is_big_endian = syntax_uid == ExplicitVRBigEndian
    if is_big_endian and bytes_per_pixel == 1 and dataset["PixelData"].VR == "OW":
        # Two pixels to a word, the first in its lower byte (PS3.5 8.2): in this byte order the lower byte comes second.
        words = np.frombuffer(pixel_data, np.uint16, len(pixel_data) // 2).byteswap()
        decoded_N = words.view(np.uint8)[:expected]
    else:
        decoded_N = np.frombuffer(pixel_data, f"{'>' if is_big_endian else '<'}u{bytes_per_pixel}", rows * columns)
    return StoredImage(
        pixels_HW=np.ascontiguousarray(decoded_N.reshape(rows, columns), dtype=np.uint16),
        is_compressed=False,
        is_lossless=True,
        padding_bytes=padding if padding > 1 else 0,
    )


def _compressed(dataset: FileDataset, syntax_uid: str) -> DecodedFrame:
    codec, shape_px = SYNTAXES[syntax_uid].codec, (int(dataset.Rows), int(dataset.Columns))
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    try:
        return read_frame(frame, syntax_uid, shape_px=shape_px, bits_allocated=int(dataset.BitsAllocated))
    except (RuntimeError, ValueError, ImportError):  # imagecodecs' errors are RuntimeErrors; another decoder may succeed
        decoder = get_decoder(syntax_uid)
        # Only where they are as strict: a JPEG or JPEG 2000 that ends too early is filled up by others too, and a stream that
        # does not say its size (RLE) makes them grow with what its runs say.
        if not decoder.available_plugins or codec is None or codec.family is not Family.JPEG_LS:
            raise
    stream = read_code_stream(frame)
    dataset.NumberOfFrames = 1  # 0 counts as 1 here, and not there
    dataset.PixelData = encapsulate([frame if stream is None else stream.content])  # with its end marker, or it reads beyond
    # pydicom would clear bits above BitsStored; rule X24 wants to see them.
    options: Any = {"raw": True, "correct_unused_bits": False}
    decoded_HW, _ = decoder.as_array(dataset, **options)
    is_lossless = stream is not None and stream.is_lossless
    return DecodedFrame(pixels_HW=decoded_HW.reshape(shape_px), is_lossless=is_lossless)
