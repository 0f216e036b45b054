"""Rules on how the pixels are coded (X14-X19, P01): asked once they are read, of the code stream and not of its label."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tasks.adapters.dicom.stored_image import StoredImage
from tasks.adapters.gate.rules.rule import BLOCK, WARN, Seen, rule

_CHUNK_ROWS: Final = 64
_LEAST_TAIL: Final = 1 / 8  # of the rows: a smaller one is left alone
_LONG_TAIL: Final = 0.3  # no field of view is so much smaller than the detector


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
    return None if stored.is_compressed else _broken_off(stored.pixels_HW)


def _broken_off(pixels_HW: NDArray[np.uint16]) -> str | None:
    height, width = pixels_HW.shape
    last = _last_row(pixels_HW)
    tail = height - 1 - last
    if last < 2 or tail < _LEAST_TAIL * height:
        return None
    here, above, before = (int(np.count_nonzero(pixels_HW[row])) for row in (last, last - 1, last - 2))
    stops_midst = here <= above - width // 8 and above >= 0.9 * before
    widest = int(np.count_nonzero(pixels_HW[: last + 1 : 8], axis=1).max())
    breaks_off = tail >= _LONG_TAIL * height and above >= widest / 2 and 2 * _first_row(pixels_HW) < tail
    return f"{tail} of {height} rows are zeros" if stops_midst or breaks_off else None


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
