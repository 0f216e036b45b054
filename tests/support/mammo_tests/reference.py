"""The files and tables that are written from the code: a test compares, and this module writes.

    PYTHONPATH=tests/support python -m mammo_tests.reference write       or `make reference`

A table stands in its page between ``<!-- generated: NAME -->`` and ``<!-- end of NAME -->``; all other text of such a page is
written by people. Another table is a function below and a line in ``TABLES``; a file that is written whole, one in ``FILES``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from mammo_tests.config_page import PAGES, table
from mammo_tests.manifests import clean_manifest, clean_splits
from mammo_tests.verb_files import ROOT, WRITTEN
from schemas.layout import MANIFEST_NAMES, OPTIONAL_COLUMNS, Severity
from tasks.adapters.checks.check import Suite
from tasks.adapters.checks.image_suites import manifest_suites
from tasks.adapters.checks.split_suite import split_suites
from tasks.adapters.datasets.catalogue import PROFILES
from tasks.adapters.gate.rules.table import RULES

REMEDY: Final = "run `make reference`, or `PYTHONPATH=tests/support python -m mammo_tests.reference write`"


def gate_rules() -> str:
    """Every rule of the gate, in the order of ``RULES``."""
    words = {Severity.BLOCK: "refuse", Severity.WARN: "warn"}
    return table(
        ("rule", "severity", "what is demanded", "applied by"),
        ((rule_id, words[rule.severity], rule.demand, f"`{rule.by}`") for rule_id, rule in RULES.items()),
    )


def profiles() -> str:
    """Every gate profile, in the order of ``PROFILES``."""
    lines = []
    for profile in PROFILES.values():
        lifted, mapped = (" ".join(sorted(rules)) or "–" for rules in (profile.relaxed, profile.mapped))
        lines.append((f"`{profile.name}`", profile.title, lifted, mapped))
    return table(("profile", "for", "rules lifted", "rules met by a mapping"), lines)


def _checks(suites: Iterable[Suite], name: str) -> str:
    """The checks of a suite, but for those that every column's own demands make (the page of the store has them)."""
    of_columns = {*MANIFEST_NAMES, *(column.name for column in OPTIONAL_COLUMNS)}
    return table(
        ("check", "of", "if not met", "what to do"),
        (
            (
                check.name,
                ", ".join(f"`{name}`" for name in check.column.split(", ") if name),
                check.severity.value,
                check.remedy,
            )
            for suite in suites
            if suite.name == name
            for check in suite.checks
            if check.column not in of_columns or ":" in check.name or check.remedy
        ),
    )


def checks_of_manifest(suite: str) -> Callable[[], str]:
    """A table of one of the suites on a manifest that has every column that there may be."""
    every = {column.name: column.example for column in OPTIONAL_COLUMNS}
    return lambda: _checks(manifest_suites(clean_manifest().assign(**every)), suite)


def checks_of_splits() -> str:
    """The leakage audit, and what each split must hold."""
    return _checks(split_suites(clean_manifest(), clean_splits(clean_manifest()), {}), "splits")


TABLES: Final[Mapping[str, tuple[str, Callable[[], str]]]] = MappingProxyType(
    {
        "gate rules": ("docs/reference/gate-rules.md", gate_rules),
        "gate profiles": ("docs/reference/gate-rules.md", profiles),
        "checks of images": ("docs/reference/data-checks.md", checks_of_manifest("ingest_images")),
        "checks of exams": ("docs/reference/data-checks.md", checks_of_manifest("exams")),
        "checks of labels": ("docs/reference/data-checks.md", checks_of_manifest("labels")),
        "checks of splits": ("docs/reference/data-checks.md", checks_of_splits),
    }
)
"""Name of a table: the page it stands in, and what writes it."""


def page_with_tables(root: Path, page: str) -> str:
    """A page's text as it should be: with every table of it written anew.

    Raises:
        ValueError: A table has no place in the page.
    """
    text = (root / page).read_text(encoding="utf-8")
    for name, (where, write) in TABLES.items():
        if where != page:
            continue
        found = re.search(rf"<!-- generated: {name} -->\n\n(.*?)\n<!-- end of {name} -->\n", text, re.DOTALL)
        if found is None:
            raise ValueError(f"{page} has no place for the table {name!r}")
        text = text[: found.start(1)] + write() + text[found.end(1) :]
    return text


FILES: Final[Mapping[str, Callable[[], str]]] = MappingProxyType({**PAGES, **WRITTEN})
"""Files that are written whole."""


def wanted(root: Path = ROOT) -> dict[str, str]:
    """Each file that has something of the code in it, and its text as it should be."""
    pages = sorted({page for page, _ in TABLES.values()})
    return {name: write() for name, write in FILES.items()} | {page: page_with_tables(root, page) for page in pages}


def stale_pages(root: Path = ROOT) -> list[str]:
    """The files that are not what the code says, or not there."""
    texts = wanted(root).items()
    return [name for name, text in texts if not (root / name).is_file() or (root / name).read_text(encoding="utf-8") != text]


if __name__ == "__main__":
    new = wanted()
    for stale in stale_pages():
        sys.stdout.write(f"{stale}\n")
        if sys.argv[1:] == ["write"]:
            (ROOT / stale).write_text(new[stale], encoding="utf-8")
