"""The gate's rules on a header: identifiers, kind of object, side, view, image size, disclosure and dates.

Each function yields the rules that the header breaks; which of them refuse is in ``gate_rules``, which are lifted in
``profiles``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Final

from schemas.exam import Laterality, ViewPosition
from tasks.adapters.datasets.gate_profile import Profile
from tasks.adapters.datasets.subject import VIEW_CODES, Subject
from tasks.adapters.dicom.dicom_file import LOSSLESS_SYNTAXES, MAMMOGRAPHY_FOR_PRESENTATION
from tasks.adapters.dicom.header import LARGEST_SIDE_PX, DicomHeader
from tasks.adapters.gate.rules.rule import Broken

EARLIEST_EXAM: Final = date(1990, 1, 1)


def broken_header_rules(header: DicomHeader, subject: Subject, profile: Profile, *, today: date) -> tuple[Broken, ...]:
    """Every rule the header breaks and the profile does not lift, in the order of the table."""
    broken = [
        *_reading(header),
        *_identifiers(header, subject),
        *_kind(header, profile),
        *_side(subject),
        *_view(header, subject),
        *_view_technique(header),
        *_size(header, profile),
        *_encoding(header),
        *_display(header),
        *_disclosure(header),
        *_dates(header, today),
    ]
    return tuple(rule for rule in broken if rule.rule_id not in profile.relaxed)


def parse_date(text: str) -> date | None:
    """A DICOM date (DA, PS3.5 6.2), or None."""
    try:
        return datetime.strptime(text, "%Y%m%d").date()
    except ValueError:
        return None


def is_synthetic(header: DicomHeader) -> bool:
    """True if the image was computed from tomosynthesis (C-View, S-View, Insight 2D)."""
    described = " ".join((*header.image_type, header.series_description)).upper().replace("TOMOSYNTH", "TOMO")
    return any(mark in described for mark in _SYNTHETIC_MARKS)


_SYNTHETIC_MARKS: Final = ("GENERATED_2D", "C-VIEW", "C_VIEW", "S-VIEW", "V-PREVIEW", "SYNTH", "INSIGHT 2D", "INTELLIGENT 2D")


def magnification(header: DicomHeader) -> float:
    """EstimatedRadiographicMagnificationFactor (0018,1114); 1 if absent or nonsense."""
    factor = header.magnification_factor
    return factor if factor is not None and 1.0 <= factor <= 10.0 else 1.0


def detector_spacing_mm(header: DicomHeader) -> tuple[float, ...]:
    """(row, column) spacing in the breast: ImagerPixelSpacing (0018,1164) over magnification, else PixelSpacing (0028,0030)."""
    if len(header.imager_pixel_spacing_mm) == 2:
        return tuple(spacing / magnification(header) for spacing in header.imager_pixel_spacing_mm)
    return header.pixel_spacing_mm if len(header.pixel_spacing_mm) == 2 else ()


def _reading(header: DicomHeader) -> Iterator[Broken]:
    needed = [keyword for keyword in header.unreadable if keyword not in _OPTIONAL]
    if needed:
        yield Broken("F14", f"unreadable {' '.join(needed)}")


_OPTIONAL: Final = frozenset(
    {
        "StudyDate", "PatientAge", "EstimatedRadiographicMagnificationFactor", "ImagerPixelSpacing", "PixelSpacing",
        "WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence", "RescaleSlope", "RescaleIntercept",
        "PaddleDescription", "Manufacturer", "ManufacturerModelName", "SeriesDescription",
    }
)  # fmt: skip


def _identifiers(header: DicomHeader, subject: Subject) -> Iterator[Broken]:
    # Leading zeros in a component break PS3.5 9.1 and are common in old exams; they harm nobody, so they pass.
    uids = {"SOPInstanceUID": header.sop_instance_uid, "SOPClassUID": header.sop_class_uid}
    if not subject.is_exam_mapped:
        uids["StudyInstanceUID"] = header.study_instance_uid
    wrong = [name for name, uid in uids.items() if not _UID.fullmatch(uid) or len(uid) > 64]
    if not subject.exam and "StudyInstanceUID" not in wrong:
        wrong.append("StudyInstanceUID")
    if wrong:
        yield Broken("I01", " ".join(wrong))
    if header.media_storage_sop_instance_uid != header.sop_instance_uid:
        yield Broken("I02")
    if not subject.patient:
        yield Broken("I03")
    if any(_HOSTILE.search(text) for text in (header.patient_id, subject.patient)):
        yield Broken("I04")
    if any(_HOSTILE.search(text) for text in (header.issuer_of_patient_id, header.manufacturer, header.model_name)):
        yield Broken("I05")


_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*")
_HOSTILE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f<>=+@|\\/]|\.\.")


def _kind(header: DicomHeader, profile: Profile) -> Iterator[Broken]:
    sop_class = header.sop_class_uid
    if sop_class != MAMMOGRAPHY_FOR_PRESENTATION:
        yield Broken(_REFUSED_CLASSES.get(sop_class, "K02" if sop_class.startswith(_SECONDARY_CAPTURE) else "K04"))
    elif not is_synthetic(header) and any(part.upper().startswith("TOMO") for part in header.image_type):
        yield Broken("K01", "a slice or projection")  # some devices store them one by one as mammograms
    if header.modality != "MG":
        yield Broken("K05")
    # Type 1 in the mammography object and absent elsewhere: only a contradiction is refused, or an unprocessed image.
    if header.presentation_intent_type not in ("", "FOR PRESENTATION"):
        yield Broken("K06")
    if is_synthetic(header):
        yield Broken("K07")
    kinds = {part.upper() for part in header.image_type}
    pattern = profile.not_a_view_pattern
    is_part = pattern is not None and (pattern.search(header.series_description) or pattern.search(header.patient_id))
    if header.quality_control_image == "YES" or kinds & {"QC", "LOCALIZER", "CALIBRATION"} or is_part:
        yield Broken("K08")
    if any("STEREO" in part or "BIOPSY" in part for part in kinds):
        yield Broken("K09")


_SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"
_REFUSED_CLASSES: Final = {"1.2.840.10008.5.1.4.1.1.13.1.3": "K01", "1.2.840.10008.5.1.4.1.1.1.2.1": "K03"}


def _side(subject: Subject) -> Iterator[Broken]:
    named = set(subject.sides.values())
    if len(named & set(Laterality)) > 1:
        yield Broken("L03", "R and L")
    elif subject.laterality is None:
        yield Broken("L01", "neither R nor L" if named else "no side")
    if "ImageLaterality" not in subject.sides and subject.laterality is not None:
        yield Broken("L02", next(iter(subject.sides)))


def _view(header: DicomHeader, subject: Subject) -> Iterator[Broken]:
    named = set(subject.views.values())
    if named & set(ViewPosition) and len(named) > 1:
        yield Broken("V04", " and ".join(subject.views))
    elif subject.view_position is None:
        yield Broken("V01", "another view" if named else "no view")
    if "ViewCodeSequence" not in subject.views and subject.view_position is not None:
        yield Broken("V02", next(iter(subject.views)))
    if header.view_codes and header.view_codes[0].value not in VIEW_CODES:
        yield Broken("V03")


def _view_technique(header: DicomHeader) -> Iterator[Broken]:
    modifiers = {code.value for code in header.view_modifier_codes}
    if modifiers & _MAGNIFIED_MODIFIERS:
        yield Broken("V05")
    if modifiers & _IMPLANT_DISPLACED:
        yield Broken("V06")
    if magnification(header) >= 1.4:
        yield Broken("V07", f"{magnification(header):.2f}")
    if header.partial_view == "YES":
        yield Broken("V08")
    if header.breast_implant_present == "YES":
        yield Broken("V09")
    if re.search(r"\b(spot|mag)", header.paddle_description, re.IGNORECASE):
        yield Broken("V10")
    if len(header.patient_orientation) != 2:
        yield Broken("V11")
    if header.field_of_view_horizontal_flip == "YES":
        yield Broken("V12")


# CID 4015: magnification, spot compression, tangential; then implant displaced.
_MAGNIFIED_MODIFIERS: Final = frozenset({"399163009", "R-102D6", "399055006", "R-102D7", "399110001", "R-102C2"})
_IMPLANT_DISPLACED: Final = frozenset({"399209000", "R-102D5"})


def _size(header: DicomHeader, profile: Profile) -> Iterator[Broken]:
    sides = (header.rows or 0, header.columns or 0)
    if not all(profile.smallest_side_px <= side <= LARGEST_SIDE_PX for side in sides):
        yield Broken("X01", f"{sides[0]} x {sides[1]}")
    if header.number_of_frames not in (None, 1):
        yield Broken("X02", f"{header.number_of_frames} frames")
    if header.samples_per_pixel != 1:
        yield Broken("X03", f"{header.samples_per_pixel} samples")


def _encoding(header: DicomHeader) -> Iterator[Broken]:
    allocated, stored = header.bits_allocated or 0, header.bits_stored or 0
    if allocated not in (8, 16) or not 8 <= stored <= allocated:
        yield Broken("X04", f"{allocated} allocated, {stored} stored")
    if header.high_bit != stored - 1:
        yield Broken("X05", f"HighBit {header.high_bit}, BitsStored {stored}")
    if header.pixel_representation != 0:
        yield Broken("X06")
    if header.photometric_interpretation not in ("MONOCHROME1", "MONOCHROME2"):
        yield Broken("X07")
    if allocated == 8:
        yield Broken("X12")
    if header.transfer_syntax_uid not in LOSSLESS_SYNTAXES:
        yield Broken("P01")
    if header.lossy_image_compression == "01":
        yield Broken("P02")


def _display(header: DicomHeader) -> Iterator[Broken]:
    inverse = {"MONOCHROME1": "INVERSE", "MONOCHROME2": "IDENTITY"}.get(header.photometric_interpretation)
    if header.presentation_lut_shape and header.presentation_lut_shape != inverse:
        yield Broken("X08")
    spacing_mm = detector_spacing_mm(header)
    is_isotropic = bool(spacing_mm) and abs(spacing_mm[0] - spacing_mm[1]) <= 0.01 * spacing_mm[0]
    if not is_isotropic or not all(0.04 <= spacing <= 0.2 for spacing in spacing_mm):
        yield Broken("X09", " x ".join(f"{spacing:.4g}" for spacing in spacing_mm) or "none")
    if len(header.window_center) != len(header.window_width) or any(width < 1 for width in header.window_width):
        yield Broken("X10")
    if not header.window_center and not header.has_voi_lut:
        yield Broken("X11")


def _disclosure(header: DicomHeader) -> Iterator[Broken]:
    if header.burned_in_annotation == "YES":
        yield Broken("D01")
    if header.overlay_groups:
        yield Broken("D02", f"{header.overlay_groups} overlays")


def _dates(header: DicomHeader, today: date) -> Iterator[Broken]:
    exam_date = parse_date(header.study_date)
    if exam_date is None:
        yield Broken("T01")
    elif exam_date < EARLIEST_EXAM:
        yield Broken("T02")
    elif exam_date > today + timedelta(days=1):
        yield Broken("T03")
