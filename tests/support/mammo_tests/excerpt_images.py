"""Small images and DICOM headers in the manner of each public set. Made up: no pixel, identifier or row is of a real person."""
from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

MG = "1.2.840.10008.5.1.4.1.1.1.2"
SC = "1.2.840.10008.5.1.4.1.1.7"
ORIENTATION = {("L", "CC"): ["A", "R"], ("R", "CC"): ["P", "L"], ("L", "MLO"): ["A", "FR"], ("R", "MLO"): ["P", "FL"]}
VIEW_CODE = {"CC": ("399162004", "cranio-caudal"), "MLO": ("399368009", "medio-lateral oblique")}
VIEWS = [(side, view) for side in "LR" for view in ("CC", "MLO")]


def uid(*parts: object) -> str:
    """A 2.25 UID that the parts decide."""
    return "2.25." + str(int(hashlib.sha1("|".join(map(str, parts)).encode()).hexdigest()[:30], 16))


def hex_id(*parts: object) -> str:
    """32 hex digits, as VinDr's identifiers are."""
    return hashlib.md5("|".join(map(str, parts)).encode()).hexdigest()


def breast(shape: tuple[int, int], side: str, name: object, top: int = 3000, dtype: type = np.uint16) -> np.ndarray:
    """Half an ellipse of tissue on the chest wall of `side`; `name` makes each image another one."""
    seed = int(hashlib.sha1(str(name).encode()).hexdigest()[:8], 16)
    rows, columns = np.indices(shape)
    radius = np.hypot((rows - shape[0] / 2) / (0.42 * shape[0]), columns / (0.62 * shape[1]))
    phase = seed % 628319 / 1e5  # fine steps: no two names of an excerpt have the same pixels
    tissue = 0.55 + 0.35 * (1 - radius) + 0.08 * np.sin(0.02 * rows + phase) * np.cos(0.03 * columns + 2 * phase)
    image = np.where(radius < 1, np.clip(tissue, 0.05, 1) * top, 0).astype(dtype)
    return image if side == "L" else image[:, ::-1].copy()


def header(sop: str, sop_class: str | None = MG, **values: object) -> Dataset:
    """A dataset with file meta information; `sop_class` None leaves (0008,0016) out, as RSNA does."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = sop_class or MG
    dataset.file_meta.MediaStorageSOPInstanceUID = sop
    dataset.SOPInstanceUID = sop
    if sop_class:
        dataset.SOPClassUID = sop_class
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def view_code(view: str) -> list[Dataset]:
    item = Dataset()
    item.CodeValue, item.CodeMeaning = VIEW_CODE[view]
    item.CodingSchemeDesignator = "SCT"
    item.ViewModifierCodeSequence = []
    return [item]


def save(dataset: Dataset, path: Path, pixels: np.ndarray, bits: int = 16, photometric: str = "MONOCHROME2") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    allocated = 8 * pixels.dtype.itemsize
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, photometric
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = allocated, bits, bits - 1, 0
    dataset.PixelData = np.ascontiguousarray(pixels, f"<u{allocated // 8}").tobytes()
    dataset["PixelData"].VR = "OB" if allocated == 8 else "OW"
    dataset.save_as(path, enforce_file_format=True)
