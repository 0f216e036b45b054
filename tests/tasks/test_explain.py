"""What explain saves of a view: a lesion marked in a corner of the source image is found in that corner of the saved arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from gmic_model.preprocess import PreparedView, fit_canvas, network_input, prepare_view
from schemas.config.ingest import PreprocessConfig
from schemas.config.network import GMICConfig
from schemas.exam import Laterality, ViewPosition
from tasks.adapters.pages.gallery.drawn_views import draw_view
from tasks.adapters.scoring.scored_views import ScoredView

SETTINGS = PreprocessConfig(window_px=(448, 320), erosion_iterations=20, crop_buffer_px=10, jitter_shift_px=8, jitter_size_px=0)


class OneView:
    """A store of one prepared view, without masks."""

    def __init__(self, prepared: PreparedView) -> None:
        self.prepared = prepared

    def __call__(self, row: int) -> PreparedView:
        """The view, whatever the row."""
        return self.prepared


@pytest.mark.parametrize("laterality", Laterality)
def test_a_marked_corner_comes_back_in_the_saved_arrays(laterality: Laterality, tmp_path: Path) -> None:
    """The brightest cells of the window, given as saliency, lie on the lesion in the file's source frame, L and R alike."""
    row, column = np.mgrid[:480, :360]
    image = np.where(((row - 240) / 200) ** 2 + (column / 280) ** 2 < 1, 1000, 0).astype(np.uint16)
    top, left = 120, 150  # upper corner, nipple side
    if laterality is Laterality.RIGHT:
        image, left = np.ascontiguousarray(image[:, ::-1]), 360 - 150 - 30
    image[top : top + 30, left : left + 30] = 60000
    prepared = fit_canvas(prepare_view(image, laterality, settings=SETTINGS), SETTINGS.canvas_px)
    window_HW = network_input(prepared)
    bright = np.argwhere(window_HW > window_HW.max() / 2)
    saliency_CIJ = np.zeros((2, 56, 40), np.float32)
    saliency_CIJ[1, bright[:, 0] // 8, bright[:, 1] // 8] = 0.75
    scored = ScoredView(
        row=0, score_C=np.array([0.1, 0.9]), saliency_CIJ=saliency_CIJ, corner_K2=bright.min(axis=0)[None],
        attention_K=np.ones(1, np.float32),
    )  # fmt: skip
    line: dict[str, Any] = {
        "image_id": "I0", "exam_id": "E0", "laterality": laterality.value, "view_position": ViewPosition.CC.value,
        "has_lesion_mask": False, "benign": 0, "malignant": 1,
    }  # fmt: skip
    model = GMICConfig(image_size=(448, 320), patch_size=(30, 30), K=1)
    drawn = draw_view(scored, line, OneView(prepared), model, tmp_path)  # type: ignore[arg-type]
    with np.load(drawn.saliency_path) as arrays:
        source_CHW, patch_K4 = arrays["saliency_source_CHW"], arrays["patch_source_K4"]
        assert arrays["finding_C"].tolist() == ["benign", "malignant"]
    assert source_CHW.shape == (2, 480, 360) and source_CHW.dtype == np.float16
    assert not source_CHW[0].any() and source_CHW[1].max() == 0.75
    lit = np.argwhere(source_CHW[1])
    np.testing.assert_allclose([*lit.min(axis=0), *lit.max(axis=0) + 1], [top, left, top + 30, left + 30], atol=8)
    np.testing.assert_array_equal(patch_K4, [[top, top + 30, left, left + 30]])
    assert cv2.imread(str(drawn.panel_path)) is not None
