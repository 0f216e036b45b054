"""The released recipe's path from DICOM to the network's input, as the baseline of the benchmarks. Not a benchmark itself.

Written from the description in GMIC.md section 2, as literally as it goes: each step reads and writes PNG files, morphology is
scipy's, the best centre takes a full two-dimensional cumulative sum. The PNG files are written as described (the whole image by
pypng, the crop by Pillow, both at their defaults) or gently, by OpenCV with its fast settings. In both cases OpenCV reads them
and the stretch from 12 to 16 bits is one table: pypng's own takes most of a minute an image. Only the cost matters here;
tests hold our own steps to the released numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import scipy.ndimage
from numpy.typing import NDArray
from PIL import Image

from schemas.exam import Laterality, ViewPosition

WINDOW_PX = (2944, 1920)
BUFFER_PX = 50
EROSIONS = 100
_STRETCH = np.round(np.arange(2**16) * (65535 / 4095)).clip(0, 65535).astype(np.uint16)


Pixels = NDArray[np.uint16]


@dataclass(frozen=True, slots=True, kw_only=True)
class PngWriters:
    """Who writes the two PNG files of an image."""

    whole: Callable[[Path, Pixels], object]
    crop: Callable[[Path, Pixels], object]


def write_with_pypng(path: Path, image_HW: Pixels) -> None:
    """16 bits, at pypng's defaults."""
    import png

    rows, columns = image_HW.shape
    with path.open("wb") as file:
        png.Writer(columns, rows, greyscale=True, bitdepth=16).write(file, image_HW)


AS_DESCRIBED = PngWriters(
    whole=write_with_pypng,
    crop=lambda path, image_HW: Image.fromarray(image_HW).save(path),
)
GENTLE = PngWriters(
    whole=lambda path, image_HW: cv2.imwrite(str(path), image_HW),
    crop=lambda path, image_HW: cv2.imwrite(str(path), image_HW),
)


def crop_to_png(
    png_path: Path, crop_path: Path, laterality: Laterality, *, write: Callable[[Path, Pixels], object] = GENTLE.crop
) -> tuple[int, int]:
    """Erodes, takes the largest part, dilates, writes its box; gives the lowest row and the nipple's column."""
    image_HW = read_png(png_path)
    eroded_HW = scipy.ndimage.binary_erosion(image_HW > 0, iterations=EROSIONS)
    part_HW, _ = scipy.ndimage.label(eroded_HW)
    largest_HW = part_HW == 1 + np.bincount(part_HW.ravel())[1:].argmax()
    breast_HW = scipy.ndimage.binary_dilation(largest_HW, iterations=EROSIONS)
    rows, columns = np.flatnonzero(breast_HW.any(1)), np.flatnonzero(breast_HW.any(0))
    top, bottom = max(0, rows[0] - BUFFER_PX), min(image_HW.shape[0], rows[-1] + 1 + BUFFER_PX)
    left, right = columns[0], columns[-1] + 1
    if laterality is Laterality.LEFT:
        right = min(image_HW.shape[1], right + BUFFER_PX)
    else:
        left = max(0, left - BUFFER_PX)
    write(crop_path, np.ascontiguousarray(image_HW[top:bottom, left:right]))
    below_HW = breast_HW[top + (bottom - top) // 3 : bottom, left:right]
    reach = np.flatnonzero(below_HW.any(0))
    return int(rows[-1] - top), int(reach[-1] if laterality is Laterality.LEFT else right - left - reach[0])


def best_center(
    crop_path: Path, laterality: Laterality, view: ViewPosition, lowest_row_px: int, nipple_px: int
) -> tuple[int, int]:
    """The window centre that holds the most tissue (GMIC.md 2.2)."""
    crop_HW = _flipped(read_png(crop_path), laterality)
    rows, columns = crop_HW.shape
    half_rows, half_columns = WINDOW_PX[0] // 2, WINDOW_PX[1] // 2
    column = nipple_px - half_columns - 1
    if view is ViewPosition.MLO:
        lit = np.flatnonzero((crop_HW[:, max(0, columns - WINDOW_PX[1]) :] > 0).any(1))
        return min(lowest_row_px, int(lit[-1])) - half_rows - 1, column
    total_HW = np.zeros((rows + 1, columns + 1), np.int64)
    total_HW[1:, 1:] = np.cumsum(np.cumsum((crop_HW > 0).astype(np.int64), axis=0), axis=1)
    if half_rows >= rows - half_rows:
        return rows // 2, column
    first, last = max(column - half_columns, 0), min(columns, max(column, half_columns) + half_columns)
    candidates = np.arange(half_rows, rows - half_rows + 1)
    lower, upper = candidates + half_rows, candidates - half_rows
    held = total_HW[lower, last] - total_HW[upper, last] - total_HW[lower, first] + total_HW[upper, first]
    best = candidates[held == held.max()]
    return int(best[np.abs(best - rows // 2).argmin()]), column


def window_from_png(
    crop_path: Path, laterality: Laterality, center_px: tuple[int, int], *, jitter: np.random.Generator | None = None
) -> NDArray[np.float32]:
    """Reads, flips, pads, cuts the window and standardises it; with ``jitter``, shifted and resized (cubic)."""
    crop_HW = _flipped(read_png(crop_path).astype(np.float32), laterality)
    margin = 200 if jitter is not None else 0
    pad_rows, pad_columns = (max(0, WINDOW_PX[k] + 2 * margin - crop_HW.shape[k]) for k in range(2))
    padded_HW = np.pad(crop_HW, ((pad_rows // 2, pad_rows - pad_rows // 2), (0, pad_columns)))
    starts = [min(max(center_px[k] - WINDOW_PX[k] // 2, margin), padded_HW.shape[k] - WINDOW_PX[k] - margin) for k in range(2)]
    top, left = starts
    bottom, right = top + WINDOW_PX[0], left + WINDOW_PX[1]
    if jitter is not None:
        shift, size = np.rint(100 * jitter.uniform(-1, 1, 2)).astype(int), np.rint(100 * jitter.uniform(-1, 1, 4)).astype(int)
        top, bottom, left, right = (
            int(edge) for edge in np.array([top, bottom, left, right]) + shift[[0, 0, 1, 1]] + size * [1, 1, 0.65, 0.65]
        )
    window_HW = np.ascontiguousarray(padded_HW[max(0, top) : bottom, max(0, left) : right])
    if window_HW.shape != WINDOW_PX:
        window_HW = np.asarray(cv2.resize(window_HW, WINDOW_PX[::-1], interpolation=cv2.INTER_CUBIC), np.float32)
    window_HW -= np.mean(window_HW)
    window_HW /= np.maximum(np.std(window_HW), 1e-5)
    return window_HW


def read_png(path: Path) -> NDArray[np.uint16]:
    """As stored."""
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), np.uint16)


def run(
    read_dicom: Callable[[], Pixels], folder: Path, laterality: Laterality, view: ViewPosition, writers: PngWriters
) -> NDArray[np.float32]:
    """The whole path of one image."""
    whole_path, crop_path = folder / "whole.png", folder / "crop.png"
    writers.whole(whole_path, _STRETCH[read_dicom()])
    lowest_row_px, nipple_px = crop_to_png(whole_path, crop_path, laterality, write=writers.crop)
    center_px = best_center(crop_path, laterality, view, lowest_row_px, nipple_px)
    return window_from_png(crop_path, laterality, center_px)


def _flipped(image_HW: NDArray[np.generic], laterality: Laterality) -> NDArray[np.generic]:
    return np.fliplr(image_HW) if laterality is Laterality.RIGHT else image_HW
