"""Full-size phantom mammograms as DICOM files in every transfer syntax that the benchmarks time. Not a benchmark itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import encapsulate

from gmic_model.phantom.drawing import draw_exam, plan_exam
from schemas.exam import Finding, Laterality, ViewPosition
from tasks.adapters.dicom.mammogram import MammogramHeader
from tasks.adapters.dicom.mammogram_file import write_mammogram

SHAPE_PX = (3328, 2560)


def _rle(pixels_HW: NDArray[np.uint16]) -> bytes:
    """Needs pylibjpeg-rle (``pip install pylibjpeg-rle``): pydicom's own encoder takes many seconds an image."""
    from rle.utils import encode_pixel_data

    rows, columns = pixels_HW.shape
    layout = {"rows": rows, "columns": columns, "samples_per_pixel": 1, "number_of_frames": 1, "bits_allocated": 16}
    return bytes(encode_pixel_data(pixels_HW.tobytes(), byteorder="<", **layout))


_ENCODERS: dict[str, tuple[str, Callable[[NDArray[np.uint16]], bytes]]] = {
    "RLE": ("1.2.840.10008.1.2.5", _rle),
    "JPEG lossless": (
        "1.2.840.10008.1.2.4.70",
        lambda pixels_HW: bytes(imagecodecs.jpeg8_encode(pixels_HW, lossless=True, predictor=1, bitspersample=16)),
    ),
    "JPEG-LS": ("1.2.840.10008.1.2.4.80", lambda pixels_HW: bytes(imagecodecs.jpegls_encode(pixels_HW))),
    "HTJ2K": ("1.2.840.10008.1.2.4.201", lambda pixels_HW: bytes(imagecodecs.htj2k_encode(pixels_HW, reversible=True))),
    "JPEG 2000": (
        "1.2.840.10008.1.2.4.90",
        lambda pixels_HW: bytes(imagecodecs.jpeg2k_encode(pixels_HW, level=0, codecformat="J2K", reversible=True)),
    ),
}
SYNTAXES = ("native", *_ENCODERS)


def write_image(
    folder: Path, pixels_HW: NDArray[np.uint16], name: str, *, syntaxes: Sequence[str] = SYNTAXES, number: int = 0
) -> dict[str, list[Path]]:
    """Writes one image of a left breast in each syntax, with identifiers of its own for each number."""
    header = MammogramHeader(
        patient_id=f"BENCH{number}", patient_name="BENCH", patient_age_years=55, study_instance_uid=f"2.25.1{number}",
        series_instance_uid=f"2.25.2{number}", sop_instance_uid=f"2.25.3{number}", accession_number="",
        study_date=date(2021, 5, 4), laterality=Laterality.LEFT, view_position=ViewPosition.CC, pixel_spacing_mm=0.07,
        bits_stored=max(12, int(pixels_HW.max()).bit_length()),
    )  # fmt: skip
    return {syntax: [_write(folder / syntax / f"{name}.dcm", pixels_HW, header, syntax)] for syntax in syntaxes}


def write_phantom_dicoms(
    folder: Path, *, exams: int, shape_px: tuple[int, int] = SHAPE_PX, syntaxes: Sequence[str] = SYNTAXES
) -> dict[str, list[Path]]:
    """Writes the same images in each syntax; the paths by syntax name, in the same order."""
    paths: dict[str, list[Path]] = {name: [] for name in syntaxes}
    for exam in range(exams):
        plan = plan_exam(
            image_size_px=shape_px, findings={Laterality.LEFT: frozenset({Finding.MALIGNANT})}, difficulty=0.5,
            patient_rng=np.random.default_rng((exam, 0)), exam_rng=np.random.default_rng((exam, 1)),
        )  # fmt: skip
        for number, ((side, view), drawn) in enumerate(draw_exam(plan).items()):
            header = MammogramHeader(
                patient_id=f"BENCH{exam}", patient_name="BENCH", patient_age_years=55, study_instance_uid=f"2.25.1{exam}",
                series_instance_uid=f"2.25.2{exam}", sop_instance_uid=f"2.25.3{exam}{number}", accession_number="",
                study_date=date(2021, 5, 4), laterality=side, view_position=view, pixel_spacing_mm=0.07,
            )  # fmt: skip
            for name in syntaxes:
                paths[name].append(_write(folder / name / f"{exam}-{number}.dcm", drawn.pixels_HW, header, name))
    return paths


def _write(path: Path, pixels_HW: NDArray[np.uint16], header: MammogramHeader, name: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mammogram(path, pixels_HW, header)
    if name == "native":
        return path
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID, encode = _ENCODERS[name]
    dataset.PixelData = encapsulate([encode(pixels_HW)])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    return path
