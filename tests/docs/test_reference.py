"""The reference pages say what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from mammo_tests.config_page import fields_by_path
from mammo_tests.reference import FILES, REMEDY, ROOT, TABLES, page_with_tables, stale_pages
from schemas.config.run import RunConfig
from schemas.config.section import Config
from schemas.config.service import ServiceConfig


def test_every_generated_page_is_the_code_s() -> None:
    """No page or file holds what the code would write otherwise."""
    assert stale_pages() == [], REMEDY


def test_tables_are_not_empty() -> None:
    """Each table has lines under its head, so that the comparison above can fail."""
    for name, (_, write) in TABLES.items():
        assert len(write().splitlines()) > 3, name


def test_checks_of_columns_that_not_every_manifest_has_are_in_their_table() -> None:
    """How much of breast and lesion the window holds is asked only where one was cut: the table says so all the same."""
    _, write = TABLES["checks of images"]
    assert [name for name in ("breast_seen_fraction", "lesion_seen_fraction") if f"| `{name}` | warning |" in write()] == [
        "breast_seen_fraction",
        "lesion_seen_fraction",
    ]


@pytest.mark.parametrize("model", [RunConfig, ServiceConfig])
def test_every_field_of_a_config_says_what_it_means(model: type[Config]) -> None:
    """A field without a description would be an empty cell of the page and of the form in the Prefect UI."""
    fields = list(fields_by_path(model))
    assert len(fields) > 20
    assert [path for path, field in fields if not field.description] == []


def test_a_changed_file_is_seen(tmp_path: Path) -> None:
    """A page that is written whole is stale when a line of it was changed, and when it is missing."""
    for page in {*FILES, *(page for page, _ in TABLES.values())}:
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / page).write_text((ROOT / page).read_text(encoding="utf-8"), encoding="utf-8")
    config, store = (tmp_path / "docs" / "reference" / name for name in ("config.md", "store-layout.md"))
    config.write_text(config.read_text(encoding="utf-8").replace("| `train.epochs` |", "| `train.epoch` |"), encoding="utf-8")
    store.unlink()
    assert stale_pages(tmp_path) == ["docs/reference/config.md", "docs/reference/store-layout.md"]


def test_a_stale_table_is_seen(tmp_path: Path) -> None:
    """A page whose table has another severity or lacks its end is found; what people wrote around it stays as it is."""
    for page in {*FILES, *(page for page, _ in TABLES.values())}:
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
