"""Lesions as a network can see them: each with its whole size, and the part of it that lies in the network's window.

What the window or the stored crop cuts off stays a part of its lesion: it was there to be found. How saliency lies on lesions
is in ``metrics.lesions.localization``. Axes: ``H W`` pixels, ``P`` lesions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from gmic_model.pixels.frames import mask_to_window
from gmic_model.preprocess import crop_like
from schemas.exam import Finding, LesionBeyond, ViewGeometry

_CONNECTIVITY: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lesions:
    """The lesions of one view and finding: 8-connected parts of what is marked.

    Attributes:
        label_HW: In the network's window: 0, or 1 more than the lesion's index.
        size_P: Pixels of each lesion, in the window and outside.
    """

    label_HW: NDArray[np.uint16]
    size_P: NDArray[np.int64]

    @property
    def mask_HW(self) -> NDArray[np.bool_]:
        """What of them lies in the window."""
        return self.label_HW > 0

    @property
    def seen_fraction_P(self) -> NDArray[np.float64]:
        """Share of each lesion that lies in the window."""
        return np.asarray(np.bincount(self.label_HW.ravel(), minlength=len(self.size_P) + 1)[1:] / self.size_P)


def lesions_in_window(mask_HW: NDArray[np.generic], geometry: ViewGeometry, beyond: Iterable[LesionBeyond] = ()) -> Lesions:
    """The lesions of a mask in the stored crop's frame, with what is known of them outside the crop.

    Args:
        mask_HW: Of one finding; nonzero where it is.
        geometry: Of the prepared view.
        beyond: What ``lesions_beyond`` said of the same finding.
    """
    marked_HW = np.ascontiguousarray(np.asarray(mask_HW) != 0).view(np.uint8)
    count, label_HW = cv2.connectedComponents(marked_HW, connectivity=_CONNECTIVITY, ltype=cv2.CV_16U)
    sizes = [int(size) for size in np.bincount(label_HW.ravel(), minlength=count)[1:]]
    for lesion in beyond:
        label = 0 if lesion.at_px is None else int(label_HW[lesion.at_px])
        if label:
            sizes[label - 1] += lesion.beyond_px
        else:
            sizes.append(lesion.beyond_px)
    in_window_HW = mask_to_window(np.asarray(label_HW, np.uint16), geometry)
    return Lesions(label_HW=in_window_HW, size_P=np.array(sizes, np.int64))


def lesions_beyond(mask_HW: NDArray[np.generic], geometry: ViewGeometry, finding: Finding) -> tuple[LesionBeyond, ...]:
    """What the stored crop does not hold of the lesions of a source image.

    Args:
        mask_HW: (rows, columns) of the source image; nonzero where the finding is.
        geometry: Of the stored crop.
        finding: Whose mask it is.
    """
    marked_HW = np.ascontiguousarray(np.asarray(mask_HW) != 0).view(np.uint8)
    top, bottom, left, right = geometry.crop_box_px
    outside_HW = marked_HW.copy()
    outside_HW[top:bottom, left:right] = 0
    if not outside_HW.any():
        return ()
    _, label_HW = cv2.connectedComponents(marked_HW, connectivity=_CONNECTIVITY, ltype=cv2.CV_16U)
    found = []
    for label in np.unique(label_HW[outside_HW > 0]).tolist():
        stored_HW = crop_like((label_HW == label).view(np.uint8), geometry)
        row, column = np.unravel_index(int(stored_HW.argmax()), stored_HW.shape)
        beyond_px = round(int(np.count_nonzero((label_HW == label) & (outside_HW > 0))) * geometry.scale**2)
        at_px = (int(row), int(column)) if stored_HW[row, column] else None
        found.append(LesionBeyond(finding=finding, beyond_px=max(1, beyond_px), at_px=at_px))
    return tuple(found)
