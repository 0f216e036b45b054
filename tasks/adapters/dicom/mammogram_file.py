"""Writes a mammogram as a DICOM object: a phantom as a system would send it, and a public set's picture as what it is."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from schemas.errors import DicomError
from schemas.exam import ViewPosition
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


def write_copy(
    path: Path,
    pixels_HW: NDArray[np.uint8] | NDArray[np.uint16],
    *,
    patient_id: str,
    study_uid: str,
    series_uid: str,
    sop_uid: str,
    laterality: str,
    view: str,
    spacing_mm: float | None,
    is_lossy: bool,
) -> None:
    """Writes what a picture of a mammogram shows as DICOM: its values as they are, and nothing that it does not say.

    The same arguments make the same bytes: no time and no random number is in them.

    Args:
        path: The file; its folder must exist.
        pixels_HW: Grey values of (rows, columns), MONOCHROME2.
        patient_id: As the set names her.
        study_uid: Of the exam.
        series_uid: Of the exam's images.
        sop_uid: Of the image.
        laterality: ``L`` or ``R``.
        view: ``CC`` or ``MLO``.
        spacing_mm: Between pixels in the film or detector; None = not known.
        is_lossy: The picture had been compressed with losses.
    """
    bits = 8 * pixels_HW.dtype.itemsize
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SpecificCharacterSet, dataset.ImageType, dataset.Modality = "ISO_IR 192", ["DERIVED", "SECONDARY"], "MG"
    dataset.SOPClassUID, dataset.SOPInstanceUID = MAMMOGRAPHY_FOR_PRESENTATION, sop_uid
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study_uid, series_uid
    dataset.PresentationIntentType, dataset.BodyPartExamined = "FOR PRESENTATION", "BREAST"
    dataset.PatientID = patient_id
    dataset.PatientName = dataset.PatientBirthDate = dataset.StudyDate = dataset.AccessionNumber = ""
    dataset.ImageLaterality, dataset.ViewPosition = laterality, view
    dataset.ViewCodeSequence = [_concept(*PHANTOM_VIEW_CODES[ViewPosition(view)])]
    dataset.ViewCodeSequence[0].ViewModifierCodeSequence = []
    if spacing_mm is not None:
        dataset.ImagerPixelSpacing = [f"{spacing_mm:.6g}"] * 2
    dataset.LossyImageCompression = "01" if is_lossy else "00"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.Rows, dataset.Columns = pixels_HW.shape
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    content = np.ascontiguousarray(pixels_HW, f"<u{bits // 8}").tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    aside = aside_of(path)
    with aside.open("wb") as file:
        dataset.save_as(file, enforce_file_format=True)
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
