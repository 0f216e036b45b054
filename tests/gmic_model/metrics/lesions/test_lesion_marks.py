"""Marks are the map's local maxima, and lie on the lesions of their cell."""

from __future__ import annotations

import numpy as np

from gmic_model.metrics.lesions.lesion_marks import UNMARKED, rated_marks


def _map() -> np.ndarray:
    """4 x 5 cells with peaks 0.9 at (0, 0), 0.5 at (2, 3) and a plateau of 0.3 along the lower left."""
    saliency_IJ = np.zeros((4, 5), np.float32)
    saliency_IJ[0, 0], saliency_IJ[0, 1], saliency_IJ[2, 3], saliency_IJ[1, 3] = 0.9, 0.8, 0.5, 0.4
    saliency_IJ[3, :2] = 0.3
    return saliency_IJ


def test_every_local_maximum_is_one_mark() -> None:
    """The neighbour 0.8 of 0.9 is none, a plateau is one, zeros are none; without lesions all are false."""
    assert rated_marks(_map()).false_M.tolist() == np.array([0.9, 0.5, 0.3], np.float32).tolist()
    assert rated_marks(np.zeros((4, 5), np.float32)).false_M.size == 0


def test_a_mark_is_on_the_lesions_of_its_cell() -> None:
    """Cells of 10 x 10 pixels: lesion 1 has a pixel in the cell of 0.5, lesion 2 lies where no mark is, lesion 3 outside."""
    label_HW = np.zeros((40, 50), np.uint16)
    label_HW[29, 39], label_HW[10:20, 10:20] = 1, 2
    marks = rated_marks(_map(), label_HW, 3)
    assert marks.lesion_P.tolist() == [0.5, UNMARKED, UNMARKED]
    assert marks.false_M.tolist() == np.array([0.9, 0.3], np.float32).tolist()


def test_a_second_mark_on_a_lesion_is_neither_found_nor_false() -> None:
    """A lesion under both upper peaks is rated by the higher one; only the plateau is false."""
    label_HW = np.zeros((40, 50), np.uint16)
    label_HW[5:25, 5:40] = 1
    marks = rated_marks(_map(), label_HW, 1)
    assert marks.lesion_P.tolist() == np.array([0.9], np.float32).tolist()
    assert marks.false_M.tolist() == np.array([0.3], np.float32).tolist()
