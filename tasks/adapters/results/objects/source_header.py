"""The header that results are written under: identity, references and geometry of the source image, made valid; nothing else.

It lives in memory only. Foreign libraries get this stand-in, never the source's own header: they fail at values that break the
standard, and quote them.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from math import isfinite
from typing import Any, Final

from highdicom.enum import SpecificCharacterSetValues
from pydicom.charset import convert_encodings, decode_bytes, encode_string
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue

from schemas.errors import DicomError
from schemas.exam import ViewPosition
from tasks.adapters.dicom.mammogram import PHANTOM_VIEW_CODES

IDENTITY: Final = (
    "SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge",
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName", "StudyDescription",
)  # fmt: skip
"""What a result has of its source, as the source has it."""
_IMAGE: Final = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber", "Modality", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel", "PhotometricInterpretation",
    "ContentDate", "ContentTime",
)  # fmt: skip
_WINDOW: Final = ("WindowCenter", "WindowWidth", "VOILUTFunction")
_RESCALE: Final = ("RescaleSlope", "RescaleIntercept", "RescaleType")
_THERE_MAYBE_EMPTY: Final = (  # type 2
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber",
    "ReferringPhysicianName", "StudyID",
)  # fmt: skip
_TIME: Final = re.compile(r"(([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?)?")
_VALID: Final = {
    "PatientAge": re.compile(r"\d{3}[DWMY]"),
    "StudyTime": _TIME,
    "ContentTime": _TIME,
    "PatientSex": re.compile(r"[MFO]?"),
}
_NEEDED_TAGS: Final = frozenset(
    f"{tag_for_keyword(keyword):08X}"
    for keyword in (
        *IDENTITY, *_IMAGE, *_WINDOW, *_RESCALE, "ImageLaterality", "Laterality", "ViewPosition", "PatientOrientation",
        "ImagerPixelSpacing", "PixelSpacing",
    )
)  # fmt: skip
_NARROWEST: Final = {"LINEAR": 1.0, "LINEAR_EXACT": 1e-6, "SIGMOID": 1e-6}
"""Width of a window, by what is made of it (PS3.3 C.11.2.1.2)."""
_TERMS: Final = frozenset(term.value for term in SpecificCharacterSetValues)
_EXTENDED: Final = "ISO 2022 IR "
_OF_SEVERAL_BYTES: Final = frozenset(_EXTENDED + number for number in ("58", "87", "149", "159"))
_DIRECTION: Final = re.compile(r"[LRAPHF]{1,3}")
VIEW_CODES: Final = {view.value: PHANTOM_VIEW_CODES[view] for view in ViewPosition}


def cleaned(raw: Dataset) -> Dataset:
    """A stand-in of a source's header: what is not valid becomes empty, private groups and other texts stay behind."""
    source = Dataset()
    source.file_meta = FileMetaDataset()
    for keyword in (*IDENTITY, *_IMAGE):
        if keyword in raw and _is_valid(keyword, raw[keyword].value):
            source[keyword] = raw[keyword]
    for keyword in _THERE_MAYBE_EMPTY:
        if keyword not in source:
            setattr(source, keyword, "")
    _set_character_set(source)
    # A name of one component is legal and warned about with the name itself: nothing of it is touched.
    side = str(raw.get("ImageLaterality") or raw.get("Laterality") or "")
    source.ImageLaterality = side if side in ("L", "R") else ""
    source.ViewPosition = str(raw.get("ViewPosition") or "")
    directions = raw.get("PatientOrientation")
    given = list(directions) if isinstance(directions, list | MultiValue) else []
    if directions and str(directions) in VIEW_CODES:  # CBIS-DDSM keeps the view there
        source.ViewPosition = str(directions)
    is_oriented = len(given) == 2 and all(_DIRECTION.fullmatch(str(one)) for one in given)
    source.PatientOrientation = given if is_oriented else None
    spacing = _decimals(raw.get("ImagerPixelSpacing")) or _decimals(raw.get("PixelSpacing"))
    source.ImagerPixelSpacing = [str(round(one, 6)) for one in spacing] if spacing else None
    return source


