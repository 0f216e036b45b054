"""What is common to all sets' statements of breasts: several rows become one, and what BI-RADS alone can say.

The rules, by number, are those of ``docs/reference/data-sets.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from schemas.exam import FindingType
from tasks.adapters.datasets.published.reading import Breast, BreastKey, Image, Lesion, Policy

MALIGNANT_FROM: Final = Policy(values=("5", "4"), meaning="BI-RADS from which a breast counts as malignant")

Label = tuple[int | None, int | None]
"""Benign and malignant; None = not known."""


def proxy_label(birads: int | None, *, malignant_from: int = 5) -> Label:
    """What BI-RADS alone says (rule 3): 1 negative, 2 benign, 5 and 6 malignant; 0, 3 and 4 do not say."""
    if birads is None or birads == 0:
        return None, None
    if birads >= malignant_from:
        return None, 1
    return {1: (0, 0), 2: (1, 0)}.get(birads, (None, None))


def worst_birads(grades: Iterable[int | None]) -> int | None:
    """The highest; 0 is no grade and loses to every other (rule 4)."""
    known = [grade for grade in grades if grade is not None]
    return max(known, default=None)


def agreed(values: Iterable[str | None]) -> str | None:
    """The one value that all who know one name; None where they differ, or none knows (rule 4)."""
    named = {value for value in values if value}
    return named.pop() if len(named) == 1 else None


def one_kind(kinds: Iterable[str | None]) -> str | None:
    """The kind of finding of a breast: ``several`` for more than one (rule 4)."""
    named = {kind for kind in kinds if kind}
    return named.pop() if len(named) == 1 else FindingType.SEVERAL.value if named else None


def proven(classes: Iterable[str]) -> Label:
    """Of proven classes ``benign`` and ``malignant`` (rule 2): a breast with one of them has none of the other."""
    found = set(classes)
    return (int("benign" in found), int("malignant" in found)) if found else (None, None)


def finding_of(label: Label) -> str | None:
    """The one class that a breast has, for a mark that has none of its own (rule 5)."""
    benign, malignant = label
    if malignant == 1:
        return None if benign == 1 else "malignant"
    return "benign" if benign == 1 else None


def density_letter(text: str) -> str | None:
    """``a`` to ``d`` of a letter, a number 1 to 4, or ``DENSITY C``; None for anything else."""
    last = text.strip().casefold().removeprefix("density").strip().removesuffix(".0")
    if last in {"a", "b", "c", "d"}:
        return last
    return "abcd"[int(last) - 1] if last in {"1", "2", "3", "4"} else None


def birads_grade(text: str) -> int | None:
    """0 to 6 of ``BI-RADS 4``, ``4a``, ``4.0``, or of several with ``$`` between them: the worst."""
    grades = []
    for part in text.replace("/", "$").split("$"):
        grade = part.strip().casefold().replace("bi-rads", "").replace("birads", "").strip().removesuffix(".0").rstrip("abc")
        if grade in set("0123456"):
            grades.append(int(grade))
    return worst_birads(grades)


def used_breasts(images: Sequence[Image], breasts: Iterable[Breast]) -> list[Breast]:
    """Those of which an image is used (rule 10), or would be if it had been downloaded."""
    shown = {image.breast for image in images if image.is_of_the_set}
    return [breast for breast in breasts if breast.key in shown]


def with_finding(lesion: Lesion, image: Image, breasts: Mapping[BreastKey, Breast]) -> Lesion:
    """A mark without a class of its own takes that of its breast, if it has exactly one (rule 5)."""
    breast = breasts.get(image.breast)
    if lesion.finding is not None or breast is None or not lesion.inherits:
        return lesion
    return replace(lesion, finding=finding_of((breast.benign, breast.malignant)))
