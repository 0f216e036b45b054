"""The header of a mammogram as plain Python values: what the gate's rules read, in DICOM's words.

Each field names its attribute, so this is also the list of what is read at all. Raw identifiers are in this record: it never
leaves ``tasks.adapters`` and its ``repr`` shows none of its values.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from gmic_model.pixels.voi import VoiLut  # numpy: the command line reads these words and no file


class ValueKind(StrEnum):
    """How an attribute's value becomes a Python value."""

    TEXT = "text"  # "" if absent
    KEYWORD = "keyword"  # text in upper case, "" if absent
    TEXTS = "texts"  # () if absent
    INTEGER = "integer"  # None if absent
    DECIMAL = "decimal"  # None if absent
    DECIMALS = "decimals"  # () if absent


_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*")


def is_uid(text: str) -> bool:
    """Digits and dots, at most 64 (PS3.5 9.1), leading zeros of a component allowed: old exams have them and harm nobody."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def _attribute(keyword: str, kind: ValueKind) -> Any:
    return field(metadata={"keyword": keyword, "kind": kind})


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A coded concept: CodeValue (0008,0100). SNOMED values come as SCT numbers or as SRT/SNM3 ``R-...`` codes."""

    value: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DicomHeader:
    """Every attribute that a rule uses. Empty text, empty tuple or None = absent, or not readable as its type.

    Attributes:
        is_compressed: True unless the transfer syntax is one of uncompressed pixels.
        view_codes: ViewCodeSequence (0054,0220).
        view_modifier_codes: ViewModifierCodeSequence (0054,0222), which lies inside the view code's item.
        overlay_groups: Number of overlay groups (60xx), 0 to 16. Their planes are never read.
        has_voi_lut: True if VOILUTSequence (0028,3010) is there.
        has_modality_lut: True if ModalityLUTSequence (0028,3000) is there; it is never applied.
        voi_lut: The first table of VOILUTSequence; None unless it was asked for.
        institution_code: InstitutionCodeSequence (0008,0082): scheme and value of its first item.
        unreadable: Keywords whose value could not be read as their type; names only, no values.
    """

    transfer_syntax_uid: str
    is_compressed: bool
    media_storage_sop_instance_uid: str
    view_codes: tuple[Code, ...]
    view_modifier_codes: tuple[Code, ...]
    overlay_groups: int
    has_voi_lut: bool
    has_modality_lut: bool
    voi_lut: VoiLut | None
    institution_code: str
    unreadable: tuple[str, ...]

    specific_character_set: tuple[str, ...] = _attribute("SpecificCharacterSet", ValueKind.TEXTS)
    sop_class_uid: str = _attribute("SOPClassUID", ValueKind.TEXT)
    sop_instance_uid: str = _attribute("SOPInstanceUID", ValueKind.TEXT)
    study_instance_uid: str = _attribute("StudyInstanceUID", ValueKind.TEXT)
    patient_id: str = _attribute("PatientID", ValueKind.TEXT)
    issuer_of_patient_id: str = _attribute("IssuerOfPatientID", ValueKind.TEXT)
    accession_number: str = _attribute("AccessionNumber", ValueKind.TEXT)
    study_date: str = _attribute("StudyDate", ValueKind.TEXT)
    patient_age: str = _attribute("PatientAge", ValueKind.TEXT)
    modality: str = _attribute("Modality", ValueKind.KEYWORD)
    presentation_intent_type: str = _attribute("PresentationIntentType", ValueKind.KEYWORD)
    image_type: tuple[str, ...] = _attribute("ImageType", ValueKind.TEXTS)
    contrast_bolus_agent: str = _attribute("ContrastBolusAgent", ValueKind.TEXT)
    series_description: str = _attribute("SeriesDescription", ValueKind.TEXT)
    study_description: str = _attribute("StudyDescription", ValueKind.TEXT)
    protocol_name: str = _attribute("ProtocolName", ValueKind.TEXT)
    procedure_step_description: str = _attribute("PerformedProcedureStepDescription", ValueKind.TEXT)
    processing_description: str = _attribute("AcquisitionDeviceProcessingDescription", ValueKind.TEXT)
    requested_procedure_description: str = _attribute("RequestedProcedureDescription", ValueKind.TEXT)
    manufacturer: str = _attribute("Manufacturer", ValueKind.TEXT)
    model_name: str = _attribute("ManufacturerModelName", ValueKind.TEXT)
    software_versions: tuple[str, ...] = _attribute("SoftwareVersions", ValueKind.TEXTS)
    device_serial_number: str = _attribute("DeviceSerialNumber", ValueKind.TEXT)
    detector_id: str = _attribute("DetectorID", ValueKind.TEXT)
    detector_type: str = _attribute("DetectorType", ValueKind.KEYWORD)
    institution_name: str = _attribute("InstitutionName", ValueKind.TEXT)
    processing: str = _attribute("AcquisitionDeviceProcessingDescription", ValueKind.TEXT)
    quality_control_image: str = _attribute("QualityControlImage", ValueKind.KEYWORD)
    image_laterality: str = _attribute("ImageLaterality", ValueKind.KEYWORD)
    laterality: str = _attribute("Laterality", ValueKind.KEYWORD)
    view_position: str = _attribute("ViewPosition", ValueKind.KEYWORD)
    patient_orientation: tuple[str, ...] = _attribute("PatientOrientation", ValueKind.TEXTS)
    field_of_view_horizontal_flip: str = _attribute("FieldOfViewHorizontalFlip", ValueKind.KEYWORD)
    magnification_factor: float | None = _attribute("EstimatedRadiographicMagnificationFactor", ValueKind.DECIMAL)
    imager_pixel_spacing_mm: tuple[float, ...] = _attribute("ImagerPixelSpacing", ValueKind.DECIMALS)
    pixel_spacing_mm: tuple[float, ...] = _attribute("PixelSpacing", ValueKind.DECIMALS)
    breast_implant_present: str = _attribute("BreastImplantPresent", ValueKind.KEYWORD)
    partial_view: str = _attribute("PartialView", ValueKind.KEYWORD)
    paddle_description: str = _attribute("PaddleDescription", ValueKind.TEXT)
    rows: int | None = _attribute("Rows", ValueKind.INTEGER)
    columns: int | None = _attribute("Columns", ValueKind.INTEGER)
    number_of_frames: int | None = _attribute("NumberOfFrames", ValueKind.INTEGER)
    samples_per_pixel: int | None = _attribute("SamplesPerPixel", ValueKind.INTEGER)
    bits_allocated: int | None = _attribute("BitsAllocated", ValueKind.INTEGER)
    bits_stored: int | None = _attribute("BitsStored", ValueKind.INTEGER)
    high_bit: int | None = _attribute("HighBit", ValueKind.INTEGER)
    pixel_representation: int | None = _attribute("PixelRepresentation", ValueKind.INTEGER)
    photometric_interpretation: str = _attribute("PhotometricInterpretation", ValueKind.KEYWORD)
    presentation_lut_shape: str = _attribute("PresentationLUTShape", ValueKind.KEYWORD)
    window_center: tuple[float, ...] = _attribute("WindowCenter", ValueKind.DECIMALS)
    window_width: tuple[float, ...] = _attribute("WindowWidth", ValueKind.DECIMALS)
    voi_lut_function: str = _attribute("VOILUTFunction", ValueKind.KEYWORD)
    rescale_slope: float | None = _attribute("RescaleSlope", ValueKind.DECIMAL)
    rescale_intercept: float | None = _attribute("RescaleIntercept", ValueKind.DECIMAL)
    pixel_padding_value: int | None = _attribute("PixelPaddingValue", ValueKind.INTEGER)
    pixel_padding_range_limit: int | None = _attribute("PixelPaddingRangeLimit", ValueKind.INTEGER)
    lossy_image_compression: str = _attribute("LossyImageCompression", ValueKind.TEXT)
    burned_in_annotation: str = _attribute("BurnedInAnnotation", ValueKind.KEYWORD)

    def __repr__(self) -> str:
        """Shows no value: a header in a log or traceback must not show a patient."""
        return f"{type(self).__name__}(...)"


LARGEST_SIDE_PX: Final = 8192
"""No larger image is decoded."""

MAMMOGRAPHY_FOR_PRESENTATION: Final = "1.2.840.10008.5.1.4.1.1.1.2"
"""SOP class of a Digital Mammography X-Ray Image - For Presentation (PS3.4 B.5)."""


def parse_date(text: str) -> date | None:
    """A DICOM date (DA, PS3.5 6.2), or None."""
    try:
        return datetime.strptime(text, "%Y%m%d").date()
    except ValueError:
        return None
