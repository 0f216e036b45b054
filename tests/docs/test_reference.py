"""The reference pages say what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from mammo_tests.reference import REMEDY, ROOT, TABLES, page_with_tables, stale_pages


def test_every_generated_table_is_the_code_s() -> None:
    """No page holds a table that the code would write otherwise."""
    assert stale_pages() == [], REMEDY


def test_tables_are_not_empty() -> None:
    """Each table has lines under its head, so that the comparison above can fail."""
    for name, (_, write) in TABLES.items():
        assert len(write().splitlines()) > 3, name


def test_a_stale_table_is_seen(tmp_path: Path) -> None:
    """A page whose table has another severity or lacks its end is found; what people wrote around it stays as it is."""
    for page in {page for page, _ in TABLES.values()}:
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / page).write_text((ROOT / page).read_text(encoding="utf-8"), encoding="utf-8")
    rules = tmp_path / "docs" / "reference" / "gate-rules.md"
    right = rules.read_text(encoding="utf-8")
    rules.write_text(right.replace("| V07 | refuse |", "| V07 | warn |"), encoding="utf-8")
    assert stale_pages(tmp_path) == ["docs/reference/gate-rules.md"]
    assert page_with_tables(tmp_path, "docs/reference/gate-rules.md") == right
    rules.write_text(right.replace("<!-- end of gate rules -->", ""), encoding="utf-8")
    with pytest.raises(ValueError, match="gate rules"):
        stale_pages(tmp_path)
