"""The page's list of the records that an image becomes is the code's."""

from __future__ import annotations

import re
from dataclasses import is_dataclass
from importlib import import_module

from mammo_tests.reference import ROOT

MOST = 9
ON_THE_WAY = ("gate.child", "gate.messages", "gate.source_file", "inbox.lines", "inbox.shard_writer", "store.exam_store")
NOT_OF_ONE_IMAGE = {
    "HeaderJob", "ShardJob", "ShardResult",  # of a shard or some files, for Dask
    "InspectedFile", "InspectHeader", "PrepareImage", "DrawThumbnail", "Answer", "Errand",  # in which records travel
    "ExamStore",
}  # fmt: skip


def listed() -> list[tuple[str, str]]:
    """Module and name of each record of the page."""
    page = (ROOT / "docs/explanation/the-way-of-the-data.md").read_text(encoding="utf-8")
    section = page.partition("## The records that an image becomes")[2].partition("\n## ")[0]
    return re.findall(r"^\| `([\w.]+)\.(\w+)` \|", section, re.MULTILINE)


def test_every_listed_record_exists_and_they_are_no_more_than_they_were() -> None:
    """One more would need a reason beside it, and this number raised."""
    assert 0 < len(listed()) <= MOST
    assert all(is_dataclass(getattr(import_module(module), name)) for module, name in listed())


def test_every_record_on_the_way_is_listed() -> None:
    """A record that these modules define is on the page, or is none of one image."""
    modules = [import_module(f"tasks.adapters.{module}") for module in ON_THE_WAY]
    defined = {
        name
        for module in modules
        for name, kind in vars(module).items()
        if isinstance(kind, type) and is_dataclass(kind) and kind.__module__ == module.__name__
    }
    assert defined - NOT_OF_ONE_IMAGE == {name for module, name in listed() if module in {one.__name__ for one in modules}}
