"""Batches without a store, as the optimiser's step takes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gmic_model.learning.exam_loader import Batch
from gmic_model.learning.steps import Part


def whole_steps(batches: Iterable[Batch]) -> Iterator[Part]:
    """Batches that are a step each."""
    for batch in batches:
        yield Part(batch, 1.0, len(batch.row_N), True)
