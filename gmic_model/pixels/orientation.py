"""How an image lies: brought upright by turns and a mirroring, the geometry of the way back, and what its pixels say of it.

Upright is as PS3.3 orients a mammogram: a left breast has its chest wall at column 0, a right one at the last column, and the
upper or outer part of either is at the first row. Every other way in which an image can lie is a number of quarter turns and at
most one mirroring away from it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from gmic_model.pixels.window import ScalarT
from schemas.exam import Box, ViewGeometry

_SPECK_SHARE: Final = 0.02  # of a line: fewer tissue pixels are noise or a letter, and the line is no part of the breast
_RIM_SHARE: Final = 0.02  # of the breast's height or width: what counts as its edge
_AGAINST: Final = 1.2  # so many times the other's: a difference that is seen, not one of noise
_FAR_AGAINST: Final = 1.5  # where another half speaks against it
_LEAST_CONTACT: Final = 0.5  # of the edge: what a chest wall covers
_MOST_BEHIND: Final = 0.5  # of the wall's contact: what the side opposite a chest wall may have
_MUSCLE_CONTACT: Final = 0.3  # of the edge: chest muscle reaches so far along the upper edge of an oblique view, at least
_FOLD_CONTACT: Final = 0.15  # of the edge: what lies at the other end is less


class Edge(StrEnum):
    """An edge of an image."""

    LEFT = "left"
    RIGHT = "right"
    TOP = "top"
    BOTTOM = "bottom"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What brings an image upright.

    Attributes:
        quarter_turns: Clockwise, 0 to 3; come first.
        is_mirrored: True if left and right are then exchanged.
    """

    quarter_turns: int = 0
    is_mirrored: bool = False

    def __call__(self, image_HW: NDArray[ScalarT]) -> NDArray[ScalarT]:
        """The upright image; the array itself if it lies so."""
        if self == UPRIGHT:
            return image_HW
        turned_HW = np.rot90(image_HW, -self.quarter_turns)
        return np.ascontiguousarray(turned_HW[:, ::-1] if self.is_mirrored else turned_HW)

    def source_geometry(self, geometry: ViewGeometry) -> ViewGeometry:
        """The geometry in the image as it came, from that in the upright image."""
        if self.is_mirrored:
            columns = geometry.source_shape_px[1]
            top, bottom, left, right = geometry.crop_box_px
            box = (top, bottom, columns - right, columns - left)
            geometry = replace(geometry, crop_box_px=box, is_flipped=not geometry.is_flipped)
        return turned_back(geometry, self.quarter_turns)


UPRIGHT: Final = Turn()
"""Nothing is to be done."""


# -------------------------------------------------------------------------------------------------------------- geometry


def turned_box(box_px: Box, shape_px: tuple[int, int], quarter_turns: int) -> Box:
    """A box after an image of that shape was turned clockwise by so many quarters; a negative number turns back."""
    for _ in range(quarter_turns % 4):
        top, bottom, left, right = box_px
        box_px = (left, right, shape_px[0] - bottom, shape_px[0] - top)
        shape_px = shape_px[::-1]
    return box_px


def turned_upright(geometry: ViewGeometry) -> ViewGeometry:
    """The geometry in the source image after its quarter turns, of which none is then left to do."""
    quarter_turns = geometry.quarter_turns
    return replace(_turned(geometry, quarter_turns), quarter_turns=0) if quarter_turns else geometry


def turned_back(geometry: ViewGeometry, quarter_turns: int) -> ViewGeometry:
    """Undoes ``turned_upright``: the geometry in an image that still has so many quarter turns before it."""
    return replace(_turned(geometry, -quarter_turns), quarter_turns=quarter_turns) if quarter_turns else geometry


def _turned(geometry: ViewGeometry, quarter_turns: int) -> ViewGeometry:
    shape_px = geometry.source_shape_px
    return replace(
        geometry,
        source_shape_px=shape_px[::-1] if quarter_turns % 2 else shape_px,
        crop_box_px=turned_box(geometry.crop_box_px, shape_px, quarter_turns),
    )


# --------------------------------------------------------------------------------------------------------------- witness


