"""Images of a site held against those that weights learnt from, column by column, as one ingest is against those before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate

import numpy as np
import pandas as pd

from schemas.reports.life.acceptance import ImageShift
from schemas.reports.training import ImageReference, NumbersOfImages
from tasks.adapters.checks.drift_suite import FEWEST_EXAMS, LARGEST_INDEX, excess_over_chance
from tasks.adapters.models.image_reference import NOT_GIVEN, OTHERS, counted_kinds, counted_numbers

_KINDS_SAID = 3


def image_shifts(manifest: pd.DataFrame, reference: ImageReference) -> Iterator[ImageShift]:
    """Every column that both know.

    Args:
        manifest: The images here.
        reference: Of the training images.
    """
    exams = int(manifest["exam_id"].nunique())
    for name, numbers in reference.numbers.items():
        if name in manifest:
            here = counted_numbers(manifest[name], numbers.edges)
            histograms = [[*counted.counts, counted.missing] for counted in (here, numbers)]
            yield _shift(name, histograms, exams, reference.exams, _middle(here), _middle(numbers))
    for name, there in reference.categories.items():
        if name in manifest:
            kinds = _as_there(counted_kinds(manifest[name]), there)
            histograms = [
                [kinds.get(kind, 0) for kind in {**there, **kinds}],
                [there.get(kind, 0) for kind in {**there, **kinds}],
            ]
            yield _shift(name, histograms, exams, reference.exams, _kinds(counted_kinds(manifest[name])), _kinds(there))


# ---------------------------------------------------------------------------------------------------------------------


def _shift(name: str, histograms: list[list[int]], exams: int, others: int, here: str, there: str) -> ImageShift:
    excess = None
    if min(exams, others) >= FEWEST_EXAMS:
        both = np.array(histograms, dtype=np.int64)
        both = both[:, both.any(axis=0)]
        excess = excess_over_chance(both[0], both[1], exams, others)
    is_shifted = excess is not None and excess > LARGEST_INDEX
    return ImageShift(column=name, excess=excess, is_shifted=is_shifted, here=here, there=there)


def _as_there(kinds: Mapping[str, int], there: Mapping[str, int]) -> dict[str, int]:
    """Kinds that the training did not count by name are among its others, or new."""
    found: dict[str, int] = {}
    for kind, count in kinds.items():
        name = kind if kind in there else OTHERS
        found[name] = found.get(name, 0) + count
    return found


def _middle(numbers: NumbersOfImages) -> str:
    """Between which edges the middle image lies."""
    total = sum(numbers.counts)
    if not total:
        return NOT_GIVEN
    index = next(place for place, passed in enumerate(accumulate(numbers.counts)) if 2 * passed >= total)
    low, high = (numbers.edges[place] if 0 <= place < len(numbers.edges) else None for place in (index - 1, index))
    if low is None:
        return "all" if high is None else f"median below {high:.4g}"
    return f"median {low:.4g} or more" if high is None else f"median {low:.4g} to {high:.4g}"


def _kinds(counts: Mapping[str, int]) -> str:
    """The most frequent kinds with their shares."""
    total = sum(counts.values())
    said = sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:_KINDS_SAID]
    return ", ".join(f"{kind} {count / total:.0%}" for kind, count in said) + (", ..." if len(counts) > _KINDS_SAID else "")
