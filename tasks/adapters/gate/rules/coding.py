"""Rules on how the pixels are coded (X14-X19, P01): asked once they are read, of the code stream and not of its label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tasks.adapters.dicom.stored_image import StoredImage
from tasks.adapters.gate.rules.rule import BLOCK, WARN, Seen, rule

_STRIDE_COLUMNS: Final = 32
_STRIDE_ROWS: Final = 8  # a band is looked for in every eighth row, and its ends in each
_LEAST_TAIL: Final = 1 / 50  # of the rows: a smaller one is left alone
_MIDST_TAIL: Final = 1 / 8
_LONG_TAIL: Final = 0.21  # no field of view is so much smaller than its detector, and on one side alone


@rule("X14", WARN, "NumberOfFrames, where it is given, is 1; 0 counts as 1")
def is_frame_counted(seen: Seen) -> str | None:
    """NumberOfFrames (0028,0008)."""
    return "" if seen.header.number_of_frames == 0 else None


@rule("X15", WARN, "Nothing follows uncompressed pixels; padding is dropped")
def is_without_padding(stored: StoredImage) -> str | None:
    """PS3.5 8.1.1 allows it."""
    return f"{stored.padding_bytes} bytes" if stored.padding_bytes else None


@rule(
    "X16", WARN, "The code stream is as its standard says; what is not is mended: boxes, marks without meaning, no end marker"
)
def is_stream_as_it_should_be(stored: StoredImage) -> str | None:
    """JP2 boxes, Se or Ah in a lossless JPEG, RLE segments longer than the image, a missing end marker."""
    return ", ".join(stored.oddities) or None


@rule("X18", BLOCK, "Uncompressed pixels are all written: the breast does not break off at rows of one value")
def is_written_to_its_end(stored: StoredImage) -> str | None:
    """A copy that stopped, or that lost a piece, leaves zeros, or what was on the disk, where the file was made long enough.

    Air may be one value, too, and a field of view smaller than the detector lies between bands: what tells a broken copy is
    that the breast is on both sides of them, or that the last row before them is as wide as the breast, or stops in its midst.
    """
    return next((band.text for band in _bands_of(stored) if band.is_a_broken_copy), None)


@rule("X19", WARN, "No band of one value cuts the breast off straight below or above")
def is_not_cut_straight(stored: StoredImage) -> str | None:
    """Too little of the image for X18: a copy that stopped, or a field of view that ends there. A person must look."""
    bands = _bands_of(stored)
    return next((band.text for band in bands), None) if not any(band.is_a_broken_copy for band in bands) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Band:
    """Rows of one value at which a breast does not taper off.

    Attributes:
        rows: How many.
        height: Rows of the image.
        value: What they hold.
        stops_midst: True if the last row before them stops in the midst of tissue.
        is_hole: True if the breast is on both sides.
    """

    rows: int
    height: int
    value: int
    stops_midst: bool
    is_hole: bool

    @property
    def is_a_broken_copy(self) -> bool:
        """True if no field of view explains it."""
        return self.is_hole or self.rows >= (_MIDST_TAIL if self.stops_midst else _LONG_TAIL) * self.height

    @property
    def text(self) -> str:
        """For a refusal."""
        return f"{self.rows} of {self.height} rows are {'zeros' if self.value == 0 else 'of one value'}"


def _bands_of(stored: StoredImage) -> list[_Band]:
    """None if a code stream has proven its end."""
    if stored.is_compressed:
        return []
    pixels_HW = stored.pixels_HW
    height = pixels_HW.shape[0]
    found = []
    for start, stop in _constant_runs(pixels_HW):
        if start > 0 and stop < height:
            found.append(_hole(pixels_HW, start, stop))
        elif start:
            found.append(_end(pixels_HW, start))
        elif stop < height:
            found.append(_end(pixels_HW[::-1], height - stop))
    return [band for band in found if band is not None]


def _constant_runs(pixels_HW: NDArray[np.uint16]) -> list[tuple[int, int]]:
    """First row, and the row after the last, of each run of rows that hold one value, the same in all; small ones left out."""
    height = pixels_HW.shape[0]
    thin_HW = pixels_HW[::_STRIDE_ROWS]
    values_H = np.where((thin_HW[:, ::_STRIDE_COLUMNS] == thin_HW[:, :1]).all(axis=1), thin_HW[:, 0].astype(np.int32), -1)
    maybe_N = np.flatnonzero(values_H >= 0)  # few: what is one value in a few columns is looked at in all
    values_H[maybe_N[(thin_HW[maybe_N] != thin_HW[maybe_N, :1]).any(axis=1)]] = -1
    runs = []
    for places in np.split(np.arange(len(values_H)), np.flatnonzero(np.diff(values_H)) + 1):
        if values_H[places[0]] < 0:
            continue
        value = int(values_H[places[0]])
        start, stop = int(places[0]) * _STRIDE_ROWS, int(places[-1]) * _STRIDE_ROWS + 1
        while start > 0 and (pixels_HW[start - 1] == value).all():
            start -= 1
        while stop < height and (pixels_HW[stop] == value).all():
            stop += 1
        if stop - start >= _LEAST_TAIL * height:
            runs.append((start, stop))
    return runs


def _hole(pixels_HW: NDArray[np.uint16], start: int, stop: int) -> _Band | None:
    """Rows of one value with the breast above and below; a line of letters or a frame beyond them is none."""
    height, width = pixels_HW.shape
    value = pixels_HW[start, 0]
    if start < _LEAST_TAIL * height or height - stop < _LEAST_TAIL * height:
        return None
    beside = min(np.count_nonzero(pixels_HW[row] != value) for row in (start - 2, stop + 1))
    if beside < width // 8:
        return None
    return _Band(rows=stop - start, height=height, value=int(value), stops_midst=False, is_hole=True)


def _end(pixels_HW: NDArray[np.uint16], last: int) -> _Band | None:
    """Rows of one value from a row on to the end."""
    height, width = pixels_HW.shape
    value = pixels_HW[last, 0]
    if last < 3:
        return None
    here, above, before = (int(np.count_nonzero(pixels_HW[row] != value)) for row in (last - 1, last - 2, last - 3))
    if above < width // 8:
        return None  # tapers off, as breasts do
    stops_midst = here <= above - width // 8 and above >= 0.9 * before
    widths_H = np.count_nonzero(pixels_HW[:last:_STRIDE_ROWS] != value, axis=1)
    first = _STRIDE_ROWS * int(np.argmax(widths_H > 0))
    widest = int(widths_H.max())
    is_framed = 2 * first >= height - last and int(widths_H[first // _STRIDE_ROWS]) >= widest / 2  # such a band is beyond, too
    is_straight = above >= widest / 2 and not is_framed
    if not (stops_midst or is_straight):
        return None
    return _Band(rows=height - last, height=height, value=int(value), stops_midst=stops_midst, is_hole=False)


@rule("P01", WARN, "The pixels are coded without a loss")
def is_coded_without_loss(stored: StoredImage) -> str | None:
    """By the code stream: its process, NEAR, point transform or wavelet; a label may say otherwise."""
    return None if stored.is_lossless else ""
