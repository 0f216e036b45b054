"""Mammograms of 800 x 800 pixels that pass the strictest profile, the edits that break them, and the way through the gate.

Every identifier is a canary: it must come out nowhere.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import date
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from schemas.config.ingest import VoiMode
from schemas.errors import GateRejection
from schemas.exam import ImageRecord, Laterality, ViewPosition
from tasks.adapters.datasets.catalogue import PROFILES
from tasks.adapters.dicom.mammogram import MammogramHeader
from tasks.adapters.dicom.mammogram_file import write_mammogram
from tasks.adapters.gate.admission import GatedPixels, accept_image, inspect_header
from tasks.adapters.pseudonyms import Pseudonyms

PSEUDONYMS = Pseudonyms(b"k" * 32)
CANARIES = ("CANARYID", "CANARYNAME", "CANARYACC", "2.25.8100", "2.25.8200", "2.25.8300", "CANARYFILE")

Edit = Callable[[pydicom.Dataset], object]


@cache
def breast(laterality: Laterality = Laterality.LEFT, shape_px: tuple[int, int] = (800, 800)) -> NDArray[np.uint16]:
    """Half an ellipse of tissue, values 1000 to 3000, on a chest wall; 0 elsewhere."""
    rows, columns = np.indices(shape_px)
    radius = np.hypot((rows - shape_px[0] / 2) / (0.4 * shape_px[0]), columns / (0.6 * shape_px[1]))
    pixels_HW = np.where(radius < 1, 3000 - 2000 * radius, 0).astype(np.uint16)
    return pixels_HW if laterality is Laterality.LEFT else pixels_HW[:, ::-1].copy()


def write(
    path: Path,
    pixels_HW: NDArray[np.uint16] | None = None,
    *,
    laterality: Laterality = Laterality.LEFT,
    view_position: ViewPosition = ViewPosition.CC,
    edit: Edit | None = None,
) -> Path:
    """Writes a mammogram whose identifiers are canaries, then changes what a test is about."""
    header = MammogramHeader(
        patient_id="CANARYID", patient_name="CANARYNAME", patient_age_years=95, study_instance_uid="2.25.8100",
        series_instance_uid="2.25.8200", sop_instance_uid="2.25.8300", accession_number="CANARYACC",
        study_date=date(2021, 5, 4), laterality=laterality, view_position=view_position, pixel_spacing_mm=0.07,
    )  # fmt: skip
    write_mammogram(path, breast(laterality) if pixels_HW is None else pixels_HW, header)
    if edit:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of the hostile values that are wanted here
            dataset = pydicom.dcmread(path)
            edit(dataset)
            dataset.save_as(path, enforce_file_format=False)
    return path


def setting(**values: object) -> Edit:
    """An edit that sets attributes without checking them."""

    def edit(dataset: pydicom.Dataset) -> None:
        for keyword, value in values.items():
            tag = pydicom.datadict.tag_for_keyword(keyword)
            assert tag is not None
            vr = pydicom.datadict.dictionary_VR(tag)
            vr = vr if len(vr) == 2 else "US"
            dataset[tag] = pydicom.DataElement(tag, vr, value, validation_mode=pydicom.config.IGNORE)

    return edit


def removing(*keywords: str) -> Edit:
    """An edit that removes attributes."""
    return lambda dataset: [delattr(dataset, keyword) for keyword in keywords]


def both(*edits: Edit) -> Edit:
    """An edit that makes several, one after the other."""
    return lambda dataset: [edit(dataset) for edit in edits]


def storing(content: bytes) -> Edit:
    """An edit that puts any bytes in the place of the pixels."""
    return lambda dataset: setattr(dataset, "PixelData", content)


def view_code(value: str) -> Edit:
    """An edit that makes another view of it, named by its code alone."""

    def edit(dataset: pydicom.Dataset) -> None:
        dataset.ViewCodeSequence[0].CodeValue = value
        del dataset.ViewPosition

    return edit


def modifier(value: str) -> Edit:
    """An edit that adds a view modifier."""

    def edit(dataset: pydicom.Dataset) -> None:
        item = pydicom.Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", "a modifier"
        dataset.ViewCodeSequence[0].ViewModifierCodeSequence = [item]

    return edit


def overlay(dataset: pydicom.Dataset) -> None:
    """An edit that adds an overlay plane."""
    dataset.add_new(0x60000010, "US", 8)
    dataset.add_new(0x60003000, "OW", bytes(8))


def inspect(path: Path, profile: str = "clinical-strict", source_dir: Path | None = None) -> ImageRecord:
    """The record that the header gives; by default of a file in its own folder."""
    return inspect_header(path, source_dir=source_dir or path.parent, profile=PROFILES[profile], pseudonyms=PSEUDONYMS)


def accept(path: Path, profile: str = "clinical-strict", voi: VoiMode = VoiMode.RAW) -> tuple[ImageRecord, GatedPixels]:
    """Through the whole gate."""
    return accept_image(path, source_dir=path.parent, profile=PROFILES[profile], pseudonyms=PSEUDONYMS, voi=voi)


def rejection(path: Path, profile: str = "clinical-strict", voi: VoiMode = VoiMode.RAW) -> GateRejection:
    """Why the gate refuses a file."""
    with pytest.raises(GateRejection) as caught:
        accept(path, profile, voi)
    return caught.value
