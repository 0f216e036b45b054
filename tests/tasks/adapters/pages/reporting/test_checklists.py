"""The guidelines' items: all of them, by their own numbers."""

from __future__ import annotations

from tasks.adapters.pages.reporting.checklists import CLAIM, TRIPOD_AI


def test_claim_has_its_44_items() -> None:
    """Numbered from 1 to 44, as the 2024 update has them, each with a question and none twice."""
    assert [item.number for item in CLAIM.items] == [str(number) for number in range(1, 45)]
    assert len({item.asks for item in CLAIM.items}) == 44 and all(item.part for item in CLAIM.items)
    assert "RSNA" in CLAIM.source


def test_tripod_ai_has_its_27_items_with_their_parts() -> None:
    """27 numbers; those with parts have as many as the checklist."""
    numbers = [item.number for item in TRIPOD_AI.items]
    assert list(dict.fromkeys(number.rstrip("abcdefg") for number in numbers)) == [str(number) for number in range(1, 28)]
    parts = {number: "".join(one[-1] for one in numbers if one[:-1] == number) for number in map(str, range(1, 28))}
    assert {number: letters for number, letters in parts.items() if letters.isalpha()} == {
        "3": "abc", "5": "ab", "6": "abc", "8": "abc", "9": "abc", "12": "abcdefg", "18": "abcdef", "20": "abc", "23": "ab",
        "27": "abc",
    }  # fmt: skip
    assert len(numbers) == 52 and "CC BY" in TRIPOD_AI.source
