"""Rules on how the pixels are coded (X14-X19, P01): asked once they are read, of the code stream and not of its label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tasks.adapters.dicom.stored_image import StoredImage
from tasks.adapters.gate.rules.rule import BLOCK, WARN, Seen, rule

_CHUNK_ROWS: Final = 64
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


@rule("X18", BLOCK, "Uncompressed pixels are written to their end: the breast does not break off at rows of zeros")
def is_written_to_its_end(stored: StoredImage) -> str | None:
    """A copy that stopped leaves zeros where its file was made as long as it should be.

    Air may be zeros, too, and a field of view smaller than the detector lies between zeros: what tells a broken copy is that
    the last row before them is as wide as the breast, or stops in its midst.
    """
    tail = _Tail.of(stored)
    return tail.text if tail is not None and tail.is_a_copy_that_stopped else None


@rule("X19", WARN, "No band of zeros cuts the breast off straight below")
def is_not_cut_straight(stored: StoredImage) -> str | None:
    """Too little of the image for X18: a copy that stopped, or a field of view that ends there. A person must look."""
    tail = _Tail.of(stored)
    return tail.text if tail is not None and not tail.is_a_copy_that_stopped else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tail:
    """Rows of zeros at the end of an image whose last row before them is no tapering breast.

    Attributes:
        rows: How many.
        height: Rows of the image.
        stops_midst: True if the last row stops in the midst of tissue.
    """

    rows: int
    height: int
    stops_midst: bool

    @classmethod
    def of(cls, stored: StoredImage) -> _Tail | None:
        """None if there is none, or if a code stream has proven its end."""
        pixels_HW = stored.pixels_HW
        height, width = pixels_HW.shape
        last = -1 if stored.is_compressed else _last_row(pixels_HW)
        rows = height - 1 - last
        if last < 2 or rows < _LEAST_TAIL * height:
            return None
        here, above, before = (int(np.count_nonzero(pixels_HW[row])) for row in (last, last - 1, last - 2))
        if above < width // 8:
            return None  # tapers off, as breasts do
        stops_midst = here <= above - width // 8 and above >= 0.9 * before
        widest = int(np.count_nonzero(pixels_HW[: last + 1 : 8], axis=1).max())
        first = _first_row(pixels_HW)
        is_framed = 2 * first >= rows and int(np.count_nonzero(pixels_HW[first])) >= widest / 2  # such a band is above, too
        is_straight = above >= widest / 2 and not is_framed
        return cls(rows=rows, height=height, stops_midst=stops_midst) if stops_midst or is_straight else None

    @property
    def is_a_copy_that_stopped(self) -> bool:
        """True if no field of view explains it."""
        return self.rows >= (_MIDST_TAIL if self.stops_midst else _LONG_TAIL) * self.height

    @property
    def text(self) -> str:
        """For a refusal."""
        return f"{self.rows} of {self.height} rows are zeros"


def _last_row(pixels_HW: NDArray[np.uint16]) -> int:
    """The last row that is not all 0; -1 = none."""
    for stop in range(pixels_HW.shape[0], 0, -_CHUNK_ROWS):
        start = max(0, stop - _CHUNK_ROWS)
        filled = np.flatnonzero(pixels_HW[start:stop].any(axis=1))
        if filled.size:
            return start + int(filled[-1])
    return -1


def _first_row(pixels_HW: NDArray[np.uint16]) -> int:
    """The first row that is not all 0."""
    return int(np.argmax(pixels_HW.any(axis=1)))


@rule("P01", WARN, "The pixels are coded without a loss")
def is_coded_without_loss(stored: StoredImage) -> str | None:
    """By the code stream: its process, NEAR, point transform or wavelet; a label may say otherwise."""
    return None if stored.is_lossless else ""
