"""What all result objects share: equipment, names, the marks that a person and a program see, and the source's identity."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from tasks.adapters.results.exam_result import MANUFACTURER, RESEARCH_USE, SHORT_DIGEST, Maker
from tasks.adapters.results.objects.source_header import IDENTITY

PRODUCT: Final = "mammo"
BREAST: Final = Code("76752008", "SCT", "Breast")
SIDES: Final = {"L": Code("80248007", "SCT", "Left breast"), "R": Code("73056007", "SCT", "Right breast")}
SERIES_NUMBERS: Final = {
    "saliency": 900001, "picture": 900002, "presentation": 900003, "measurements": 900004, "cad": 900005, "panel": 900006,
    "levels": 900007, "key": 900008,
}  # fmt: skip
"""Above every modality's own (one of GE's is 27555): viewers sort by the number and open the first. By kind of object."""

_OF_SIDE: Final = {"L": 10}


def side_of(source: Dataset) -> Code:
    """The breast of an image, coded."""
    return SIDES.get(source.ImageLaterality, BREAST)


def equipment(maker: Maker, kind: str, sources: list[Dataset], number: int = 1, *, side: str = "") -> dict[str, Any]:
    """Arguments that every class of highdicom takes. One series for each kind, study and weights.

    Args:
        maker: Whose it is.
        kind: Of object.
        sources: What it is made of.
        number: Of the object in its series.
        side: Of objects that carry Laterality (0020,0060), which is the series': there is a series for each side.
    """
    return {
        "series_instance_uid": maker.uid(f"{kind} {side} series".replace("  ", " "), str(sources[0].StudyInstanceUID)),
        "series_number": SERIES_NUMBERS[kind] + _OF_SIDE.get(side, 0),
        "sop_instance_uid": object_uid(maker, kind, sources),
        "instance_number": number,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": PRODUCT,
        "software_versions": [f"{MANUFACTURER} {maker.code_version}"[:64], f"weights {maker.weights_sha256[:SHORT_DIGEST]}"],
        "device_serial_number": maker.weights_sha256[:64],
    }


def object_uid(maker: Maker, kind: str, sources: list[Dataset]) -> str:
    """The UID of the object of a kind that is made of these images."""
    return maker.uid(kind, *sorted(str(source.SOPInstanceUID) for source in sources))


def marked(dataset: Dataset, description: str, source: Dataset, maker: Maker) -> Dataset:
    """The object with its marks, its time, and the identity exactly as the source has it.

    Libraries write names and dates their own way, and the objects of one study have to agree (``dcentvfy``).
    """
    for keyword in IDENTITY:
        if keyword in source:
            dataset[keyword] = source[keyword]
        elif keyword in dataset:
            del dataset[keyword]
    weights = maker.weights_sha256[:SHORT_DIGEST]
    dataset.SeriesDescription = f"{maker.network} {description} RESEARCH weights {weights}"[:64]
    dataset.ContentQualification = "RESEARCH"
    dataset.InstanceCreatorUID = maker.uid("creator")
    _set_times(dataset, maker.made)
    return dataset


def refer_to_sources(dataset: Dataset, sources: list[Dataset], *, are_located: bool) -> None:
    """Of which images a picture was made; ``are_located``: its pixels lie where theirs do."""
    dataset.SourceImageSequence = []
    for source in sources:
        item = sop_reference(source)
        item.SpatialLocationsPreserved = "YES" if are_located else "NO"
        item.PurposeOfReferenceCodeSequence = [code_item(Code("121322", "DCM", "Source image for image processing operation"))]
        dataset.SourceImageSequence.append(item)


def sop_reference(source: Dataset) -> Dataset:
    """Class and UID of an image."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    return item


def dcm(value: str, meaning: str) -> Code:
    """A code of DICOM's own scheme."""
    return Code(value, "DCM", meaning)


def code_item(code: Code) -> Dataset:
    """A code as an item of a sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def derivation(maker: Maker, what: str) -> str:
    """DerivationDescription (0008,2111)."""
    return f"{what} of {maker.network} {maker.version} over the original. {RESEARCH_USE}."


def _set_times(dataset: Dataset, made: datetime) -> None:
    """One moment for all: so an object that is made again is the same."""
    day, time = f"{made:%Y%m%d}", f"{made:%H%M%S}"
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = day, time
    dataset.SeriesDate, dataset.SeriesTime = day, time
    for keyword in ("ContentDate", "PresentationCreationDate", "DateOfSecondaryCapture"):
        if keyword in dataset:
            setattr(dataset, keyword, day)
            setattr(dataset, keyword.replace("Date", "Time"), time)
    for item in dataset.get("ContributingEquipmentSequence", ()):
        item.ContributionDateTime = day + time
