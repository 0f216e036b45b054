"""Values of interest: a window or a VOI LUT of the file, as a table over every stored value (PS3.3 C.11.1, C.11.2).

The default of the house is ``raw``: stored values, no transform, as the published weights were trained. Inversion of
MONOCHROME1 and the removal of padding come after this step and are not done here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import DicomError

VOI_VERSION: Final = "1"
"""Raised when a transform gives other numbers; part of a store's settings unless it holds raw values."""

WINDOW_FUNCTIONS: Final = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One window: WindowCenter (0028,1050), WindowWidth (0028,1051), VOILUTFunction (0028,1056)."""

    center: float
    width: float
    function: str = "LINEAR"


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiLut:
    """One item of VOILUTSequence (0028,3010).

    Attributes:
        first_value: The (rescaled) stored value that the first entry is for.
        bits: Bits of the entries.
        entries_L: Output values, in the order of the input.
    """

    first_value: int
    bits: int
    entries_L: NDArray[np.uint16]


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiTable:
    """What each stored value becomes.

    Attributes:
        output_V: Indexed by stored value; rounded half to even.
        bits: Bits of the output.
        largest: The output's white: inversion is within 0 and this value.
    """

    output_V: NDArray[np.uint16]
    bits: int
    largest: int

    def __call__(self, raw_HW: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """The transformed image, same shape."""
        return np.take(self.output_V, raw_HW)


def window_table(window: Window, *, bits_stored: int, slope: float = 1.0, intercept: float = 0.0) -> VoiTable:
    """A window's table (PS3.3 C.11.2.1.2 and C.11.2.1.3); the output spans 0 to ``2 ** bits_stored - 1``.

    Args:
        window: The window, in units of the rescaled values.
        bits_stored: BitsStored (0028,0101) of unsigned pixels.
        slope: RescaleSlope (0028,1053).
        intercept: RescaleIntercept (0028,1052).

    Raises:
        DicomError: Another function, a width that the function does not allow, or a number that is not finite.
    """
    smallest_width = 1.0 if window.function == "LINEAR" else np.nextafter(0.0, 1.0)
    numbers = (window.center, window.width, slope, intercept)
    if window.function not in WINDOW_FUNCTIONS or not np.all(np.isfinite(numbers)) or window.width < smallest_width:
        raise DicomError(
            "The window cannot be applied",
            expected=f"one of {', '.join(WINDOW_FUNCTIONS)}, a finite centre, a width of at least 1 (LINEAR) or above 0",
            got=f"width {window.width:g}" if window.function in WINDOW_FUNCTIONS else "another function",
            remedy="set preprocess.voi to raw",
        )
    value_V = np.arange(2**bits_stored, dtype=np.float64) * slope + intercept
    largest = 2.0**bits_stored - 1.0
    if window.function == "SIGMOID":
        with np.errstate(over="ignore"):  # exp of a far value is inf, and 1 / inf the right 0
            output_V = largest / (1.0 + np.exp(-4.0 * (value_V - window.center) / window.width))
    else:
        shift = 1.0 if window.function == "LINEAR" else 0.0
        center, width = window.center - 0.5 * shift, window.width - shift
        # A LINEAR window of width 1 is a threshold: everything above the centre is white.
        ramp_V = (value_V - center) / width + 0.5 if width > 0.0 else (value_V > center).astype(np.float64)
        output_V = np.clip(ramp_V, 0.0, 1.0) * largest
    return VoiTable(output_V=np.rint(output_V).astype(np.uint16), bits=bits_stored, largest=2**bits_stored - 1)


def lut_table(lut: VoiLut, *, bits_stored: int, slope: float = 1.0, intercept: float = 0.0) -> VoiTable:
    """A VOI LUT's table (PS3.3 C.11.2.1.1): values before the first entry take the first, after the last the last.

    Some files say 16 bits of entries that need fewer: white is then the largest entry.

    Raises:
        DicomError: No entries, entries of other than 8 to 16 bits, or an entry beyond its bits.
    """
    if lut.entries_L.size == 0 or not 8 <= lut.bits <= 16 or int(lut.entries_L.max()) >> lut.bits:
        raise DicomError(
            "The VOI LUT cannot be applied",
            expected="entries of 8 to 16 bits",
            got=f"{lut.entries_L.size} entries said to have {lut.bits} bits",
            remedy="set preprocess.voi to window or raw",
        )
    value_V = np.rint(np.arange(2**bits_stored, dtype=np.float64) * slope + intercept)
    first_value = lut.first_value
    if first_value >= 2**15 and first_value > value_V.max():
        first_value -= 2**16  # a negative value in a file that does not say which values are signed
    index_V = np.clip(value_V - first_value, 0, lut.entries_L.size - 1).astype(np.int64)
    largest_entry = int(lut.entries_L.max())
    bits = min(lut.bits, max(8, largest_entry.bit_length()))
    largest = 2**bits - 1 if bits == lut.bits else largest_entry
    return VoiTable(output_V=lut.entries_L[index_V], bits=bits, largest=largest)
