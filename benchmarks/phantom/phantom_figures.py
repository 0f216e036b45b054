"""Draws the two figures of docs/explanation/phantom.md.

python -m benchmarks.phantom.phantom_figures docs/figures
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gmic_model.phantom.drawing import draw_exam, plan_exam
from gmic_model.phantom.lesions import SPOT_PX, Spot, SpotKind, SpotStyle, draw_spot
from schemas.exam import Finding, Laterality, ViewPosition

LEVELS = 48  # fewer gray levels make small files


def exam_figure(seed: int) -> NDArray[np.uint8]:
    """Right and left CC, right and left MLO, side by side, at half size."""
    plan = plan_exam(
        image_size_px=(832, 640),
        findings={Laterality.LEFT: frozenset({Finding.MALIGNANT}), Laterality.RIGHT: frozenset({Finding.BENIGN})},
        difficulty=0.5,
        patient_rng=np.random.default_rng((seed, 0)),
        exam_rng=np.random.default_rng((seed, 1)),
    )
    drawn = draw_exam(plan)
    views = [drawn[side, view].pixels_HW for view in ViewPosition for side in Laterality]
    half = cv2.resize(np.hstack(views).astype(np.float32), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return _gray(np.asarray(half, dtype=np.float32), 0.0, 2400.0)


def spot_figure(seed: int) -> NDArray[np.uint8]:
    """Columns: malignant, benign, knot as masses, then as calcifications. Rows: native, and after fourfold reduction."""
    columns = []
    for kind in SpotKind:
        for finding in (Finding.MALIGNANT, Finding.BENIGN, None):
            spot = Spot(
                kind=kind, finding=finding, depth_px=0.0, across_px=(0.0, 0.0), core_px=14.0, contrast=1.0, shape_seed=seed
            )
            added_PQ = draw_spot(spot, SpotStyle.of_difficulty(0.5), view_index=0).added_PQ + 1000.0
            native_PQ = added_PQ[SPOT_PX // 2 - 44 : SPOT_PX // 2 + 44, SPOT_PX // 2 - 44 : SPOT_PX // 2 + 44]
            small_PQ = cv2.resize(native_PQ, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
            tiles = [cv2.resize(tile, (176, 176), interpolation=cv2.INTER_NEAREST) for tile in (native_PQ, small_PQ)]
            columns.append(np.vstack([np.pad(tile, 2) for tile in tiles]))
    return _gray(np.hstack(columns).astype(np.float32), 850.0, 1500.0)


def _gray(image: NDArray[np.float32], black: float, white: float) -> NDArray[np.uint8]:
    share = np.clip((image - black) / (white - black), 0.0, 1.0)
    return np.asarray(np.round(share * (LEVELS - 1)) * (255 / (LEVELS - 1)), dtype=np.uint8)


def main() -> None:
    """Write both figures into the folder given."""
    folder = Path(sys.argv[1])
    for name, image in (("phantom_exam.png", exam_figure(7)), ("phantom_spots.png", spot_figure(3))):
        cv2.imwrite(str(folder / name), image, [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main()
