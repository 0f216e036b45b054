"""A first look at a downloaded set: what its headers say, how large its images are, and three marks drawn over their images.

For the questions that nobody could answer who had no image of the set. Pictures are of letters; nothing is written but three
PNG, where a folder is named for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.adapters.datasets.conversion.marking import Mark, marks_of
from tasks.adapters.datasets.published.reading import DataSet, Policies
from tasks.adapters.datasets.published.tree import Tree, is_picture

_IMAGES: Final = 40
_OVERLAYS: Final = 3
_GREYS: Final = " .:-=+*%@"
_COLUMNS, _ROWS = 48, 30
_RED: Final = (0, 0, 255)
_TAGS: Final = (
    "transfer_syntax_uid", "sop_class_uid", "modality", "manufacturer", "image_laterality", "laterality", "view_position",
    "patient_orientation", "photometric_interpretation", "bits_stored", "window_center", "window_width", "voi_lut_function",
    "imager_pixel_spacing_mm", "presentation_intent_type", "lossy_image_compression",
)  # fmt: skip
"""None of them names a person."""


def probe(data_set: DataSet, tree: Tree, policies: Policies, pictures_dir: Path | None = None) -> Iterator[str]:
    """Lines for a terminal; the marks as ``overlay-1.png`` and so on in a folder, if one is named."""
    reading = data_set.read(tree, policies)
    there = [image for image in reading.images if image.left_out is None and image.path in tree.present]
    yield f"{data_set.facts.title}: {len(tree.files)} files, {len(reading.images)} images, {len(there)} of them here and used"
    step = max(1, len(there) // _IMAGES)
    looked = there[::step][:_IMAGES]
    sizes = Counter(tree.size_px(image.path) for image in looked)
    yield f"rows x columns of {len(looked)} images: " + ", ".join(f"{r} x {c}: {n}" for (r, c), n in sizes.most_common(5))
    headers = [tree.header(image.path) for image in looked if not is_picture(image.path) and image.path not in tree.sizes_px]
    for tag in _TAGS if headers else ():
        values = Counter(str(getattr(header, tag) or "-") for header in headers)
        yield f"  {tag:28} " + ", ".join(f"{value}: {count}" for value, count in values.most_common(4))
    shown = {image.path for image in there}
    marks = (mark for mark in marks_of(tree, data_set, reading) if mark.image.path in shown)
    for number, mark in enumerate(islice(marks, _OVERLAYS), start=1):
        extent = mark.extent
        yield f"{mark.image.path}: {mark.kind}, {mark.finding or 'no class'}"
        yield f"rows {extent.top} to {extent.bottom}, columns {extent.left} to {extent.right}"
        if mark.image.path in tree.sizes_px:
            continue
        pixels_HW = tree.pixels(mark.image.path)
        yield from drawn(pixels_HW, mark)
        if pictures_dir is not None:
            path = pictures_dir / f"overlay-{number}.png"
            pictures_dir.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cv2.imencode(".png", overlay(pixels_HW, mark))[1].tobytes())
            yield f"drawn in {path}"


def overlay(pixels_HW: NDArray[np.generic], mark: Mark) -> NDArray[np.uint8]:
    """An image in grey, from its lowest to its highest value, with a red frame round the mark; blue, green, red last."""
    values_HW = pixels_HW.astype(np.float32)
    lowest, spread = values_HW.min(), max(float(values_HW.max() - values_HW.min()), 1.0)
    grey_HW = ((values_HW - lowest) * (255 / spread)).round().astype(np.uint8)
    coloured_HWC = cv2.cvtColor(grey_HW, cv2.COLOR_GRAY2BGR)
    width = max(1, grey_HW.shape[0] // 500)
    extent = mark.extent
    first, last = (extent.left - width, extent.top - width), (extent.right + width - 1, extent.bottom + width - 1)
    cv2.rectangle(coloured_HWC, first, last, _RED, width)
    return np.asarray(coloured_HWC, dtype=np.uint8)


def drawn(pixels_HW: NDArray[np.generic], mark: Mark) -> list[str]:
    """An image in letters, the frame of a mark in ``#``."""
    rows, columns = pixels_HW.shape
    small_HW = cv2.resize(pixels_HW.astype(np.float32), (_COLUMNS, _ROWS), interpolation=cv2.INTER_AREA)
    spread = max(float(small_HW.max() - small_HW.min()), 1.0)
    levels_HW = ((small_HW - small_HW.min()) / spread * (len(_GREYS) - 1)).round().astype(int)
    letters = [[_GREYS[level] for level in row] for row in levels_HW]
    top, bottom = mark.extent.top * _ROWS // rows, (mark.extent.bottom - 1) * _ROWS // rows
    left, right = mark.extent.left * _COLUMNS // columns, (mark.extent.right - 1) * _COLUMNS // columns
    for row in range(top, bottom + 1):
        for column in range(left, right + 1):
            if row in {top, bottom} or column in {left, right}:
                letters[row][column] = "#"
    return ["".join(row).rstrip() for row in letters]
