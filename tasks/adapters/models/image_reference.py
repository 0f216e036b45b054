"""What the images were like that weights learnt from: a small summary in the checkpoint's sidecar, and so in a pack.

Another site holds its own images against it. It names nobody: of each column it has counts, no line of any image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from pydantic import ValidationError

from schemas.errors import CheckpointError
from schemas.layout import MANIFEST_COLUMNS, WATCHED_COLUMNS, Source, Watch
from schemas.reports.training import ImageReference, NumbersOfImages
from tasks.adapters.models.model_files import IMAGE_REFERENCE

_OF_LABELS: Final = {column.name for column in MANIFEST_COLUMNS if column.source is Source.LABELS}
REFERENCE_COLUMNS: Final = {name: watch for name, watch in WATCHED_COLUMNS.items() if name not in _OF_LABELS} | {
    "pixel_spacing_mm": Watch.NUMBER
}
"""What is watched from ingest to ingest of images themselves, and their pixels' size."""
NOT_GIVEN: Final = "not given"
OTHERS: Final = "others"
"""Kinds of which there are few, together: a rare device would be a name, and its count a person's."""
_TENTHS: Final = np.linspace(0, 1, 11)[1:-1]
_FEWEST_IMAGES: Final = 20


def image_reference(manifest: pd.DataFrame) -> ImageReference:
    """The summary of some images.

    Args:
        manifest: Their lines.
    """
    numbers: dict[str, NumbersOfImages] = {}
    categories: dict[str, dict[str, int]] = {}
    for name, watch in REFERENCE_COLUMNS.items():
        if name not in manifest:
            continue
        if watch is Watch.NUMBER:
            values = manifest[name].to_numpy(np.float64, na_value=np.nan)
            known = values[np.isfinite(values)]
            edges = np.unique(np.quantile(known, _TENTHS)) if len(known) else np.empty(0)
            numbers[name] = counted_numbers(manifest[name], tuple(edges.tolist()))
        else:
            counts = counted_kinds(manifest[name])
            few = {kind for kind, count in counts.items() if count < _FEWEST_IMAGES}
            kept = {kind: count for kind, count in counts.items() if kind not in few}
            categories[name] = kept | ({OTHERS: sum(counts[kind] for kind in few)} if few else {})
    return ImageReference(
        images=len(manifest), exams=int(manifest["exam_id"].nunique()), numbers=numbers, categories=categories
    )


def counted_numbers(column: pd.Series[Any], edges: tuple[float, ...]) -> NumbersOfImages:
    """How many values lie between edges that are given; a value on an edge counts above it."""
    values = column.to_numpy(np.float64, na_value=np.nan)
    known = values[np.isfinite(values)]
    counts = np.bincount(np.digitize(known, np.array(edges)), minlength=len(edges) + 1)
    return NumbersOfImages(edges=edges, counts=tuple(counts.tolist()), missing=len(values) - len(known))


def counted_kinds(column: pd.Series[Any]) -> dict[str, int]:
    """How many images are of each kind, the most frequent first."""
    said = column.astype("string").fillna(NOT_GIVEN).replace("", NOT_GIVEN)
    return {str(kind): int(count) for kind, count in said.value_counts().items()}


def kept_reference(sidecar: Mapping[str, Any]) -> ImageReference | None:
    """What a sidecar says of the training images; None = weights of a former release, or imported ones.

    Raises:
        CheckpointError: It says something that this release does not know.
    """
    said = sidecar.get(IMAGE_REFERENCE)
    try:
        return None if said is None else ImageReference.model_validate(said)
    except ValidationError as unknown:
        raise CheckpointError(
            "The summary of the training images in the checkpoint's sidecar cannot be read",
            expected="one of a form that this release knows",
            got=type(unknown).__name__,
            remedy="use the release that trained it, or newer; or restore the sidecar from a backup",
        ) from unknown
