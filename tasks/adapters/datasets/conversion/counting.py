"""What a conversion counted, beside what was published; a difference is said, never smoothed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tasks.adapters.datasets.published.reading import Count, Image, Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One published number and what was found.

    Attributes:
        found: None = the set's module does not count it in what lies here.
        is_compared: False for a count of files where a part of them was downloaded.
    """

    count: Count
    found: int | None
    is_compared: bool

    @property
    def is_met(self) -> bool:
        """True if it is one of the published numbers, or was not to be compared."""
        return not self.is_compared or self.found in self.count.published

    @property
    def published(self) -> str:
        """The published number, or those of several releases."""
        return " or ".join(str(number) for number in self.count.published)


def compare(published: Iterable[Count], found: Mapping[str, int], *, is_partial: bool) -> list[Comparison]:
    """Every published number; a name that was never counted is a zero."""
    return [
        Comparison(count=count, found=found.get(count.name, 0), is_compared=not (is_partial and count.needs_files))
        for count in published
    ]


def totals(reading: Reading, images: Sequence[Image], lesions: int) -> dict[str, object]:
    """What the set holds, in the numbers that every set has; what was not downloaded counts as if it were here."""
    used = [image for image in images if image.is_of_the_set]
    breasts = reading.breasts
    return {
        "images": len(used),
        "patients": len({image.patient for image in used}),
        "exams": len({(image.patient, image.exam) for image in used}),
        "left_out": len(images) - len(used),
        "breasts_labelled": len(breasts),
        "malignant": sum(breast.malignant == 1 for breast in breasts),
        "benign": sum(breast.benign == 1 for breast in breasts),
        "unknown": sum(breast.malignant is None for breast in breasts),
        "lesions": lesions,
        "by_split": dict(Counter(image.split for image in used if image.split)),
    }
