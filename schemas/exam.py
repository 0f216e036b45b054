"""Records of an exam and its images, in DICOM's words. Identifiers here are pseudonyms, never raw DICOM values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final

from schemas.refusal import Refusal

UNKNOWN = 255
"""Code of "not known" in integer columns and tensors; of labels, 0 is "absent", 1 is "present". Never trained as absent."""
NOT_KNOWN: Final = "not known"
"""The words for it: on pages, and as the name of a group."""


class Laterality(StrEnum):
    """Side of the breast: ImageLaterality (0020,0062)."""

    RIGHT = "R"
    LEFT = "L"


class ViewPosition(StrEnum):
    """Screening view: ViewPosition (0018,5101), CID 4014."""

    CC = "CC"
    MLO = "MLO"


class Finding(StrEnum):
    """What a breast is labelled with. The order is the class axis ``C``."""

    BENIGN = "benign"
    MALIGNANT = "malignant"


FINDINGS = tuple(Finding)


class FindingType(StrEnum):
    """What a breast's finding looks like, in the words of BI-RADS; for subgroups only."""

    MASS = "mass"
    CALCIFICATION = "calcification"
    ASYMMETRY = "asymmetry"
    DISTORTION = "distortion"
    SEVERAL = "several"
    OTHER = "other"


class Split(StrEnum):
    """A patient's part: "validation" means data checks in this house, so the middle one is "tuning"."""

    TRAIN = "train"
    TUNING = "tuning"
    TEST = "test"


class Acquisition(StrEnum):
    """How the image came to be; never mixed in a split without being counted."""

    FFDM = "ffdm"
    SYNTHETIC_2D = "synthetic_2d"
    FILM = "film"
    LOW_ENERGY = "low_energy"


class Photometric(StrEnum):
    """PhotometricInterpretation (0028,0004)."""

    MONOCHROME1 = "MONOCHROME1"
    MONOCHROME2 = "MONOCHROME2"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """One view as the gate accepted it.

    Attributes:
        image_id: Pseudonym of SOPInstanceUID (0008,0018).
        exam_id: Pseudonym of StudyInstanceUID (0020,000D).
        patient_id: Pseudonym of PatientID (0010,0020) with its issuer.
        source_sha256: Keyed digest of the file's bytes (``Pseudonyms.source_digest``).
        rows_px: Rows (0028,0010).
        columns_px: Columns (0028,0011).
        bits_stored: BitsStored (0028,0101).
        pixel_spacing_mm: ImagerPixelSpacing (0018,1164) over magnification, else PixelSpacing (0028,0030); None = not given.
        software_versions: SoftwareVersions (0018,1020), cleaned; None = not given.
        device_id: Pseudonym of DeviceSerialNumber (0018,1000).
        processing: AcquisitionDeviceProcessingDescription (0018,1400), cleaned.
        detector_id: Pseudonym of DetectorID (0018,700A).
        detector_type: DetectorType (0018,7004), cleaned.
        institution_id: Pseudonym of InstitutionCodeSequence (0008,0082), else of InstitutionName (0008,0080).
        exam_date: StudyDate (0008,0020), shifted per patient; None = not given or unreadable.
        patient_age_years: PatientAge (0010,1010), 90 stands for 90 and above; None = not given.
        gate_warnings: Ids of the rules that warned.
        accession_id: Pseudonym of AccessionNumber (0008,0050), by which labels may name the exam; None = not given.
        bare_patient_id: Pseudonym of PatientID alone: it finds those of whom some files lack the issuer.
    """

    image_id: str
    exam_id: str
    patient_id: str
    laterality: Laterality
    view_position: ViewPosition
    acquisition: Acquisition
    source_sha256: str
    rows_px: int
    columns_px: int
    bits_stored: int
    photometric: Photometric
    transfer_syntax_uid: str
    pixel_spacing_mm: float | None
    manufacturer: str | None
    model_name: str | None
    exam_date: date | None
    patient_age_years: int | None
    gate_warnings: tuple[str, ...]
    accession_id: str | None = None
    bare_patient_id: str | None = None
    software_versions: str | None = None
    device_id: str | None = None
    processing: str | None = None
    detector_id: str | None = None
    detector_type: str | None = None
    institution_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamRecord:
    """One exam (DICOM study) with what is known of each breast.

    Attributes:
        findings: Per breast: None = not known, empty set = none found.
        absent: Per breast, what it is known not to hold. A registry of cancers knows a breast without cancer and nothing of
            benign findings. None = where findings are known, every other one is absent.
    """

    exam_id: str
    patient_id: str
    findings: Mapping[Laterality, frozenset[Finding] | None]
    absent: Mapping[Laterality, frozenset[Finding]] | None = None

    @property
    def has_finding(self) -> bool:
        """True if any breast is known to hold a benign or malignant finding."""
        return any(bool(found) for found in self.findings.values())

    def holds(self, finding: Finding) -> bool:
        """True if a breast is known to hold the finding."""
        return any(finding in found for found in self.findings.values() if found)

    def lacks(self, finding: Finding) -> bool:
        """True if every breast is known not to hold the finding."""
        return bool(self.findings) and all(finding in self.absent_of(laterality) for laterality in self.findings)

    def absent_of(self, laterality: Laterality) -> frozenset[Finding]:
        """What a breast is known not to hold."""
        if self.absent is not None:
            return self.absent.get(laterality, frozenset())
        found = self.findings[laterality]
        return frozenset() if found is None else frozenset(FINDINGS) - found


