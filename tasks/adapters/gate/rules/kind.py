"""Rules on the kind of object (K) and on what it discloses (D): one whole, processed mammogram that names nobody."""

from __future__ import annotations

import re
from typing import Final

from tasks.adapters.dicom.header import MAMMOGRAPHY_FOR_PRESENTATION, DicomHeader
from tasks.adapters.gate.rules.rule import BLOCK, WARN, Seen, rule

_TOMOSYNTHESIS: Final = "1.2.840.10008.5.1.4.1.1.13.1.3"
_MAMMOGRAPHY_FOR_PROCESSING: Final = "1.2.840.10008.5.1.4.1.1.1.2.1"
_SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"  # and its multi-frame classes, which begin so
_SYNTHETIC_MARKS: Final = ("GENERATED_2D", "C-VIEW", "C_VIEW", "S-VIEW", "V-PREVIEW", "SYNTH", "INSIGHT 2D", "INTELLIGENT 2D")
_TOMOSYNTHESIS_NAMED: Final = re.compile(r"TOMO[ _-]?SYNTH", re.IGNORECASE)
_PART_NAMED: Final = re.compile(
    r"(tomo|dbt|3d).*?(slice|slab|plane|stack|volume|re[ck]onstr|schicht|coupe)"
    r"|(tomo[ _-]?synthesis|dbt)[ _-](image|proj\b|projection\b)",
    re.IGNORECASE,
)
"""A series of slices or projections. A plain mammogram's may name the protocol of its exam, tomosynthesis included, and its
projections, as its views are called in several languages."""
_NO_EXAM: Final = frozenset({"QC", "LOCALIZER", "CALIBRATION"})
_LOW_ENERGY: Final = "LOW_ENERGY"
_CONTRAST_KINDS: Final = ("SUBTRACT", "ADDITION", "HIGH_ENERGY", "RECOMBIN")  # parts of ImageType's values, PS3.3 C.8.11.7.1.4
_CONTRAST_MARKS: Final = ("POST_CONTRAST",)
_CONTRAST_NAMED: Final = re.compile(
    r"subtract|recomb|high.?energy|dual.?energy|iodine|contrast.?enh|(post|with).?contrast|\b(cesm|cedm|cem|ce-?mammo\w*)\b",
    re.IGNORECASE,
)
_NO_CONTRAST: Final = frozenset({"", "NO", "NONE", "N/A"})
_INTERVENTION: Final = (
    "STEREO", "BIOPSY", "PREFIRE", "POSTFIRE", "POSTMARKER", "NEEDLE", "LOCALIZATION", "LOCALISATION", "WIRE", "SPECIMEN",
    "GALACTO", "DUCTO",
)  # fmt: skip
_INTERVENTION_NAMED: Final = re.compile(
    r"needle.?(loc|wire)|wire.?(loc|guid)|hook.?wire|locali[sz]ation|stereota|biopsy.?(scout|guid)|specimen|galacto|ductog"
    r"|drahtmark|harpon|arp[oó]n|pr[aä]parat.?radio",
    re.IGNORECASE,
)
_PLAIN_VALUES: Final = frozenset({"", "NONE", "LEFT", "RIGHT", "POST_PROCESSED", "PRE_CONTRAST", "POST_CONTRAST", _LOW_ENERGY})
"""ImageType's third to fifth value of a plain mammogram; those of synthetic images are ``is_synthetic``'s."""
_VALUES_OF_KIND: Final = slice(2, 5)  # what comes after them are a maker's numbers


def is_synthetic(header: DicomHeader) -> bool:
    """True if the image was computed from tomosynthesis (C-View, S-View, Insight 2D)."""
    described = _TOMOSYNTHESIS_NAMED.sub("TOMO", " ".join((*header.image_type, header.series_description)).upper())
    return any(mark in described for mark in _SYNTHETIC_MARKS)


def is_low_energy(header: DicomHeader) -> bool:
    """True if it is the part of a contrast study that looks like a mammogram without contrast."""
    return any(part.upper() == _LOW_ENERGY for part in header.image_type)


def rule_against_class(sop_class_uid: str) -> str | None:
    """The rule that refuses a class of objects as such, whatever else is in the file; None for mammograms, and for no class."""
    if sop_class_uid in ("", MAMMOGRAPHY_FOR_PRESENTATION):
        return None
    if sop_class_uid.startswith(_SECONDARY_CAPTURE):
        return "K02"
    return {_TOMOSYNTHESIS: "K01", _MAMMOGRAPHY_FOR_PROCESSING: "K03"}.get(sop_class_uid, "K04")


