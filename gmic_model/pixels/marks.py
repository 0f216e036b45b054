"""Burned-in marks and raised backgrounds: what is bright beside the breast and must not be seen by a network."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from gmic_model.pixels.breast_mask import Breast

_MARGIN_SHARE: Final = 0.01  # of the rows: what is kept around the breast when a raised background is set to 0
_SMALLEST_MARK_SHARE: Final = 5e-5  # of the image's area: smaller bright parts are noise or skin, not a burned-in letter
_MARK_SEARCH_STEP: Final = 4  # marks are looked for on every fourth pixel


def without_marks(crop_HW: NDArray[np.uint16], tissue_HW: NDArray[np.uint8], breast: Breast) -> NDArray[np.uint16]:
    """Set burned-in marks to 0, and with them a background that is not 0, save a narrow margin around the breast.

    A mark is a part of the tissue mask that is not connected to the breast. Breast pixels keep their values.
    """
    if breast.padding > 0:
        crop_HW = np.where((crop_HW == breast.padding) & (tissue_HW == 0), np.uint16(0), crop_HW)
    step = _MARK_SEARCH_STEP
    parts, part_HW = cv2.connectedComponents(np.ascontiguousarray(tissue_HW[::step, ::step]), connectivity=8)
    if parts <= 2 and not breast.has_raised_background:  # background and breast
        return crop_HW
    sizes = np.bincount(part_HW.ravel(), minlength=parts)
    sizes[0] = 0
    is_breast_HW = (part_HW == sizes.argmax()).view(np.uint8)
    is_part_mark = sizes >= _SMALLEST_MARK_SHARE * breast.is_tissue_HW.size / step**2
    is_part_mark[sizes.argmax()] = False
    is_blank_HW = cv2.dilate(is_part_mark[part_HW].view(np.uint8), np.ones((3, 3), np.uint8)) & (1 - is_breast_HW)
    if breast.has_raised_background:
        margin = 1 + round(_MARGIN_SHARE * crop_HW.shape[0] / step)
        is_blank_HW |= 1 - cv2.dilate(is_breast_HW, np.ones((2 * margin + 1, 2 * margin + 1), np.uint8))
    rows, columns = crop_HW.shape
    is_kept_HW = np.repeat(np.repeat(1 - is_blank_HW, step, axis=1), step, axis=0)[:rows, :columns]
    return np.asarray(crop_HW * is_kept_HW, np.uint16)
