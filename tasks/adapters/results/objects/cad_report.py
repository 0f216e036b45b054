"""Mammography CAD SR (TID 4000), made with pydicom alone: highdicom has no such template.

Tree: Image Library (each view); CAD Processing and Findings Summary > Individual Impression > Single Image Finding (algorithm,
probability, centre, outline); Summary of Detections > Successful Detections > Detection Performed; Summary of Analyses. Where
the template says "shall reference an IMAGE in the Image Library", the relationship is by reference: position 1.2.n.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian

from schemas.exam import Box, Finding
from tasks.adapters.results.exam_result import Maker, ViewResult
from tasks.adapters.results.objects.equipment import SIDES, code_item, dcm, equipment, marked, sop_reference
from tasks.adapters.results.objects.presentation import clipped_box
from tasks.adapters.results.objects.source_header import VIEW_CODES

CAD_SR: Final = UID("1.2.840.10008.5.1.4.1.1.88.50")
_DENSITY: Final = Code("129793001", "SCT", "Mammography breast density")
"""Of CID 6014, what one may call a mass-like region who knows no type of lesion."""
_PERCENT, _UM = Code("%", "UCUM", "Percent"), Code("um", "UCUM", "micrometer")
_OPTIONAL: Final = dcm("111151", "Presentation Optional: Rendering device may present")
_SUCCEEDED, _NOT_ATTEMPTED = dcm("111222", "Succeeded"), dcm("111225", "Not Attempted")
_WITH: Final = dcm("111242", "All algorithms succeeded; with findings")
_WITHOUT: Final = dcm("111241", "All algorithms succeeded; without findings")
_CONTEXT, _PROPERTY = "HAS ACQ CONTEXT", "HAS PROPERTIES"


def cad_report(sources: list[Dataset], views: list[ViewResult], maker: Maker, *, at_least: float) -> Dataset:
    """One report for the images of an exam that lie in one study; none found is a result.

    Args:
        sources: Cleaned headers, each of a known side and view.
        views: What was said of each.
        maker: Whose it is.
        at_least: A view whose malignant score is lower has no finding; of others it is the most attended patch.
    """
    dataset = _document(sources, maker)
    findings = []
    for position, (source, view) in enumerate(zip(sources, views, strict=True), start=1):
        size = (int(source.Rows), int(source.Columns))
        box = next((clipped for patch in view.patches if (clipped := clipped_box(patch.box_px, size)) is not None), None)
        if view.scores[Finding.MALIGNANT] >= at_least and box is not None:
            findings.append(_finding(view.scores[Finding.MALIGNANT], box, position, maker))
    detection = _code("CONTAINS", dcm("111022", "Detection Performed"), _DENSITY, [
        *_algorithm(maker), *(_by_reference(_PROPERTY, 1, 2, position) for position in range(1, len(sources) + 1)),
    ])  # fmt: skip
    dataset.update(
        _item(None, "CONTAINER", dcm("111036", "Mammography CAD Report"), [
            _code("HAS CONCEPT MOD", dcm("121049", "Language of Content Item and Descendants"),
                 Code("en-US", "RFC5646", "English (United States)")),
            _item("CONTAINS", "CONTAINER", dcm("111028", "Image Library"), [_library_entry(source) for source in sources]),
            _code("CONTAINS", dcm("111017", "CAD Processing and Findings Summary"), _WITH if findings else _WITHOUT, findings),
            _code("CONTAINS", dcm("111064", "Summary of Detections"), _SUCCEEDED, [
                _item("INFERRED FROM", "CONTAINER", dcm("111063", "Successful Detections"), [detection]),
            ]),
            _code("CONTAINS", dcm("111065", "Summary of Analyses"), _NOT_ATTEMPTED),
        ])
    )  # fmt: skip
    template = Dataset()
    template.MappingResource, template.TemplateIdentifier = "DCMR", "4000"
    dataset.ContentTemplateSequence = [template]
    return marked(dataset, "CAD", sources[0], maker)


def _document(sources: list[Dataset], maker: Maker) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    given = equipment(maker, "cad", sources)
    dataset.file_meta.MediaStorageSOPClassUID, dataset.file_meta.MediaStorageSOPInstanceUID = (
        CAD_SR,
        UID(given["sop_instance_uid"]),
    )
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = CAD_SR, given["sop_instance_uid"], "SR"
    dataset.SeriesInstanceUID, dataset.SeriesNumber = given["series_instance_uid"], given["series_number"]
    dataset.InstanceNumber, dataset.Manufacturer = given["instance_number"], given["manufacturer"]
    dataset.ManufacturerModelName, dataset.DeviceSerialNumber = given["manufacturer_model_name"], given["device_serial_number"]
    dataset.SoftwareVersions, dataset.SpecificCharacterSet = given["software_versions"], "ISO_IR 192"
    dataset.ContentDate = dataset.ContentTime = ""  # set with the other times
    dataset.ReferencedPerformedProcedureStepSequence, dataset.PerformedProcedureCodeSequence = [], []
    dataset.CompletionFlag, dataset.VerificationFlag, dataset.PreliminaryFlag = "COMPLETE", "UNVERIFIED", "PRELIMINARY"
    study = Dataset()
    study.StudyInstanceUID, study.ReferencedSeriesSequence = sources[0].StudyInstanceUID, []
    for uid in dict.fromkeys(source.SeriesInstanceUID for source in sources):
        series = Dataset()
        series.SeriesInstanceUID = uid
        series.ReferencedSOPSequence = [sop_reference(source) for source in sources if source.SeriesInstanceUID == uid]
        study.ReferencedSeriesSequence.append(series)
    dataset.CurrentRequestedProcedureEvidenceSequence = [study]
    return dataset


def _library_entry(source: Dataset) -> Dataset:
    """TID 4020."""
    view, meaning = VIEW_CODES[source.ViewPosition]
    rows = [
        _code(_CONTEXT, dcm("111027", "Image Laterality"), SIDES[source.ImageLaterality]),
        _code(_CONTEXT, dcm("111031", "Image View"), Code(view, "SCT", meaning)),
    ]
    if source.PatientOrientation:
        along, down = source.PatientOrientation
        rows += [_text(_CONTEXT, dcm("111044", "Patient Orientation Row"), along),
                 _text(_CONTEXT, dcm("111043", "Patient Orientation Column"), down)]  # fmt: skip
    if source.StudyDate:
        rows.append(_item(_CONTEXT, "DATE", dcm("111060", "Study Date"), Date=source.StudyDate))
    if source.StudyTime:
        rows.append(_item(_CONTEXT, "TIME", dcm("111061", "Study Time"), Time=source.StudyTime))
    if source.ImagerPixelSpacing:
        down_um, across_um = (1000 * float(one) for one in source.ImagerPixelSpacing)
        rows += [_number(_CONTEXT, dcm("111026", "Horizontal Pixel Spacing"), across_um, _UM),
                 _number(_CONTEXT, dcm("111066", "Vertical Pixel Spacing"), down_um, _UM)]  # fmt: skip
    return _item("CONTAINS", "IMAGE", None, rows, ReferencedSOPSequence=[sop_reference(source)])


def _algorithm(maker: Maker) -> list[Dataset]:
    """TID 4019."""
    return [
        _text(_PROPERTY, dcm("111001", "Algorithm Name"), maker.network),
        _text(_PROPERTY, dcm("111003", "Algorithm Version"), maker.version),
        *(_text(_PROPERTY, dcm("111002", "Algorithm Parameters"), parameter) for parameter in maker.parameters),
    ]


def _finding(probability: float, box: Box, position: int, maker: Maker) -> Dataset:
    """TID 4003 with one TID 4006. A workstation shows it on demand: "required" is for cleared products."""
    top, bottom, left, right = box
    intent = _code("HAS CONCEPT MOD", dcm("111056", "Rendering Intent"), _OPTIONAL)
    corners = (left, top, right, top, right, bottom, left, bottom, left, top)
    single = _code("CONTAINS", dcm("111059", "Single Image Finding"), _DENSITY, [
        intent, *_algorithm(maker),
        _number(_PROPERTY, dcm("111047", "Probability of cancer"), round(100 * probability, 2), _PERCENT),
        _coordinates(dcm("111010", "Center"), "POINT", ((left + right) / 2, (top + bottom) / 2), position),
        _coordinates(dcm("111041", "Outline"), "POLYLINE", corners, position),
    ])  # fmt: skip
    return _item("INFERRED FROM", "CONTAINER", dcm("111034", "Individual Impression/Recommendation"), [intent, single])


def _coordinates(concept: Code, kind: str, points: tuple[float, ...], position: int) -> Dataset:
    """TID 4021."""
    selected = [_by_reference("SELECTED FROM", 1, 2, position)]
    return _item(_PROPERTY, "SCOORD", concept, selected, GraphicType=kind, GraphicData=[float(point) for point in points])


# ----------------------------------------------------------------------------------------------------- content items


def _item(
    relation: str | None, kind: str, concept: Code | None = None, children: Sequence[Dataset] = (), **values: object
) -> Dataset:
    """A content item; the root has no relation."""
    dataset = Dataset()
    if relation:
        dataset.RelationshipType = relation
    dataset.ValueType = kind
    if concept:
        dataset.ConceptNameCodeSequence = [code_item(concept)]
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    if kind == "CONTAINER":
        dataset.ContinuityOfContent = "SEPARATE"
    if children:
        dataset.ContentSequence = list(children)
    return dataset


def _code(relation: str, concept: Code, value: Code, children: Sequence[Dataset] = ()) -> Dataset:
    """A coded value."""
    return _item(relation, "CODE", concept, children, ConceptCodeSequence=[code_item(value)])


def _text(relation: str, concept: Code, value: str) -> Dataset:
    """A text."""
    return _item(relation, "TEXT", concept, TextValue=value)


def _number(relation: str, concept: Code, value: float, units: Code) -> Dataset:
    """A number with its unit."""
    measured = Dataset()
    measured.NumericValue, measured.MeasurementUnitsCodeSequence = f"{value:.10g}", [code_item(units)]
    return _item(relation, "NUM", concept, MeasuredValueSequence=[measured])


def _by_reference(relation: str, *position: int) -> Dataset:
    """A relation to an item that stands elsewhere in the tree: the target's position, the root being 1."""
    dataset = Dataset()
    dataset.RelationshipType, dataset.ReferencedContentItemIdentifier = relation, list(position)
    return dataset
