"""Rules on decoded pixels (X17, X24-X30, L04): value range, polarity, background, tissue."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from schemas.exam import Laterality
from tasks.adapters.gate.rules.rule import BLOCK, WARN, rule

_STRIDE_PX: Final = 4  # every rule below is about shares of the image: one pixel in 16 answers them
_BORDER_FRACTION: Final = 0.02
_TISSUE_FRACTION_OF_RANGE: Final = 0.05
_BRIGHT_FRACTION_OF_RANGE: Final = 0.5


@dataclass(frozen=True, repr=False, eq=False)
class Decoded:
    """Values that must fit into their bits.

    Attributes:
        had_stray_bits: True if bits above them were cleared.
    """

    pixels_HW: NDArray[np.uint16]
    bits_stored: int
    had_stray_bits: bool = False

    @cached_property
    def minimum(self) -> int:
        """Smallest value."""
        return int(self.pixels_HW.min())

    @cached_property
    def maximum(self) -> int:
        """Largest value."""
        return int(self.pixels_HW.max())


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What the rules see of an image whose background should be dark.

    Attributes:
        background_median: Median along the image border away from the chest wall, stored values.
        tissue_fraction: Share of the image clearly brighter than that border.
        saturated_fraction: Share of the tissue at the largest value.
        chest_wall_side: The half of the image, by its columns, that holds more tissue; None if undecided.
        maximum: Largest value.
        laterality: The side the header names.
        rows_face: First value of PatientOrientation: where rows run to, ``A`` (anterior, chest wall at column 0) or ``P``; "" =
            not given, then as PS3.3 orients the side.
    """

    background_median: float
    tissue_fraction: float
    saturated_fraction: float
    chest_wall_side: Laterality | None
    maximum: int
    laterality: Laterality
    rows_face: str


