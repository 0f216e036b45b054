"""Breast crop: the exact one-pass way against the released steps in scipy, on one thread, results compared.

    OMP_NUM_THREADS=1 python -m benchmarks.ingest.bench_crop

Prints milliseconds, medians of interleaved runs, for a synthetic 3328 x 2560 breast that fills about a third of the image.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from gmic_model.pictures.panel import figure4_panel
from gmic_model.pixels.breast_mask import find_breast
from gmic_model.pixels.frames import to_source_frame
from gmic_model.pixels.window import draw_jitter
from gmic_model.preprocess import network_input, prepare_view
from schemas.config.ingest import CropMode, PreprocessConfig
from schemas.exam import Finding, Laterality, ViewPosition

RUNS = 5
ITERATIONS = 100


def synthetic_breast() -> NDArray[np.uint16]:
    """Half an ellipse of noise at column 0, 0 elsewhere."""
    row, column = np.mgrid[:3328, :2560]
    is_breast = ((row - 1600) / 1300) ** 2 + (column / 1300) ** 2 < 1
    return np.where(is_breast, np.random.default_rng(0).integers(500, 3500, is_breast.shape), 0).astype(np.uint16)


def oracle_box(pixels_HW: NDArray[np.uint16]) -> tuple[int, int, int, int]:
    """The released steps, literally."""
    eroded = scipy.ndimage.binary_erosion(pixels_HW > 0, iterations=ITERATIONS)
    part, _ = scipy.ndimage.label(eroded)
    largest = part == 1 + np.bincount(part.ravel())[1:].argmax()
    breast = scipy.ndimage.binary_dilation(largest, iterations=ITERATIONS)
    rows, columns = np.flatnonzero(breast.any(1)), np.flatnonzero(breast.any(0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def fast_box(pixels_HW: NDArray[np.uint16]) -> tuple[int, int, int, int]:
    """Ours."""
    breast = find_breast(pixels_HW, Laterality.LEFT, crop_mode=CropMode.RELEASED, erosion_iterations=ITERATIONS)
    assert breast is not None
    return breast.box_px


def medians(steps: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median milliseconds of each step, run in turns."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(RUNS):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Print the table."""
    cv2.setNumThreads(1)
    pixels_HW = synthetic_breast()
    assert oracle_box(pixels_HW) == fast_box(pixels_HW)
    released = PreprocessConfig(crop_mode=CropMode.RELEASED)
    prepared = prepare_view(pixels_HW, Laterality.LEFT)
    jitter = draw_jitter(np.random.default_rng(0))
    window_HW = network_input(prepared)
    saliency_CIJ = np.random.default_rng(0).random((2, 46, 30), np.float32)
    corner_K2 = np.arange(12).reshape(6, 2) * 128
    result = medians(
        {
            "scipy: erode, label, dilate": lambda: oracle_box(pixels_HW),
            "find_breast released": lambda: fast_box(pixels_HW),
            "prepare_view released": lambda: prepare_view(pixels_HW, Laterality.LEFT, settings=released),
            "prepare_view robust": lambda: prepare_view(pixels_HW, Laterality.LEFT),
            "network_input": lambda: network_input(prepared),
            "network_input, random window": lambda: network_input(prepared, augment=jitter),
            "to_source_frame": lambda: to_source_frame(saliency_CIJ, prepared.geometry, pixels_HW.shape),
            "figure4_panel": lambda: figure4_panel(
                image_HW=window_HW, saliency_CIJ=saliency_CIJ, corner_K2=corner_K2, attention_K=np.full(6, 1 / 6),
                patch_size=(256, 256), laterality=Laterality.LEFT, view_position=ViewPosition.CC,
                scores={Finding.BENIGN: 0.5, Finding.MALIGNANT: 0.5},
            ),
        }
    )  # fmt: skip
    for name, value in result.items():
        print(f"{name:32s} {value:8.1f} ms")
    print(f"scipy / find_breast released: {result['scipy: erode, label, dilate'] / result['find_breast released']:.1f}x")


if __name__ == "__main__":
    main()
