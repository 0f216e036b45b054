"""From a saliency map to marks with ratings: what a free-response reader would point at, and which lesion each mark is on.

A mark is a local maximum of the map: a cell above 0 that none of its eight neighbours exceeds; a plateau is one mark, at its
first cell. Its rating is the cell's saliency. A cell, not a pixel, is the finest a map can point at: a mark is on every lesion
that has a pixel in its cell. Axes: ``H W`` mask pixels, ``I J`` saliency grid, ``M`` marks, ``P`` lesions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from gmic_model.metrics.lesions.localization import cell_edges

UNMARKED: Final = 0.0
"""Rating of a lesion that no mark is on; every mark is rated above 0."""
_NEIGHBOURS: Final = np.ones((3, 3), np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageMarks:
    """The marks of one image for one finding.

    Attributes:
        false_M: Ratings of the marks that are on no lesion, falling.
        lesion_P: The highest rating of a mark on each lesion, ``UNMARKED`` if there is none.
    """

    false_M: NDArray[np.float32]
    lesion_P: NDArray[np.float32]


def rated_marks(saliency_IJ: NDArray[np.floating], label_HW: NDArray[np.generic] | None = None, lesions: int = 0) -> ImageMarks:
    """The map's marks against the lesions of the image.

    Args:
        saliency_IJ: One finding's map in [0, 1].
        label_HW: In the same frame: 0, or 1 more than the index of the lesion; None = there is no lesion, and every mark is
            false.
        lesions: How many there are, with those of which ``label_HW`` holds nothing: no mark can be on them.

    Raises:
        MammoError: The mask is coarser than the map.
    """
    saliency = np.asarray(saliency_IJ, np.float32)
    marked_M2 = _peaks(saliency)
    rating_M = saliency[marked_M2[:, 0], marked_M2[:, 1]]
    lesion_P = np.full(lesions, UNMARKED, np.float32)
    is_false_M = np.ones(len(rating_M), dtype=bool)
    if label_HW is not None:
        rows, columns = (cell_edges(pixels, cells) for pixels, cells in zip(label_HW.shape, saliency.shape, strict=True))
        for mark, (i, j) in enumerate(marked_M2.tolist()):
            under = np.unique(label_HW[rows[i] : rows[i + 1], columns[j] : columns[j + 1]])
            under = under[under > 0].astype(np.intp) - 1
            is_false_M[mark] = not len(under)
            lesion_P[under] = np.maximum(lesion_P[under], rating_M[mark])
    return ImageMarks(false_M=np.sort(rating_M[is_false_M])[::-1], lesion_P=lesion_P)


def _peaks(saliency_IJ: NDArray[np.float32]) -> NDArray[np.intp]:
    """(row, column) of each mark's cell; of equal neighbours, all of them peaks, the first."""
    highest_IJ = cv2.dilate(saliency_IJ, _NEIGHBOURS, borderType=cv2.BORDER_REPLICATE)
    is_peak_IJ = (saliency_IJ > 0.0) & (saliency_IJ >= highest_IJ)
    _, plateau_IJ = cv2.connectedComponents(is_peak_IJ.view(np.uint8), connectivity=8)
    plateaus, first_M = np.unique(plateau_IJ, return_index=True)
    return np.stack(np.unravel_index(first_M[plateaus > 0], saliency_IJ.shape), axis=1)
