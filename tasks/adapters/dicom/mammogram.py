"""What a written mammogram says besides its pixels: the values given, and those that are the same in every phantom image.

Plain values; ``mammogram_file.write_mammogram`` makes the object of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from schemas.exam import Laterality, ViewPosition


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class MammogramHeader:
    """What ``write_mammogram`` needs. Raw identifiers are allowed here only because this writes a source file."""

    patient_id: str
    patient_name: str
    patient_age_years: int
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    accession_number: str
    study_date: date
    laterality: Laterality
    view_position: ViewPosition
    pixel_spacing_mm: float
    bits_stored: int = 12
    instance_number: int = 1
    manufacturer: str = "mammography-gmic phantom"
    model_name: str = "phantom"


# Values that are the same in every phantom image. Type 2 attributes are empty on purpose (PS3.3 A.27.3 and its modules).
FIXED_ATTRIBUTES: Final[dict[str, Any]] = {
    "SpecificCharacterSet": "ISO_IR 192", "ImageType": ["ORIGINAL", "PRIMARY"], "Modality": "MG",
    "PresentationIntentType": "FOR PRESENTATION", "StudyTime": "120000", "ContentTime": "120000", "ReferringPhysicianName": "",
    "StudyID": "1", "SeriesNumber": 1, "PatientBirthDate": "", "PatientSex": "F", "BodyPartExamined": "BREAST",
    "AcquisitionDate": "", "AcquisitionTime": "", "DeviceSerialNumber": "1", "SoftwareVersions": "1",
    "BurnedInAnnotation": "NO", "LossyImageCompression": "00", "OrganExposed": "BREAST", "BreastImplantPresent": "NO",
    "PartialView": "NO", "PositionerType": "MAMMOGRAPHIC", "PositionerPrimaryAngle": "0", "KVP": "28",
    "DetectorType": "DIRECT", "DetectorConfiguration": "AREA", "FieldOfViewHorizontalFlip": "NO",
    "FieldOfViewOrigin": ["0", "0"], "FieldOfViewRotation": "0", "EstimatedRadiographicMagnificationFactor": "1",
    "PixelIntensityRelationship": "LOG", "PixelIntensityRelationshipSign": -1,
    "RescaleIntercept": "0", "RescaleSlope": "1", "RescaleType": "US", "PresentationLUTShape": "IDENTITY",
    "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16, "PixelRepresentation": 0,
    "AcquisitionContextSequence": [],
}  # fmt: skip
PHANTOM_VIEW_CODES: Final = {
    ViewPosition.CC: ("399162004", "cranio-caudal"),
    ViewPosition.MLO: ("399368009", "medio-lateral oblique"),
}
# Directions of rows and columns: to the right of the image, then down (PS3.3 C.7.6.1.1.1).
PHANTOM_ORIENTATIONS: Final = {
    (Laterality.LEFT, ViewPosition.CC): ["A", "R"], (Laterality.RIGHT, ViewPosition.CC): ["P", "L"],
    (Laterality.LEFT, ViewPosition.MLO): ["A", "FR"], (Laterality.RIGHT, ViewPosition.MLO): ["P", "FL"],
}  # fmt: skip
