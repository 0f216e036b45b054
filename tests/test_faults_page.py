"""docs/explanation/faults-survived.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXPECTED = {1, 2, 4, 5, 6, 7, 8, 10, 11, 14, *range(17, 26), *range(27, 31), *range(32, 36)}


def test_every_fault_has_a_test_that_exists() -> None:
    """Each number that ingest and served runs survive is on the page with its tests, and each test is where the page says."""
    numbers: set[int] = set()
    letters: list[str] = []
    for line in (ROOT / "docs" / "explanation" / "faults-survived.md").read_text().splitlines():
        cells = line.split("|")
        name = cells[1].strip() if len(cells) > 5 else ""
        if name in ("", "#") or set(name) == {"-"}:
            continue
        if re.fullmatch(r"[A-Z]", name):
            letters.append(name)
        elif re.fullmatch(r"[0-9, ]+", name):
            numbers |= {int(number) for number in name.split(",")}
        tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", cells[4])
        assert tests, line
        for path, name in tests:
            assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE), f"{path}::{name}"
    assert numbers == EXPECTED
    assert len(letters) == len(set(letters)), "a letter, as a number, stands for one kind of fault"
