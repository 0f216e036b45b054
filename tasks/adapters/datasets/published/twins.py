"""Images of two patients that hold the same pixels: a set cannot say whose they are, so none of them is used."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from tasks.adapters.datasets.published.reading import Image
from tasks.adapters.datasets.published.tree import Tree

_SAMPLE_BYTES: Final = 1 << 16


def same_pixels_of_two(tree: Tree, images: Sequence[Image]) -> list[str]:
    """Paths of the images whose pixels another patient has too.

    A sample of each file tells most apart; whole images are compared only where samples are equal.
    """
    by_sample: dict[tuple[object, ...], list[Image]] = defaultdict(list)
    for image in images:
        by_sample[_sample(tree, image.path)].append(image)
    found: list[str] = []
    for alike in by_sample.values():
        if len({image.patient for image in alike}) < 2:
            continue
        by_pixels: dict[str, list[Image]] = defaultdict(list)
        for image in alike:
            by_pixels[hashlib.sha256(tree.pixels(image.path).tobytes()).hexdigest()].append(image)
        for same in by_pixels.values():
            if len({image.patient for image in same}) > 1:
                found += [image.path for image in same]
    return sorted(found)


def _sample(tree: Tree, path: str) -> tuple[object, ...]:
    """Size, and bytes from the middle of the pixels, which end an uncompressed file."""
    header = tree.header(path)
    rows, columns, bits = header.rows or 0, header.columns or 0, header.bits_allocated or 8
    with (tree.root / path).open("rb") as file:
        if header.is_compressed:
            return rows, columns, bits
        end = file.seek(0, 2)
        file.seek(max(0, end - rows * columns * bits // 16))
        return rows, columns, bits, hashlib.sha256(file.read(_SAMPLE_BYTES)).hexdigest()