@rule("K01", BLOCK, "Not breast tomosynthesis")
def is_not_tomosynthesis(seen: Seen) -> str | None:
    """By its class, ImageType or SeriesDescription: some devices store slices and projections one by one as mammograms."""
    header = seen.header
    if rule_against_class(header.sop_class_uid) == "K01":
        return ""
    is_part = any(part.upper().startswith("TOMO") for part in header.image_type)
    if header.sop_class_uid != MAMMOGRAPHY_FOR_PRESENTATION or is_synthetic(header):
        return None
    if is_part:
        return "a slice or projection"
    return "SeriesDescription names a slice or projection" if _PART_NAMED.search(header.series_description) else None


@rule("K02", BLOCK, "Not a secondary capture")
def is_not_a_capture(seen: Seen) -> str | None:
    """Screenshots, scanned films and whatever else a workstation saved."""
    return "" if rule_against_class(seen.header.sop_class_uid) == "K02" else None


@rule("K03", BLOCK, "Not a FOR PROCESSING object")
def is_processed(seen: Seen) -> str | None:
    """The detector's values before the maker's processing look different from everything a reader sees."""
    return "" if rule_against_class(seen.header.sop_class_uid) == "K03" else None


@rule("K04", BLOCK, "A Digital Mammography X-Ray Image - For Presentation")
def is_mammography(seen: Seen) -> str | None:
    """PS3.3 A.26; the classes that K01 to K03 name are theirs."""
    sop_class = seen.header.sop_class_uid
    return "" if not sop_class or rule_against_class(sop_class) == "K04" else None


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


@rule("K09", BLOCK, "Not a stereotactic, biopsy, localisation, specimen or duct image")
def is_no_intervention(seen: Seen) -> str | None:
    """By ImageType (0008,0008), or by a description of series, protocol, step or study that names the procedure.

    Of an exam for a localisation every image is one: what is not its scout shows the needle.
    """
    header = seen.header
    if any(mark in part.upper() for part in header.image_type for mark in _INTERVENTION):
        return "ImageType"
    described = _descriptions(header) | {
        "StudyDescription": header.study_description,
        "RequestedProcedureDescription": header.requested_procedure_description,
    }
    return next((keyword for keyword, text in described.items() if _INTERVENTION_NAMED.search(text)), None)


def _descriptions(header: DicomHeader) -> dict[str, str]:
    """What a device writes of an image in words, by keyword; not of its exam, which may hold images of several kinds."""
    return {
        "SeriesDescription": header.series_description,
        "ProtocolName": header.protocol_name,
        "PerformedProcedureStepDescription": header.procedure_step_description,
        "AcquisitionDeviceProcessingDescription": header.processing_description,
    }


@rule("K10", BLOCK, "Of contrast mammography the low-energy image alone")
def is_not_contrast(seen: Seen) -> str | None:
    """Subtraction, high-energy and recombined images, and those with contrast that do not say which they are.

    A device that says nothing in ImageType says it in the description of its series.
    """
    kinds = [part.upper() for part in seen.header.image_type]
    if any(mark in part for part in kinds for mark in _CONTRAST_KINDS):
        return "ImageType"
    if is_low_energy(seen.header):
        return None
    if any(part in _CONTRAST_MARKS for part in kinds):
        return "ImageType names contrast and no energy"
    if seen.header.contrast_bolus_agent.strip().upper() not in _NO_CONTRAST:
        return "ContrastBolusAgent is given, and ImageType names no energy"
    described = _descriptions(seen.header)
    named = next((keyword for keyword, text in described.items() if _CONTRAST_NAMED.search(text)), None)
    return None if named is None else f"{named} names contrast, and ImageType no energy"


@rule("K11", WARN, "Not of a contrast study")
def is_plain(seen: Seen) -> str | None:
    """Its low-energy image is accepted and counted apart, as acquisition ``low_energy``."""
    return "" if is_low_energy(seen.header) else None


@rule("K12", BLOCK, "The third to fifth value of ImageType are those of a plain mammogram, or named in `ingest.image_types`")
def is_image_type_known(seen: Seen) -> str | None:
    """They say what else a mammogram is: what nobody knows is not taken for a plain one. A number is no kind.

    What K01, K09 and K10 know is theirs.
    """
    if any(is_kept(seen) is not None for is_kept in (is_not_tomosynthesis, is_no_intervention, is_not_contrast)):
        return None
    parts = [part.upper() for part in seen.header.image_type[_VALUES_OF_KIND]]
    unknown = [part for part in parts if part not in _PLAIN_VALUES | seen.profile.image_types and not part.isdecimal()]
    return f"{len(unknown)} unknown values" if unknown and not is_synthetic(seen.header) else None


@rule("D01", BLOCK, "BurnedInAnnotation is not YES")
def has_no_burned_in_text(seen: Seen) -> str | None:
    """Text in the pixels may name the patient, and nothing here finds or removes it."""
    return "" if seen.header.burned_in_annotation == "YES" else None


@rule("D02", WARN, "No overlay planes (60xx); they are dropped")
def has_no_overlay(seen: Seen) -> str | None:
    """An overlay may hold text as well; it is never read."""
    return f"{seen.header.overlay_groups} overlays" if seen.header.overlay_groups else None
