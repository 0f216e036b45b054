"""Saliency as Segmentation objects in the source image's own pixels: exact, for programs, and as levels that a viewer draws."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Final

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sr.coding import Code
from pydicom.uid import RLELossless

from gmic_model.pixels.frames import cells_to_source
from schemas.exam import FINDINGS, Finding
from tasks.adapters.results.exam_result import MANUFACTURER, RESEARCH_USE, Maker, ViewResult
from tasks.adapters.results.objects.equipment import equipment, marked, side_of

LEVELS: Final = (0.25, 0.5, 0.75)
_STEPS: Final = 255
_COLOURS: Final = {Finding.BENIGN: (80, 255, 80), Finding.MALIGNANT: (255, 80, 80)}
_CATEGORY: Final = Code("49755003", "SCT", "Morphologically Abnormal Structure")
_TYPE: Final = Code("52988006", "SCT", "Lesion")


def saliency_seg(source: Dataset, view: ViewResult, maker: Maker, number: int) -> Dataset:
    """FRACTIONAL PROBABILITY in 256 steps, one segment for each finding; an all-zero map is a result and stays a frame."""
    segments = [
        _segment(index, finding, f"{finding.value} saliency", _COLOURS[finding], source, maker)
        for index, finding in enumerate(FINDINGS, start=1)
    ]
    steps_CIJ = np.around(view.saliency_CIJ.clip(0.0, 1.0).astype(np.float32) * float(_STEPS)).astype(np.uint8)
    content = _content(source, maker, "saliency", number)
    seg = _without_pixels(source, segments, hd.seg.SegmentationFractionalTypeValues.PROBABILITY, _STEPS, content)
    _set_frames(seg, view, steps_CIJ)
    seg.SegmentsOverlap = "UNDEFINED"  # of fractions nobody can say
    return _finished(seg, source, maker, "saliency", "saliency")


def levels_seg(source: Dataset, view: ViewResult, maker: Maker, number: int) -> Dataset | None:
    """Where saliency reaches each level: FRACTIONAL OCCUPANCY that holds only 0 and its maximum 1, which OHIF 3.13 draws.

    It refuses real fractions; BINARY frames whose pixels are no multiple of 8 begin inside a byte and are drawn shifted.

    Returns:
        None if saliency is below the lowest level everywhere: the reports say so.
    """
    reached = [
        (index, level, cells_IJ)
        for index, _ in enumerate(FINDINGS)
        for level in LEVELS
        # The network's window may hold cells that lie outside the image.
        if _in_source(view, cells_IJ := (view.saliency_CIJ[index] >= level).astype(np.uint8)).any()
    ]
    if not reached:
        return None
    segments = []
    for place, (index, level, _) in enumerate(reached, start=1):
        colour = tuple(round(part * (0.4 + 0.6 * level)) for part in _COLOURS[FINDINGS[index]])
        label = f"{FINDINGS[index].value} saliency >= {level}"
        segments.append(_segment(place, FINDINGS[index], label, colour, source, maker))
    cells_NIJ = np.stack([cells_IJ for _, _, cells_IJ in reached])
    content = _content(source, maker, "levels", number)
    seg = _without_pixels(source, segments, hd.seg.SegmentationFractionalTypeValues.OCCUPANCY, 1, content)
    _set_frames(seg, view, cells_NIJ)
    seg.SegmentsOverlap = "YES" if (_in_source(view, cells_NIJ.sum(axis=0, dtype=np.uint8)) > 1).any() else "NO"
    # A projection has no such thing. OHIF compares it with what it makes up for the mammogram, and fails where there is none.
    orientation = Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    seg.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence = [orientation]
    return _finished(seg, source, maker, "levels", "saliency levels")


# ---------------------------------------------------------------------------------------------------------------------


def _without_pixels(
    source: Dataset,
    segments: list[hd.seg.SegmentDescription],
    fractional_type: hd.seg.SegmentationFractionalTypeValues,
    largest: int,
    content: dict[str, Any],
) -> hd.seg.Segmentation:
    """Everything of the object but its pixels: the library would hold six copies of them, and sort every pixel's value."""
    dot = deepcopy(source)
    dot.Rows = dot.Columns = 1
    seg = hd.seg.Segmentation(
        [dot],
        np.zeros((1, 1, 1, len(segments)), np.uint8),
        hd.seg.SegmentationTypeValues.FRACTIONAL,
        segments,
        fractional_type=fractional_type,
        max_fractional_value=largest,
        omit_empty_frames=False,
        **content,
    )
    seg.Rows, seg.Columns = source.Rows, source.Columns
    return seg


def _set_frames(seg: hd.seg.Segmentation, view: ViewResult, cells_NIJ: NDArray[np.uint8]) -> None:
    """A frame for each segment, made and encoded one after the other: one at a time is in memory."""
    frames = [
        hd.frame.encode_frame(
            _in_source(view, cells_IJ),
            transfer_syntax_uid=seg.file_meta.TransferSyntaxUID,
            bits_allocated=seg.BitsAllocated,
            bits_stored=seg.BitsStored,
            photometric_interpretation=seg.PhotometricInterpretation,
        )
        for cells_IJ in cells_NIJ
    ]
    seg.PixelData = encapsulate(frames)


def _in_source(view: ViewResult, cells_IJ: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Values of the network's cells in the source image's own pixels."""
    plane_HW: NDArray[np.uint8] = cells_to_source(cells_IJ[None], view.geometry, view.geometry.source_shape_px)[0]
    return plane_HW


def _segment(
    number: int, finding: Finding, label: str, colour: tuple[int, ...], source: Dataset, maker: Maker
) -> hd.seg.SegmentDescription:
    return hd.seg.SegmentDescription(
        number,
        label,
        _CATEGORY,
        _TYPE,
        hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        hd.AlgorithmIdentificationSequence(
            name=maker.network,
            version=maker.version,
            source=MANUFACTURER,
            family=Code("123110", "DCM", "Artificial Intelligence"),
            parameters={"use": RESEARCH_USE, "weights": maker.weights_sha256},
        ),
        tracking_id=f"{maker.network} {label}",
        tracking_uid=maker.uid(f"segment {label}", str(source.SOPInstanceUID)),
        anatomic_regions=[side_of(source)],  # the side: a SEG may not carry Laterality
        display_color=hd.color.CIELabColor.from_rgb(*colour),
    )


def _content(source: Dataset, maker: Maker, kind: str, number: int) -> dict[str, Any]:
    # The detector's spacing, as the mammogram gives it. A viewer needs a value where there is none.
    spacing = [float(one) for one in source.ImagerPixelSpacing] if source.ImagerPixelSpacing else [1.0, 1.0]
    return {
        "content_label": "SALIENCY",
        "content_description": RESEARCH_USE,
        "transfer_syntax_uid": RLELossless,
        "pixel_measures": hd.PixelMeasuresSequence(pixel_spacing=spacing, slice_thickness=1.0),
        **equipment(maker, kind, [source], number),
    }


def _finished(seg: Dataset, source: Dataset, maker: Maker, kind: str, description: str) -> Dataset:
    seg.PatientOrientation = source.PatientOrientation  # type 2C without Image Orientation (Patient)
    uid = maker.uid(f"{kind} dimensions", str(source.SOPInstanceUID))
    for item in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid
    return marked(seg, description, source, maker)
