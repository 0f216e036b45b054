"""Burned-in letters leave the crop; the breast keeps its values."""

from __future__ import annotations

import numpy as np

from gmic_model.pixels.breast_mask import find_breast
from gmic_model.pixels.marks import without_marks
from schemas.config.ingest import CropMode
from schemas.exam import Laterality


def test_a_letter_goes_and_the_breast_stays() -> None:
    """A bright part that is not joined to the breast becomes 0, with a rim; every pixel of the breast is as it was."""
    row, column = np.mgrid[:200, :160]
    is_breast = ((row - 100) / 80) ** 2 + (column / 90) ** 2 < 1
    image = np.where(is_breast, 1000 + row, 0).astype(np.uint16)
    image[10:30, 120:150] = 4000
    breast = find_breast(image, Laterality.LEFT, crop_mode=CropMode.ROBUST, erosion_iterations=5)
    assert breast is not None
    kept = without_marks(image, breast.is_tissue_HW, breast)
    assert not kept[10:30, 120:150].any()
    np.testing.assert_array_equal(kept[is_breast], image[is_breast])
