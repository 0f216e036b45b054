"""Exams whose results are made into objects: headers as a PACS has them, and what a network could have said of each view."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from datetime import date, datetime
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray

from gmic_model.preprocess import PreparedView, prepare_view
from schemas.config.ingest import PreprocessConfig
from schemas.config.pacs import ResultKind
from schemas.exam import Laterality, ViewPosition
from tasks.adapters.dicom.mammogram import MammogramHeader
from tasks.adapters.dicom.mammogram_file import write_mammogram
from tasks.adapters.pseudonyms import Pseudonyms
from tasks.adapters.results.exam_result import Maker, Patch, ViewResult
from tasks.adapters.results.objects.result_objects import ResultObject, result_objects

PSEUDONYMS = Pseudonyms(b"r" * 32)
MAKER = Maker(
    network="GMIC",
    weights_sha256="0123456789abcdef" * 4,
    code_version="0.1.0",
    made=datetime(2026, 11, 27, 14, 30, 0),
    pseudonyms=PSEUDONYMS,
    operating_points=("malignant: threshold 0.4100 at specificity 0.90",),
)
VIEWS = tuple((side, view) for view in ViewPosition for side in Laterality)
SHAPE_PX, WINDOW_PX = (403, 301), (320, 200)
STUDY_UID = "2.25.7100"
IDENTITY = ("PLANTED^NAME", "PLANTEDID", "PLANTEDACC")
"""Name, PatientID and accession number: they must come out in the PACS and nowhere else."""


@cache
def breast_px(laterality: Laterality, shape_px: tuple[int, int] = SHAPE_PX) -> NDArray[np.uint16]:
    """Half an ellipse of tissue on a chest wall."""
    rows, columns = np.indices(shape_px)
    radius = np.hypot((rows - shape_px[0] / 2) / (0.4 * shape_px[0]), columns / (0.6 * shape_px[1]))
    pixels_HW = np.where(radius < 1, 3000 - 2000 * radius, 0).astype(np.uint16)
    return pixels_HW if laterality is Laterality.LEFT else pixels_HW[:, ::-1].copy()


def sop_uid(laterality: Laterality, view: ViewPosition) -> str:
    """Of a view of the exam."""
    return f"2.25.73{VIEWS.index((laterality, view))}"


def write_view(path: Path, laterality: Laterality, view: ViewPosition) -> Path:
    """The view as a system would send it, with pixels."""
    header = MammogramHeader(
        patient_id=IDENTITY[1], patient_name=IDENTITY[0], patient_age_years=61, study_instance_uid=STUDY_UID,
        series_instance_uid="2.25.7200", sop_instance_uid=sop_uid(laterality, view), accession_number=IDENTITY[2],
        study_date=date(2026, 5, 4), laterality=laterality, view_position=view, pixel_spacing_mm=0.07,
    )  # fmt: skip
    write_mammogram(path, breast_px(laterality), header)
    return path


def read_header(path: Path) -> pydicom.Dataset:
    """As a PACS answers it."""
    return pydicom.dcmread(path, stop_before_pixels=True)


@cache
def prepared_view(laterality: Laterality, view: ViewPosition) -> PreparedView:
    """The stored crop of a view."""
    settings = PreprocessConfig(window_px=WINDOW_PX, crop_buffer_px=8, erosion_iterations=3)
    return prepare_view(breast_px(laterality), laterality, view_position=view, settings=settings)


def view_result(laterality: Laterality, view: ViewPosition, prepared: PreparedView | None = None) -> ViewResult:
    """A result with one hot cell and one patch, and a score for each view."""
    prepared = prepared or prepared_view(laterality, view)
    saliency_CIJ = np.zeros((2, 8, 5), np.float32)
    saliency_CIJ[1, 3, 2], saliency_CIJ[0, 5, 1] = 0.9, 0.4
    place = VIEWS.index((laterality, view))
    return ViewResult(
        image_id=PSEUDONYMS.image_id(sop_uid(laterality, view)),
        exam_id=PSEUDONYMS.exam_id(STUDY_UID),
        laterality=laterality,
        view_position=view,
        scores={"benign": 0.2 + 0.1 * place, "malignant": 0.8 - 0.1 * place},
        saliency_CIJ=saliency_CIJ,
        geometry=prepared.geometry,
        patches=(Patch(0.61, (150, 200, 60, 110)), Patch(0.2, (-10, 40, 250, 320))),
        grey_HW=(prepared.pixels_HW // 16).astype(np.uint8),
    )


def objects_of(
    folder: Path,
    edit: Callable[[pydicom.Dataset], object] = lambda header: None,
    views: tuple[tuple[Laterality, ViewPosition], ...] = VIEWS,
    change: Callable[[ViewResult], ViewResult] = lambda view: view,
    kinds: Sequence[ResultKind] = tuple(ResultKind),
) -> tuple[list[ResultObject], list[Path]]:
    """All objects of an exam whose headers were edited, and the source files as a PACS would have them."""
    sources, headers = [], []
    for laterality, view in views:
        path = write_view(folder / f"source-{laterality}-{view}.dcm", laterality, view)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of the odd values that are wanted here
            dataset = pydicom.dcmread(path)
            edit(dataset)
            dataset.save_as(path)
        sources.append(path)
        headers.append(read_header(path))
    results = [change(view_result(*view)) for view in views]
    return list(result_objects(headers, results, MAKER, kinds=kinds, cad_at_least=0.55)), sources


def referenced(item: pydicom.Dataset) -> set[str]:
    """UIDs of all images that a report's content refers to."""
    found = {str(one.ReferencedSOPInstanceUID) for one in item.get("ReferencedSOPSequence", ())}
    return found.union(*(referenced(child) for child in item.get("ContentSequence", ())))


def numeric_values(item: pydicom.Dataset, concept: str) -> list[str]:
    """Of all measurements of a concept."""
    is_it = item.get("ValueType") == "NUM" and item.ConceptNameCodeSequence[0].CodeValue == concept
    found = [str(item.MeasuredValueSequence[0].NumericValue)] if is_it else []
    return found + [text for child in item.get("ContentSequence", ()) for text in numeric_values(child, concept)]
