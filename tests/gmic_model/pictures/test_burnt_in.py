"""Pictures with saliency burnt in; where a mark of the source lies in them is ``results/objects/test_geometry``'s."""

from __future__ import annotations

import numpy as np
import pytest

from gmic_model.pictures.burnt_in import burnt_in, side_by_side
from schemas.exam import ViewGeometry, ViewPosition

GEOMETRY = ViewGeometry(
    source_shape_px=(200, 150), crop_box_px=(20, 180, 30, 150), is_flipped=True, scale=1.0, best_center_px=(80, 60),
    window_px=(160, 120), view_position=ViewPosition.CC,
)  # fmt: skip


def test_outside_the_crop_nothing_of_the_original_is_shown() -> None:
    """A letter that was burnt into the original's margin, and with it any name, is not in the picture."""
    grey_HW = np.full((160, 120), 200, np.uint8)
    picture = burnt_in(grey_HW, np.zeros((1, 4, 3)), GEOMETRY, shape_px=(200, 150), boxes=(), lines=())
    assert not picture[:20].any() and not picture[180:].any() and not picture[:, :30].any()
    assert (picture[20:180, 30:] == 200).all()


def test_saliency_reddens_what_it_covers() -> None:
    """In the source's frame: the map's first column is the picture's right edge, because the crop was flipped."""
    saliency_CIJ = np.zeros((1, 4, 3))
    saliency_CIJ[0, 1, 0] = 1.0
    picture = burnt_in(np.full((160, 120), 100, np.uint8), saliency_CIJ, GEOMETRY, shape_px=(200, 150), boxes=(), lines=())
    red_HW = picture[..., 0] > picture[..., 2]
    assert red_HW[60:100, 110:150].all() and red_HW.sum() == 40 * 40


@pytest.mark.parametrize("shape_px", [(200, 150), (1400, 1050)])
def test_lines_stay_inside_the_picture(shape_px: tuple[int, int]) -> None:
    """A line that is wider than the picture is written smaller; the last one is the lowest."""
    grey_HW = np.zeros((160, 120), np.uint8)
    empty = np.zeros((1, 4, 3))
    picture = burnt_in(grey_HW, empty, GEOMETRY, shape_px=shape_px, boxes=(), lines=["wide " * 40, "low"])
    rows, columns = np.nonzero(picture[..., 1])
    assert columns.max() < shape_px[1] - 1 and rows.min() > 0.85 * shape_px[0] and rows.max() < shape_px[0]


def test_pictures_of_one_height_stand_beside_each_other() -> None:
    """A lower one gets black rows below."""
    together = side_by_side([np.full((10, 6, 3), 9, np.uint8), np.full((8, 4, 3), 7, np.uint8)])
    assert together.shape == (10, 6 + 8 + 4, 3)
    assert (together[:, :6] == 9).all() and (together[:8, -4:] == 7).all() and not together[8:, -4:].any()
