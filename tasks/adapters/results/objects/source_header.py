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
from typing import Any, Final

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
_VOI: Final = ("WindowCenter", "WindowWidth", "VOILUTFunction", "RescaleSlope", "RescaleIntercept", "RescaleType")
_THERE_MAYBE_EMPTY: Final = (  # type 2
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber",
    "ReferringPhysicianName", "StudyID",
)  # fmt: skip
_VALID: Final = {
    "PatientAge": re.compile(r"\d{3}[DWMY]"),
    "StudyTime": re.compile(r"(\d{2}){0,3}|\d{6}\.\d{1,6}"),
    "ContentTime": re.compile(r"(\d{2}){0,3}|\d{6}\.\d{1,6}"),
    "PatientSex": re.compile(r"[MFO]?"),
}
_NEEDED_TAGS: Final = frozenset(
    f"{tag_for_keyword(keyword):08X}"
    for keyword in (
        *IDENTITY, *_IMAGE, *_VOI, "ImageLaterality", "Laterality", "ViewPosition", "PatientOrientation",
        "ImagerPixelSpacing", "PixelSpacing",
    )
)  # fmt: skip
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
    # A name of one component is legal and warned about with the name itself: nothing of it is touched.
    source.ImageLaterality = str(raw.get("ImageLaterality") or raw.get("Laterality") or "")
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
    """The stand-in with the image's own first window, for a presentation state."""
    copy = Dataset()
    copy.update(source)
    copy.file_meta = source.file_meta
    for keyword in _VOI:
        if keyword in raw and raw[keyword].value not in (None, ""):
            copy[keyword] = raw[keyword]
    if "WindowCenter" not in copy or "WindowWidth" not in copy:
        for keyword in ("WindowCenter", "WindowWidth", "VOILUTFunction"):
            copy.pop(keyword, None)
    return copy


@contextmanager
def quoting_nothing() -> Iterator[None]:
    """Keeps quiet what the libraries say of odd values: their warnings quote the patient's name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _decimals(value: Any) -> list[float]:
    try:
        found = [float(one) for one in value or ()]
    except (TypeError, ValueError):
        return []
    return found if len(found) == 2 and min(found) > 0 else []


def _is_valid(keyword: str, value: Any) -> bool:
    text = str(value or "")
    if keyword.endswith("Date"):
        try:
            return not text or (len(text) == 8 and bool(datetime.strptime(text, "%Y%m%d")))
        except ValueError:
            return False
    return keyword not in _VALID or _VALID[keyword].fullmatch(text) is not None
