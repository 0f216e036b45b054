"""A Figure 4 panel and a gallery picture, drawn directly, against the release's way: one 500-dpi matplotlib figure an image.

    OMP_NUM_THREADS=1 python -m benchmarks.evaluation.bench_panel

The baseline is written here from its description (4 + K pictures in a row, 30 x 3 inches, 500 dpi, saved tight as PNG); it
needs matplotlib, which the package does not. Prints CPU seconds, medians of runs in turn, for a 2944 x 1920 window and 6
patches.
"""

from __future__ import annotations

import io
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gmic_model.pictures.hanging import hang_view
from gmic_model.pictures.panel import figure4_panel
from gmic_model.pixels.frames import to_source_frame
from gmic_model.preprocess import PreparedView, network_input, prepare_view
from schemas.config.ingest import PreprocessConfig
from schemas.exam import Finding, Laterality, ViewPosition

RUNS = 3
PATCH_PX = 256


def synthetic_view() -> PreparedView:
    """Half an ellipse of noise at column 0 of a 3328 x 2560 image, prepared."""
    row, column = np.mgrid[:3328, :2560]
    is_breast = ((row - 1600) / 1300) ** 2 + (column / 1300) ** 2 < 1
    pixels = np.where(is_breast, np.random.default_rng(0).integers(500, 3500, is_breast.shape), 0).astype(np.uint16)
    return prepare_view(pixels, Laterality.LEFT, settings=PreprocessConfig())


def released_way(pyplot: Any, image_HW: NDArray[np.float32], given: dict[str, Any]) -> int:
    """The figure as the release saves it; returns its bytes."""
    figure, axes = pyplot.subplots(1, 4 + len(given["corner_K2"]), figsize=(30, 3))
    axes[0].imshow(image_HW, cmap="gray", aspect="equal")
    axes[1].imshow(image_HW, cmap="gray", aspect="equal")
    boxes = np.full(image_HW.shape, np.nan, np.float32)
    for top, left in given["corner_K2"]:
        boxes[top : top + PATCH_PX, left : left + PATCH_PX] = 1.0
    axes[1].imshow(boxes, cmap="Blues", alpha=0.5, vmin=0, vmax=1)
    for axis, saliency_IJ, name in zip(axes[2:4], given["saliency_CIJ"], ("Greens", "Reds"), strict=True):
        large_HW = cv2.resize(saliency_IJ, image_HW.shape[::-1], interpolation=cv2.INTER_NEAREST)
        axis.imshow(image_HW, cmap="gray", aspect="equal")
        axis.imshow(large_HW, cmap=name, alpha=0.95 * large_HW, vmin=0, vmax=1)
    for axis, (top, left), weight in zip(axes[4:], given["corner_K2"], given["attention_K"], strict=True):
        axis.imshow(image_HW[top : top + PATCH_PX, left : left + PATCH_PX], cmap="gray")
        axis.set_title(f"$\\alpha$ = {weight:.2f}")
    for axis in axes:
        axis.set_axis_off()
    file = io.BytesIO()
    figure.savefig(file, bbox_inches="tight", format="png", dpi=500)
    pyplot.close(figure)
    return len(file.getvalue())


def cpu_medians(steps: dict[str, Callable[[], int]]) -> dict[str, tuple[float, int]]:
    """Median CPU seconds and bytes of each step, run in turns after one run that does not count."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    sizes = {name: step() for name, step in steps.items()}
    for _ in range(RUNS):
        for name, step in steps.items():
            start = time.process_time()
            step()
            times[name].append(time.process_time() - start)
    return {name: (statistics.median(values), sizes[name]) for name, values in times.items()}


def main() -> None:
    """Print the table."""
    try:
        import matplotlib  # type: ignore[import-not-found,unused-ignore]

        matplotlib.use("Agg")
        from matplotlib import pyplot  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        sys.exit("This benchmark's baseline needs matplotlib: pip install matplotlib")
    cv2.setNumThreads(1)
    prepared = synthetic_view()
    image_HW = network_input(prepared)
    generator = np.random.default_rng(1)
    given: dict[str, Any] = {
        "saliency_CIJ": generator.random((2, 46, 30)).astype(np.float32),
        "corner_K2": np.array([[300 * index + 200, 150 * index] for index in range(6)]),
        "attention_K": generator.dirichlet(np.ones(6)),
    }

    def ours() -> int:
        panel_HW3 = figure4_panel(
            image_HW=image_HW, patch_size=(PATCH_PX, PATCH_PX), laterality=Laterality.LEFT, view_position=ViewPosition.CC,
            scores={Finding.BENIGN: 0.5, Finding.MALIGNANT: 0.5}, **given,
        )  # fmt: skip
        return len(cv2.imencode(".png", panel_HW3[:, :, ::-1])[1])

    def gallery() -> int:
        hung = hang_view(
            prepared, saliency_CIJ=given["saliency_CIJ"], corner_K2=given["corner_K2"], patch_size=(PATCH_PX, PATCH_PX),
            laterality=Laterality.LEFT, pixel_spacing_mm=0.07, rows_px=1600,
        )  # fmt: skip
        return len(cv2.imencode(".webp", hung.grey_HW, [cv2.IMWRITE_WEBP_QUALITY, 90])[1])

    def source_frame() -> int:
        file = io.BytesIO()
        source_CHW = to_source_frame(given["saliency_CIJ"], prepared.geometry, prepared.geometry.source_shape_px)
        np.savez_compressed(file, saliency_source_CHW=source_CHW.astype(np.float16))
        return len(file.getvalue())

    result = cpu_medians(
        {
            "release's way: 500-dpi figure": lambda: released_way(pyplot, image_HW, given),
            "figure4_panel and PNG": ours,
            "gallery picture and WebP": gallery,
            "source-frame saliency and npz": source_frame,
        }
    )
    for name, (seconds, size) in result.items():
        print(f"{name:32s} {seconds:8.3f} s CPU {size / 1e6:8.2f} MB")
    slow = result["release's way: 500-dpi figure"][0]
    print(f"ratio, panel: {slow / result['figure4_panel and PNG'][0]:.1f}x")
    both = result["figure4_panel and PNG"][0] + result["gallery picture and WebP"][0]
    print(f"ratio, panel and gallery picture: {slow / both:.1f}x")


if __name__ == "__main__":
    main()
