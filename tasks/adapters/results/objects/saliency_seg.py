"""Saliency as Segmentation objects in the source image's own pixels: exact, for programs, and as levels that a viewer draws."""

from __future__ import annotations

from typing import Any, Final

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import RLELossless

from gmic_model.pixels.frames import to_source_frame
from schemas.errors import DicomError
from schemas.exam import FINDINGS, Finding
from tasks.adapters.results.exam_result import MANUFACTURER, RESEARCH_USE, Maker, ViewResult
from tasks.adapters.results.objects.equipment import equipment, marked, side_of

LEVELS: Final = (0.25, 0.5, 0.75)
_COLOURS: Final = {Finding.BENIGN: (80, 255, 80), Finding.MALIGNANT: (255, 80, 80)}
_CATEGORY: Final = Code("49755003", "SCT", "Morphologically Abnormal Structure")
_TYPE: Final = Code("52988006", "SCT", "Lesion")


def saliency_seg(source: Dataset, view: ViewResult, maker: Maker, number: int) -> Dataset:
    """FRACTIONAL PROBABILITY in 256 steps, one segment for each finding; an all-zero map is a result and stays a frame.

    Raises:
        DicomError: The image has another size than the one that was scored.
    """
    _require_same_size(source, view)
    saliency_CHW = to_source_frame(view.saliency_CIJ.clip(0.0, 1.0), view.geometry, view.geometry.source_shape_px)
    segments = [
        _segment(index, finding, f"{finding.value} saliency", _COLOURS[finding], source, maker)
        for index, finding in enumerate(FINDINGS, start=1)
    ]
    seg = hd.seg.Segmentation(
        [source],
        np.moveaxis(saliency_CHW, 0, -1)[None],
        hd.seg.SegmentationTypeValues.FRACTIONAL,
        segments,
        fractional_type=hd.seg.SegmentationFractionalTypeValues.PROBABILITY,
        max_fractional_value=255,
        omit_empty_frames=False,
        **_content(source, maker, "saliency", number),
    )
    return _finished(seg, source, maker, "saliency", "saliency")


def levels_seg(source: Dataset, view: ViewResult, maker: Maker, number: int) -> Dataset | None:
    """Where saliency reaches each level: FRACTIONAL OCCUPANCY that holds only 0 and its maximum 1, which OHIF 3.13 draws.

    It refuses real fractions; BINARY frames whose pixels are no multiple of 8 begin inside a byte and are drawn shifted.

    Returns:
        None if saliency is below the lowest level everywhere: the reports say so.

    Raises:
        DicomError: As ``saliency_seg``.
    """
    _require_same_size(source, view)
    reached = [
        (index, level)
        for index, _ in enumerate(FINDINGS)
        for level in LEVELS
        if _plane(view, index, level).any()  # the network's window may hold cells that lie outside the image
    ]
    if not reached:
        return None
    segments = []
    planes_HWS = np.empty((*view.geometry.source_shape_px, len(reached)), np.uint8)
    for number, (index, level) in enumerate(reached, start=1):
        colour = tuple(round(part * (0.4 + 0.6 * level)) for part in _COLOURS[FINDINGS[index]])
        label = f"{FINDINGS[index].value} saliency >= {level}"
        segments.append(_segment(number, FINDINGS[index], label, colour, source, maker))
        planes_HWS[..., number - 1] = _plane(view, index, level)  # one at a time: six of them are a hundred megabytes
    seg = hd.seg.Segmentation(
        [source],
        planes_HWS[None],
        hd.seg.SegmentationTypeValues.FRACTIONAL,
        segments,
        fractional_type=hd.seg.SegmentationFractionalTypeValues.OCCUPANCY,
        max_fractional_value=1,
        **_content(source, maker, "levels", number),
    )
    # A projection has no such thing. OHIF compares it with what it makes up for the mammogram, and fails where there is none.
    orientation = Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    seg.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence = [orientation]
    return _finished(seg, source, maker, "levels", "saliency levels")


# ---------------------------------------------------------------------------------------------------------------------


def _plane(view: ViewResult, index: int, level: float) -> NDArray[np.bool_]:
    """Where a finding's map reaches a level, in the source image."""
    hot_IJ = view.saliency_CIJ[index] >= level
    plane_HW: NDArray[np.bool_] = to_source_frame(hot_IJ[None], view.geometry, view.geometry.source_shape_px)[0] > 0
    return plane_HW


def _require_same_size(source: Dataset, view: ViewResult) -> None:
    shape_px = (int(source.Rows), int(source.Columns))
    if shape_px != tuple(view.geometry.source_shape_px):
        raise DicomError(
            "The image in the PACS has another size than the one that was scored",
            expected=view.geometry.source_shape_px,
            got=shape_px,
            remedy="ingest and predict the exam again",
        )


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