@dataclass(frozen=True, slots=True, kw_only=True)
class Lie:
    """What the pixels say of how a breast lies, without being told its side.

    Attributes:
        chest_wall: The edge at which it is cut off; None if the pixels do not decide, as with a breast that fills the image.
        has_muscle_below: True if the lower edge holds what an oblique view has at its upper one, and the upper edge nothing.
        extent_px: (rows, columns) of the image that hold it.
    """

    chest_wall: Edge | None
    has_muscle_below: bool
    extent_px: tuple[int, int]


def lie_of(tissue_HW: NDArray[np.bool_]) -> Lie:
    """Looks at where tissue is.

    Two things must agree before an edge is called the chest wall: the breast is cut off there, broadly, and not opposite; and
    it lies in that half of the image. An oblique view is cut off at its upper edge too, but less, and lies at the chest's side.
    """
    share_H, share_W = _shares(tissue_HW, axis=1), _shares(tissue_HW, axis=0)
    rows, columns = np.flatnonzero(share_H >= _SPECK_SHARE), np.flatnonzero(share_W >= _SPECK_SHARE)
    if not rows.size or not columns.size:
        return Lie(chest_wall=None, has_muscle_below=False, extent_px=(0, 0))
    breast_HW = tissue_HW[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = breast_HW.shape
    rim_rows, rim_columns = max(1, round(_RIM_SHARE * height)), max(1, round(_RIM_SHARE * width))
    contact = {
        Edge.LEFT: float(breast_HW[:, :rim_columns].mean()),
        Edge.RIGHT: float(breast_HW[:, -rim_columns:].mean()),
        Edge.TOP: float(breast_HW[:rim_rows].mean()),
        Edge.BOTTOM: float(breast_HW[-rim_rows:].mean()),
    }
    across, along = _heavier(share_W, Edge.LEFT, Edge.RIGHT), _heavier(share_H, Edge.TOP, Edge.BOTTOM)
    # A breast cut off at two opposite edges has its chest wall at neither. But if those are the left and the right edge, one of
    # them may be the wall of a breast that fills the image, and the upper one an oblique view's.
    walls = [edge for edge, share in contact.items() if contact[_OPPOSITE[edge]] <= _MOST_BEHIND * share]
    wall = max(walls, key=lambda edge: contact[edge], default=Edge.LEFT)
    rivals = [edge for edge in contact if edge is not wall and (edge in walls or edge in (Edge.LEFT, Edge.RIGHT))]
    rival = max(contact[edge] for edge in rivals)
    is_cut_off = wall in walls and contact[wall] >= max(_LEAST_CONTACT, _AGAINST * rival)
    # An oblique view's upper half is the heavier one, too: an edge above or below asks for more.
    is_there = wall is across or (wall is along and (across is None or contact[wall] >= _FAR_AGAINST * rival))
    is_below = contact[Edge.BOTTOM] >= _MUSCLE_CONTACT and contact[Edge.TOP] <= _FOLD_CONTACT
    return Lie(chest_wall=wall if is_cut_off and is_there else None, has_muscle_below=is_below, extent_px=(height, width))


def _shares(tissue_HW: NDArray[np.bool_], *, axis: int) -> NDArray[np.floating]:
    """Share of tissue in each line; a quarter of numpy's time."""
    counts = cv2.reduce(np.ascontiguousarray(tissue_HW).view(np.uint8), axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S)
    return np.asarray(counts.ravel() / tissue_HW.shape[axis], np.float64)


def _heavier(share_N: NDArray[np.floating], first: Edge, last: Edge) -> Edge | None:
    """Of two halves the one with more tissue, if it has clearly more."""
    half = share_N.size // 2
    before, behind = float(share_N[:half].mean()), float(share_N[-half:].mean())
    if before > _AGAINST * behind:
        return first
    return last if behind > _AGAINST * before else None


_OPPOSITE: Final = {Edge.LEFT: Edge.RIGHT, Edge.RIGHT: Edge.LEFT, Edge.TOP: Edge.BOTTOM, Edge.BOTTOM: Edge.TOP}
