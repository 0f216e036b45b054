"""Marks of a set in the frame of the stored image: clipped, with the class they have, and counted where they cannot be used."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tasks.adapters.datasets.published.breast_rules import with_finding
from tasks.adapters.datasets.published.reading import DataSet, Image, Lesion, Reading
from tasks.adapters.datasets.published.regions import Box, Drawn, Ellipse, Extent, Polygon
from tasks.adapters.datasets.published.tree import Tree

OTHER_SIZE: Final = "mask of another size than its image: not used"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mark:
    """A lesion as it is written.

    Attributes:
        image: Shows it.
        finding: ``benign``, ``malignant`` or None.
        kind: What the set drew.
        extent: Rows and columns, inside the image.
        mask_HW: The lesion's pixels; None of a box, whose outline nobody knows.
    """

    image: Image
    finding: str | None
    kind: str
    extent: Extent
    mask_HW: NDArray[np.bool_] | None


def kind_of(lesion: Lesion) -> str:
    """What a set drew, in a word."""
    match lesion.shape:
        case Box():
            return "box"
        case Polygon(points=points):
            return "polygon" if len(points) > 1 else "point"
        case Ellipse(radius_x=one, radius_y=other):
            return "circle" if one == other else "ellipse"
        case Drawn():
            return "mask"


def _as_drawn(lesion: Lesion) -> tuple[object, ...]:
    """What two marks have in common that are one."""
    shape = lesion.shape
    if isinstance(shape, Drawn):
        return lesion.path, lesion.finding, shape.mask_HW.shape, hashlib.sha256(shape.mask_HW.tobytes()).digest()
    return lesion.path, lesion.finding, shape


def marks_of(tree: Tree, data_set: DataSet, reading: Reading) -> Iterator[Mark]:
    """Every mark on an image that is used, in the order of the set."""
    used = {image.path: image for image in reading.images if image.left_out is None}
    breasts = {breast.key: breast for breast in reading.breasts}
    drawn: set[tuple[object, ...]] = set()
    for lesion in data_set.lesions(tree, reading):
        if (same := _as_drawn(lesion)) in drawn:
            reading.faults["mark drawn twice: once"] += 1
            continue
        drawn.add(same)
        image = used.get(lesion.path)
        if image is None:
            reading.faults["mark on an image that is not used"] += 1
            continue
        shape_px = tree.size_px(lesion.path)
        if isinstance(lesion.shape, Drawn) and lesion.shape.mask_HW.shape != shape_px:
            reading.faults[OTHER_SIZE] += 1
            continue
        kind = kind_of(lesion)
        clipped = lesion.shape.extent.clipped(shape_px)
        if clipped.is_empty:
            reading.faults[f"{kind} wholly outside its image: not used"] += 1
            continue
        reading.faults[f"{kind} outside its image: clipped"] += clipped != lesion.shape.extent
        yield Mark(
            image=image,
            finding=with_finding(lesion, image, breasts).finding,
            kind=kind,
            extent=clipped,
            mask_HW=lesion.shape.drawn(shape_px),
        )
