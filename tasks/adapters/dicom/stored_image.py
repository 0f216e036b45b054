"""An image as its file stores it: decoded values, and how they were coded. What the gate's rules on coding look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class StoredImage:
    """The values of one file.

    Attributes:
        pixels_HW: Shape (rows, columns): no rescale, no window, no inversion, no masked bits.
        is_compressed: True if they came out of a code stream.
        is_lossless: True if they are those that were encoded; the code stream is asked, not the transfer syntax.
        oddities: What is not as the code stream's standard says, and was mended.
        padding_bytes: What follows uncompressed pixels; it is dropped.
    """

    pixels_HW: NDArray[np.uint16]
    is_compressed: bool
    is_lossless: bool
    oddities: tuple[str, ...] = ()
    padding_bytes: int = 0
