"""Rules on the image that the header describes (X01-X13, X20-X23), on earlier loss (P02) and on its date (T)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from tasks.adapters.dicom.header import LARGEST_SIDE_PX, DicomHeader
from tasks.adapters.gate.rules.rule import BLOCK, WARN, Seen, row, rule
from tasks.adapters.gate.rules.view import magnification

SMALLEST_SIDE_PX: Final = 256
"""A narrower image shows no breast: at 0.1 mm, an inch."""
EARLIEST_EXAM: Final = date(1990, 1, 1)
_AGE: Final = re.compile(r"(?P<number>\d{1,4})\s*(?P<unit>[DWMY]?)", re.IGNORECASE)
_STANDARD_AGE: Final = re.compile(r"\d{3}[DWMY]")
_PER_YEAR: Final = {"": 1, "Y": 1, "M": 12, "W": 52, "D": 365}
_OLDEST_YEARS: Final = 120
_SPACING_MM: Final = (0.04, 0.2)
_POSSIBLE_MM: Final = (0.01, 1.0)
_LUT_SHAPES: Final = {"MONOCHROME1": "INVERSE", "MONOCHROME2": "IDENTITY"}


def age_years(text: str) -> int | None:
    """PatientAge (0010,1010) in whole years; None if it is no age, or one that nobody has."""
    match = _AGE.fullmatch(text.strip())
    years = int(match["number"]) // _PER_YEAR[match["unit"].upper()] if match else None
    return years if years is not None and years <= _OLDEST_YEARS else None


def detector_spacing_mm(header: DicomHeader) -> tuple[float, ...]:
    """(row, column) spacing in the breast: ImagerPixelSpacing (0018,1164) over magnification, else PixelSpacing (0028,0030).

    One that no pixel of a mammogram can have is not known: 0, or 70 where micrometres were written. An image would be brought
    from there to a common spacing as a dot, or as one that no memory holds.
    """
    possible = (told for told in _told_spacings_mm(header) if all(_POSSIBLE_MM[0] <= side <= _POSSIBLE_MM[1] for side in told))
    return next(possible, ())


def _told_spacings_mm(header: DicomHeader) -> list[tuple[float, ...]]:
    at_detector_mm = tuple(spacing / magnification(header) for spacing in header.imager_pixel_spacing_mm)
    return [told for told in (at_detector_mm, header.pixel_spacing_mm) if len(told) == 2]


@rule("X01", BLOCK, f"The longer of Rows and Columns from 800, the shorter from 256, to {LARGEST_SIDE_PX}")
def is_size_sane(seen: Seen) -> str | None:
    """Smaller images are thumbnails, larger ones bombs. A crop of a small breast is narrow, so one side may be short."""
    rows, columns = seen.header.rows or 0, seen.header.columns or 0
    shorter, longer = sorted((rows, columns))
    is_sane = shorter >= SMALLEST_SIDE_PX and seen.profile.smallest_side_px <= longer <= LARGEST_SIDE_PX
    return None if is_sane else f"{rows} x {columns}"


@rule("X02", BLOCK, "One frame")
def is_one_frame(seen: Seen) -> str | None:
    """NumberOfFrames (0028,0008); X14 warns of 0, which some writers leave."""
    frames = seen.header.number_of_frames
    return None if frames in (None, 0, 1) else f"{frames} frames"


@rule("X03", BLOCK, "One sample per pixel")
def is_one_sample(seen: Seen) -> str | None:
    """SamplesPerPixel (0028,0002)."""
    samples = seen.header.samples_per_pixel
    return None if samples == 1 else f"{samples} samples"


@rule("X04", BLOCK, "8 or 16 bits allocated, 8 to 16 stored")
def is_depth_sane(seen: Seen) -> str | None:
    """BitsAllocated (0028,0100) and BitsStored (0028,0101)."""
    allocated, stored = seen.header.bits_allocated or 0, seen.header.bits_stored or 0
    return None if allocated in (8, 16) and 8 <= stored <= allocated else f"{allocated} allocated, {stored} stored"


@rule("X05", BLOCK, "HighBit is BitsStored - 1")
def is_high_bit_agreed(seen: Seen) -> str | None:
    """PS3.5 8.1.1; otherwise the values are shifted."""
    high_bit, stored = seen.header.high_bit, seen.header.bits_stored or 0
    return None if high_bit == stored - 1 else f"HighBit {high_bit}, BitsStored {stored}"


@rule("X06", BLOCK, "Unsigned pixels")
def is_unsigned(seen: Seen) -> str | None:
    """PixelRepresentation (0028,0103)."""
    return None if seen.header.pixel_representation == 0 else ""


@rule("X07", BLOCK, "MONOCHROME1 or MONOCHROME2")
def is_monochrome(seen: Seen) -> str | None:
    """PhotometricInterpretation (0028,0004)."""
    return None if seen.header.photometric_interpretation in _LUT_SHAPES else ""


@rule("X12", WARN, "16 bits allocated, not 8")
def has_mammographic_depth(seen: Seen) -> str | None:
    """Eight bits are what is left of twelve to fourteen that a detector gives."""
    return "" if seen.header.bits_allocated == 8 else None


@rule("P02", WARN, "LossyImageCompression tells of no earlier loss")
def has_no_earlier_loss(seen: Seen) -> str | None:
    """LossyImageCompression (0028,2110)."""
    return "" if seen.header.lossy_image_compression == "01" else None


@rule("X08", WARN, "PresentationLUTShape agrees with the photometric interpretation")
def is_lut_shape_agreed(seen: Seen) -> str | None:
    """PresentationLUTShape (2050,0020); a contradiction is a hint that the image may be inverted."""
    shape = seen.header.presentation_lut_shape
    return "" if shape and shape != _LUT_SHAPES.get(seen.header.photometric_interpretation) else None


@rule("X09", WARN, "Pixel spacing is given, isotropic and 0.04 to 0.2 mm")
def is_spacing_sane(seen: Seen) -> str | None:
    """In the breast, that is at the detector over the magnification."""
    spacing_mm = detector_spacing_mm(seen.header)
    is_isotropic = bool(spacing_mm) and abs(spacing_mm[0] - spacing_mm[1]) <= 0.01 * spacing_mm[0]
    if is_isotropic and all(_SPACING_MM[0] <= spacing <= _SPACING_MM[1] for spacing in spacing_mm):
        return None
    told_mm = spacing_mm or next(iter(_told_spacings_mm(seen.header)), ())
    return " x ".join(f"{spacing:.4g}" for spacing in told_mm) or "none"


@rule("X10", WARN, "The window is readable, each width at least 1")
def is_window_readable(seen: Seen) -> str | None:
    """PS3.3 C.11.2.1.2."""
    centers, widths = seen.header.window_center, seen.header.window_width
    return "" if len(centers) != len(widths) or any(width < 1 for width in widths) else None


@rule("X11", WARN, "A window or VOI LUT is given")
def is_display_given(seen: Seen) -> str | None:
    """WindowCenter (0028,1050) or VOILUTSequence (0028,3010)."""
    return None if seen.header.window_center or seen.header.has_voi_lut else ""


row("X13", BLOCK, "The window or VOI LUT that `preprocess.voi` asks for is there and can be applied", by="gate.admission")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remainder:
    """What of the file follows its header: a part of an image must not stand for it until somebody decodes it.

    Attributes:
        size_bytes: Negative if an element of the header claims to be longer than the file.
    """

    header: DicomHeader
    size_bytes: int


@rule("X20", BLOCK, "PixelData is there")
def has_pixel_data(remainder: Remainder) -> str | None:
    """The header is read up to PixelData (7FE0,0010): nothing behind it means that there is none."""
    return "" if remainder.size_bytes == 0 else None


@rule("X21", BLOCK, "Uncompressed pixel data are as long as the header says, or padded by less than as much again")
def is_pixel_data_whole(remainder: Remainder) -> str | None:
    """Tells a cut file from its header, before the pixels are read."""
    header = remainder.header
    pixels_bytes = (header.rows or 0) * (header.columns or 0) * (header.bits_allocated or 0) // 8
    if header.is_compressed or remainder.size_bytes == 0 or remainder.size_bytes >= pixels_bytes:
        return None
    return f"{remainder.size_bytes} bytes for {pixels_bytes} of pixels"


row("X22", BLOCK, "The pixels decode, and the code stream holds all of them", by="dicom.frame_codecs")
row("X23", BLOCK, "The decoded size is the header's", by="dicom.frame_codecs")


@rule("T01", WARN, "StudyDate is a date")
def is_date_readable(seen: Seen) -> str | None:
    """StudyDate (0008,0020)."""
    return "" if seen.exam_date is None else None


@rule("T02", WARN, "StudyDate is not before 1990")
def is_date_not_early(seen: Seen) -> str | None:
    """De-identification leaves 00010101 and 19000101; digital mammography is younger."""
    return "" if seen.exam_date is not None and seen.exam_date < EARLIEST_EXAM else None


@rule("T04", WARN, "PatientAge is three digits and D, W, M or Y")
def is_age_standard(seen: Seen) -> str | None:
    """PS3.5 6.2, AS. Years without a leading 0 or without their unit are read, what is no age is not."""
    text = seen.header.patient_age
    if not text or _STANDARD_AGE.fullmatch(text):
        return None
    return "not an age" if age_years(text) is None else "read as years"


@rule("T03", WARN, "StudyDate is not after tomorrow")
def is_date_not_late(seen: Seen) -> str | None:
    """Tomorrow, because the scanner may be in another time zone."""
    return "" if seen.exam_date is not None and seen.exam_date > seen.today + timedelta(days=1) else None
