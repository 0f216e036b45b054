"""Rules on the kind of object (K) and on what it discloses (D): one whole, processed mammogram that names nobody."""

from __future__ import annotations

from typing import Final

from tasks.adapters.dicom.header import MAMMOGRAPHY_FOR_PRESENTATION, DicomHeader
from tasks.adapters.gate.rules.rule import BLOCK, WARN, Seen, rule

_TOMOSYNTHESIS: Final = "1.2.840.10008.5.1.4.1.1.13.1.3"
_MAMMOGRAPHY_FOR_PROCESSING: Final = "1.2.840.10008.5.1.4.1.1.1.2.1"
_SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"  # and its multi-frame classes, which begin so
_SYNTHETIC_MARKS: Final = ("GENERATED_2D", "C-VIEW", "C_VIEW", "S-VIEW", "V-PREVIEW", "SYNTH", "INSIGHT 2D", "INTELLIGENT 2D")
_NO_EXAM: Final = frozenset({"QC", "LOCALIZER", "CALIBRATION"})


def is_synthetic(header: DicomHeader) -> bool:
    """True if the image was computed from tomosynthesis (C-View, S-View, Insight 2D)."""
    described = " ".join((*header.image_type, header.series_description)).upper().replace("TOMOSYNTH", "TOMO")
    return any(mark in described for mark in _SYNTHETIC_MARKS)


@rule("K01", BLOCK, "Not breast tomosynthesis")
def is_not_tomosynthesis(seen: Seen) -> str | None:
    """By its class, or by ImageType: some devices store slices and projections one by one as mammograms."""
    header = seen.header
    if header.sop_class_uid == _TOMOSYNTHESIS:
        return ""
    is_part = any(part.upper().startswith("TOMO") for part in header.image_type)
    if is_part and header.sop_class_uid == MAMMOGRAPHY_FOR_PRESENTATION and not is_synthetic(header):
        return "a slice or projection"
    return None


@rule("K02", BLOCK, "Not a secondary capture")
def is_not_a_capture(seen: Seen) -> str | None:
    """Screenshots, scanned films and whatever else a workstation saved."""
    return "" if seen.header.sop_class_uid.startswith(_SECONDARY_CAPTURE) else None


@rule("K03", BLOCK, "Not a FOR PROCESSING object")
def is_processed(seen: Seen) -> str | None:
    """The detector's values before the maker's processing look different from everything a reader sees."""
    return "" if seen.header.sop_class_uid == _MAMMOGRAPHY_FOR_PROCESSING else None


@rule("K04", BLOCK, "A Digital Mammography X-Ray Image - For Presentation")
def is_mammography(seen: Seen) -> str | None:
    """PS3.3 A.26; the classes that K01 to K03 name are theirs."""
    sop_class = seen.header.sop_class_uid
    named = (MAMMOGRAPHY_FOR_PRESENTATION, _TOMOSYNTHESIS, _MAMMOGRAPHY_FOR_PROCESSING)
    return None if sop_class in named or sop_class.startswith(_SECONDARY_CAPTURE) else ""


@rule("K05", BLOCK, "Modality is MG")
def is_modality_mg(seen: Seen) -> str | None:
    """Modality (0008,0060)."""
    return None if seen.header.modality == "MG" else ""


@rule("K06", BLOCK, "PresentationIntentType agrees with the SOP class")
def is_intent_agreed(seen: Seen) -> str | None:
    """Type 1 in the mammography object and absent elsewhere: only a contradiction is refused, or an unprocessed image."""
    return None if seen.header.presentation_intent_type in ("", "FOR PRESENTATION") else ""


@rule("K07", WARN, "Acquired, not synthesised from tomosynthesis")
def is_acquired(seen: Seen) -> str | None:
    """Synthetic images are accepted and counted apart: they look like mammograms and are none."""
    return "" if is_synthetic(seen.header) else None


@rule("K08", BLOCK, "A whole mammogram: no quality control, localizer, lesion mask or cropped image")
def is_whole_mammogram(seen: Seen) -> str | None:
    """By QualityControlImage, ImageType, or what the data set writes into the description of masks and crops."""
    header, pattern = seen.header, seen.profile.not_a_view_pattern
    if header.quality_control_image == "YES" or any(part.upper() in _NO_EXAM for part in header.image_type):
        return ""
    is_part = pattern is not None and (pattern.search(header.series_description) or pattern.search(header.patient_id))
    return "" if is_part else None


@rule("K09", BLOCK, "Not a stereotactic or biopsy image")
def is_not_stereotactic(seen: Seen) -> str | None:
    """By ImageType (0008,0008)."""
    kinds = [part.upper() for part in seen.header.image_type]
    return "" if any("STEREO" in part or "BIOPSY" in part for part in kinds) else None


@rule("D01", BLOCK, "BurnedInAnnotation is not YES")
def has_no_burned_in_text(seen: Seen) -> str | None:
    """Text in the pixels may name the patient, and nothing here finds or removes it."""
    return "" if seen.header.burned_in_annotation == "YES" else None


@rule("D02", WARN, "No overlay planes (60xx); they are dropped")
def has_no_overlay(seen: Seen) -> str | None:
    """An overlay may hold text as well; it is never read."""
    return f"{seen.header.overlay_groups} overlays" if seen.header.overlay_groups else None