def look_at(pixels_HW: NDArray[np.uint16], bits_stored: int, *, laterality: Laterality, rows_face: str) -> Looked:
    """Measures an image after inversion and padding removal. A left breast's chest wall is expected at column 0."""
    few_HW = np.ascontiguousarray(pixels_HW[::_STRIDE_PX, ::_STRIDE_PX])
    background = float(np.median(_air_border(few_HW, laterality)))
    maximum = int(pixels_HW.max())
    # Values are whole numbers: above a limit is above its whole part, and uint16 compares faster.
    limit = math.floor(background + max(1.0, _TISSUE_FRACTION_OF_RANGE * (maximum - background)))
    tissue_HW = few_HW > np.uint16(limit)
    tissue_pixels = int(np.count_nonzero(tissue_HW))
    saturated = int(np.count_nonzero(few_HW == 2**bits_stored - 1))
    left_HW, right_HW = np.hsplit(few_HW, [few_HW.shape[1] // 2])
    return Looked(
        background_median=background,
        tissue_fraction=tissue_pixels / tissue_HW.size,
        saturated_fraction=saturated / max(1, tissue_pixels),
        chest_wall_side=_brighter_side(cv2.mean(left_HW)[0], cv2.mean(right_HW)[0]),
        maximum=maximum,
        laterality=laterality,
        rows_face=rows_face,
    )


def _air_border(few_HW: NDArray[np.uint16], laterality: Laterality) -> NDArray[np.uint16]:
    """The strip of columns away from the chest wall: of the two the more even one, whatever the polarity of the image.

    The outermost columns are left out: film scans have a frame there.
    """
    width = max(1, round(few_HW.shape[1] * _BORDER_FRACTION))
    left_HW, right_HW = few_HW[:, width : 2 * width], few_HW[:, -2 * width : -width]
    spread_left, spread_right = (float(np.subtract(*np.percentile(strip, (90, 10)))) for strip in (left_HW, right_HW))
    if spread_left == spread_right:
        return right_HW if laterality is Laterality.LEFT else left_HW
    return left_HW if spread_left < spread_right else right_HW


def _brighter_side(left: float, right: float) -> Laterality | None:
    if left > 1.2 * right:
        return Laterality.LEFT
    return Laterality.RIGHT if right > 1.2 * left else None


def decoded(raw_HW: NDArray[np.uint16], bits_stored: int) -> Decoded:
    """The values without what other things keep in their unused bits, as retired overlays do (PS3.5 8.1.1, 8.1.2).

    Bits above BitsStored are no part of the values if the image is smoother without them. If it is rougher they are, and the
    header is wrong: then they stay, for X24 to refuse.
    """
    found = Decoded(raw_HW, bits_stored)
    if not found.maximum >> bits_stored:
        return found
    cleared_HW = raw_HW & np.uint16(2**bits_stored - 1)
    is_foreign = _roughness(cleared_HW) <= _roughness(raw_HW)
    return Decoded(cleared_HW, bits_stored, had_stray_bits=True) if is_foreign else found


def _roughness(pixels_HW: NDArray[np.uint16]) -> int:
    return int(sum(np.abs(np.diff(pixels_HW.astype(np.int32), axis=axis)).sum() for axis in (0, 1)))


@rule("X24", BLOCK, "No value above 2^BitsStored - 1, unless the image is smoother without the bits above")
def is_within_bits(decoded: Decoded) -> str | None:
    """The header says fewer bits than the values have."""
    return f"{decoded.maximum} with {decoded.bits_stored} bits stored" if decoded.maximum >> decoded.bits_stored else None


@rule("X17", WARN, "No bit above BitsStored is set; those that are no part of the values are cleared")
def is_without_stray_bits(decoded: Decoded) -> str | None:
    """Overlays were once kept there, and the standard says to ignore them (PS3.5 8.1.1)."""
    return "" if decoded.had_stray_bits else None


@rule("X25", BLOCK, "Not one constant value")
def is_not_constant(decoded: Decoded) -> str | None:
    """Asked again once padding is removed: there may be nothing left."""
    return f"{decoded.minimum} everywhere" if decoded.minimum == decoded.maximum else None


@rule("L04", WARN, "The breast lies on the side of the image that laterality and orientation say")
def is_breast_on_its_side(looked: Looked) -> str | None:
    """Mirrored or mislabelled: a person must look. PatientOrientation goes before what PS3.3 orients the side to."""
    expected = {"A": Laterality.LEFT, "P": Laterality.RIGHT}.get(looked.rows_face[:1], looked.laterality)
    found = looked.chest_wall_side
    return "" if found is not None and {found} != {expected, looked.laterality} else None


@rule("X26", BLOCK, "The border away from the chest wall is dark once MONOCHROME1 is inverted")
def is_border_dark(looked: Looked) -> str | None:
    """Bright air means that the photometric interpretation is wrong."""
    is_bright = looked.background_median > _BRIGHT_FRACTION_OF_RANGE * looked.maximum
    return f"border {looked.background_median:.0f}, largest value {looked.maximum}" if is_bright else None


@rule("X28", BLOCK, "Tissue covers at least 3 %")
def is_enough_tissue(looked: Looked) -> str | None:
    """Not asked where the border is bright (X26): tissue is what is brighter than the border."""
    if is_border_dark(looked) is not None or looked.tissue_fraction >= 0.03:
        return None
    return f"{100 * looked.tissue_fraction:.1f} %"


@rule("X27", WARN, "That border is 0 once padding is removed")
def is_border_zero(looked: Looked) -> str | None:
    """Film scans have grey air."""
    return f"{looked.background_median:.0f}" if looked.background_median > 0 else None


@rule("X29", WARN, "Tissue covers at most 97 %")
def is_some_air(looked: Looked) -> str | None:
    """A screening view has air beside the breast; a magnified or cropped one may not."""
    return f"{100 * looked.tissue_fraction:.1f} %" if looked.tissue_fraction > 0.97 else None


@rule("X30", WARN, "Less than 5 % of the tissue is saturated")
def is_little_saturated(looked: Looked) -> str | None:
    """What is cut off at the largest value is lost."""
    return f"{100 * looked.saturated_fraction:.0f} %" if looked.saturated_fraction >= 0.05 else None
