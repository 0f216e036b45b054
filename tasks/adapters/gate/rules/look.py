"""Rules on decoded pixels (X17, X24-X32, L04, L07): value range, polarity, background, tissue, how the breast lies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from gmic_model.pixels.orientation import Edge, Lie, lie_of
from schemas.exam import Laterality, ViewPosition
from tasks.adapters.gate.rules.rule import BLOCK, WARN, rule

_STRIDE_PX: Final = 4  # every rule below is about shares of the image: one pixel in 16 answers them
_BORDER_FRACTION: Final = 0.02
_TISSUE_FRACTION_OF_RANGE: Final = 0.05
_BREAST_FRACTION_OF_RANGE: Final = 0.15  # the shape of the breast, without the fog of film
_BRIGHT_FRACTION_OF_RANGE: Final = 0.5
_EVEN_FRACTION_OF_RANGE: Final = 0.1  # of bright air with noise
_FLAT_FRACTION_OF_RANGE: Final = 0.02  # of bright air where the chest wall should be: chest muscle is even, too, but not so
_OUTSHINING_FRACTION: Final = 0.01  # of the image may be brighter than bright air: letters, noise
_AIR_FRACTION_OF_RANGE: Final = 0.1  # above the darkest surroundings: still air, as fog on film
_DARK_PERCENTILE: Final = 5
_BRIGHT_SHARE: Final = 0.1  # of what surrounds the breast, at least, if the image is inverted
_DARK_SHARE: Final = 0.02  # of it, at most
_NOISE_FRACTION_OF_RANGE: Final = 0.2
_NOISE_STRIDE_ROWS: Final = 64
_SEEN_FRACTION: Final = 0.95  # the rim of an oblique view is muscle and fold
_SMALLEST_TISSUE_FRACTION: Final = 0.03
_SMALLEST_BREAST_CM2: Final = 5.0
_USUAL_SPACING_MM: Final = 0.1


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
    """What the rules see of an image that was brought upright and whose background should be dark.

    Attributes:
        background_median: Median along the image border away from the chest wall, stored values; of a breast that covers that
            border, the dark end of what surrounds it.
        is_inverted: True if there is a reason to take the background for bright: an even border that nothing outshines.
        tissue_fraction: Share of the image clearly brighter than the background.
        tissue_cm2: Area of that; of a detector of 0.1 mm where no spacing is given.
        saturated_fraction: Share of the tissue at the largest value.
        lie: How the breast lies, by its pixels.
        extent_px: (rows, columns) of the image that hold the breast.
        window_px: (rows, columns) that a network sees; None = whatever there is.
        maximum: Largest value.
        laterality: The side the header names.
        view_position: The view the header names.
    """

    background_median: float
    is_inverted: bool
    tissue_fraction: float
    tissue_cm2: float
    saturated_fraction: float
    lie: Lie
    extent_px: tuple[int, int]
    window_px: tuple[int, int] | None
    maximum: int
    laterality: Laterality
    view_position: ViewPosition


def look_at(
    pixels_HW: NDArray[np.uint16],
    bits_stored: int,
    *,
    laterality: Laterality,
    view_position: ViewPosition,
    spacing_mm: float | None = None,
    window_px: tuple[int, int] | None = None,
    maximum: int | None = None,
) -> Looked:
    """Measures an image after inversion, padding removal and turning: a left breast's chest wall is expected at column 0.

    Who knows the largest value says it: another look at every pixel takes as long as all the rest.
    """
    few_HW = np.ascontiguousarray(pixels_HW[::_STRIDE_PX, ::_STRIDE_PX])
    maximum = int(pixels_HW.max()) if maximum is None else maximum
    background, is_inverted = _background(few_HW, laterality, maximum)
    # Values are whole numbers: above a limit is above its whole part, and uint16 compares faster.
    limit = min(math.floor(background + max(1.0, _TISSUE_FRACTION_OF_RANGE * (maximum - background))), 0xFFFF)
    tissue_HW = few_HW > np.uint16(limit)
    tissue_pixels = int(np.count_nonzero(tissue_HW))
    saturated = int(np.count_nonzero(few_HW == 2**bits_stored - 1))
    lie = lie_of(few_HW > np.uint16(min(math.floor(background + _BREAST_FRACTION_OF_RANGE * (maximum - background)), 0xFFFF)))
    return Looked(
        background_median=background,
        is_inverted=is_inverted,
        tissue_fraction=tissue_pixels / tissue_HW.size,
        tissue_cm2=tissue_pixels * (_STRIDE_PX * (spacing_mm or _USUAL_SPACING_MM) / 10.0) ** 2,
        saturated_fraction=saturated / max(1, tissue_pixels),
        lie=lie,
        extent_px=(lie.extent_px[0] * _STRIDE_PX, lie.extent_px[1] * _STRIDE_PX),
        window_px=window_px,
        maximum=maximum,
        laterality=laterality,
        view_position=view_position,
    )


def _background(few_HW: NDArray[np.uint16], laterality: Laterality, maximum: int) -> tuple[float, bool]:
    """The background's value, and whether it is bright.

    Air is what lies away from the chest wall. Of a large breast there is little of it: the border holds skin and tissue, and
    its median says nothing. So bright air needs a reason, of which there are two. Either the border is even, and next to
    nothing in the image is brighter; the chest wall's own border is asked as well, in case the image is mirrored, too. Or what
    surrounds the breast holds much of what is brightest and nothing of what is darkest, and the middle holds less of it.

    The outermost columns are left out: film scans have a frame there.
    """
    width = max(1, round(few_HW.shape[1] * _BORDER_FRACTION))
    half = few_HW.shape[1] // 2
    left_HW, right_HW = few_HW[:, width : 2 * width], few_HW[:, -2 * width : -width]
    is_left = laterality is Laterality.LEFT
    away_HW, wall_HW = (right_HW, left_HW) if is_left else (left_HW, right_HW)
    beside = slice(half, -width) if is_left else slice(width, half)
    above_HW, below_HW = few_HW[width : 2 * width, beside], few_HW[-2 * width : -width, beside]
    around_N = np.concatenate([away_HW.ravel(), above_HW.ravel(), below_HW.ravel()])
    median, dark = float(np.median(away_HW)), float(np.percentile(around_N, _DARK_PERCENTILE))
    if _is_bright_air(away_HW, few_HW, maximum, _EVEN_FRACTION_OF_RANGE):
        return median, True
    if median - dark <= _AIR_FRACTION_OF_RANGE * (maximum - dark) and median <= _BRIGHT_FRACTION_OF_RANGE * maximum:
        return median, False
    if dark > _AIR_FRACTION_OF_RANGE * maximum:
        if _is_bright_air(wall_HW, few_HW, maximum, _FLAT_FRACTION_OF_RANGE):
            return float(np.median(wall_HW)), True
        if _is_bright_around(around_N, few_HW, maximum):
            return float(np.percentile(around_N, 100 - _DARK_PERCENTILE)), True
    return dark, False


def _is_bright_air(strip_HW: NDArray[np.uint16], few_HW: NDArray[np.uint16], maximum: int, evenness: float) -> bool:
    low, median, high = np.percentile(strip_HW, (10, 50, 90))
    if median <= _BRIGHT_FRACTION_OF_RANGE * maximum or high - low > evenness * maximum:
        return False
    brighter = np.count_nonzero(few_HW > median + _TISSUE_FRACTION_OF_RANGE * maximum)
    return bool(brighter < _OUTSHINING_FRACTION * few_HW.size)


def _is_bright_around(around_N: NDArray[np.uint16], few_HW: NDArray[np.uint16], maximum: int) -> bool:
    low = float(few_HW.min())
    margin = _TISSUE_FRACTION_OF_RANGE * (maximum - low)
    rows, columns = few_HW.shape[0] // 4, few_HW.shape[1] // 4
    middle_HW = few_HW[rows:-rows, columns:-columns]
    bright, dark = float(np.mean(around_N >= maximum - margin)), float(np.mean(around_N <= low + margin))
    is_middle_darker = 2.0 * float(np.mean(middle_HW >= maximum - margin)) <= bright
    return bright >= _BRIGHT_SHARE and dark <= _DARK_SHARE and is_middle_darker


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


@rule("X32", BLOCK, "Neighbouring values are alike, as in any image: no byte was lost, and none exchanged")
def is_an_image(decoded: Decoded) -> str | None:
    """Read with a byte lost, or in the other byte order, an image is noise from black to white.

    Neighbours in a row then differ by a third of the range, as random numbers do; in a mammogram by a hundredth, in one of
    much noise by a tenth.
    """
    thin_HW = np.ascontiguousarray(decoded.pixels_HW[::_NOISE_STRIDE_ROWS])
    is_filled_HW = thin_HW > decoded.minimum  # padding and air that is 0 are alike, whatever the rest is
    is_pair_HW = is_filled_HW[:, 1:] & is_filled_HW[:, :-1]
    if not is_pair_HW.any():
        return None
    difference_HW = cv2.absdiff(thin_HW[:, 1:], thin_HW[:, :-1])  # a fifth of NumPy's time
    share = cv2.mean(difference_HW, is_pair_HW.view(np.uint8))[0] / (decoded.maximum - decoded.minimum)
    return f"neighbours differ by {share:.0%} of the range" if share > _NOISE_FRACTION_OF_RANGE else None


@rule("X25", BLOCK, "Not one constant value")
def is_not_constant(decoded: Decoded) -> str | None:
    """Asked again once padding is removed: there may be nothing left."""
    return f"{decoded.minimum} everywhere" if decoded.minimum == decoded.maximum else None


@rule("L04", BLOCK, "The chest wall lies where laterality and PatientOrientation put it")
def is_breast_on_its_side(looked: Looked) -> str | None:
    """Mirrored, turned or mislabelled without a word of it: a person must look. Not asked where pixels do not decide."""
    expected = Edge.LEFT if looked.laterality is Laterality.LEFT else Edge.RIGHT
    found = looked.lie.chest_wall
    if looked.is_inverted or found in (None, expected):
        return None
    return f"at the {found.value} edge instead of the {expected.value} one"


@rule("L07", BLOCK, "An oblique view has the chest muscle at its upper edge")
def is_muscle_above(looked: Looked) -> str | None:
    """Upside down without a word of it: only an oblique view shows that by its pixels."""
    if looked.is_inverted or looked.view_position is not ViewPosition.MLO or not looked.lie.has_muscle_below:
        return None
    return "at the lower edge"


@rule("X26", BLOCK, "The background is dark once MONOCHROME1 is inverted")
def is_border_dark(looked: Looked) -> str | None:
    """Bright air means that the photometric interpretation is wrong."""
    return f"border {looked.background_median:.0f}, largest value {looked.maximum}" if looked.is_inverted else None


@rule("X28", BLOCK, f"Tissue covers at least 3 % of the image, or {_SMALLEST_BREAST_CM2:g} cm2")
def is_enough_tissue(looked: Looked) -> str | None:
    """Not asked where the border is bright (X26): tissue is what is brighter than the border."""
    is_enough = looked.tissue_fraction >= _SMALLEST_TISSUE_FRACTION or looked.tissue_cm2 >= _SMALLEST_BREAST_CM2
    return None if looked.is_inverted or is_enough else f"{100 * looked.tissue_fraction:.1f} %, {looked.tissue_cm2:.1f} cm2"


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


@rule("X31", WARN, f"The network's window holds {_SEEN_FRACTION:.0%} of the breast's height and of its width")
def is_within_window(looked: Looked) -> str | None:
    """What is larger is cut at the best centre, unless ``preprocess.oversize`` is ``shrink``."""
    sides = () if looked.window_px is None else zip(looked.extent_px, looked.window_px, strict=True)
    if looked.window_px is None or all(_SEEN_FRACTION * breast <= window for breast, window in sides):
        return None
    return f"{looked.extent_px[0]} x {looked.extent_px[1]} for {looked.window_px[0]} x {looked.window_px[1]}"
