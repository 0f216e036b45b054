"""Erodes a mask 64 pixels at a time: it is packed into machine words.

The structuring element's radius doubles where it may, so 100 erosions take 9 steps; the result equals 100 single erosions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def eroded_by_ball(mask_HW: NDArray[np.uint8], radius_px: int) -> NDArray[np.uint8]:
    """Erodes by an L1 ball, as ``radius_px`` erosions with a 3x3 cross would; the image's edge erodes too.

    A ball of radius ``r + s`` is the union of four balls of radius ``r`` moved by ``s`` along the axes, for ``s`` up to ``r``.
    The rows lie one behind the other, each followed by ``radius_px`` zeros or more: what moves over a row's end is zeros.
    Steps of whole bytes need no shifting.

    Args:
        mask_HW: (rows, columns), 0 or 1.
        radius_px: Of the ball; 0 = nothing is taken away.

    Returns:
        1 where no 0 and no edge is within the radius.
    """
    rows, columns = mask_HW.shape
    words = (columns + radius_px) // 64 + 1  # of a row
    bits_HW = np.zeros((rows, words), "<u8")
    bits_HW.view(np.uint8)[:, : -(-columns // 8)] = np.packbits(mask_HW.view(np.bool_), axis=1, bitorder="little")
    bits = bits_HW.ravel()
    radius = 0
    while radius < radius_px:
        step = _next_step(radius, radius_px)
        eroded = np.zeros_like(bits)
        up, down = bits[: -2 * step * words], bits[2 * step * words :]
        inner = eroded[step * words : -step * words]  # empty if every row is near an edge
        if up.size:
            np.bitwise_and(up, down, out=inner)
            if radius == 0:  # the first ball has a middle
                inner &= bits[words:-words]
            _and_moved(eroded, bits, step)
        bits, radius = eroded, radius + step
    packed_HW = bits.reshape(rows, words).view(np.uint8)
    return np.unpackbits(packed_HW, axis=1, count=columns, bitorder="little")


def _next_step(radius: int, radius_px: int) -> int:
    """How far the next balls are moved: as far as they may, from radius 8 on by whole bytes but for one step."""
    left = radius_px - radius
    if radius < 8:
        return min(max(radius, 1), left)
    return left % 8 or min(radius // 8 * 8, left)


def _and_moved(eroded: NDArray[np.uint64], bits: NDArray[np.uint64], columns: int) -> None:
    """Takes away what is not there too when the rows are moved by that many columns, to either side."""
    if columns % 8 == 0:
        eroded_bytes, moved_bytes, offset = eroded.view(np.uint8), bits.view(np.uint8), columns // 8
        eroded_bytes[offset:] &= moved_bytes[:-offset]
        eroded_bytes[:-offset] &= moved_bytes[offset:]
        return
    step, rest = np.uint64(columns), np.uint64(64 - columns)  # higher columns are higher bits
    moved = bits << step
    moved[1:] |= bits[:-1] >> rest
    eroded &= moved
    np.right_shift(bits, step, out=moved)
    moved[:-1] |= bits[1:] << rest
    eroded &= moved
