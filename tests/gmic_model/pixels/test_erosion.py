"""Deep erosion in words of 64 pixels equals as many single erosions, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage

from gmic_model.pixels.erosion import eroded_by_ball


@pytest.mark.parametrize("radius_px", [0, 1, 2, 7, 8, 9, 15, 17, 24, 63, 64, 65])
def test_it_equals_iterated_erosions_with_a_cross(radius_px: int) -> None:
    """Radii of whole bytes, beside them and beyond a word; edges of words, of rows and of the image erode alike."""
    rng = np.random.default_rng(radius_px)
    for shape in ((150, 201), (64, 64), (131, 129), (1, 300), (300, 1)):
        mask_HW = np.ones(shape, np.uint8)
        mask_HW[rng.integers(0, shape[0], 3), rng.integers(0, shape[1], 3)] = 0
        wanted = scipy.ndimage.binary_erosion(mask_HW, iterations=radius_px) if radius_px else mask_HW
        np.testing.assert_array_equal(eroded_by_ball(mask_HW, radius_px), wanted)