def header_of_json(attributes: Mapping[str, Any]) -> Dataset:
    """A source's header from DICOM JSON (PS3.18 F.2), as a PACS answers it; what is not needed is not even parsed.

    Raises:
        DicomError: It cannot be parsed; no value of it is told.
    """
    try:
        with quoting_nothing():
            return Dataset.from_json({tag: value for tag, value in attributes.items() if tag in _NEEDED_TAGS})
    except Exception as odd:  # pydicom's are many, and quote values
        kind = type(odd).__name__
    raise DicomError("The header that the PACS answers cannot be read", expected="DICOM JSON", got=kind)


def with_voi(source: Dataset, raw: Dataset) -> Dataset:
    """The stand-in with the image's own first window, for a presentation state: workstations draw no more than one."""
    copy = Dataset()
    copy.update(source)
    copy.file_meta = source.file_meta
    for keyword in _RESCALE:
        if keyword in raw and raw[keyword].value not in (None, ""):
            copy[keyword] = raw[keyword]
    centers, widths = _numbers(raw.get("WindowCenter")), _numbers(raw.get("WindowWidth"))
    function = str(raw.get("VOILUTFunction") or "LINEAR")
    if centers and widths and function in _NARROWEST and widths[0] >= _NARROWEST[function]:
        copy.WindowCenter, copy.WindowWidth = (str(round(value, 6)) for value in (centers[0], widths[0]))
        if function != "LINEAR":
            copy.VOILUTFunction = function
    return copy


@contextmanager
def quoting_nothing() -> Iterator[None]:
    """Keeps quiet what the libraries say of odd values: their warnings quote the patient's name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _decimals(value: Any) -> list[float]:
    found = _numbers(value)
    return found if len(found) == 2 and min(found) > 0 else []


def _numbers(value: Any) -> list[float]:
    """What a value of one or many numbers holds; nothing if something of it is none."""
    try:
        found = [float(one) for one in (value if isinstance(value, list | MultiValue) else [value])]
    except (TypeError, ValueError):
        return []
    return found if all(map(isfinite, found)) else []


def _set_character_set(source: Dataset) -> None:
    """The source's own where it holds every text of the identity, else UTF-8: what it does not hold would be written as "?".

    DICOM JSON is UTF-8 whatever its SpecificCharacterSet says, and need not have one (PS3.18 F.2).
    """
    given = source.pop("SpecificCharacterSet", None)  # not changed where it stands: it is the header's too
    terms = _terms(None if given is None else given.value)
    texts = [part for keyword in IDENTITY if keyword in source for part in re.split(r"[\^=]", str(source[keyword].value))]
    if all(term in _TERMS for term in terms if term) and all(_holds(terms, text) for text in texts):
        if terms not in ([""], ["ISO 2022 IR 6"]):
            source.SpecificCharacterSet = terms if len(terms) > 1 else terms[0]
    else:
        source.SpecificCharacterSet = "ISO_IR 192"


def _terms(given: Any) -> list[str]:
    """The terms of a character set as libraries take them: code extensions begin with ASCII, by its name (PS3.3 C.12.1.1.2).

    Its place is empty in most headers, and where a PACS answers in DICOM JSON it is often left out.
    """
    terms = [str(term or "") for term in (given if isinstance(given, list | MultiValue) else [given])]
    if len(terms) == 1 and not terms[0].startswith(_EXTENDED):
        return terms
    named = [_EXTENDED + (term.rpartition(" ")[2] or "6") for term in terms]
    first = [_EXTENDED + "6"] if len(named) == 1 or named[0] in _OF_SEVERAL_BYTES else []
    return list(dict.fromkeys([*first, *named]))


def _holds(terms: list[str], text: str) -> bool:
    encodings = convert_encodings(terms or [""])
    return text.isascii() or bool(decode_bytes(encode_string(text, encodings), encodings, set()) == text)


def _is_valid(keyword: str, value: Any) -> bool:
    text = str(value or "")
    if keyword.endswith("Date"):
        try:
            return not text or (len(text) == 8 and bool(datetime.strptime(text, "%Y%m%d")))
        except ValueError:
            return False
    return keyword not in _VALID or _VALID[keyword].fullmatch(text) is not None
