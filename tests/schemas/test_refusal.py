"""A refusal: its text, and the way into the ledger and back."""

from __future__ import annotations

import pytest

from schemas.errors import GateRejection
from schemas.refusal import Refusal

WHOLE = Refusal(rules=("X21", "D01"), what="It is cut off", expected="9 bytes", got='1 "byte"', remedy="copy it again")


@pytest.mark.parametrize("refusal", [WHOLE, Refusal(rules=("F11",), what="It broke the reader.")])
def test_a_refusal_comes_back_as_it_was(refusal: Refusal) -> None:
    """From the ledger's two columns, and through the error that is raised for it."""
    assert Refusal.of_parts(refusal.rules, refusal.parts) == refusal
    assert GateRejection.of(refusal).refusal == refusal
    assert str(GateRejection.of(refusal)) == refusal.text


def test_a_ledger_of_an_older_version_is_read() -> None:
    """It holds the text; the text is what people read, as before."""
    text = 'It is cut off. Expected: 9 bytes. Got: 1 "byte". Remedy: copy it again.'
    assert WHOLE.text == text
    assert Refusal.of_parts(("X21",), text).text == text