Box = tuple[int, int, int, int]
"""(top, bottom, left, right) in pixels, half open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewGeometry:
    """Where a network window came from, enough to map saliency back to the source image.

    The path of a pixel: source image -> crop box -> clockwise ``quarter_turns`` -> left-right flip if ``is_flipped`` -> resize
    by ``scale`` -> window. All lengths in pixels; boxes are half open.

    Attributes:
        source_shape_px: (rows, columns) of the source image.
        crop_box_px: (top, bottom, left, right) in the source image.
        is_flipped: True if the crop was mirrored so that the chest wall is at column 0.
        scale: Working pixels per source pixel; 1.0 unless an oversized breast is shrunk to the window.
        best_center_px: (row, column) of the window's centre, in the flipped and scaled crop.
        window_px: (rows, columns) of the network input.
        quarter_turns: 0 unless the source image lies on its side or upside down; images stored by older versions have 0.
    """

    source_shape_px: tuple[int, int]
    crop_box_px: Box
    is_flipped: bool
    scale: float
    best_center_px: tuple[int, int]
    window_px: tuple[int, int]
    view_position: ViewPosition
    quarter_turns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedFile:
    """A file the gate refused, named by pseudonym.

    Attributes:
        file_id: ``F`` and 24 hex digits of the keyed digest of its path below the source folder.
    """

    file_id: str
    refusal: Refusal

    @property
    def reason_codes(self) -> tuple[str, ...]:
        """Ids of the rules that refused it."""
        return self.refusal.rules


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferredFile:
    """A file that could not be read at the moment, named by pseudonym: nothing is said of its content.

    Attributes:
        reason: What failed, as ``EIO`` or in words; see ``schemas.errors.FileDeferred``.
    """

    file_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BreastLabel:
    """What a row of the labels file says of its breast; None = not known.

    Attributes:
        birads: BI-RADS assessment category 0-6.
        label_source: ``biopsy``, ``followup``, ``birads_proxy``, ``annotator`` or ``phantom``.
        density: BI-RADS breast density, ``a`` to ``d``.
        finding_type: What the finding looks like.
        groups: Values of the columns that ``evaluate.subgroup_columns`` names, by column, as JSON.
        diagnosis_date: Of its cancer, shifted as the patient's exam dates are.
        followup_date: The last day on which it was known to have none, shifted alike.
    """

    benign: bool | None
    malignant: bool | None
    birads: int | None
    label_source: str
    density: str | None = None
    finding_type: FindingType | None = None
    groups: str | None = None
    diagnosis_date: date | None = None
    followup_date: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionBox:
    """A lesion marked by a rectangle, in pixels of the source image; half open.

    Attributes:
        finding: None = the file does not say: then it is every finding that the breast is labelled with.
        lesion: What the lesion is called in all images of the breast; None = the file does not say.
    """

    finding: Finding | None
    top_px: int
    bottom_px: int
    left_px: int
    right_px: int
    lesion: str | None = None

    @property
    def text(self) -> str:
        """As the manifest keeps it: ``malignant 10 20 30 40``, or ``malignant 10 20 30 40 L1``."""
        edges = f"{self.finding or 'any'} {self.top_px} {self.bottom_px} {self.left_px} {self.right_px}"
        return edges if self.lesion is None else f"{edges} {self.lesion}"

    @classmethod
    def of_text(cls, text: str) -> LesionBox:
        """The box that ``text`` was made of."""
        name, *edges = text.split()
        top, bottom, left, right = map(int, edges[:4])
        finding, lesion = None if name == "any" else Finding(name), edges[4] if len(edges) > 4 else None
        return cls(finding=finding, top_px=top, bottom_px=bottom, left_px=left, right_px=right, lesion=lesion)


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionBeyond:
    """A lesion of the source image that the stored crop holds in part, or not at all.

    Attributes:
        beyond_px: Its pixels outside the crop, counted in the crop's scale.
        at_px: (row, column) of one of its pixels in the crop; None = the crop holds none.
    """

    finding: Finding
    beyond_px: int
    at_px: tuple[int, int] | None

    @property
    def text(self) -> str:
        """As the manifest keeps it: ``malignant 5320 120 33``, or ``malignant 5320``."""
        return " ".join(str(part) for part in (self.finding.value, self.beyond_px, *(self.at_px or ())))

    @classmethod
    def of_text(cls, text: str) -> LesionBeyond:
        """The lesion that ``text`` was made of."""
        name, beyond, *at = text.split()
        return cls(finding=Finding(name), beyond_px=int(beyond), at_px=(int(at[0]), int(at[1])) if at else None)


LABELLED_BY_READ: Final = "birads_proxy"
"""Source of a label that is itself a reader's BI-RADS category: it says nothing of how well that reader reads."""
LABEL_SOURCES: Final = ("biopsy", "followup", LABELLED_BY_READ, "annotator", "phantom")
