"""Rules that all sets share: what is not known stays so."""

from __future__ import annotations

import pytest

from tasks.adapters.datasets.published.breast_rules import (
    agreed,
    birads_grade,
    density_letter,
    finding_of,
    one_kind,
    proven,
    proxy_label,
    worst_birads,
)


def test_birads_alone_says_little() -> None:
    """1 is negative, 2 benign, 5 and 6 malignant; 0, 3, 4 and nothing do not say. From 4 on where that is asked for."""
    said = [proxy_label(grade) for grade in (None, 0, 1, 2, 3, 4, 5, 6)]
    nothing = (None, None)
    assert said == [nothing, nothing, (0, 0), (1, 0), nothing, nothing, (None, 1), (None, 1)]
    assert proxy_label(4, malignant_from=4) == (None, 1)


def test_rows_become_one_breast() -> None:
    """The worst grade, and 0 is none; density by agreement; kinds together; a class that is not proven is not there."""
    assert [worst_birads(grades) for grades in ([0, 3, None], [0], [], [None])] == [3, 0, None, None]
    assert [agreed(values) for values in (["b", None, "b"], ["b", "c"], [None])] == ["b", None, None]
    assert [one_kind(kinds) for kinds in (["mass", "mass"], ["mass", "calcification"], [None])] == ["mass", "several", None]
    assert [proven(classes) for classes in (["benign"], ["benign", "malignant"], [])] == [(1, 0), (1, 1), (None, None)]
    assert [finding_of(label) for label in ((1, 0), (None, 1), (1, 1), (0, 0), (None, None))] == [
        "benign", "malignant", None, None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "grade"),
    [("BI-RADS 4", 4), ("4a", 4), ("4$5", 5), ("2.0", 2), ("BIRADS 1", 1), ("", None), ("7", None), ("0", 0), ("X", None)],
)
def test_a_grade_is_read(text: str, grade: int | None) -> None:
    """As the sets spell it."""
    assert birads_grade(text) == grade


def test_a_density_is_read() -> None:
    """0, 5 (a man's) and what is no category are not known."""
    texts = ("DENSITY C", "b", "4", "1.0", "0", "5", "", "dense")
    assert [density_letter(text) for text in texts] == ["c", "b", "d", "a", None, None, None, None]
