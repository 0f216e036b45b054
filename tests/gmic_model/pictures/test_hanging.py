"""How a view hangs: sides, places and millimetres."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gmic_model.pictures.hanging import HungView, hang_view, scale_bar, shares_of_height
from gmic_model.preprocess import PreparedView
from schemas.exam import Finding, Laterality, ViewGeometry, ViewPosition

ROWS, COLUMNS = 400, 200


def hang(laterality: Laterality, **changes: Any) -> HungView:
    """A crop of 400 x 200 pixels in a window of 480 x 240: 40 rows of padding lie above and below it; shown at half size."""
    pixels = np.zeros((ROWS, COLUMNS), np.uint16)
    pixels[100:120, 10:30] = 1000
    mask = np.zeros((ROWS, COLUMNS), np.uint8)
    mask[100:120, 10:30] = 2
    geometry = ViewGeometry(
        source_shape_px=(500, 300),
        crop_box_px=(50, 450, 100, 300) if laterality is Laterality.RIGHT else (50, 450, 0, 200),
        is_flipped=laterality is Laterality.RIGHT, scale=changes.pop("scale", 1.0), best_center_px=(200, 100),
        window_px=(480, 240), view_position=ViewPosition.CC,
    )  # fmt: skip
    saliency = np.zeros((2, 12, 6))
    saliency[1, 3, 0] = 0.5
    given: dict[str, Any] = {
        "saliency_CIJ": saliency, "corner_K2": np.array([[140, 10], [0, 0]]), "patch_size": (20, 20), "laterality": laterality,
        "pixel_spacing_mm": 0.1, "rows_px": 200, "lesion_mask_HW": mask,
    }  # fmt: skip
    return hang_view(PreparedView(pixels_HW=pixels, geometry=geometry, tissue_fraction=0.1), **(given | changes))


@pytest.mark.parametrize("laterality", Laterality)
def test_chest_walls_meet_in_the_middle(laterality: Laterality) -> None:
    """A left breast keeps its chest wall at column 0, a right one has it at the last: mark, patch, outline, cell go with it."""
    view = hang(laterality)
    bright = np.argwhere(view.grey_HW > 128)
    is_right = laterality is Laterality.RIGHT
    start = 100 - 15 if is_right else 5  # half of 10:30, mirrored in a picture of 100 columns
    np.testing.assert_array_equal([bright.min(axis=0), bright.max(axis=0) + 1], [[50, start], [60, start + 10]])
    # Window row 140 is crop row 100: 40 rows of padding above.
    patch, outside = view.patches
    assert (patch.top, patch.left, patch.height, patch.width) == (50, start, 10, 10)
    assert outside.top == -20
    xs, ys = zip(*view.outlines[Finding.MALIGNANT][0], strict=True)
    assert (min(xs), max(xs), min(ys), max(ys)) == pytest.approx((start + 0.25, start + 9.75, 50.25, 59.75), abs=0.1)
    assert Finding.BENIGN not in view.outlines
    np.testing.assert_array_equal(np.argwhere(view.saliency_CIJ), [[1, 3, 5 if is_right else 0]])
    assert view.saliency_CIJ.max() == 128
    assert (view.window.top, view.window.height, view.window.width) == (-20, 240, 120)
    assert view.window.left == (-20 if is_right else 0)


def test_scale_bar_is_as_long_as_it_says() -> None:
    """0.1 mm a source pixel at half size: 0.2 mm a picture pixel. Two fifths of 100 columns are 8 mm: a bar of 5 mm, 25 px."""
    view = hang(Laterality.LEFT)
    bar = scale_bar(view)
    assert view.mm_per_px == pytest.approx(0.2) and bar is not None
    assert (bar.length_mm, bar.length_px) == (5, pytest.approx(25.0))
    assert scale_bar(hang(Laterality.LEFT, pixel_spacing_mm=None)) is None
    # A breast shrunk to half before it was stored: each stored pixel is two of the source.
    assert hang(Laterality.LEFT, scale=0.5).mm_per_px == pytest.approx(0.4)


def test_views_share_one_scale() -> None:
    """In millimetres where spacing is known, else in stored pixels; a view of half the size is drawn half as high."""
    fine, coarse = hang(Laterality.LEFT, pixel_spacing_mm=0.05), hang(Laterality.RIGHT)
    assert shares_of_height({"a": fine, "b": coarse}) == pytest.approx({"a": 0.5, "b": 1.0})
    unknown = hang(Laterality.LEFT, pixel_spacing_mm=None, rows_px=100)
    assert shares_of_height({"a": unknown, "b": coarse}) == pytest.approx({"a": 1.0, "b": 1.0})
    assert shares_of_height({}) == {}


def test_a_small_crop_is_not_enlarged() -> None:
    """400 rows stay 400 however many are allowed; without a mask there is no outline."""
    view = hang(Laterality.LEFT, rows_px=5000, lesion_mask_HW=None)
    assert view.grey_HW.shape == (ROWS, COLUMNS) and view.outlines == {}
