"""The exam's numbers as a Comprehensive SR of TID 1500: probabilities of each breast, ROI patches with their attention."""

from __future__ import annotations

from typing import Any, Final

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from schemas.exam import FINDINGS, Finding, Laterality
from tasks.adapters.results.exam_result import MANUFACTURER, Maker, ViewResult, mean_score
from tasks.adapters.results.objects.equipment import PRODUCT, SIDES, equipment, marked
from tasks.adapters.results.objects.presentation import clipped_box, outline

SCHEME: Final = "99MAMMOGMIC"
"""Designator of our own codes: a private one starts with 99."""
PERCENT: Final = Code("%", "UCUM", "Percent")
PROBABILITIES: Final = {
    Finding.MALIGNANT: Code("111047", "DCM", "Probability of cancer"),
    Finding.BENIGN: Code("GMIC-01", SCHEME, "Probability of benign finding"),
}
ATTENTION: Final = Code("GMIC-02", SCHEME, "Patch attention weight")
_NO_UNITS: Final = Code("1", "UCUM", "no units")
_REGION: Final = Code("111099", "DCM", "Selected region")


def measurement_report(sources: list[Dataset], views: list[ViewResult], maker: Maker) -> Dataset:
    """One report for the images of an exam that lie in one study; a side that was not imaged is left out, not written as 0.

    Every group has coordinates, the breast's numbers on the outline of each of its views: OHIF 3.13 shows no report that has
    a group without.
    """
    pairs, groups = list(zip(sources, views, strict=True)), []
    for side in (Laterality.RIGHT, Laterality.LEFT):
        of_side = [(source, view) for source, view in pairs if view.laterality is side]
        breast = [view for _, view in of_side]
        for source, view in of_side:
            numbers = [_percent(PROBABILITIES[finding], mean_score(breast, finding), maker) for finding in reversed(FINDINGS)]
            whole = outline((0, int(source.Rows), 0, int(source.Columns)))
            name = f"{SIDES[side].meaning}, mean of {len(breast)} views, on {view.view_position.value}"
            groups.append(_group(name, source, whole, SIDES[side], numbers, maker))
        for source, view in of_side:
            groups += _patches(source, view, maker)
    device = hd.sr.ObserverContext(
        Code("121007", "DCM", "Device"),
        hd.sr.DeviceObserverIdentifyingAttributes(
            uid=maker.uid("device"),
            name=PRODUCT,
            manufacturer_name=MANUFACTURER,
            model_name=maker.version,
            serial_number=maker.weights_sha256,
        ),
    )
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=device),
        imaging_measurements=groups,
        procedure_reported=Code("71651007", "SCT", "Mammography"),
        title=Code("126000", "DCM", "Imaging Measurement Report"),
    )
    report = hd.sr.ComprehensiveSR(
        evidence=sources,
        content=content[0],
        is_complete=True,
        is_final=False,
        is_verified=False,
        coding_schemes=[
            hd.coding_schemes.CodingSchemeIdentificationItem(
                SCHEME, name=f"{MANUFACTURER} codes", version="1", responsible_organization=MANUFACTURER
            )
        ],
        **equipment(maker, "measurements", sources),
    )
    return marked(report, "measurements", sources[0], maker)


def _patches(source: Dataset, view: ViewResult, maker: Maker) -> list[Any]:
    groups, size = [], (int(source.Rows), int(source.Columns))
    for rank, patch in enumerate(view.patches, start=1):
        box = clipped_box(patch.box_px, size)
        if box is None:
            continue
        name = f"{view.laterality.value} {view.view_position.value} patch {rank}"
        attention = hd.sr.Measurement(ATTENTION, round(float(patch.attention), 4), _NO_UNITS, algorithm_id=_algorithm(maker))
        groups.append(_group(name, source, outline(box), SIDES[view.laterality], [attention], maker))
    return groups


def _group(
    name: str, source: Dataset, corners: NDArray[np.float64], side: Code, measurements: list[Any], maker: Maker
) -> hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    image = hd.sr.SourceImageForRegion(source.SOPClassUID, source.SOPInstanceUID)
    return hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        hd.sr.TrackingIdentifier(
            uid=maker.uid(f"tracking {name}", str(source.SOPInstanceUID)), identifier=f"{maker.network} {name}"[:64]
        ),
        referenced_region=hd.sr.ImageRegion(hd.sr.GraphicTypeValues.POLYLINE, corners, image),
        finding_type=_REGION,
        finding_sites=[hd.sr.FindingSite(side)],
        algorithm_id=_algorithm(maker),
        measurements=measurements,
        geometric_purpose=Code("111041", "DCM", "Outline"),
    )


def _percent(concept: Code, probability: float, maker: Maker) -> hd.sr.Measurement:
    return hd.sr.Measurement(concept, round(100 * probability, 2), PERCENT, algorithm_id=_algorithm(maker))


def _algorithm(maker: Maker) -> hd.sr.AlgorithmIdentification:
    return hd.sr.AlgorithmIdentification(maker.network, maker.version, parameters=list(maker.parameters))
