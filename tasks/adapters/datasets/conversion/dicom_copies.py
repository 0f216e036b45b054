"""Images that are not DICOM become DICOM files that are the same bytes each time, for the gate reads nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import numpy as np

from schemas.errors import DatasetError
from tasks.adapters.datasets.published.reading import Facts, Image
from tasks.adapters.datasets.published.tree import Tree, is_picture
from tasks.adapters.dicom.mammogram_file import write_copy

COPY_ENDING: Final = ".dcm"
_LOSSY: Final = (".jpg", ".jpeg")


def copy_path(path: str) -> str:
    """Where the copy of an image lies below the folder of copies."""
    return path + COPY_ENDING


def copied_uid(facts: Facts, *parts: str) -> str:
    """A UID that the set's name and the parts decide (PS3.5 B.2: 2.25 and a number of 128 bits at most)."""
    digest = hashlib.sha256("\0".join((facts.name, *parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:15], 'big')}"


def write_dicom_copy(tree: Tree, image: Image, folder: Path) -> None:
    """Writes the copy of one image below ``folder``; values and bits stay as they are.

    Raises:
        DatasetError: The image cannot be read, or is not of whole numbers.
    """
    pixels_HW = tree.picture(image.path)
    if pixels_HW.dtype not in (np.uint8, np.uint16):
        raise DatasetError(f"{image.path} is no grey picture", expected="8 or 16 bits a pixel", got=pixels_HW.dtype)
    target = folder / copy_path(image.path)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_copy(
        target,
        pixels_HW.astype(np.uint8) if pixels_HW.dtype == np.uint8 else pixels_HW.astype(np.uint16),
        patient_id=image.patient,
        study_uid=copied_uid(tree.facts, image.patient, image.exam),
        series_uid=copied_uid(tree.facts, image.patient, image.exam, "series"),
        sop_uid=copied_uid(tree.facts, image.path),
        laterality=image.laterality,
        view=image.view,
        spacing_mm=tree.facts.spacing_mm,
        is_lossy=tree.facts.is_lossy or image.path.casefold().endswith(_LOSSY),
    )


def sop_uid_of(tree: Tree, path: str) -> str:
    """SOPInstanceUID of an image, or of its copy."""
    return copied_uid(tree.facts, path) if is_picture(path) or path in tree.sizes_px else tree.header(path).sop_instance_uid
