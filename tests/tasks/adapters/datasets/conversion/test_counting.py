"""A published number beside what was found."""

from __future__ import annotations

import pytest

from tasks.adapters.datasets.catalogue import DATA_SETS
from tasks.adapters.datasets.conversion.counting import compare, totals
from tasks.adapters.datasets.published.reading import Breast, Count, Image, Reading


def test_a_number_of_any_release_is_met() -> None:
    """A count that nobody made is a zero; one of files is not compared where a part was downloaded."""
    published = (
        Count(name="rows", published=(10, 12), source="two releases"),
        Count(name="other", published=(3,), source="table"),
        Count(name="files", published=(100,), source="listing", needs_files=True),
    )
    found = compare(published, {"rows": 12, "files": 7}, is_partial=False)
    assert [(each.found, each.is_met) for each in found] == [(12, True), (0, False), (7, False)]
    assert found[0].published == "10 or 12"
    assert [each.is_met for each in compare(published, {"rows": 12, "other": 3, "files": 7}, is_partial=True)] == [True] * 3


def test_totals_count_what_is_used() -> None:
    """Images left out are counted apart, breasts by what is known of them."""
    shown = {"patient": "1", "exam": "a", "laterality": "L"}
    images = [
        Image(path="a", view="CC", split="train", **shown),
        Image(path="b", view="AT", left_out="not CC or MLO", **shown),
    ]
    breasts = [Breast(benign=None, malignant=None, label_source="biopsy", **shown)]
    assert totals(Reading(breasts=breasts), images, 4) == {
        "images": 1, "patients": 1, "exams": 1, "left_out": 1, "breasts_labelled": 1, "malignant": 0, "benign": 0,
        "unknown": 1, "lesions": 4, "by_split": {"train": 1},
    }  # fmt: skip


@pytest.mark.parametrize("name", DATA_SETS)
def test_published_counts_have_a_source_and_a_place(name: str) -> None:
    """Each number names its source, each set its licence, what it needs and where that is got; a shared name is one set's."""
    facts = DATA_SETS[name].facts
    assert facts.licence and facts.needs and facts.get and facts.source
    assert len({count.name for count in facts.counts}) == len(facts.counts)
    assert all(count.source and count.published for count in facts.counts)
    assert not any(alias in DATA_SETS for alias in facts.aliases)
