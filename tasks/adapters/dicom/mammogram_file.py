"""Writes a phantom mammogram as the DICOM object that a mammography system would send."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from schemas.errors import DicomError
from tasks.adapters.dicom.header import MAMMOGRAPHY_FOR_PRESENTATION
from tasks.adapters.dicom.mammogram import FIXED_ATTRIBUTES, PHANTOM_ORIENTATIONS, PHANTOM_VIEW_CODES, MammogramHeader
from tasks.adapters.workspace import aside_of


def write_mammogram(path: Path, pixels_HW: NDArray[np.uint16], header: MammogramHeader) -> None:
    """Writes a Digital Mammography X-Ray Image - For Presentation (PS3.3 A.27), Explicit VR Little Endian.

    Written aside and renamed, so a reader sees the whole file or none. Not synced to disk: a phantom can be made again.

    Args:
        path: The file; its folder must exist.
        pixels_HW: MONOCHROME2 values of (rows, columns), below 2 ** bits_stored. The chest wall of a left breast is at
            column 0, that of a right breast at the last column.
        header: Who, when and which view.

    Raises:
        DicomError: The pixels are not a uint16 image within ``bits_stored``.
    """
    if pixels_HW.ndim != 2 or pixels_HW.dtype != np.uint16 or int(pixels_HW.max(initial=0)) >> header.bits_stored:
        raise DicomError(
            "The pixels do not fit a mammogram",
            expected=f"uint16 (rows, columns) below 2^{header.bits_stored}",
            got=f"{pixels_HW.dtype} {pixels_HW.shape}",
        )
    dataset = _mammogram(header)
    dataset.Rows, dataset.Columns = pixels_HW.shape
    little_endian_HW = np.ascontiguousarray(pixels_HW, "<u2")
    aside = aside_of(path)
    with aside.open("wb") as file:
        dataset.save_as(file, enforce_file_format=True)
        # PixelData (7FE0,0010) comes last: appended here, because pydicom would copy the 17 MB several times.
        file.write(struct.pack("<2H2s2xL", 0x7FE0, 0x0010, b"OW", little_endian_HW.nbytes))
        file.write(little_endian_HW.data)
    aside.replace(path)


def _mammogram(header: MammogramHeader) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword, value in FIXED_ATTRIBUTES.items():
        setattr(dataset, keyword, value)
    for name in ("patient_id", "patient_name", "accession_number", "instance_number", "bits_stored", "manufacturer"):
        setattr(dataset, "".join(part.title() for part in name.split("_")).replace("Id", "ID"), getattr(header, name))
    dataset.SOPClassUID, dataset.SOPInstanceUID = MAMMOGRAPHY_FOR_PRESENTATION, header.sop_instance_uid
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = header.study_instance_uid, header.series_instance_uid
    dataset.ManufacturerModelName = header.model_name
    dataset.StudyDate = dataset.ContentDate = f"{header.study_date:%Y%m%d}"
    dataset.PatientAge = f"{header.patient_age_years:03d}Y"
    dataset.ImageLaterality, dataset.ViewPosition = header.laterality.value, header.view_position.value
    dataset.PatientOrientation = PHANTOM_ORIENTATIONS[header.laterality, header.view_position]
    dataset.ViewCodeSequence = [_concept(*PHANTOM_VIEW_CODES[header.view_position])]
    dataset.ViewCodeSequence[0].ViewModifierCodeSequence = []
    dataset.AnatomicRegionSequence = [_concept("76752008", "Breast")]
    dataset.ImagerPixelSpacing = [f"{header.pixel_spacing_mm:.6g}"] * 2
    dataset.HighBit = header.bits_stored - 1
    dataset.WindowCenter, dataset.WindowWidth = str(2 ** (header.bits_stored - 1)), str(2**header.bits_stored)
    return dataset


def _concept(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return item
