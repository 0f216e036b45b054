"""The files that are written from the rows of verbs."""

from __future__ import annotations

import pytest

from mammo_tests.verb_files import ROOT, WRITTEN


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written_from_the_verbs_is_of_today(name: str) -> None:
    """``make reference`` was run after the last change of a verb, a flag or a schedule."""
    assert (ROOT / name).read_text(encoding="utf-8") == WRITTEN[name]()
