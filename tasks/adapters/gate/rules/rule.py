"""The acquisition gate's rules: id, severity and meaning. The rules themselves are in ``header_rules`` and ``pixel_rules``.

Letters: F file, I identifiers, K kind of object, L laterality, V view, X image, P pixel quality, D disclosure, T time, E exam.
``docs/reference/gate-rules.md`` shows this table to users; a test keeps the two equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from schemas.layout import Severity


@dataclass(frozen=True, slots=True)
class Rule:
    """What a rule demands, and what happens to a file that breaks it: BLOCK refuses it, WARN accepts it and counts."""

    severity: Severity
    demand: str


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that an image breaks, with what was found: numbers and DICOM keywords, never free text of the file."""

    rule_id: str
    got: str = ""


_BLOCK, _WARN = Severity.BLOCK, Severity.WARN

GATE_RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        "F01": Rule(_BLOCK, "A regular file inside the source folder, no symbolic link, pipe or device"),
        "F02": Rule(_BLOCK, "Not hard-linked: nobody else can change it while it is read"),
        "F03": Rule(_BLOCK, "At least 2 kB"),
        "F04": Rule(_BLOCK, "At most 600 MB"),
        "F05": Rule(_BLOCK, "'DICM' stands at byte 128"),
        "F06": Rule(_BLOCK, "The preamble is zero or a TIFF header"),
        "F07": Rule(_BLOCK, "Complete: not named .part, .tmp or with a leading dot, and unchanged while it is read"),
        "F10": Rule(_BLOCK, "Read within the time limit"),
        "F11": Rule(_BLOCK, "Read within the memory limit, without crashing the reader"),
        "F12": Rule(_BLOCK, "The file meta information names a transfer syntax"),
        "F13": Rule(_BLOCK, "The transfer syntax is on the list of those read; deflate is not"),
        "F14": Rule(_BLOCK, "The header can be read, every attribute the rules need included"),
        "I01": Rule(_BLOCK, "Study, SOP instance and SOP class UIDs are digits and dots, at most 64"),
        "I02": Rule(_WARN, "SOPInstanceUID agrees with the file meta information"),
        "I03": Rule(_BLOCK, "PatientID is given: exams are split by patient"),
        "I04": Rule(_BLOCK, "PatientID holds no control character and none of < > = + @ | \\ / or '..'"),
        "I05": Rule(_WARN, "IssuerOfPatientID, manufacturer and model hold no such character"),
        "I06": Rule(_BLOCK, "A SOPInstanceUID comes with one image and one patient only"),
        "K01": Rule(_BLOCK, "Not breast tomosynthesis"),
        "K02": Rule(_BLOCK, "Not a secondary capture"),
        "K03": Rule(_BLOCK, "Not a FOR PROCESSING object"),
        "K04": Rule(_BLOCK, "A Digital Mammography X-Ray Image - For Presentation"),
        "K05": Rule(_BLOCK, "Modality is MG"),
        "K06": Rule(_BLOCK, "PresentationIntentType agrees with the SOP class"),
        "K07": Rule(_WARN, "Acquired, not synthesised from tomosynthesis"),
        "K08": Rule(_BLOCK, "A whole mammogram: no quality control, localizer, lesion mask or cropped image"),
        "K09": Rule(_BLOCK, "Not a stereotactic or biopsy image"),
        "L01": Rule(_BLOCK, "Exactly one side, R or L"),
        "L02": Rule(_WARN, "The side is in ImageLaterality (0020,0062), not in another attribute"),
        "L03": Rule(_BLOCK, "All attributes that name a side name the same"),
        "L04": Rule(_WARN, "The breast lies on the side of the image that laterality and orientation say"),
        "V01": Rule(_BLOCK, "The view is CC or MLO"),
        "V02": Rule(_WARN, "The view is in ViewCodeSequence (0054,0220), not in another attribute"),
        "V03": Rule(_WARN, "The view code is in CID 4014"),
        "V04": Rule(_BLOCK, "All attributes that name a view name the same"),
        "V05": Rule(_BLOCK, "No magnification, spot compression or tangential view"),
        "V06": Rule(_WARN, "No implant-displaced view"),
        "V07": Rule(_BLOCK, "Magnification factor below 1.4"),
        "V08": Rule(_WARN, "Not a partial view"),
        "V09": Rule(_WARN, "No implant"),
        "V10": Rule(_WARN, "The paddle is not named a spot or magnification paddle"),
        "V11": Rule(_WARN, "PatientOrientation is given"),
        "V12": Rule(_WARN, "The field of view is not flipped"),
        "X01": Rule(_BLOCK, "Rows and Columns from 800 (phantom: 256) to 8192"),
        "X02": Rule(_BLOCK, "One frame"),
        "X03": Rule(_BLOCK, "One sample per pixel"),
        "X04": Rule(_BLOCK, "8 or 16 bits allocated, 8 to 16 stored"),
        "X05": Rule(_BLOCK, "HighBit is BitsStored - 1"),
        "X06": Rule(_BLOCK, "Unsigned pixels"),
        "X07": Rule(_BLOCK, "MONOCHROME1 or MONOCHROME2"),
        "X08": Rule(_WARN, "PresentationLUTShape agrees with the photometric interpretation"),
        "X09": Rule(_WARN, "Pixel spacing is given, isotropic and 0.04 to 0.2 mm"),
        "X10": Rule(_WARN, "The window is readable, each width at least 1"),
        "X11": Rule(_WARN, "A window or VOI LUT is given"),
        "X12": Rule(_WARN, "16 bits allocated, not 8"),
        "X13": Rule(_BLOCK, "The window or VOI LUT that `preprocess.voi` asks for is there and can be applied"),
        "X20": Rule(_BLOCK, "PixelData is there"),
        "X21": Rule(_BLOCK, "Uncompressed pixel data are as long as the header says"),
        "X22": Rule(_BLOCK, "The pixels decode"),
        "X23": Rule(_BLOCK, "The decoded size is the header's"),
        "X24": Rule(_BLOCK, "No value above 2^BitsStored - 1"),
        "X25": Rule(_BLOCK, "Not one constant value"),
        "X26": Rule(_BLOCK, "The border away from the chest wall is dark once MONOCHROME1 is inverted"),
        "X27": Rule(_WARN, "That border is 0 once padding is removed"),
        "X28": Rule(_BLOCK, "Tissue covers at least 3 %"),
        "X29": Rule(_WARN, "Tissue covers at most 97 %"),
        "X30": Rule(_WARN, "Less than 5 % of the tissue is saturated"),
        "P01": Rule(_WARN, "The transfer syntax is lossless"),
        "P02": Rule(_WARN, "LossyImageCompression tells of no earlier loss"),
        "D01": Rule(_BLOCK, "BurnedInAnnotation is not YES"),
        "D02": Rule(_WARN, "No overlay planes (60xx); they are dropped"),
        "T01": Rule(_WARN, "StudyDate is a date"),
        "T02": Rule(_WARN, "StudyDate is not before 1990"),
        "T03": Rule(_WARN, "StudyDate is not after tomorrow"),
        "E01": Rule(_WARN, "An exam has all four standard views"),
        "E02": Rule(_WARN, "An exam has one image per view; of several one is chosen"),
        "E03": Rule(_BLOCK, "No two images of different UIDs have the same pixels"),
        "E04": Rule(_BLOCK, "An exam has one patient and one date"),
    }
)


_NO_BREAST: Final = "A breast is found in the image"


def demand(code: str) -> str:
    """What a rule demands, in words."""
    return GATE_RULES[code].demand if code in GATE_RULES else _NO_BREAST
